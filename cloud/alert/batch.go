package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// batch is what one transaction writes, whatever the number of incidents: each
// kind of row goes to the database as one statement.
type batch struct {
	now        time.Time
	events     []event
	deliveries []planned
	timers     []*timer
	quiet      []int64         // incidents that fall into announced work
	told       map[told]bool   // a person is told once of an incident, whatever the number of policies
	steps      map[stepKey]due // what the roster said of steps
	asked      asked           // what it said last, in full
	ops        map[int64]bool  // policies that are known to be operations'
	windows    map[string]window
	groups     map[int64]map[int64]bool // policies that run for a region's incident
	after      []func()                 // called when it is stored
}

// event is a line of an incident's timeline.
type event struct {
	Incident          int64
	What, Who, Detail string
}

// planned is a delivery that is to be made.
type planned struct {
	Incident        int64
	Policy          *int64
	Step, Round     int
	Event           channel.Event
	Audience        Audience
	Contact, Method int64
	Channel         channel.Kind
	Priority        int
	Offer, Tenant   string
}

// timer is a policy that an incident runs through.
type timer struct {
	Incident, Policy int64
	Audience         Audience
	Tenant           string // whose facilities it is about, of a region's incident
	Step, Round      int
	StartedAt        time.Time
	NextAt, EarlyAt  *time.Time
	AckedAt          *time.Time // since when a customer's people have their part of a region's incident
	AckedBy          string
	paged            bool // it has told somebody
	reached          bool // in this round somebody got it for sure
}

// asked is a step that the roster was asked for.
type asked struct {
	stepKey
	incident int64
	step     Step
}

type told struct{ incident, method int64 }

type stepKey struct {
	policy int64
	no     int
}

// due is when a step is taken, as far as it is the same for all incidents.
type due struct {
	after    time.Duration
	audience Audience
	offer    string
	ok       bool
}

type window struct {
	until time.Time
	ok    bool
}

func newBatch(now time.Time) *batch {
	return &batch{
		now: now, told: make(map[told]bool), steps: make(map[stepKey]due), ops: make(map[int64]bool),
		windows: make(map[string]window), groups: make(map[int64]map[int64]bool),
	}
}

func (b *batch) note(incident int64, what, who, detail string) {
	b.events = append(b.events, event{incident, what, who, detail})
}

// hold keeps an incident quiet until announced work has ended.
func (b *batch) hold(incident int64, w window) {
	b.quiet = append(b.quiet, incident)
	b.note(incident, "held", "", "nobody is paged until "+w.until.UTC().Format(clock)+": it falls into announced work")
}

// page plans what a step tells a person. A method that was planned for the same
// incident already is left out.
func (b *batch) page(s subject, t *timer, step Step, to Target) bool {
	k := told{t.Incident, to.Method}
	if b.told[k] {
		return false
	}
	b.told[k] = true
	b.deliveries = append(b.deliveries, planned{
		Incident: t.Incident, Policy: &t.Policy, Step: step.No, Round: t.Round, Event: channel.Trigger, Audience: step.Audience,
		Contact: to.Contact, Method: to.Method, Channel: to.Channel, Priority: priority(channel.Trigger, s.Severity, step.Audience), Offer: step.Offer, Tenant: t.Tenant,
	})
	return true
}

// priority says what goes first where not all can: critical pages, then other
// pages, what people should know, that it is over, and tests. The region's own
// people come first within each, because they can help all the others.
func priority(e channel.Event, s detect.Severity, a Audience) int {
	p := map[channel.Event]int{channel.Trigger: 60, channel.Update: 40, channel.Resolve: 30, channel.Test: 10}[e]
	if e == channel.Trigger && s == detect.Critical {
		p = 80
	}
	if a == Operations {
		p += 5
	}
	return p
}

// flush writes it all.
func (b *batch) flush(ctx context.Context, tx pgx.Tx) error {
	if len(b.quiet) > 0 {
		if _, err := tx.Exec(ctx, sqlQuiet, b.quiet); err != nil {
			return fmt.Errorf("note the announced work: %w", err)
		}
	}
	if err := b.flushTimers(ctx, tx); err != nil {
		return fmt.Errorf("write the escalations: %w", err)
	}
	if err := b.flushDeliveries(ctx, tx); err != nil {
		return fmt.Errorf("write the messages: %w", err)
	}
	if len(b.events) == 0 {
		return nil
	}
	var (
		n                = len(b.events)
		ids              = make([]int64, n)
		what, who, words = make([]string, n), make([]string, n), make([]string, n)
	)
	for i, e := range b.events {
		ids[i], what[i], who[i], words[i] = e.Incident, e.What, e.Who, shorten(e.Detail, detailMaxBytes)
	}
	if _, err := tx.Exec(ctx, sqlEvents, b.now, ids, what, who, words); err != nil {
		return fmt.Errorf("write the timeline: %w", err)
	}
	return nil
}

func (b *batch) flushTimers(ctx context.Context, tx pgx.Tx) error {
	n := len(b.timers)
	if n == 0 {
		return nil
	}
	var (
		ids, policies = make([]int64, n), make([]int64, n)
		steps, rounds = make([]int, n), make([]int, n)
		audiences     = make([]string, n)
		tenants       = make([]string, n)
		started       = make([]time.Time, n)
		next, early   = make([]*time.Time, n), make([]*time.Time, n)
		acked, by     = make([]*time.Time, n), make([]string, n)
	)
	for i, t := range b.timers {
		ids[i], policies[i], steps[i], rounds[i] = t.Incident, t.Policy, t.Step, t.Round
		started[i], next[i], early[i] = t.StartedAt, t.NextAt, t.EarlyAt
		audiences[i], tenants[i] = string(t.Audience), t.Tenant
		acked[i], by[i] = t.AckedAt, t.AckedBy
	}
	_, err := tx.Exec(ctx, sqlTimers, ids, policies, steps, rounds, started, next, early, audiences, tenants, acked, by)
	return err
}

func (b *batch) flushDeliveries(ctx context.Context, tx pgx.Tx) error {
	n := len(b.deliveries)
	if n == 0 {
		return nil
	}
	var (
		ids, contacts, methods    = make([]int64, n), make([]int64, n), make([]int64, n)
		policies                  = make([]*int64, n)
		steps, rounds, priorities = make([]int, n), make([]int, n), make([]int, n)
		events, audiences         = make([]string, n), make([]string, n)
		kinds, offers, tenants    = make([]string, n), make([]string, n), make([]string, n)
	)
	for i, d := range b.deliveries {
		ids[i], contacts[i], methods[i], policies[i] = d.Incident, d.Contact, d.Method, d.Policy
		steps[i], rounds[i], priorities[i] = d.Step, d.Round, d.Priority
		events[i], audiences[i], kinds[i], offers[i], tenants[i] = string(d.Event), string(d.Audience), string(d.Channel), d.Offer, d.Tenant
	}
	_, err := tx.Exec(ctx, sqlDeliveries, b.now, ids, policies, steps, rounds, events, audiences, contacts, methods, kinds, priorities, offers, tenants)
	return err
}

// detailMaxBytes bounds what is kept of what others say.
const detailMaxBytes = 1000

// shorten cuts a text at a limit, between characters.
func shorten(s string, max int) string {
	if len(s) <= max {
		return s
	}
	cut := 0
	for i := range s {
		if i > max-len("…") {
			break
		}
		cut = i
	}
	return s[:cut] + "…"
}
