package browser

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/pagerduty"
	"github.com/agogsaas/holdfast/test/peers/slack"
	"github.com/agogsaas/holdfast/test/peers/smtp"
	"github.com/agogsaas/holdfast/test/peers/teams"
)

func TestAVisitorSeesTheChatsAndPressesSlacksButton(t *testing.T) {
	const key = "R0ABCDEFGHIJKLMNOPQRSTUVWXYZ0123"
	var region, page http.Handler
	serve := func(h *http.Handler) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h).ServeHTTP(w, r) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	regionURL, pageURL := serve(&region), serve(&page)
	rooms := slack.New(slack.Options{BaseURL: pageURL + "/slack", Interactions: regionURL + "/hooks/slack", SigningSecret: "signing-secret", PerSecond: -1})
	flow := must0(teams.New(teams.Options{BaseURL: pageURL + "/teams"}))(t)
	pd := pagerduty.New(pagerduty.Options{Keys: []string{key}})
	mail := must0(smtp.Start(smtp.Options{NoTLS: true}))(t)
	t.Cleanup(func() { must(t, mail.Close()) })
	page = must0(peers.Page("Phones and chats", rooms.Peer(), flow.Peer(), pd.Peer(), mail.Peer()))(t)

	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("signing-secret"), 0o600))
	chat := channel.NewChat(channel.Config{
		Slack: channel.SlackConfig{SigningSecret: secret, BaseURL: pageURL + "/slack"}, Teams: channel.TeamsConfig{Hosts: []string{pageURL[len("http://"):]}},
		PagerDuty: channel.PagerDutyConfig{BaseURL: pageURL + "/pagerduty"},
		Email:     channel.EmailConfig{Host: "127.0.0.1", Port: mail.Port(), TLS: "none", From: "Holdfast <alerts@example.com>"},
	}, must0(channel.NewTexts(""))(t), nil)
	desk := &desk{told: map[string]channel.Message{}}
	region = channel.Handler(channel.HandlerConfig{
		Inbox: desk, Log: slog.New(slog.DiscardHandler), Hooks: chat.Hooks(desk, slog.New(slog.DiscardHandler)),
	})
	for kind, to := range map[channel.Kind]string{channel.Slack: rooms.AddWebhook("C0123456789"), channel.Teams: flow.URL(), channel.PagerDuty: key, channel.Email: "ana@example.com"} {
		m := channel.Example(kind, channel.Trigger)
		m.To = to
		if kind == channel.Slack {
			desk.told[m.Delivery] = m
		}
		must0(chat.Senders[kind].Send(t.Context(), m))(t)
	}

	tb := newBrowser(t).open(t, pageURL)
	tb.size(1200, 900, false)
	tb.do(chromedp.Navigate(pageURL))
	for _, id := range []string{"slack", "teams", "pagerduty", "mail"} {
		tb.wait(`document.querySelector("#` + id + ` .chat").innerText.includes("Los Angeles")`)
	}
	tb.looks("chats")
	tb.do(chromedp.Click(chromedp.CSS("#slack button")))
	tb.text("Ana Lima takes care of it.")
	tb.text("Thank you. Incident 17 is yours.")
	tb.wait(`document.querySelector("#slack button") === null`)
	desk.mu.Lock()
	defer desk.mu.Unlock()
	if len(desk.acks) != 1 || desk.acks[0].How != "slack" || desk.acks[0].By != "olga" {
		t.Errorf("%+v", desk.acks)
	}
}
