package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/peers/pagerduty"
	"github.com/agogsaas/holdfast/test/peers/slack"
	"github.com/agogsaas/holdfast/test/peers/smtp"
	"github.com/agogsaas/holdfast/test/peers/teams"
	"github.com/agogsaas/holdfast/test/peers/twilio"
	"github.com/agogsaas/holdfast/test/peers/webhook"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// everyChannel is how each facility's contact is told, all at once.
var everyChannel = []channel.Kind{channel.SMS, channel.Voice, channel.Email, channel.Slack, channel.Teams, channel.PagerDuty, channel.Webhook, channel.MQTT}

const (
	twilioSID     = "AC00000000000000000000000000000001"
	twilioToken   = "00000000000000000000000000000002"
	webhookSecret = "hfwh_of-the-benchmark-0123456789abcdef"
	listenerName  = "listener"
)

// ears are the providers: the stand-ins of test/peers over real HTTP, a real SMTP
// server, and a program that reads the broker. They note when what they accept
// comes in.
type ears struct {
	ports  site.Ports
	base   string // the HTTP server's
	conf   string // for the region's configuration
	mqtt   []string
	slack  *slack.Peer
	teams  *teams.Peer
	smtp   *smtp.Server
	twilio *twilio.Twilio
	stop   func()

	mu    sync.Mutex
	heard map[channel.Kind]map[string][]time.Time // by the address that was written to
}

// listen starts the providers.
func (l *lab) listen(ctx context.Context) (*ears, error) {
	e := &ears{heard: make(map[channel.Kind]map[string][]time.Time)}
	for _, k := range everyChannel {
		e.heard[k] = make(map[string][]time.Time)
	}
	var err error
	if e.ports.HTTP, err = freePort(); err != nil {
		return nil, err
	}
	if e.ports.MQTTPlain, err = freePort(); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the providers' address: %w", err)
	}
	e.base = "http://" + ln.Addr().String()
	e.twilio = twilio.New(twilio.Options{
		AccountSID: twilioSID, AuthToken: twilioToken, SegmentsPerSecond: 1000, CallsPerSecond: 1000, KeyWait: time.Second,
		Inbound: fmt.Sprintf("http://127.0.0.1:%d/hooks/twilio/sms", e.ports.HTTP),
	})
	e.slack = slack.New(slack.Options{BaseURL: e.base + "/slack"})
	if e.teams, err = teams.New(teams.Options{BaseURL: e.base + "/teams"}); err != nil {
		return nil, err
	}
	if e.smtp, err = smtp.Start(smtp.Options{}); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	e.serve(mux, "twilio", e.twilio.Handler())
	e.serve(mux, "slack", e.slack)
	e.serve(mux, "teams", e.teams)
	e.serve(mux, "pagerduty", pagerduty.New(pagerduty.Options{}))
	e.serve(mux, "webhook", webhook.New(webhookSecret))
	if err := e.configure(l.dir); err != nil {
		return nil, err
	}
	here, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run.Serve(ln, mux, slog.New(slog.DiscardHandler))(here); err != nil && here.Err() == nil {
			l.log.Error("the providers ended", "err", err)
		}
	})
	wg.Go(func() { e.collect(here) })
	wg.Go(func() { e.subscribe(here) })
	e.stop = func() {
		cancel()
		wg.Wait()
		e.twilio.Close()
		_ = e.smtp.Close() // nobody speaks to it any more
	}
	return e, nil
}

// serve notes when a request that the provider accepts came in, and for whom.
func (e *ears) serve(mux *http.ServeMux, name string, h http.Handler) {
	h = http.StripPrefix("/"+name, h)
	mux.HandleFunc("/"+name+"/", func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		got := &status{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(got, r)
		if r.Method == http.MethodPost && got.code < 300 {
			e.note(name, r.URL, body, at)
		}
	})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

func (e *ears) note(name string, u *url.URL, body []byte, at time.Time) {
	switch name {
	case "twilio":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return
		}
		kind := channel.SMS
		if strings.HasSuffix(u.Path, "/Calls.json") {
			kind = channel.Voice
		}
		e.hear(kind, form.Get("To"), at)
	case "slack":
		e.hear(channel.Slack, e.base+u.Path, at)
	case "teams":
		e.hear(channel.Teams, u.Query().Get("plant"), at)
	case "pagerduty":
		var event struct {
			Key string `json:"routing_key"`
		}
		if json.Unmarshal(body, &event) == nil {
			e.hear(channel.PagerDuty, event.Key, at)
		}
	case "webhook":
		e.hear(channel.Webhook, e.base+u.Path, at)
	}
}

