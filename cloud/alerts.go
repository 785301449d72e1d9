package cloud

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

// voices is the region's ways to tell people.
type voices struct {
	texts    *channel.Texts
	links    *channel.Links
	chat     *channel.Chat
	twilio   *channel.Twilio // nil: there is none
	senders  map[channel.Kind]channel.Sender
	problems map[channel.Kind]string // why one is not set up, and what to do
	keys     *channel.Credentials
}

// newVoices makes each channel that the configuration makes possible. A region
// whose password for one of them is lost goes on with the others.
func newVoices(c channel.Config, stateDir string, publish channel.Publisher, log *slog.Logger) (*voices, error) {
	texts, err := channel.NewTexts(c.Templates)
	if err != nil {
		return nil, err
	}
	texts.Log = log
	links, err := channel.NewLinks(c.PublicURL, filepath.Join(stateDir, "links.key"))
	if err != nil {
		return nil, err
	}
	v := &voices{texts: texts, links: links, chat: channel.NewChat(c, texts, publish), senders: map[channel.Kind]channel.Sender{}, problems: map[channel.Kind]string{}}
	v.keys = &channel.Credentials{Chat: v.chat, Log: log}
	maps.Copy(v.senders, v.chat.Senders)
	for kind, err := range v.chat.Problems {
		v.problems[kind] = words(err)
	}
	const notSetUp = "It is not set up. Set alerts.twilio in the region's configuration: account_sid, auth_token_file and "
	v.problems[channel.SMS], v.problems[channel.Voice] = notSetUp+"from_sms.", notSetUp+"from_voice."
	if c.Twilio.AccountSID == "" {
		return v, nil
	}
	v.twilio, err = channel.NewTwilio(c.Twilio, c.PublicURL, texts)
	if err != nil {
		v.problems[channel.SMS], v.problems[channel.Voice] = words(err), words(err)
		return v, nil
	}
	v.keys.Twilio = v.twilio
	for kind, s := range v.twilio.Senders() {
		v.senders[kind] = s
		delete(v.problems, kind)
	}
	return v, nil
}

// words is an error with what to do about it.
func words(err error) string {
	return strings.TrimSuffix(err.Error()+". "+hint.Of(err), ". ")
}

// wrong says of a channel that is set up why it does not work, and what to do; "" when nothing is known.
func (v *voices) wrong(k channel.Kind) string {
	if err := v.keys.Wrong(k); err != nil {
		return words(err)
	}
	return ""
}

// handler serves what comes back. It needs no session.
func (v *voices) handler(c channel.Config, inbox channel.Inbox, log *slog.Logger) http.Handler {
	return channel.Handler(channel.HandlerConfig{
		Inbox: inbox, Links: v.links, Support: c.Support, Twilio: v.twilio, Hooks: v.chat.Hooks(inbox, log), Log: log,
	})
}

// newAlerter puts together who is told, how, and of what.
func newAlerter(ctx context.Context, conf Config, db *pgxpool.Pool, v *voices, roster *oncall.Room, word func() detect.Word, log *slog.Logger) (*alert.Alerter, error) {
	drill, err := oncall.Seed(ctx, db)
	if err != nil {
		return nil, err
	}
	c := alert.Config{
		DB: db, Roster: roster, Senders: v.senders, Problems: v.problems, Wrong: v.wrong, Word: word, Region: conf.Region, Support: conf.Alerts.Support,
		Links: alert.Links{Ack: v.links.Ack, Offer: v.links.Offer}, TestContact: drill, Log: log,
	}
	if conf.Alerts.Support == "" && len(v.senders) > 0 {
		log.Warn("messages cannot say whom to call for help: give alerts.support a number")
	}
	if base := strings.TrimSuffix(conf.Alerts.PublicURL, "/"); base != "" {
		c.Links.Incident = func(id int64) string { return base + "/incidents/" + strconv.FormatInt(id, 10) }
	}
	if file := conf.Alerts.DeadMan; file != "" {
		secret, err := config.ReadSecret(file)
		if err != nil { // whoever watches the switch notices
			log.Error("the dead man's switch is not fetched: put its URL into the file (mode 0600) and start the region again", "file", file, "err", err)
		}
		c.DeadMan = string(secret)
	}
	return alert.New(c)
}

// announced returns until when facilities are under announced work.
func announced(room *oncall.Room) func(context.Context) (map[string]time.Time, error) {
	const most = 10_000
	return func(ctx context.Context) (map[string]time.Time, error) {
		now, until := time.Now(), map[string]time.Time{}
		list, err := room.ListMaintenance(ctx, "", false, most, now)
		for _, m := range list {
			if m.EndedAt == nil && !m.StartsAt.After(now) && m.EndsAt.After(until[m.Facility]) {
				until[m.Facility] = m.EndsAt
			}
		}
		return until, err
	}
}
