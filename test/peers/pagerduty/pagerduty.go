// Package pagerduty is a stand-in for PagerDuty's Events API v2: it keeps the
// alerts of each integration by their dedup_key, with the documented limits.
//
// In:  cloud/channel, over HTTP.
// Out: the demo's page and tests, which look at the alerts.
package pagerduty

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/panel"
)

// The documented limits.
const (
	eventMaxBytes = 512 << 10
	summaryMax    = 1024
	dedupMax      = 255
	perMinute     = 120
	keepAlerts    = 200
)

// State is an alert's.
type State string

// The states.
const (
	Triggered    State = "triggered"
	Acknowledged State = "acknowledged"
	Resolved     State = "resolved"
)

// Alert is one in a service.
type Alert struct {
	RoutingKey, DedupKey string
	State                State
	Summary, Severity    string
	Source               string
	At                   time.Time // of its last event
	Links                []Link
	Triggers             int // how often it was triggered
	// Pages counts how often somebody was called: once for each time that it opened.
	Pages int
}

// Link is in an event's links.
type Link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

// Options are what the account has.
type Options struct {
	// Keys are the integration keys that somebody has.
	Keys []string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Peer is the stand-in. Its methods may be called from several goroutines.
type Peer struct {
	faults.Script
	opts Options

	mu      sync.Mutex
	alerts  []*Alert // oldest first
	sent    map[string][]time.Time
	events  int
	dropped int
}

// New makes a stand-in.
func New(o Options) *Peer {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Peer{opts: o, sent: map[string][]time.Time{}}
}

// Alerts are those of all services, oldest first.
func (p *Peer) Alerts() []Alert {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Alert, len(p.alerts))
	for i, a := range p.alerts {
		out[i] = *a
	}
	return out
}

// Open are the alerts that nobody resolved. At the end of a test it says that
// each trigger was followed by its resolve.
func (p *Peer) Open() (out []Alert) {
	for _, a := range p.Alerts() {
		if a.State != Resolved {
			out = append(out, a)
		}
	}
	return out
}

// Dropped counts the events that were taken and did nothing, such as one by a
// key that nobody has, or a resolve by another key than its trigger's.
func (p *Peer) Dropped() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped
}

type event struct {
	RoutingKey string `json:"routing_key"`
	Action     string `json:"event_action"`
	DedupKey   string `json:"dedup_key"`
	Links      []Link `json:"links"`
	Payload    *struct {
		Summary   string `json:"summary"`
		Source    string `json:"source"`
		Severity  string `json:"severity"`
		Timestamp string `json:"timestamp"`
	} `json:"payload"`
}

func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v2/enqueue" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, eventMaxBytes+1))
	if err != nil {
		return
	}
	if len(raw) > eventMaxBytes {
		refuse(w, http.StatusRequestEntityTooLarge, "Event object exceeds the size limit")
		return
	}
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		refuse(w, http.StatusBadRequest, "Event object is invalid", "Event object format is unrecognized")
		return
	}
	if bad := check(e); len(bad) > 0 {
		refuse(w, http.StatusBadRequest, "Event object is invalid", bad...)
		return
	}
	f := p.Take()
	if f == (faults.HTTP{}) && p.tooMany(e.RoutingKey) {
		f = faults.HTTP{Status: http.StatusTooManyRequests, Body: `{"status":"throttle exceeded","message":"Requests for this service are arriving too quickly.  Please retry later."}`}
	}
	if f.Takes() {
		p.take(e)
	}
	if f.Answer(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "success", "message": "Event processed", "dedup_key": e.DedupKey}) // the caller may be gone
}

func refuse(w http.ResponseWriter, status int, message string, errs ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "invalid event", "message": message, "errors": errs}) // the caller may be gone
}

var routingKey = regexp.MustCompile(`^[0-9A-Za-z]{32}$`)

// check is the list of what is wrong with an event.
func check(e event) (bad []string) {
	if !routingKey.MatchString(e.RoutingKey) {
		bad = append(bad, "Invalid routing key")
	}
	if len(e.DedupKey) > dedupMax {
		bad = append(bad, "Length of 'dedup_key' must be at most 255")
	}
	switch e.Action {
	case "acknowledge", "resolve":
		if e.DedupKey == "" {
			bad = append(bad, "'dedup_key' is missing or blank")
		}
		return bad
	case "trigger":
	default:
		return append(bad, "Invalid value for 'event_action'")
	}
	if e.Payload == nil {
		return append(bad, "'payload' is missing or blank")
	}
	if n := utf8.RuneCountInString(e.Payload.Summary); n == 0 || n > summaryMax {
		bad = append(bad, "Length of 'payload.summary' must be 1 to 1024")
	}
	if e.Payload.Source == "" {
		bad = append(bad, "'payload.source' is missing or blank")
	}
	if !slices.Contains([]string{"critical", "warning", "error", "info"}, e.Payload.Severity) {
		bad = append(bad, "Invalid value for 'payload.severity'")
	}
	if t := e.Payload.Timestamp; t != "" {
		if _, err := time.Parse(time.RFC3339, t); err != nil {
			bad = append(bad, "Invalid value for 'payload.timestamp'")
		}
	}
	return bad
}

// tooMany counts an event against its key's limit.
func (p *Peer) tooMany(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	recent := slices.DeleteFunc(p.sent[key], func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	full := len(recent) >= perMinute
	if !full {
		recent = append(recent, now)
	}
	p.sent[key] = recent
	return full
}

func (p *Peer) take(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.opts.Keys, e.RoutingKey) {
		p.dropped++
		return
	}
	p.events++
	if e.DedupKey == "" {
		e.DedupKey = fmt.Sprintf("made-up-%d", p.events)
	}
	var open *Alert
	for _, a := range p.alerts {
		if a.RoutingKey == e.RoutingKey && a.DedupKey == e.DedupKey && a.State != Resolved {
			open = a
		}
	}
	switch {
	case e.Action == "trigger" && open == nil:
		open = &Alert{RoutingKey: e.RoutingKey, DedupKey: e.DedupKey, State: Triggered, Pages: 1}
		p.alerts = append(p.alerts, open)
		if len(p.alerts) > keepAlerts {
			p.alerts = p.alerts[1:]
		}
	case open == nil:
		p.dropped++
		return
	case e.Action == "acknowledge":
		open.State = Acknowledged
	case e.Action == "resolve":
		open.State = Resolved
	}
	open.At = p.opts.Now()
	if e.Action == "trigger" {
		open.Triggers++
		open.Summary, open.Severity, open.Source, open.Links = e.Payload.Summary, e.Payload.Severity, e.Payload.Source, e.Links
	}
}

// Peer is its part of the page of the peers.
func (p *Peer) Peer() peers.Peer { return panel.Peer("pagerduty", "PagerDuty", p, p) }

// Entries are what the page shows.
func (p *Peer) Entries() (out []panel.Entry) {
	for _, a := range slices.Backward(p.Alerts()) {
		e := panel.Entry{At: a.At, Title: a.Summary, Note: string(a.State)}
		for _, l := range a.Links {
			e.Buttons = append(e.Buttons, panel.Button{Text: l.Text, URL: l.Href})
		}
		out = append(out, e)
	}
	return out
}