func (e *ears) hear(k channel.Kind, to string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard[k][to] = append(e.heard[k][to], at)
}

// between lists when something came to an address within a time.
func (e *ears) between(k channel.Kind, to string, from, until time.Time) (list []time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range e.heard[k][to] {
		if at.After(from) && at.Before(until) {
			list = append(list, at)
		}
	}
	return list
}

// collect reads the mailboxes, which note the times themselves.
func (e *ears) collect(ctx context.Context) {
	var last time.Time
	for pause(ctx, 100*time.Millisecond) == nil {
		for _, m := range e.smtp.Mails() {
			if m.At.After(last) {
				e.hear(channel.Email, strings.Trim(m.To, "<>"), m.At)
				last = m.At
			}
		}
	}
}

// subscribe reads what the region publishes for programs of others.
func (e *ears) subscribe(ctx context.Context) {
	c, err := mqttclient.New(mqttclient.Config{
		URL: fmt.Sprintf("tcp://127.0.0.1:%d", e.ports.MQTTPlain), ClientID: listenerName, Username: listenerName, WaitMax: time.Second,
		Password: func() (string, error) { return webhookSecret, nil }, Log: slog.New(slog.DiscardHandler),
		Subscriptions: []mqttclient.Subscription{{Filter: proto.MirrorFilter, QoS: 1, Handle: func(m mqttclient.Received) {
			if facility, ok := incidentTopic(m.Topic); ok && !m.Retained {
				e.hear(channel.MQTT, facility, time.Now())
			}
		}}},
	})
	if err == nil {
		_ = c.Run(ctx) // it ends with ctx
	}
}

// incidentTopic is whose incident a mirror tells of: hf/v1/json/tenant/facility/incident/kind.
func incidentTopic(topic string) (facility string, ok bool) {
	parts := strings.Split(topic, "/")
	if len(parts) != 7 || parts[5] != "incident" || parts[6] != "offline" {
		return "", false
	}
	return parts[4], true
}

