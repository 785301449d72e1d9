package channel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/agogsaas/holdfast/internal/hint"
)

// Chat is the channels besides Twilio's.
type Chat struct {
	Senders map[Kind]Sender
	// Problems says why a channel is not there, and what to do: a region whose
	// mail password is lost goes on with the others.
	Problems map[Kind]error
}

// NewChat makes each channel that the configuration makes possible. publish nil
// leaves MQTT out.
func NewChat(c Config, texts *Texts, publish Publisher) *Chat {
	chat := &Chat{
		Senders:  map[Kind]Sender{Teams: NewTeams(c.Teams, texts), PagerDuty: NewPagerDuty(c.PagerDuty, texts)},
		Problems: map[Kind]error{},
	}
	add := func(k Kind, s Sender, err error) {
		if err != nil {
			chat.Problems[k] = err
			return
		}
		chat.Senders[k] = s
	}
	slack, err := NewSlack(c.Slack, texts)
	add(Slack, slack, err)
	hook, err := NewWebhook(c.Webhook, texts)
	add(Webhook, hook, err)
	if c.Email.Host == "" {
		add(Email, nil, hint.Wrap(errors.New("the region has no mail server"), "Set alerts.email in the region's configuration."))
	} else {
		email, err := NewEmail(c.Email, texts)
		add(Email, email, err)
	}
	if publish != nil {
		add(MQTT, NewMQTT(publish, texts), nil)
	}
	return chat
}

// Hooks are the handlers of what comes back, for HandlerConfig.
func (c *Chat) Hooks(inbox Inbox, log *slog.Logger) map[string]http.Handler {
	out := map[string]http.Handler{}
	if s, ok := c.Senders[Slack].(*SlackSender); ok {
		out["slack"] = s.Hook(inbox, log)
	}
	return out
}

// Verify tries the region's own credentials, without telling anybody, and
// returns what is wrong with which channel. Senders stay as they are: what is
// wrong may be mended while the region runs.
func (c *Chat) Verify(ctx context.Context) map[Kind]error {
	out := map[Kind]error{}
	if e, ok := c.Senders[Email].(*EmailSender); ok {
		if err := e.Verify(ctx); err != nil {
			out[Email] = err
		}
	}
	if s, ok := c.Senders[Slack].(*SlackSender); ok {
		if err := s.Verify(ctx); err != nil {
			out[Slack] = err
		}
	}
	return out
}
