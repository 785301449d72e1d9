package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	// teamsMaxBytes is what Teams takes of a message; beyond it says 413, or
	// nothing at all.
	teamsMaxBytes = 28 << 10
	// teamsParagraphs is how many paragraphs of a text a card shows.
	teamsParagraphs     = 60
	teamsParagraphRunes = 2000
	// teamsShort is what is left of a text that was too large.
	teamsShort = 1000
)

// teamsHosts end the names of the hosts that take Workflows' requests.
var teamsHosts = []string{
	".logic.azure.com", ".powerplatform.com", ".logic.azure.us", ".powerplatform.us", ".powerapps.us", ".appsplatform.us",
	".logic.azure.cn", ".powerplatform.cn", ".powerplatform.partner.microsoftonline.cn",
}

// TeamsSender tells a Microsoft Teams channel or chat, by a Workflows webhook.
//
// The method's setting "card" says what the flow wants: "message" (default) is a
// message with the card as its attachment, as Microsoft's own templates take it;
// "bare" is the card itself.
type TeamsSender struct {
	post  *poster
	hosts []string // of the region's own configuration
	texts *Texts
}

// NewTeams makes one.
func NewTeams(c TeamsConfig, texts *Texts) *TeamsSender {
	t := &TeamsSender{post: newPoster(nil), texts: texts}
	for _, h := range c.Hosts {
		t.hosts = append(t.hosts, strings.ToLower(h))
	}
	return t
}

// Send posts a card. A Workflow answers before it has posted anything, so that
// more than Accepted is never known.
func (t *TeamsSender) Send(ctx context.Context, m Message) (Result, error) {
	if _, err := t.hook(m.To); err != nil {
		return Result{}, Permanent(err)
	}
	text, err := t.texts.Render(m)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("teams: %w", err))
	}
	raw, err := teamsMessage(m, text)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("teams: %w", err))
	}
	short := len(raw) > teamsMaxBytes
	for {
		if short {
			text.Body = cut(text.Body, teamsShort)
			if raw, err = teamsMessage(m, text); err != nil {
				return Result{}, Permanent(fmt.Errorf("teams: %w", err))
			}
		}
		a, err := t.post.post(ctx, "teams", m.To, nil, raw)
		if err != nil {
			return Result{}, err
		}
		if a.status == http.StatusRequestEntityTooLarge && !short {
			short = true
			continue
		}
		if err := teamsRefused(a, m.To); err != nil {
			return Result{}, err
		}
		return Result{Provider: "teams", State: Accepted}, nil
	}
}

// teamsInner is the status that a 200 wraps in words.
var teamsInner = regexp.MustCompile(`(?i)\bHTTP error (\d{3})\b`)

// teamsRefused is nil when an answer is a yes. A 200 may carry an error as its
// text: then it is none.
func teamsRefused(a answer, to string) error {
	switch {
	case a.status == http.StatusAccepted:
		return nil
	case a.status == http.StatusOK:
		if !teamsFailed(a.body) {
			return nil
		}
		a.status = http.StatusBadGateway
		if inner := teamsInner.FindStringSubmatch(a.body); inner != nil {
			a.status, _ = strconv.Atoi(inner[1]) // three digits
		}
	}
	err := refused("teams", a, secretsOf(to)...)
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		err = hint.Wrap(err, "The workflow was removed, switched off, or its owner left. Make it again in Teams and enter its new address.")
	case http.StatusBadRequest:
		err = hint.Wrap(err, "The workflow wants its card in another form: set the method's setting card to bare, or to message.")
	}
	return err
}

// teamsFailed reports whether the text of a 200 is an error's: "1" and nothing
// are what is said when all is well, and a flow may answer as it likes.
func teamsFailed(body string) bool {
	body = strings.ToLower(body)
	return strings.Contains(body, "error") || strings.Contains(body, "failed")
}

// Check looks at the address only: whatever is posted there starts the flow.
func (t *TeamsSender) Check(_ context.Context, to string, settings map[string]string) error {
	switch settings["card"] {
	case "", "message", "bare":
	default:
		return Permanent(hint.Wrap(errors.New("the setting card is neither message nor bare"),
			"Leave it empty; try bare if the workflow says that it cannot read the card."))
	}
	_, err := t.hook(to)
	return Permanent(err)
}

