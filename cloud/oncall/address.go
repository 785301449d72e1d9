package oncall

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	addressMaxBytes  = 2048 // Teams' URLs are about 400 bytes
	emailMaxBytes    = 254  // RFC 5321 section 4.5.3.1.3
	settingMaxBytes  = 1024
	routingKeyLength = 32
)

var (
	e164       = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	routingKey = regexp.MustCompile(`^[A-Za-z0-9]{32}$`)
	topicLevel = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	// slackChannel is a channel's id, which the app's bot posts to; see cloud/channel.
	slackChannel = regexp.MustCompile(`^[CDG][A-Z0-9]{8,20}$`)
	dialling     = strings.NewReplacer("(0)", "", " ", "", "\u00a0", "", "-", "", ".", "", "/", "", "(", "", ")", "")
)

// Normalise brings an address into the one form in which it is kept, or says
// what is wrong with it. The error does not repeat an address that is a secret.
func Normalise(kind channel.Kind, address string) (string, error) {
	address = strings.TrimSpace(address)
	if len(address) > addressMaxBytes {
		return "", hint.Wrap(fmt.Errorf("the address has more than %d bytes", addressMaxBytes), "Copy the address again.")
	}
	switch kind {
	case channel.SMS, channel.Voice:
		return phone(address)
	case channel.Email:
		return mailbox(address)
	case channel.Slack:
		if slackChannel.MatchString(address) {
			return address, nil
		}
		return webAddress(address)
	case channel.Teams, channel.Webhook:
		return webAddress(address)
	case channel.PagerDuty:
		if !routingKey.MatchString(address) {
			return "", hint.Wrap(fmt.Errorf("a routing key has %d letters and digits, this has %d characters", routingKeyLength, len(address)),
				"In PagerDuty: Service, Integrations, Events API V2, Integration Key.")
		}
		return address, nil
	case channel.MQTT:
		if !topicLevel.MatchString(address) {
			return "", hint.Wrap(fmt.Errorf("%q cannot be the last level of a topic", address), "Write up to 64 letters, digits, - and _, such as control-room.")
		}
		return address, nil
	}
	return "", hint.Wrap(fmt.Errorf("there is no channel %q", kind), "The channels are sms, voice, email, teams, slack, pagerduty, webhook and mqtt.")
}

func phone(s string) (string, error) {
	n := dialling.Replace(strings.TrimPrefix(s, "tel:"))
	if rest, ok := strings.CutPrefix(n, "00"); ok {
		n = "+" + rest
	}
	if !e164.MatchString(n) {
		return "", hint.Wrap(fmt.Errorf("%q is no phone number that can be called from everywhere", s),
			"Write it with + and the country's code, such as +1 213 555 0123 or +49 69 1234567.")
	}
	return n, nil
}

func mailbox(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || len(a.Address) > emailMaxBytes || strings.ContainsAny(a.Address, " \"<>\r\n\t") {
		return "", hint.Wrap(fmt.Errorf("%q is no mail address", s), "Write it as name@example.com, without a name before it.")
	}
	at := strings.LastIndexByte(a.Address, '@')
	return a.Address[:at] + strings.ToLower(a.Address[at:]), nil
}

// webAddress is https; http only within this machine, where nobody can listen.
func webAddress(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil { // which would repeat the secret
		err = errors.New("the address is no URL")
	} else {
		switch {
		case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
			err = errors.New("the address does not begin with https://")
		case u.Hostname() == "":
			err = errors.New("the address names no host")
		case u.User != nil:
			err = errors.New("the address has a user name in it")
		case u.Fragment != "":
			err = errors.New("the address has a # in it")
		}
	}
	if err != nil {
		return "", hint.Wrap(err, "Copy the whole address as the service shows it, from https:// on.")
	}
	u.Host = strings.ToLower(u.Host)
	return u.String(), nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// settingOf is the one setting that a channel reads; the others have none.
var settingOf = map[channel.Kind]string{channel.Teams: "card", channel.Webhook: "secret"}

// checkSettings refuses what no channel would read: a misspelt one would change nothing.
func checkSettings(kind channel.Kind, settings map[string]string) error {
	for k, v := range settings {
		switch {
		case k != settingOf[kind] && settingOf[kind] == "":
			return hint.Wrap(fmt.Errorf("%s has no setting %.40q", kind, k), "Leave it out: %s needs no settings.", kind)
		case k != settingOf[kind]:
			return hint.Wrap(fmt.Errorf("%s has no setting %.40q", kind, k), "The only one that it has is %s.", settingOf[kind])
		case len(v) > settingMaxBytes || strings.ContainsRune(v, 0):
			return hint.Wrap(fmt.Errorf("the setting %s cannot be kept", k), "Give it at most %d bytes.", settingMaxBytes)
		}
	}
	return nil
}

// secretIs says whether whoever knows the address may use it.
func secretIs(kind channel.Kind) bool {
	switch kind {
	case channel.Teams, channel.Slack, channel.Webhook, channel.PagerDuty:
		return true
	}
	return false
}

// Shown is an address as people may see it: enough of a secret to tell it from
// another, and not enough to use it.
func Shown(kind channel.Kind, address string) string {
	if !secretIs(kind) || kind == channel.Slack && slackChannel.MatchString(address) {
		return address
	}
	tail := ""
	if len(address) >= routingKeyLength {
		tail = address[len(address)-4:]
	}
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host + "/…" + tail
	}
	return "…" + tail
}

// shownSettings leaves out what is a secret.
func shownSettings(settings map[string]string) map[string]string {
	out := make(map[string]string, len(settings))
	for k, v := range settings {
		if strings.Contains(k, "secret") || strings.Contains(k, "token") || strings.Contains(k, "password") {
			v = "…"
		}
		out[k] = v
	}
	return out
}
