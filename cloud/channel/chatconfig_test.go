package channel_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/test/peers/smtp"
)

func TestChatConfigurationIsCheckedWhenItIsRead(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"{}": true,
		"email: {host: mail.example.com, from: Holdfast <alerts@example.com>, user: a, password_file: /x}": true,
		"email: {host: 127.0.0.1, from: a@example.com, tls: none}":                                         true,
		"email: {host: mail.example.com, from: a@example.com, tls: none}":                                  false,
		"email: {host: mail.example.com, from: alerts}":                                                    false,
		"email: {host: mail.example.com, from: a@example.com, tls: maybe}":                                 false,
		"email: {host: mail.example.com, from: a@example.com, port: 70000}":                                false,
		"email: {host: mail.example.com, from: a@example.com, user: a}":                                    false,
		"email: {host: mail.example.com, from: a@example.com, password_file: /x}":                          false,
		"slack: {base_url: http://127.0.0.1:4020/slack}":                                                   true,
		"slack: {base_url: http://slack.example.com}":                                                      false,
		`teams: {hosts: ["127.0.0.1:4020"]}`:                                                               true,
		"teams: {hosts: [https://teams.example.com]}":                                                      false,
		"pagerduty: {base_url: https://events.eu.pagerduty.com}":                                           true,
		"pagerduty: {base_url: events.eu.pagerduty.com}":                                                   false,
		"webhook: {private_networks: [10.20.0.0/16]}":                                                      true,
		"webhook: {private_networks: [10.20.0.1]}":                                                         false,
	} {
		var c channel.Config
		if err := config.Parse("test.yaml", []byte(text), &c); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestEachConfiguredChannelHasItsSender(t *testing.T) {
	t.Parallel()
	publish := func(context.Context, string, []byte) error { return nil }
	chat := channel.NewChat(channel.Config{Email: channel.EmailConfig{Host: "127.0.0.1", From: "a@example.com"}}, texts(t), publish)
	for _, k := range []channel.Kind{channel.Slack, channel.Teams, channel.Email, channel.PagerDuty, channel.Webhook, channel.MQTT} {
		if chat.Senders[k] == nil {
			t.Errorf("%s has none", k)
		}
	}
	if len(chat.Problems) != 0 || chat.Hooks(nil, slog.New(slog.DiscardHandler))["slack"] == nil {
		t.Errorf("%v", chat.Problems)
	}
}

func TestALostSecretSilencesItsOwnChannelOnly(t *testing.T) {
	t.Parallel()
	chat := channel.NewChat(channel.Config{
		Email: channel.EmailConfig{Host: "127.0.0.1", From: "a@example.com", User: "a", Password: "/nowhere/password"},
		Slack: channel.SlackConfig{SigningSecret: "/nowhere/secret"},
	}, texts(t), nil)
	for _, k := range []channel.Kind{channel.Slack, channel.Email} {
		if chat.Senders[k] != nil || chat.Problems[k] == nil {
			t.Errorf("%s: %v", k, chat.Problems[k])
		}
	}
	for _, k := range []channel.Kind{channel.Teams, channel.PagerDuty, channel.Webhook} {
		if chat.Senders[k] == nil {
			t.Errorf("%s has no sender", k)
		}
	}
	if len(chat.Hooks(nil, slog.New(slog.DiscardHandler))) != 0 {
		t.Error("presses are taken that cannot be verified")
	}
}

func TestTheRegionsOwnCredentialsAreTriedAtStart(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	mail, err := smtp.Start(smtp.Options{User: "alerts", Password: mailPassword, NoTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	try := func(password, token string) map[channel.Kind]error {
		return channel.NewChat(channel.Config{
			Email: channel.EmailConfig{Host: "127.0.0.1", Port: mail.Port(), TLS: "none", From: "a@example.com", User: "alerts", Password: secretFile(t, password)},
			Slack: channel.SlackConfig{BaseURL: w.base, BotToken: secretFile(t, token)},
		}, texts(t), nil).Verify(soon(t))
	}
	if wrong := try(mailPassword, botToken); len(wrong) != 0 {
		t.Errorf("%v", wrong)
	}
	wrong := try("not-the-password", "xoxb-not-the-token")
	wantError(t, wrong[channel.Email], permanent, "not-the-password")
	wantError(t, wrong[channel.Slack], permanent, "xoxb-not-the-token")
}
