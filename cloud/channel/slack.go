package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/slack-go/slack"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Slack's limits, in characters (docs.slack.dev, Block Kit reference).
const (
	slackHeaderMax  = 150
	slackSectionMax = 3000
	slackButtonMax  = 75
	slackBlocksMax  = 50
	// slackSections is how many sections a message's text may fill: the rest is
	// on the incident's page.
	slackSections = 8
)

// The buttons.
const (
	slackAck   = "holdfast_acknowledge"
	slackLink  = "holdfast_acknowledge_link"
	slackOpen  = "holdfast_open"
	slackOffer = "holdfast_offer"
)

// slackHosts take incoming webhooks.
var slackHosts = []string{"hooks.slack.com", "hooks.slack-gov.com"}

// slackChannel is a channel's id, as Slack shows it in the channel's details.
var slackChannel = regexp.MustCompile(`^[CDG][A-Z0-9]{8,20}$`)

// SlackSender tells a channel, by an incoming webhook or with the app's bot.
type SlackSender struct {
	post    *poster
	api     *slack.Client // nil without a bot token
	hosts   []string
	plain   bool   // a stand-in on this machine, without TLS
	signing string // "" without the app's signing secret
	texts   *Texts
}

// NewSlack reads the app's secrets.
func NewSlack(c SlackConfig, texts *Texts) (*SlackSender, error) {
	s := &SlackSender{post: newPoster(nil), hosts: slackHosts, texts: texts}
	api := "https://slack.com"
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		if err != nil {
			return nil, fmt.Errorf("slack base_url: %w", err)
		}
		api, s.hosts, s.plain = strings.TrimSuffix(c.BaseURL, "/"), []string{strings.ToLower(u.Host)}, u.Scheme == "http"
	}
	if c.SigningSecret != "" {
		secret, err := config.ReadSecret(c.SigningSecret)
		if err != nil {
			return nil, fmt.Errorf("slack signing secret: %w", err)
		}
		s.signing = string(secret)
	}
	if c.BotToken != "" {
		token, err := config.ReadSecret(c.BotToken)
		if err != nil {
			return nil, fmt.Errorf("slack bot token: %w", err)
		}
		s.api = slack.New(string(token), slack.OptionAPIURL(api+"/api/"), slack.OptionHTTPClient(s.post.client))
	}
	return s, nil
}

// Send posts a message. Slack says "ok" once it is in the channel.
func (s *SlackSender) Send(ctx context.Context, m Message) (Result, error) {
	text, blocks, err := s.message(m)
	if err != nil {
		return Result{}, err
	}
	send := s.sendByHook
	if slackChannel.MatchString(m.To) {
		send = s.sendByBot
	}
	r, err := send(ctx, m.To, text, blocks)
	if err != nil && strings.Contains(err.Error(), "invalid_blocks") {
		// An alert is not lost for its looks: a template of somebody's own may
		// make what Slack does not show.
		return send(ctx, m.To, text+"\n"+slackEscape.Replace(cmp.Or(m.Incident.AckURL, m.Incident.URL)), nil)
	}
	return r, err
}

func (s *SlackSender) sendByHook(ctx context.Context, to, text string, blocks []slack.Block) (Result, error) {
	if _, err := s.hook(to); err != nil {
		return Result{}, Permanent(err)
	}
	no := false
	m := &slack.WebhookMessage{Text: text, UnfurlLinks: &no}
	if len(blocks) > 0 {
		m.Blocks = &slack.Blocks{BlockSet: blocks}
	}
	if err := s.say(ctx, to, m); err != nil {
		return Result{}, err
	}
	return Result{Provider: "slack", State: Delivered}, nil
}

// say posts to a webhook or to the response_url of a button.
func (s *SlackSender) say(ctx context.Context, to string, m *slack.WebhookMessage) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return Permanent(fmt.Errorf("slack: %w", err))
	}
	a, err := s.post.post(ctx, "slack", to, nil, raw)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		err := refused("slack", a, secretsOf(to)...)
		if a.status == http.StatusNotFound || a.status == http.StatusGone || a.status == http.StatusForbidden {
			err = hint.Wrap(err, "The webhook was removed, or its channel archived. Make a new one in the Slack app and enter its address.")
		}
		return err
	}
	return nil
}

func (s *SlackSender) sendByBot(ctx context.Context, channel, text string, blocks []slack.Block) (Result, error) {
	if s.api == nil {
		return Result{}, Permanent(hint.Wrap(errors.New("slack: the address is a channel's id, and the region has no bot token"),
			"Set alerts.slack.bot_token_file, or enter an incoming webhook's address."))
	}
	said := []slack.MsgOption{slack.MsgOptionText(text, false), slack.MsgOptionDisableLinkUnfurl()}
	if len(blocks) > 0 {
		said = append(said, slack.MsgOptionBlocks(blocks...))
	}
	id, ts, err := s.api.PostMessageContext(ctx, channel, said...)
	if err != nil {
		return Result{}, slackError(err)
	}
	return Result{Provider: "slack", ProviderID: id + ":" + ts, State: Delivered}, nil
}

