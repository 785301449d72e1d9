package alert

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
)

// A message is claimed with a lease and a token, sent outside of any transaction,
// and its outcome stored by whoever has the token still. A lease that has run out
// without an outcome means that nobody knows: the provider is asked if it can be,
// or the message is sent again with the same key. A duplicate beats a loss.

const (
	// stopMax is how long what is on its way may take when the program stops.
	stopMax = 8 * time.Second
	// retryMax bounds how long a provider may ask us to wait.
	retryMax = 15 * time.Minute
)

// expiries is how long it is tried to send a message.
var expiries = map[channel.Event]time.Duration{
	channel.Trigger: time.Hour, channel.Update: time.Hour, channel.Resolve: 24 * time.Hour, channel.Test: 10 * time.Minute,
}

// deliverer sends what is due on one channel.
type deliverer struct {
	a      *Alerter
	kind   channel.Kind
	sender channel.Sender // nil: it is not set up
	wake   chan struct{}

	pricesAt time.Time // when prices are asked for next; owned by session

	mu    sync.Mutex
	lanes map[string]*lane // by host; "": the provider's
	busy  int              // how many messages are on their way
}

func newDeliverer(a *Alerter, k channel.Kind, s channel.Sender) *deliverer {
	return &deliverer{a: a, kind: k, sender: s, wake: make(chan struct{}, 1), lanes: make(map[string]*lane)}
}

// session sends until ctx is done or the database fails. What is on its way is
// waited for.
func (d *deliverer) session(ctx context.Context, up func()) error {
	var under errgroup.Group
	err := d.send(ctx, up, &under)
	return errors.Join(err, under.Wait())
}

func (d *deliverer) send(ctx context.Context, up func(), under *errgroup.Group) error {
	tick := time.NewTicker(d.a.timing.poll)
	defer tick.Stop()
	for {
		more, err := d.round(ctx, under)
		if err != nil {
			return err
		}
		if err := d.prices(ctx, under); err != nil {
			return err
		}
		up()
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wake:
		case <-tick.C:
		}
	}
}

// round begins to send what is due and for which there is room, to each
// destination for itself. more is true when there may be more.
func (d *deliverer) round(ctx context.Context, under *errgroup.Group) (more bool, err error) {
	lanes, err := d.open(ctx)
	for _, l := range lanes {
		m, err := l.round(ctx, under)
		if err != nil {
			return false, err
		}
		more = more || m
	}
	return more, err
}

// round claims what is due there, and begins to send it.
func (l *lane) round(ctx context.Context, under *errgroup.Group) (more bool, err error) {
	now, began := l.a.moment(), time.Now()
	allowed, until, why := l.breaker.allow(now)
	if allowed == 0 {
		if until.After(now) {
			return false, l.a.store.hold(ctx, l.kind, l.host, now, until, why)
		}
		return false, nil // one is on its way to try
	}
	n := l.room(allowed)
	if n == 0 {
		l.breaker.untried()
		return false, nil
	}
	var jobs []job
	if err = l.a.faults.Lease.Before(); err == nil {
		jobs, err = l.a.store.claim(ctx, l.kind, l.host, now, now.Add(l.a.timing.lease), n)
	}
	if err == nil && len(jobs) > 0 {
		err = l.a.faults.Lease.After()
	}
	l.leave(n - len(jobs))
	if err != nil || len(jobs) == 0 {
		l.breaker.untried()
	}
	if err != nil {
		l.leave(len(jobs)) // leased, and nobody sends them: the lease runs out
		return false, err
	}
	for _, j := range jobs {
		under.Go(func() error {
			defer func() { l.leave(1); l.again() }()
			// What was begun is ended, also when the program stops.
			// Not for long then: what is cut off is looked for again. The time is
			// counted from before the claim: when this process stood still since,
			// another has it, and may have told already that it is over.
			work, cancel := context.WithDeadline(context.WithoutCancel(ctx), began.Add(l.a.timing.lease))
			defer cancel()
			defer context.AfterFunc(ctx, func() { time.AfterFunc(stopMax, cancel) })()
			l.finish(work, j, l.attempt(work, j))
			return nil
		})
	}
	return len(jobs) == n, nil
}

func (d *deliverer) again() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// outcome is what became of an attempt.
type outcome struct {
	state   string // of the delivery; pending and held: it is tried again at notBefore
	attempt string // of the attempt: accepted, retry, unknown, failed; "" for none, when nothing was tried
	result  channel.Result
	err     string
	before  time.Time  // not before
	reason  string     // why not
	priceAt *time.Time // when it is asked what it cost; nil for never
}

