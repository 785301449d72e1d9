// Package people is those whom a region tells: stand-ins for all providers on
// one page of phones and chat windows, and the contacts, schedules and policies
// that reach them.
//
// In:  test/demo and test/scenario.
// Out: test/peers, which it starts; the region's section alerts and its API.
package people

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/pagerduty"
	"github.com/agogsaas/holdfast/test/peers/slack"
	"github.com/agogsaas/holdfast/test/peers/smtp"
	"github.com/agogsaas/holdfast/test/peers/teams"
	"github.com/agogsaas/holdfast/test/peers/twilio"
	"github.com/agogsaas/holdfast/test/peers/webhook"
)

const (
	account  = "AC0000000000000000000000000000d0e5"
	ourPhone = "+12135550000"
	// slackChannel is the id of the channel that the webhook posts to.
	slackChannel = "C0123456789"
)

// Options say where they live.
type Options struct {
	// Dir keeps the secrets, so that a second start has the same addresses.
	Dir string
	// Region is its dashboard's address, such as http://127.0.0.1:8080.
	Region string
	// Page and Mail are ports on 127.0.0.1; default free ones.
	Page, Mail int
	// Speak is how long a call takes to say a letter; 0: no time.
	Speak time.Duration
}

// People are the stand-ins, at work.
type People struct {
	Phones    *twilio.Twilio
	Slack     *slack.Peer
	Teams     *teams.Peer
	PagerDuty *pagerduty.Peer
	Mail      *smtp.Server
	Webhook   *webhook.Peer

	region    string
	url       string
	dir       string
	slackHook string
	pagerKey  string
	srv       *http.Server
	serving   sync.WaitGroup
}

// Start starts them. Close ends them.
func Start(o Options) (*People, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the providers' stand-ins: %w", err)
	}
	secrets := map[string]string{}
	for _, name := range []string{twilioToken, slackSigning, webhookSecret, "slack.hook", "teams.signature", "pagerduty.key"} {
		s, err := secret(filepath.Join(o.Dir, name))
		if err != nil {
			return nil, err
		}
		secrets[name] = s
	}
	ln, err := net.Listen("tcp", local(o.Page))
	if err != nil {
		return nil, fmt.Errorf("open the page of phones and chats: %w", err)
	}
	p := &People{region: o.Region, url: "http://" + ln.Addr().String(), dir: o.Dir, pagerKey: secrets["pagerduty.key"]}
	if p.Mail, err = smtp.Start(smtp.Options{Addr: local(o.Mail)}); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	if err := os.WriteFile(filepath.Join(o.Dir, mailCA), p.Mail.CA(), 0o600); err != nil { // a new one at each start
		return nil, errors.Join(fmt.Errorf("keep the mail server's authority: %w", err), p.Mail.Close(), ln.Close())
	}
	p.Phones = twilio.New(twilio.Options{
		AccountSID: account, AuthToken: secrets[twilioToken], Phones: twilio.Rings, Numbers: []string{ourPhone},
		Inbound: o.Region + "/hooks/twilio/sms", Speak: o.Speak, Pause: 10 * o.Speak,
	})
	p.Phones.Phone(PatsNumber).Name = Pat
	robot := p.Phones.Phone(drillsNumber) // it picks up by itself, so that no phone rings for nothing
	robot.Name = Drill
	robot.Behave(twilio.PicksUp)
	p.Slack = slack.New(slack.Options{BaseURL: p.url + "/slack", Interactions: o.Region + "/hooks/slack", SigningSecret: secrets[slackSigning]})
	p.slackHook = p.Slack.AddWebhookWith(slackChannel, secrets["slack.hook"])
	p.PagerDuty = pagerduty.New(pagerduty.Options{Keys: []string{p.pagerKey}})
	p.Webhook = webhook.New(secrets[webhookSecret])
	var page http.Handler
	p.Teams, err = teams.New(teams.Options{BaseURL: p.url + "/teams", Signature: secrets["teams.signature"]})
	if err == nil {
		page, err = peers.Page("Phones and chats", p.Phones.Peer(), p.Mail.Peer(), p.Slack.Peer(), p.Teams.Peer(), p.PagerDuty.Peer(), p.Webhook.Peer())
	}
	if err != nil {
		p.Phones.Close()
		return nil, errors.Join(err, p.Mail.Close(), ln.Close())
	}
	p.srv = &http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second}
	p.serving.Go(func() { _ = p.srv.Serve(ln) }) // until Close
	return p, nil
}

// URL is the page.
func (p *People) URL() string { return p.url }

// Close ends them all.
func (p *People) Close() error {
	err := p.srv.Close()
	p.serving.Wait()
	p.Phones.Close()
	return errors.Join(err, p.Mail.Close())
}

// The files of secrets that the region reads, too.
const (
	twilioToken   = "twilio.token"
	slackSigning  = "slack.signing"
	webhookSecret = "webhook.secret"
	mailCA        = "mail-ca.pem" // and this is no secret
)

// Config is the region's section alerts, with which it reaches them.
func (p *People) Config() (string, error) {
	in := func(name string) string { return filepath.Join(p.dir, name) }
	c := channel.Config{
		PublicURL: p.region,
		Support:   "Holdfast support, +1 213 555 0000",
		Twilio:    channel.TwilioConfig{AccountSID: account, AuthToken: in(twilioToken), FromSMS: ourPhone, FromVoice: ourPhone, BaseURL: p.url + "/twilio"},
		Email:     channel.EmailConfig{Host: "127.0.0.1", Port: p.Mail.Port(), CA: in(mailCA), From: "Holdfast <alerts@holdfast.example>"},
		Slack:     channel.SlackConfig{SigningSecret: in(slackSigning), BaseURL: p.url + "/slack"},
		Teams:     channel.TeamsConfig{Hosts: []string{strings.TrimPrefix(p.url, "http://")}},
		PagerDuty: channel.PagerDutyConfig{BaseURL: p.url + "/pagerduty"},
		Webhook:   channel.WebhookConfig{Secret: in(webhookSecret), PrivateNetworks: []string{"127.0.0.0/8"}},
	}
	text, err := yaml.Marshal(map[string]channel.Config{"alerts": c})
	if err != nil {
		return "", fmt.Errorf("encode the region's section alerts: %w", err)
	}
	return string(text), nil
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// secret is 32 letters and digits, kept in a file from the first start on.
func secret(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read a stand-in's secret: %w", err)
	}
	s := (rand.Text() + rand.Text())[:32]
	if err := os.WriteFile(file, []byte(s+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep a stand-in's secret: %w", err)
	}
	return s, nil
}
