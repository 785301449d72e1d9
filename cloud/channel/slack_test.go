package channel_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/slack-go/slack"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/slack"
)

const slackSigning = "8f742231b10e8888abcd99yyyzzz85a5"

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// slackInbox is an incident that one person can take.
type slackInbox struct {
	channel.Inbox
	mu    sync.Mutex
	m     channel.Message
	first string
	acks  []channel.Ack
	err   error
	// together, if not nil, holds each until all are there.
	together *sync.WaitGroup
	hangs    bool
}

func (b *slackInbox) Acknowledge(ctx context.Context, a channel.Ack) (string, error) {
	if b.hangs {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if b.together != nil {
		b.together.Done()
		b.together.Wait()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return "", b.err
	}
	b.acks = append(b.acks, a)
	if b.first != "" {
		return b.first + " has it already.", nil
	}
	b.first = a.By
	b.m.Incident.AckedBy = a.By
	return "You have it.", nil
}

func (b *slackInbox) Incident(context.Context, string) (channel.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m, nil
}

// workspace is a Slack workspace with the region's app.
type workspace struct {
	*slack.Peer
	clock  *clock
	sender *channel.SlackSender
	base   string
	hook   string
	inbox  *slackInbox
}

const botToken = "xoxb-000000000000-holdfast-secret"

func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{clock: &clock{now: time.Now()}, inbox: &slackInbox{m: channel.Example(channel.Slack, channel.Trigger)}}
	region := serve(t, func(string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.sender.Hook(w.inbox, slog.New(slog.DiscardHandler)).ServeHTTP(rw, r)
		})
	})
	base := serve(t, func(base string) http.Handler {
		w.Peer = slack.New(slack.Options{BaseURL: base, Interactions: region + "/hooks/slack", SigningSecret: slackSigning, BotToken: botToken, Now: w.clock.Now})
		return w.Peer
	})
	s, err := channel.NewSlack(channel.SlackConfig{BaseURL: base, SigningSecret: secretFile(t, slackSigning), BotToken: secretFile(t, botToken)}, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	w.base, w.sender, w.hook = base, s, w.AddWebhook("C0123456789")
	return w
}

func TestSlackShowsWhatIsWrongWithAButton(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	m := w.Messages()[0]
	if !strings.Contains(m.Text, "Los Angeles") || len(m.Blocks) < 3 {
		t.Errorf("%q in %d blocks", m.Text, len(m.Blocks))
	}
	if got := buttonIDs(m); !strings.Contains(got, "holdfast_acknowledge") {
		t.Errorf("buttons: %s", got)
	}
}

// An incoming webhook may be of a customer's own app: what is pressed goes there,
// and a link works in any workspace.
func TestSlackHasALinkBesideTheButtonWhereTheAppMayBeAnothers(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.Join("C0123456789")
	for to, want := range map[string]bool{w.hook: true, "C0123456789": false} {
		for _, e := range []channel.Event{channel.Trigger, channel.Test} {
			m := message(channel.Slack, e, to)
			mustSend(t, w.sender, m, channel.Delivered)
			w.clock.pass(time.Second)
			got := w.Messages()
			links := 0
			for _, b := range got[len(got)-1].Blocks {
				if a, ok := b.(*api.ActionBlock); ok {
					for _, e := range a.Elements.ElementSet {
						if b, ok := e.(*api.ButtonBlockElement); ok && b.URL == m.Incident.AckURL {
							links++
						}
					}
				}
			}
			if links > 0 != want || links > 1 || !strings.Contains(buttonIDs(got[len(got)-1]), "holdfast_acknowledge") {
				t.Errorf("%s to %.10s…: %d links among %s", e, to, links, buttonIDs(got[len(got)-1]))
			}
		}
	}
}

func TestSlackTakesEachEvent(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	for _, e := range []channel.Event{channel.Trigger, channel.Update, channel.Resolve, channel.Test} {
		mustSend(t, w.sender, message(channel.Slack, e, w.hook), channel.Delivered)
		w.clock.pass(time.Second)
	}
	if n := len(w.Messages()); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
	if got := buttonIDs(w.Messages()[2]); strings.Contains(got, "acknowledge") {
		t.Errorf("what is resolved can be acknowledged: %s", got)
	}
}