// slackPasses are the errors of the Web API that a repetition may cure.
var slackPasses = []string{"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "message_limit_exceeded", "team_added_to_org"}

// slackError classifies what the Web API answered.
func slackError(err error) error {
	out := fmt.Errorf("slack: %w", withoutURL(err))
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		return &RetryError{Err: out, After: min(limited.RetryAfter, retryAfterMax)}
	}
	if no, ok := errors.AsType[slack.SlackErrorResponse](err); ok && !slices.Contains(slackPasses, no.Err) {
		switch no.Err {
		case "channel_not_found", "not_in_channel", "is_archived":
			out = hint.Wrap(out, "Invite the Slack app to the channel, and enter the channel's id.")
		case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "missing_scope":
			out = hint.Wrap(out, "Install the Slack app again with the scope chat:write, and write its bot token into alerts.slack.bot_token_file.")
		}
		return Permanent(out)
	}
	if code, ok := errors.AsType[slack.StatusCodeError](err); ok { // 429 without Retry-After is one
		return refused("slack", answer{status: code.Code})
	}
	return out
}

// Verify tries the bot's token, where there is one.
func (s *SlackSender) Verify(ctx context.Context) error {
	if s.api == nil {
		return nil
	}
	if _, err := s.api.AuthTestContext(ctx); err != nil {
		return slackError(err)
	}
	return nil
}

// Check finds a webhook that is gone and a token that is void. A message
// without a text is refused by a webhook that is there, and told to nobody.
func (s *SlackSender) Check(ctx context.Context, to string, _ map[string]string) error {
	if slackChannel.MatchString(to) {
		if s.api == nil {
			return Permanent(hint.Wrap(errors.New("the region has no Slack bot token"),
				"Set alerts.slack.bot_token_file, or enter an incoming webhook's address."))
		}
		return s.Verify(ctx)
	}
	if _, err := s.hook(to); err != nil {
		return Permanent(hint.Wrap(err, "Enter an incoming webhook's address, https://hooks.slack.com/services/…, or a channel's id such as C0123456789."))
	}
	a, err := s.post.post(ctx, "slack", to, nil, []byte("{}"))
	if err != nil {
		return err
	}
	if a.status == http.StatusOK || a.status == http.StatusBadRequest {
		return nil
	}
	return hint.Wrap(refused("slack", a, secretsOf(to)...), "Make a new incoming webhook in the Slack app and enter its address.")
}

func (s *SlackSender) hook(raw string) (*url.URL, error) {
	return hookURL(raw, func(host string) bool { return slices.Contains(s.hosts, host) }, s.plain)
}

// message lays a message out: heading, text, buttons.
func (s *SlackSender) message(m Message) (fallback string, blocks []slack.Block, err error) {
	text, err := s.texts.Render(m)
	if err != nil {
		return "", nil, Permanent(fmt.Errorf("slack: %w", err))
	}
	plain := func(t string, most int) *slack.TextBlockObject {
		return slack.NewTextBlockObject(slack.PlainTextType, cut(t, most), true, false)
	}
	blocks = append(blocks, slack.NewHeaderBlock(plain(text.Title, slackHeaderMax)))
	for _, part := range parts(text.Body, slackSectionMax, slackSections) {
		blocks = append(blocks, slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, part, false, false), nil, nil))
	}
	if done := outcome(m); done != "" {
		blocks = append(blocks, slack.NewContextBlock("", plain(done, slackSectionMax)))
	}
	var buttons []slack.BlockElement
	button := func(id, value, label, link string) *slack.ButtonBlockElement {
		b := slack.NewButtonBlockElement(id, value, plain(label, slackButtonMax)).WithURL(link)
		buttons = append(buttons, b)
		return b
	}
	i := m.Incident
	if open := m.Event != Resolve && i.Resolved.IsZero() && i.AckedBy == ""; open && i.AckURL != "" {
		label := "Acknowledge"
		if m.Event == Test {
			label = "It came"
		}
		if s.signing != "" {
			button(slackAck, m.Delivery, label, "").WithStyle(slack.StylePrimary)
			if !slackChannel.MatchString(m.To) {
				// The webhook may be of an app of a customer's own: then the press
				// goes to that app, and not to us.
				button(slackLink, "", label+" (opens a page)", i.AckURL)
			}
		} else {
			button(slackAck, "", label, i.AckURL).WithStyle(slack.StylePrimary)
		}
	}
	if i.OfferURL != "" && i.Resolved.IsZero() {
		button(slackOffer, "", "What is offered", i.OfferURL)
	}
	if i.URL != "" {
		button(slackOpen, "", "Open the incident", i.URL)
	}
	if len(buttons) > 0 {
		blocks = append(blocks, slack.NewActionBlock("", buttons...))
	}
	return slackEscape.Replace(text.Title), blocks[:min(len(blocks), slackBlocksMax)], nil
}

// slackEscape keeps a text from being read as markup (docs.slack.dev, formatting).
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// outcome says what became of an incident since a message about it was sent.
func outcome(m Message) string {
	switch i := m.Incident; {
	case m.Event == Resolve:
		return ""
	case !i.Resolved.IsZero():
		return "Resolved: " + moment(i.Resolved, zoneOf(i.TimeZone))
	case i.AckedBy != "" && m.Event != Update:
		return i.AckedBy + " takes care of it."
	}
	return ""
}

// parts divides a text at its lines into at most n parts of most characters.
func parts(text string, most, n int) []string {
	var out []string
	var part strings.Builder
	size := 0
	flush := func() {
		if p := strings.TrimSpace(part.String()); p != "" {
			out = append(out, p)
		}
		part.Reset()
		size = 0
	}
	for line := range strings.Lines(text) {
		line = cut(line, most)
		if l := len([]rune(line)); size+l > most {
			flush()
			size = l
		} else {
			size += l
		}
		part.WriteString(line)
	}
	flush()
	if len(out) > n {
		out = append(out[:n-1], "…")
	}
	return out
}