func (t *TeamsSender) hook(raw string) (*url.URL, error) {
	const how = "In Teams, make a workflow \"Post to a channel when a webhook request is received\" and enter the address that it shows."
	plain := false
	u, err := hookURL(raw, func(host string) bool {
		if slices.Contains(t.hosts, host) {
			plain = true
			return true
		}
		return slices.ContainsFunc(teamsHosts, func(end string) bool { return strings.HasSuffix(strings.TrimSuffix(host, ":443"), end) })
	}, true)
	switch {
	case err != nil:
		if retired, perr := url.Parse(raw); perr == nil && (strings.HasSuffix(retired.Host, ".webhook.office.com") || retired.Host == "outlook.office.com") {
			err = errors.New("this is the address of a connector, and Microsoft has retired those")
		}
		return nil, hint.Wrap(err, how)
	case u.Scheme != "https" && !(plain && loopbackHost(u.Hostname())):
		return nil, hint.Wrap(errors.New("the address does not begin with https://"), how)
	case !plain && u.Query().Get("sig") == "":
		return nil, hint.Wrap(errors.New("the address has no signature (sig=…): it was not copied whole"), how)
	}
	return u, nil
}

// An Adaptive Card, version 1.2, which all Teams clients show. "style" came with
// 1.5: it makes the title a heading for screen readers, and others ignore it.
type (
	teamsEnvelope struct {
		Type        string            `json:"type"`
		Attachments []teamsAttachment `json:"attachments"`
	}
	teamsAttachment struct {
		ContentType string    `json:"contentType"`
		Content     teamsCard `json:"content"`
	}
	teamsCard struct {
		Schema   string        `json:"$schema"`
		Type     string        `json:"type"`
		Version  string        `json:"version"`
		Fallback string        `json:"fallbackText"`
		Body     []teamsText   `json:"body"`
		Actions  []teamsAction `json:"actions,omitempty"`
	}
	teamsText struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Wrap   bool   `json:"wrap"`
		Style  string `json:"style,omitempty"`
		Size   string `json:"size,omitempty"`
		Weight string `json:"weight,omitempty"`
		Color  string `json:"color,omitempty"`
	}
	teamsAction struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		URL   string `json:"url"`
	}
)

// teamsMarkdown keeps a title from being read as Markdown; the body's template
// has done so itself.
var teamsMarkdown = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "`", "\\`", "#", `\#`)

func teamsMessage(m Message, text Text) ([]byte, error) {
	i := m.Incident
	color := "warning"
	switch {
	case m.Event == Test:
		color = "accent"
	case !i.Resolved.IsZero():
		color = "good"
	case i.Severity == "critical":
		color = "attention"
	}
	c := teamsCard{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.2", Fallback: text.Title,
		Body: []teamsText{{"TextBlock", teamsMarkdown.Replace(text.Title), true, "heading", "large", "bolder", color}},
	}
	n := 0
	for p := range strings.SplitSeq(text.Body, "\n\n") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		if n++; n > teamsParagraphs {
			c.Body = append(c.Body, teamsText{Type: "TextBlock", Text: "…", Wrap: true})
			break
		}
		c.Body = append(c.Body, teamsText{Type: "TextBlock", Text: cut(p, teamsParagraphRunes), Wrap: true})
	}
	if done := outcome(m); done != "" {
		c.Body = append(c.Body, teamsText{Type: "TextBlock", Text: teamsMarkdown.Replace(done), Wrap: true, Weight: "bolder"})
	}
	open := func(title, link string) {
		c.Actions = append(c.Actions, teamsAction{"Action.OpenUrl", title, link})
	}
	if m.Event != Resolve && i.Resolved.IsZero() && i.AckedBy == "" && i.AckURL != "" {
		if m.Event == Test {
			open("It came", i.AckURL)
		} else {
			open("Acknowledge", i.AckURL)
		}
	}
	if i.OfferURL != "" && i.Resolved.IsZero() {
		open("What is offered", i.OfferURL)
	}
	if i.URL != "" {
		open("Open the incident", i.URL)
	}
	if m.Settings["card"] == "bare" {
		return json.Marshal(c)
	}
	return json.Marshal(teamsEnvelope{"message", []teamsAttachment{{"application/vnd.microsoft.card.adaptive", c}}})
}