func TestSlackKeepsItsLimitsHoweverMuchThereIsToSay(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	m := message(channel.Slack, channel.Trigger, w.hook)
	m.Incident.Summary = strings.Repeat("<&> quite long ", 200)
	m.Incident.Evidence = nil
	for range 400 {
		m.Incident.Evidence = append(m.Incident.Evidence, strings.Repeat("evidence & more ", 20))
		m.Incident.Affected = append(m.Incident.Affected, "some-facility")
	}
	mustSend(t, w.sender, m, channel.Delivered)
}

func TestSlackIsAskedAgainWhenItSays(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Update, w.hook))
	wantError(t, err, later, w.hook)
	retry, _ := errors.AsType[*channel.RetryError](err)
	w.clock.pass(retry.After)
	mustSend(t, w.sender, message(channel.Slack, channel.Update, w.hook), channel.Delivered)
}

func TestSlackErrorsAreClassified(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	for name, tc := range map[string]struct {
		fault faults.HTTP
		want  outcome
	}{
		"server error":  {faults.HTTP{Status: 503}, temporary},
		"cut":           {faults.HTTP{Cut: true, Took: true}, temporary},
		"no permission": {faults.HTTP{Status: 403, Body: "action_prohibited"}, permanent},
		"archived":      {faults.HTTP{Status: 410, Body: "channel_is_archived " + w.hook}, permanent},
		"moved":         {faults.HTTP{Status: 302}, permanent},
	} {
		w.Next(tc.fault)
		_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, w.hook))
		t.Log(name, err)
		wantError(t, err, tc.want, w.hook, w.hook[len(w.hook)-24:])
	}
	w.RemoveWebhook(w.hook)
	_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, w.hook))
	wantError(t, err, permanent, w.hook, w.hook[len(w.hook)-24:])
	if !strings.Contains(err.Error(), "no_service") {
		t.Errorf("the provider's word is lost: %v", err)
	}
}

func TestSlacksWebAPIErrorsAreClassified(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.Join("C0123456789")
	for name, tc := range map[string]struct {
		fault faults.HTTP
		want  outcome
	}{
		"too many":                      {faults.HTTP{Status: 429, RetryAfter: 3 * time.Second}, later},
		"too many, and not until when":  {faults.HTTP{Status: 429}, later},
		"took too long":                 {faults.HTTP{Status: 408}, temporary},
		"server error":                  {faults.HTTP{Status: 503}, temporary},
		"not allowed to speak that way": {faults.HTTP{Status: 403}, permanent},
	} {
		w.Next(tc.fault)
		_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, "C0123456789"))
		t.Log(name, err)
		wantError(t, err, tc.want, botToken)
	}
}

func TestSlackHangsNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.Next(faults.HTTP{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.sender.Send(ctx, message(channel.Slack, channel.Trigger, w.hook))
	wantError(t, err, temporary, w.hook)
}

func TestSlackBotTellsAChannelThatItIsIn(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	const room = "C0PLANTOPS01"
	_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, room))
	wantError(t, err, permanent, botToken)
	w.Join(room)
	r := mustSend(t, w.sender, message(channel.Slack, channel.Trigger, room), channel.Delivered)
	if !strings.HasPrefix(r.ProviderID, room+":") {
		t.Errorf("provider id %q", r.ProviderID)
	}
	_, err = w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, room))
	wantError(t, err, later, botToken)
	w.Next(faults.HTTP{Status: 500})
	_, err = w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, room))
	wantError(t, err, temporary, botToken)
	if err := w.sender.Check(soon(t), room, nil); err != nil {
		t.Error(err)
	}
}

