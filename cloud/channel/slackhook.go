package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/slack-go/slack"
	"golang.org/x/time/rate"
)

const (
	slackHookMaxBytes = 256 << 10
	// slackAnswerWithin leaves room in the three seconds that Slack waits.
	slackAnswerWithin = 2 * time.Second
	slackUpdateWithin = 10 * time.Second
	deliveryMaxBytes  = 64
	personMaxRunes    = 80
)

// Hook is where Slack tells that somebody pressed a button: POST /hooks/slack.
// The answer is given at once; the message is changed afterwards.
func (s *SlackSender) Hook(inbox Inbox, log *slog.Logger) http.Handler {
	often := rate.Sometimes{Interval: time.Minute} // anybody can send what is refused
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slackHookMaxBytes))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		if err := s.verify(r.Header, body); err != nil {
			often.Do(func() { log.Warn("slack request refused", "err", err) })
			http.Error(w, "not signed by the app's secret, or too old", http.StatusUnauthorized)
			return
		}
		p, err := decodePress(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if p.delivery == "" { // a button that only opens a page
			w.WriteHeader(http.StatusOK)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), slackAnswerWithin)
		said, err := inbox.Acknowledge(ctx, Ack{Delivery: p.delivery, By: p.who, How: "slack"})
		cancel()
		if err != nil {
			log.Error("acknowledgement from slack not taken", "delivery", p.delivery, "err", err)
			http.Error(w, "not acknowledged", http.StatusInternalServerError) // Slack shows a warning at the button
			return
		}
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // without it the answer goes out after the change

		ctx, cancel = context.WithTimeout(context.WithoutCancel(r.Context()), slackUpdateWithin)
		defer cancel()
		if err := s.update(ctx, inbox, p, said); err != nil {
			log.Warn("slack message not updated", "delivery", p.delivery, "err", err)
		}
	})
}

// verify checks that Slack made the request, within the last five minutes.
func (s *SlackSender) verify(h http.Header, body []byte) error {
	v, err := slack.NewSecretsVerifier(h, s.signing) // an empty secret is an error
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if _, err := v.Write(body); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := v.Ensure(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

// update shows in the message who takes care, without the button, and answers
// whoever pressed: the one who came second learns who was first.
func (s *SlackSender) update(ctx context.Context, inbox Inbox, p press, said string) error {
	if _, err := s.hook(p.respond); err != nil {
		return fmt.Errorf("response_url: %w", err)
	}
	m, err := inbox.Incident(ctx, p.delivery)
	if err == nil {
		m.Kind = Slack
		if m.Event == Test {
			m.Incident.AckURL = "" // it came, and there is nothing to press any more
		}
		var text string
		var blocks []slack.Block
		if text, blocks, err = s.message(m); err == nil {
			err = s.say(ctx, p.respond, &slack.WebhookMessage{ReplaceOriginal: true, Text: text, Blocks: &slack.Blocks{BlockSet: blocks}})
		}
	}
	told := s.say(ctx, p.respond, &slack.WebhookMessage{ResponseType: slack.ResponseTypeEphemeral, Text: slackEscape.Replace(said)})
	return errors.Join(err, told)
}

// press is somebody's finger on a button.
type press struct {
	delivery string // "" when it was not the one that acknowledges
	who      string
	respond  string // response_url
}

// decodePress reads an interaction: a form whose field payload holds JSON.
func decodePress(body []byte) (press, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return press{}, errors.New("not a form")
	}
	var in struct {
		Type    string `json:"type"`
		Respond string `json:"response_url"`
		User    struct {
			ID       string `json:"id"`
			Name     string `json:"name"`
			Username string `json:"username"`
		} `json:"user"`
		Actions []struct {
			ID    string `json:"action_id"`
			Value string `json:"value"`
		} `json:"actions"`
	}
	if err := json.Unmarshal([]byte(form.Get("payload")), &in); err != nil {
		return press{}, errors.New("the payload is not an interaction")
	}
	p := press{respond: in.Respond, who: cut(cmp.Or(in.User.Name, in.User.Username, in.User.ID), personMaxRunes)}
	if in.Type != string(slack.InteractionTypeBlockActions) {
		return p, nil
	}
	for _, a := range in.Actions {
		if a.ID == slackAck && a.Value != "" {
			p.delivery = a.Value
		}
	}
	if len(p.delivery) > deliveryMaxBytes {
		return press{}, errors.New("the button's value is not a delivery")
	}
	if p.delivery != "" && p.who == "" {
		return press{}, errors.New("the interaction does not say who pressed")
	}
	return p, nil
}