// configure writes what the region has to know of its providers.
func (e *ears) configure(dir string) error {
	for name, content := range map[string]string{"twilio.token": twilioToken, "webhook.secret": webhookSecret, "listener.password": webhookSecret, "smtp.pem": string(e.smtp.CA())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the providers' secrets: %w", err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	e.conf = fmt.Sprintf(`alerts:
  public_url: "http://127.0.0.1:%d"
  twilio: {account_sid: %s, auth_token_file: %s, from_sms: "+12135550000", from_voice: "+12135550000", base_url: "%s/twilio"}
  email: {host: 127.0.0.1, port: %d, from: "Holdfast <alerts@example.com>", ca_file: %s}
  slack: {base_url: "%s/slack"}
  teams: {hosts: ["%s"]}
  pagerduty: {base_url: "%s/pagerduty"}
  webhook: {secret_file: %s, private_networks: ["127.0.0.0/8"]}
`, e.ports.HTTP, twilioSID, at("twilio.token"), e.base, e.smtp.Port(), at("smtp.pem"), e.base, strings.TrimPrefix(e.base, "http://"), e.base, at("webhook.secret"))
	e.mqtt = []string{fmt.Sprintf("integrations: [{name: %s, password_file: %s}]", listenerName, at("listener.password"))}
	return nil
}

// addresses are where a facility's contact is written to, and by which word each
// provider notes it.
func (e *ears) addresses(no int, facility string) (to, noted map[channel.Kind]string) {
	to = map[channel.Kind]string{
		channel.SMS: fmt.Sprintf("+1213%07d", no+1), channel.Voice: fmt.Sprintf("+1213%07d", no+1), channel.Email: facility + "@example.com",
		channel.Slack: e.slack.AddWebhook(facility), channel.Teams: e.teams.URL() + "&plant=" + facility,
		channel.PagerDuty: fmt.Sprintf("%032x", no+1), channel.Webhook: e.base + "/webhook/" + facility, channel.MQTT: "incident",
	}
	noted = make(map[channel.Kind]string)
	for k, a := range to {
		noted[k] = a
	}
	noted[channel.Teams], noted[channel.MQTT] = facility, facility
	return to, noted
}

// told is a facility whose contact can be told by every channel.
type told struct {
	tenant, facility string
	noted            map[channel.Kind]string
}

// tellFrom gives each facility's tenant a contact and a policy, straight in the region's database.
// Their addresses are numbered from a number on.
func (l *lab) tellFrom(ctx context.Context, e *ears, from int, facilities [][2]string, kinds []channel.Kind) ([]told, error) {
	var list []told
	var tenants, names, channels, addresses []string
	for i, f := range facilities {
		to, noted := e.addresses(from+i, f[1])
		list, names = append(list, told{f[0], f[1], noted}), append(names, f[0])
		for _, k := range kinds {
			tenants, channels, addresses = append(tenants, f[0]), append(channels, string(k)), append(addresses, to[k])
		}
	}
	l.region.Reset() // the region was started anew with these channels
	_, err := l.region.Exec(ctx, `
		WITH c AS (INSERT INTO holdfast.contact (tenant, name, created_by) SELECT t, 'Ana of ' || t, 'bench' FROM unnest($1::text[]) t RETURNING id, tenant),
		     m AS (INSERT INTO holdfast.contact_method (contact, channel, address)
		           SELECT c.id, n.channel, n.address FROM unnest($2::text[], $3::text[], $4::text[]) AS n (tenant, channel, address) JOIN c ON c.tenant = n.tenant),
		     p AS (INSERT INTO holdfast.escalation_policy (tenant, name, kinds, severity) SELECT tenant, 'bench', '{offline}', 'critical' FROM c RETURNING id, tenant)
		INSERT INTO holdfast.policy_step (policy, no, after_s, contacts)
		SELECT p.id, s.no, s.after_s, ARRAY[c.id] FROM p JOIN c ON c.tenant = p.tenant CROSS JOIN (VALUES (0, 0), (1, 3600)) AS s (no, after_s)`,
		names, tenants, channels, addresses)
	if err != nil {
		return nil, fmt.Errorf("say who is told: %w", err)
	}
	return list, nil
}

// heardBy is when the last of the channels had its message of a facility, of those
// that came within a time; false while one lacks it.
func (e *ears) heardBy(t told, kinds []channel.Kind, from, until time.Time) (last time.Time, slowest channel.Kind, ok bool) {
	for _, k := range kinds {
		came := e.between(k, t.noted[k], from, until)
		if len(came) == 0 {
			return time.Time{}, k, false
		}
		if came[0].After(last) {
			last, slowest = came[0], k
		}
	}
	return last, slowest, true
}

// startTold starts a region with simulated boxes and providers, and with a broker
// of others if there is one.
func (l *lab) startTold(ctx context.Context, n int, kinds []channel.Kind, o *outside) (*ears, []*box, []told, error) {
	e, err := l.listen(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if o != nil {
		e.mqtt = o.lines
	}
	if err := l.startRegion(ctx, e.ports, e.conf, e.mqtt...); err != nil {
		e.stop()
		return nil, nil, nil, err
	}
	boxes, err := l.addBoxes(ctx, n)
	if err != nil {
		e.stop()
		return nil, nil, nil, err
	}
	var facilities [][2]string
	for _, b := range boxes {
		facilities = append(facilities, [2]string{b.tenant, b.facility})
	}
	list, err := l.tellFrom(ctx, e, 0, facilities, kinds)
	if err != nil {
		e.stop()
		return nil, nil, nil, err
	}
	return e, boxes, list, nil
}