func TestWhatSlackSaysToTheBotMayNotBeWhatItDid(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	const room = "C0PLANTOPS01"
	w.Join(room)
	w.Next(faults.HTTP{Lost: true}, faults.HTTP{Status: 500, Took: true})
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, room), channel.Delivered)
	if n := len(w.Messages()); n != 0 {
		t.Errorf("what was lost is shown: %d messages", n)
	}
	_, err := w.sender.Send(soon(t), message(channel.Slack, channel.Trigger, room))
	wantError(t, err, temporary, botToken)
	if n := len(w.Messages()); n != 1 {
		t.Errorf("%d messages after one that was taken with an error", n)
	}
}

func TestSlackAddressIsCheckedWithoutTellingAnybody(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	if err := w.sender.Check(soon(t), w.hook, nil); err != nil {
		t.Errorf("right address: %v", err)
	}
	for _, bad := range []string{
		"", "olga", "https://example.com/services/T/B/x", "ftp" + strings.TrimPrefix(w.hook, "http"),
		w.hook + "x", "http://user:word@" + strings.TrimPrefix(w.hook, "http://"), "https://hooks.slack.com.example.com/services/T/B/x",
	} {
		wantError(t, w.sender.Check(soon(t), bad, nil), permanent, bad)
	}
	if n := len(w.Messages()); n != 0 {
		t.Errorf("%d messages were posted", n)
	}
}

func TestAPressIsAnsweredAndShownToAll(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	ts := w.Messages()[0].TS
	status, err := w.Press(t.Context(), ts, "holdfast_acknowledge", slack.Press{User: "olga"})
	if err != nil || status != http.StatusOK {
		t.Fatalf("answered %d, %v", status, err)
	}
	eventually(t, "the message says who has it", func() bool {
		m := w.Messages()[0]
		return m.Edits == 1 && len(m.Ephemeral) == 1
	})
	m := w.Messages()[0]
	if strings.Contains(buttonIDs(m), "acknowledge") {
		t.Error("the button is still there")
	}
	if !strings.Contains(textOf(m), "olga takes care of it") {
		t.Errorf("it does not say who has it: %s", textOf(m))
	}
	a := w.inbox.acks[0]
	if a.Delivery != channel.Example(channel.Slack, channel.Trigger).Delivery || a.By != "olga" || a.How != "slack" {
		t.Errorf("acknowledged as %+v", a)
	}
}

func TestTheSecondToPressLearnsWhoWasFirst(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	ts := w.Messages()[0].TS
	w.inbox.together = new(sync.WaitGroup)
	w.inbox.together.Add(2)
	var press sync.WaitGroup
	for _, who := range []string{"olga", "maria"} {
		press.Go(func() {
			if status, err := w.Press(t.Context(), ts, "holdfast_acknowledge", slack.Press{User: who}); err != nil || status != http.StatusOK {
				t.Errorf("%s: answered %d, %v", who, status, err)
			}
		})
	}
	press.Wait()
	eventually(t, "both are answered", func() bool { return len(w.Messages()[0].Ephemeral) == 2 })
	first := w.inbox.first
	for _, e := range w.Messages()[0].Ephemeral {
		if want := first + " has it already."; e.User != first && e.Text != want {
			t.Errorf("%s was told %q, want %q", e.User, e.Text, want)
		}
	}
	if !strings.Contains(textOf(w.Messages()[0]), first+" takes care of it") {
		t.Errorf("the message says %s", textOf(w.Messages()[0]))
	}
}

func TestAPressIsAnsweredThoughTheMessageCannotBeChangedYet(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	release := w.HoldResponses()
	defer release()
	status, err := w.Press(t.Context(), w.Messages()[0].TS, "holdfast_acknowledge", slack.Press{}) // within three seconds
	if err != nil || status != http.StatusOK {
		t.Fatalf("answered %d, %v", status, err)
	}
	if w.Messages()[0].Edits != 0 {
		t.Error("it was changed before it was answered")
	}
	release()
	eventually(t, "the message says who has it", func() bool { return w.Messages()[0].Edits == 1 })
}

func TestAPressIsAnsweredThoughTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	w.inbox.hangs = true
	status, err := w.Press(t.Context(), w.Messages()[0].TS, "holdfast_acknowledge", slack.Press{}) // within three seconds
	if err != nil || status != http.StatusInternalServerError {
		t.Errorf("answered %d, %v", status, err)
	}
}