// attempt sends a message, unless there is a reason not to.
func (l *lane) attempt(ctx context.Context, j job) outcome {
	now := l.a.moment()
	switch {
	case j.stale():
		// It may have arrived, and it is followed by its resolve. To send it again would be wrong now.
		l.breaker.untried()
		return outcome{state: "cancelled", err: "it was overtaken while it was on its way; whether it has arrived is not known"}
	case now.Sub(j.CreatedAt) > expiries[j.Event]:
		l.breaker.untried()
		return outcome{state: "expired", err: "it could not be sent for " + span(expiries[j.Event])}
	case j.Method == nil || j.Address == nil || j.Gone && j.Event != channel.Resolve: // who was told learns that it is over
		l.breaker.untried()
		return outcome{state: "failed", attempt: "failed", err: "the contact does not have this address any more"}
	case l.sender == nil:
		l.breaker.untried()
		return outcome{state: "failed", attempt: "failed", err: l.missing()}
	}
	if o, over, err := l.a.cap(ctx, l.kind, j, now); over || err != nil {
		l.breaker.untried()
		if err != nil {
			return l.later(now, err)
		}
		return o
	}
	m, err := l.a.message(ctx, j, false)
	if err != nil {
		l.breaker.untried()
		return l.later(now, err)
	}
	m.Repeat = j.Unsure
	if j.Unsure {
		if o, found := l.find(ctx, j, m); found {
			return o
		}
	}
	timeout := l.a.timing.send
	if l.kind == channel.Email {
		timeout = l.a.timing.sendMail
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var r channel.Result
	err = l.a.faults.Send.Do(func() (err error) {
		r, err = l.sender.Send(ctx, m)
		return err
	})
	return l.judge(j, r, err)
}

// later is when the database does not say what is to be sent.
func (d *deliverer) later(now time.Time, err error) outcome {
	return outcome{state: "pending", before: now.Add(time.Second), reason: "the region's database does not answer", err: shorten(err.Error(), detailMaxBytes)}
}

// missing says why nothing can be sent on a channel.
func (d *deliverer) missing() string {
	if p := d.a.c.Problems[d.kind]; p != "" {
		return p
	}
	return "the region has no access to " + string(d.kind) + ": an administrator sets it up in the region's configuration"
}

// find looks whether the provider has a message whose answer was lost.
func (l *lane) find(ctx context.Context, j job, m channel.Message) (outcome, bool) {
	f, ok := l.sender.(channel.Finder)
	if !ok {
		return outcome{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, l.a.timing.find)
	defer cancel()
	r, ok, err := f.Find(ctx, m, j.FirstAt)
	if err != nil {
		return l.judge(j, channel.Result{}, fmt.Errorf("look whether it has arrived: %w", err)), true
	}
	if !ok {
		return outcome{}, false
	}
	return l.judge(j, r, nil), true
}

// judge decides what follows from a provider's answer.
func (l *lane) judge(j job, r channel.Result, err error) outcome {
	now := l.a.moment()
	if err == nil {
		l.breaker.worked()
		if r.State == "" {
			r.State = channel.Accepted
		}
		return outcome{state: string(r.State), attempt: "accepted", result: r, priceAt: l.askPriceAt(now, r)}
	}
	text := shorten(err.Error(), detailMaxBytes)
	if h := hint.Of(err); h != "" {
		text = shorten(text+". "+h, detailMaxBytes)
	}
	if channel.IsPermanent(err) {
		l.breaker.worked() // it answers
		return outcome{state: "failed", attempt: "failed", err: text}
	}
	wait := jitter(l.a.timing.retries, j.No)
	how := "unknown"
	if retry, ok := errors.AsType[*channel.RetryError](err); ok {
		l.breaker.untried() // it answers, and asks for patience
		how, wait = "retry", min(max(retry.After, wait), retryMax)
	} else {
		l.breaker.failed(now, *j.Method, text)
	}
	before := now.Add(wait)
	if before.Sub(j.CreatedAt) > expiries[j.Event] {
		return outcome{state: "expired", attempt: how, err: text}
	}
	return outcome{
		state: "pending", attempt: how, err: text, before: before,
		reason: "it is tried again at " + before.Format(clock) + ", because " + text,
	}
}

// jitter returns how long to wait after the n-th attempt, n from 1: up to a fifth
// more or less, so that many do not come back at once.
func jitter(waits []time.Duration, n int) time.Duration {
	w := waits[min(max(n, 1), len(waits))-1]
	return w*4/5 + rand.N(w*2/5+1)
}

// finish stores what became of an attempt. When that fails until the lease runs
// out, the attempt counts as one of which nobody knows.
func (d *deliverer) finish(ctx context.Context, j job, o outcome) {
	var first bool
	err := run.Retry(ctx, d.a.log.With("delivery", j.ID), run.Backoff{Max: time.Second}, func(ctx context.Context) error {
		var lost bool
		err := d.a.faults.Complete.Do(func() (err error) {
			lost, first, err = d.a.store.complete(ctx, j, o, d.a.moment())
			return err
		})
		if lost {
			d.a.log.Warn("the outcome of a message came after its lease", "delivery", j.ID, "attempt", j.No)
		}
		return err
	})
	if err != nil {
		d.a.log.Warn("the outcome of a message could not be stored; it is looked for again", "delivery", j.ID, "err", err)
		return
	}
	d.a.counts.delivered(d.kind, o, j, first, d.a.moment())
	d.a.tell()
}
