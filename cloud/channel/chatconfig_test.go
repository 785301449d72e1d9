package channel_test

import (
	"testing"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/config"
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
	all, err := channel.NewChat(channel.Config{Email: channel.EmailConfig{Host: "127.0.0.1", From: "a@example.com"}}, texts(t),
		channel.Publisher(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []channel.Kind{channel.Slack, channel.Teams, channel.Email, channel.PagerDuty, channel.Webhook} {
		if all[k] == nil {
			t.Errorf("%s has none", k)
		}
	}
	if all[channel.MQTT] != nil {
		t.Error("there is no broker, and a sender for it")
	}
}