func TestAnAlertIsNotLostForItsLooks(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.Next(faults.HTTP{Status: 400, Body: "invalid_blocks"})
	m := message(channel.Slack, channel.Trigger, w.hook)
	mustSend(t, w.sender, m, channel.Delivered)
	if got := w.Messages()[0]; len(got.Blocks) != 0 || !strings.Contains(got.Text, "Los Angeles") || !strings.Contains(got.Text, m.Incident.AckURL) {
		t.Errorf("%+v", got)
	}
}

func TestOnlySlackCanPress(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	ts := w.Messages()[0].TS
	for name, how := range map[string]slack.Press{
		"another's secret": {Secret: "another"},
		"replayed":         {Age: 6 * time.Minute},
		"from the future":  {Age: -6 * time.Minute},
	} {
		if status, err := w.Press(t.Context(), ts, "holdfast_acknowledge", how); err != nil || status != http.StatusUnauthorized {
			t.Errorf("%s: answered %d, %v", name, status, err)
		}
	}
	if len(w.inbox.acks) != 0 {
		t.Errorf("acknowledged: %v", w.inbox.acks)
	}
}

func TestAPressThatIsNotTakenIsNotAnsweredAsIfItWere(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mustSend(t, w.sender, message(channel.Slack, channel.Trigger, w.hook), channel.Delivered)
	w.inbox.err = errors.New("the database is away")
	status, err := w.Press(t.Context(), w.Messages()[0].TS, "holdfast_acknowledge", slack.Press{})
	if err != nil || status != http.StatusInternalServerError {
		t.Errorf("answered %d, %v", status, err)
	}
}

func TestSlackHookTakesNothingElse(t *testing.T) {
	t.Parallel()
	s, err := channel.NewSlack(channel.SlackConfig{}, texts(t)) // no signing secret: nothing can be verified
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, body string
		want         int
	}{
		{http.MethodGet, "", http.StatusMethodNotAllowed},
		{http.MethodPost, "payload={}", http.StatusUnauthorized},
		{http.MethodPost, strings.Repeat("x", 300<<10), http.StatusRequestEntityTooLarge},
	} {
		w := httptest.NewRecorder()
		s.Hook(&slackInbox{}, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(tc.method, "/hooks/slack", strings.NewReader(tc.body)))
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", tc.method, w.Code, tc.want)
		}
	}
}

func TestWithoutASigningSecretTheButtonIsALink(t *testing.T) {
	t.Parallel()
	var p *slack.Peer
	base := serve(t, func(base string) http.Handler {
		p = slack.New(slack.Options{BaseURL: base})
		return p
	})
	s, err := channel.NewSlack(channel.SlackConfig{BaseURL: base}, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	m := message(channel.Slack, channel.Trigger, p.AddWebhook("C0123456789"))
	mustSend(t, s, m, channel.Delivered)
	for _, e := range p.Entries()[0].Buttons {
		if e.Text == "Acknowledge" && e.URL != m.Incident.AckURL {
			t.Errorf("the button leads to %q", e.URL)
		}
	}
}

func buttonIDs(m slack.Message) string {
	var ids []string
	for _, b := range m.Blocks {
		if a, ok := b.(*api.ActionBlock); ok {
			for _, e := range a.Elements.ElementSet {
				if b, ok := e.(*api.ButtonBlockElement); ok {
					ids = append(ids, b.ActionID)
				}
			}
		}
	}
	return strings.Join(ids, " ")
}

func textOf(m slack.Message) string {
	var out []string
	for _, b := range m.Blocks {
		switch b := b.(type) {
		case *api.SectionBlock:
			out = append(out, b.Text.Text)
		case *api.ContextBlock:
			for _, e := range b.ContextElements.Elements {
				if t, ok := e.(*api.TextBlockObject); ok {
					out = append(out, t.Text)
				}
			}
		}
	}
	return strings.Join(out, "\n")
}
