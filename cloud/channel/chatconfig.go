package channel

import (
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/agogsaas/holdfast/internal/config"
)

// EmailConfig is the server that takes the region's mail.
type EmailConfig struct {
	Host     string `yaml:"host" doc:"The mail server that takes the region's messages. Empty: nobody is told by email."`
	Port     int    `yaml:"port" doc:"Its port. Default 587 with starttls, 465 with implicit, 25 with none."`
	TLS      string `yaml:"tls" doc:"starttls: encryption is required, not only used where offered (default). implicit: from the first byte. none: only for a server on this machine."`
	User     string `yaml:"user" doc:"Account at the server, where it wants one."`
	Password string `yaml:"password_file" doc:"File with its password."`
	From     string `yaml:"from" doc:"The sender's address, for example Holdfast <alerts@example.com>. SPF and DKIM of its domain must allow the server."`
	Bounces  string `yaml:"bounces" doc:"Mailbox that what cannot be delivered comes back to (the envelope's sender), where somebody reads it, for example bounces@example.com. Default the address in from."`
	CA       string `yaml:"ca_file" doc:"Certificate authority of the server; default the system's."`
}

// SlackConfig is the region's Slack app.
type SlackConfig struct {
	SigningSecret string `yaml:"signing_secret_file" doc:"File with the app's signing secret: with it messages have a button that acknowledges. Without it they have a link."`
	BotToken      string `yaml:"bot_token_file" doc:"File with the app's bot token (xoxb-…): with it a contact's address may be a channel's id instead of a webhook."`
	BaseURL       string `yaml:"base_url" doc:"Where Slack is, for tests and the demo. Default https://slack.com and https://hooks.slack.com."`
}

// TeamsConfig is where Microsoft Teams takes messages.
type TeamsConfig struct {
	Hosts []string `yaml:"hosts" doc:"Hosts, with port, that Workflows addresses may have besides Microsoft's own (*.logic.azure.com, *.powerplatform.com and those of the national clouds)."`
}

// PagerDutyConfig is where PagerDuty takes events.
type PagerDutyConfig struct {
	BaseURL string `yaml:"base_url" doc:"Where the Events API v2 is. Default https://events.pagerduty.com; in Europe https://events.eu.pagerduty.com."`
}

// WebhookConfig is what generic webhooks may reach.
type WebhookConfig struct {
	Secret          string   `yaml:"secret_file" doc:"File with the secret that signs webhooks which have none of their own."`
	PrivateNetworks []string `yaml:"private_networks" doc:"Private networks that webhooks may reach, for example [10.20.0.0/16]. Without it they reach public addresses only, so that nobody who enters an address can look into the region's own network."`
}

// Validate reports what is wrong with the values.
func (c *EmailConfig) Validate() (p []config.Problem) {
	bad := func(path, text string) { p = append(p, config.Problem{Path: path, Text: text}) }
	if c.Host == "" {
		return nil
	}
	if c.Port < 0 || c.Port > 65535 {
		bad("port", "must be 1 to 65535")
	}
	switch c.TLS {
	case "", "starttls", "implicit":
	case "none":
		if !loopbackHost(c.Host) {
			bad("tls", "may only be none for a server on this machine")
		}
	default:
		bad("tls", "must be one of starttls, implicit, none")
	}
	if _, err := mail.ParseAddress(c.From); err != nil {
		bad("from", "must be a mail address, for example Holdfast <alerts@example.com>")
	}
	if c.Bounces != "" && checkMailbox(c.Bounces) != nil {
		bad("bounces", "must be one mail address, for example bounces@example.com")
	}
	if c.User != "" && c.Password == "" {
		bad("user", "needs a password_file beside it")
	}
	if c.Password != "" && c.User == "" {
		bad("password_file", "needs a user beside it")
	}
	return p
}

// Validate reports what is wrong with the values.
func (c *SlackConfig) Validate() []config.Problem { return checkBase(c.BaseURL) }

// Validate reports what is wrong with the values.
func (c *PagerDutyConfig) Validate() []config.Problem { return checkBase(c.BaseURL) }

// Validate reports what is wrong with the values.
func (c *TeamsConfig) Validate() (p []config.Problem) {
	for i, h := range c.Hosts {
		if u, err := url.Parse("https://" + h + "/"); err != nil || u.Host != h || h == "" {
			p = append(p, config.Problem{Path: "hosts[" + strconv.Itoa(i) + "]", Text: "must be a host, or host:port"})
		}
	}
	return p
}

// Validate reports what is wrong with the values.
func (c *WebhookConfig) Validate() (p []config.Problem) {
	for i, n := range c.PrivateNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			p = append(p, config.Problem{Path: "private_networks[" + strconv.Itoa(i) + "]", Text: "must be a network such as 10.20.0.0/16"})
		}
	}
	return p
}

// checkBase says what is wrong with a base_url: plain HTTP is for stand-ins on
// this machine.
func checkBase(raw string) []config.Problem {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())) {
		return []config.Problem{{Path: "base_url", Text: "must begin with https://, or with http:// for a server on this machine"}}
	}
	return nil
}

// loopbackHost reports whether a host is this machine.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
