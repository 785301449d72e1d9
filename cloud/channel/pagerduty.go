package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/PagerDuty/go-pagerduty"

	"github.com/agogsaas/holdfast/internal/hint"
)

// PagerDuty's limits (developer.pagerduty.com, Events API v2).
const (
	pagerDutySummaryMax = 1024
	pagerDutyMaxBytes   = 512 << 10
	pagerDutyDedupMax   = 255
	// pagerDutyLines is how many lines of a list an event carries.
	pagerDutyLines = 500
	// pagerDutyWait is for a 429 that does not say when: the limit is counted by
	// the minute.
	pagerDutyWait = 20 * time.Second
)

// pagerDutyKey is an integration key of the Events API v2.
var pagerDutyKey = regexp.MustCompile(`^[0-9A-Za-z]{32}$`)

// PagerDutySender raises and resolves alerts in PagerDuty. All events of one
// incident go by the same routing key with the same dedup_key: by another key
// PagerDuty would take them and do nothing.
type PagerDutySender struct {
	post  *poster
	url   string
	texts *Texts
}

// NewPagerDuty makes one.
func NewPagerDuty(c PagerDutyConfig, texts *Texts) *PagerDutySender {
	base := strings.TrimSuffix(cmp.Or(c.BaseURL, "https://events.pagerduty.com"), "/")
	return &PagerDutySender{post: newPoster(nil), url: base + "/v2/enqueue", texts: texts}
}

// Send enqueues an event; the same one again changes nothing. A test is raised
// and resolved at once, so that it does not stay. What is told anew is resolved and
// raised again, so that it calls people again.
func (p *PagerDutySender) Send(ctx context.Context, m Message) (Result, error) {
	e, err := p.event(m)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("pagerduty: %w", err))
	}
	if e.Action == "trigger" && m.Again {
		// A trigger of what is open there, acknowledged or not, calls nobody.
		if err := p.enqueue(ctx, pagerduty.V2Event{RoutingKey: e.RoutingKey, Action: "resolve", DedupKey: e.DedupKey}); err != nil {
			return Result{}, err
		}
	}
	if err := p.enqueue(ctx, e); err != nil {
		return Result{}, err
	}
	if m.Event == Test {
		if err := p.enqueue(ctx, pagerduty.V2Event{RoutingKey: e.RoutingKey, Action: "resolve", DedupKey: e.DedupKey}); err != nil {
			return Result{}, err
		}
	}
	return Result{Provider: "pagerduty", ProviderID: e.DedupKey, State: Accepted}, nil
}

// enqueue posts by itself: the library's own call forgets Retry-After and the
// words of a refusal.
func (p *PagerDutySender) enqueue(ctx context.Context, e pagerduty.V2Event) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return Permanent(fmt.Errorf("pagerduty: %w", err))
	}
	if len(raw) > pagerDutyMaxBytes {
		e.Payload.Details = nil
		if raw, err = json.Marshal(e); err != nil {
			return Permanent(fmt.Errorf("pagerduty: %w", err))
		}
	}
	a, err := p.post.post(ctx, "pagerduty", p.url, nil, raw)
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusAccepted:
		return nil
	case http.StatusTooManyRequests:
		a.after = cmp.Or(a.after, pagerDutyWait)
	case http.StatusBadRequest:
		var no pagerduty.EventsAPIV2ErrorObject
		if json.Unmarshal([]byte(a.body), &no) == nil && no.Message != "" {
			a.body = strings.Join(append([]string{no.Message}, no.Errors...), "; ")
		}
		return hint.Wrap(refused("pagerduty", a, e.RoutingKey), "Enter the integration key of an Events API v2 integration of the service.")
	}
	return refused("pagerduty", a, e.RoutingKey)
}

// event is what a message is to PagerDuty.
func (p *PagerDutySender) event(m Message) (pagerduty.V2Event, error) {
	if !pagerDutyKey.MatchString(m.To) {
		return pagerduty.V2Event{}, errors.New("the routing key is not one of the Events API v2")
	}
	i := m.Incident
	e := pagerduty.V2Event{RoutingKey: m.To, DedupKey: i.DedupKey, Client: "Holdfast", ClientURL: i.URL}
	if m.Event == Test {
		e.DedupKey = "holdfast-test-" + m.Delivery
	}
	if e.DedupKey == "" || len(e.DedupKey) > pagerDutyDedupMax {
		return pagerduty.V2Event{}, errors.New("the incident has no dedup key of 1 to 255 bytes")
	}
	// What is over stays over: a trigger that was held up must not open it again,
	// as PagerDuty would.
	if m.Event == Resolve || !i.Resolved.IsZero() {
		e.Action = "resolve"
		return e, nil
	}
	if m.Event == Update && i.AckedBy != "" {
		e.Action = "acknowledge"
		return e, nil
	}
	text, err := p.texts.Render(m)
	if err != nil {
		return pagerduty.V2Event{}, err
	}
	e.Action = "trigger"
	e.Payload = &pagerduty.V2Payload{
		Summary: cut(text.Title, pagerDutySummaryMax), Source: cmp.Or(i.Name, i.Facility, i.Region, "Holdfast"), Severity: pagerDutySeverity(m),
		Timestamp: i.Since.UTC().Format(time.RFC3339Nano), Component: i.Facility, Group: i.Tenant, Class: i.Kind,
		Details: map[string]any{
			"text": text.Body, "since": i.Since.UTC().Format(time.RFC3339), "time_zone": i.TimeZone, "region": i.Region,
			"evidence": first(i.Evidence, pagerDutyLines), "actions": first(i.Actions, pagerDutyLines), "affected": first(i.Affected, pagerDutyLines),
		},
	}
	if i.Since.IsZero() {
		e.Payload.Timestamp = ""
	}
	link := func(text, href string) {
		if href != "" {
			e.Links = append(e.Links, map[string]string{"href": href, "text": text})
		}
	}
	link("Open the incident", i.URL)
	link("Acknowledge at Holdfast", i.AckURL)
	link("What is offered", i.OfferURL)
	return e, nil
}

func pagerDutySeverity(m Message) string {
	switch s := m.Incident.Severity; {
	case m.Event == Test:
		return "info"
	case s == "critical" || s == "warning" || s == "info":
		return s
	}
	return "error"
}

// Check looks at the key's form only: PagerDuty takes a key that nobody has, and
// whatever is sent by a right one calls somebody.
func (p *PagerDutySender) Check(_ context.Context, to string, _ map[string]string) error {
	if !pagerDutyKey.MatchString(to) {
		return Permanent(hint.Wrap(errors.New("the routing key is not one of the Events API v2: it has 32 letters and digits"),
			"In PagerDuty, add the integration \"Events API V2\" to the service and enter its integration key."))
	}
	return nil
}

// first returns the beginning of a list.
func first(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(list[:n:n], fmt.Sprintf("and %d more", len(list)-n))
}
