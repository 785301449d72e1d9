package alert

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/run"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("there is no such incident or message")
	// ErrOver is for an incident that is resolved.
	ErrOver = errors.New("the incident is over")
)

// Config is what an Alerter needs.
type Config struct {
	DB      *pgxpool.Pool
	Roster  Roster
	Senders map[channel.Kind]channel.Sender // the channels that are set up
	// Problems says of channels that are not set up why, and what to do.
	Problems map[channel.Kind]string
	// Wrong says of a channel that is set up why its provider does not let the
	// region in, and what to do; "" when nothing is known. It may be nil.
	Wrong func(channel.Kind) string
	// Word is what holds now. It is asked several times a second.
	Word   func() detect.Word
	Region string // the region's name
	// Support is whom people call for help, in words; see channel.Actions.
	Support string
	Links   Links
	// DeadMan is a URL that is fetched each minute while the auditor finds nothing
	// wrong: who misses that calls somebody. It is a secret. "" for none.
	DeadMan string
	// TestContact is told of an incident that is none once a day, by every channel
	// that he has; 0 for nobody.
	TestContact int64
	Log         *slog.Logger
	Now         func() time.Time // default time.Now
	Faults      Faults           // for tests

	timing timing // tests shorten it
}

// Links makes the addresses that messages carry. Each may be nil.
type Links struct {
	Incident func(id int64) string
	// Ack returns a signed link by which a delivery's incident is acknowledged.
	Ack func(delivery string) string
	// Offer returns what a policy's step offers, in words, and its signed link.
	Offer func(delivery, offer string) (text, url string)
}

// Faults are the steps that tests break.
type Faults struct {
	Commit   *fault.Point // alert.commit: incident, escalation and deliveries are stored
	Lease    *fault.Point // alert.lease: a delivery is leased
	Send     *fault.Point // alert.send: the provider takes it
	Complete *fault.Point // alert.complete: its outcome is stored
}

// timing is how long things take.
type timing struct {
	poll     time.Duration // how often is looked for what is due; wake-ups come before
	leader   time.Duration // how long a leader counts who is not heard of
	renew    time.Duration // how often the leader says that he is there
	lease    time.Duration // how long one attempt may take, with all around it
	send     time.Duration // how long a provider may take: docs/channels.md promises it to webhooks
	sendMail time.Duration // how long a talk with a mail server may take
	find     time.Duration // how long it may take to look a message up; before send, within the lease
	early    time.Duration // when nobody was reached until then, the next is told
	again    time.Duration // when the last step is taken again of what is critical and nobody answers
	remind   time.Duration // when what was acknowledged is told again
	windows  time.Duration // how often is looked for announced work
	audit    time.Duration
	deadMan  time.Duration
	watch    time.Duration // how often is looked for what other processes did
	retries  []time.Duration
	prices   []time.Duration // how long to wait before a price is asked for: after it was sent, and after each time
	breaker  time.Duration   // how long a provider that fails is left alone at first
}

func defaultTiming() timing {
	return timing{
		poll: 250 * time.Millisecond, leader: 5 * time.Second, renew: time.Second,
		lease: 20 * time.Second, send: 10 * time.Second, sendMail: 15 * time.Second, find: 5 * time.Second,
		early: 90 * time.Second, again: time.Hour, remind: 2 * time.Hour, windows: 5 * time.Second,
		audit: 30 * time.Second, deadMan: time.Minute, watch: time.Second,
		retries: []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute},
		prices:  []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute},
		breaker: 15 * time.Second,
	}
}

// Alerter is the region's memory of what is wrong, and its voice.
type Alerter struct {
	c      Config
	db     *pgxpool.Pool
	store  store
	log    *slog.Logger
	now    func() time.Time
	timing timing
	id     string // as holder of the leader's lease
	faults Faults

	deliverers map[channel.Kind]*deliverer
	counts     *counters
	snitch     *http.Client

	// Owned by the leader's loop.
	lead leading

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something changes
	leads   bool
	report  report // the auditor's last
}

// channels are all there are, in the order in which they are shown.
var channels = []channel.Kind{
	channel.SMS, channel.Voice, channel.Email, channel.Teams,
	channel.Slack, channel.PagerDuty, channel.Webhook, channel.MQTT,
}

// New returns an Alerter on the region's database; Run does its work.
func New(c Config) (*Alerter, error) {
	if c.DB == nil || c.Roster == nil || c.Word == nil {
		return nil, errors.New("alert needs a database, a roster and a word")
	}
	a := &Alerter{
		c: c, db: c.DB, store: store{c.DB}, log: c.Log, now: c.Now, timing: c.timing, id: uuid(),
		faults: Faults{
			Commit: fault.Or(c.Faults.Commit, "alert.commit"), Lease: fault.Or(c.Faults.Lease, "alert.lease"),
			Send: fault.Or(c.Faults.Send, "alert.send"), Complete: fault.Or(c.Faults.Complete, "alert.complete"),
		},
		deliverers: make(map[channel.Kind]*deliverer), counts: newCounters(),
		snitch:  &http.Client{Timeout: 10 * time.Second},
		changed: make(chan struct{}),
	}
	a.log = cmp.Or(a.log, slog.Default())
	if a.now == nil {
		a.now = time.Now
	}
	if a.timing.poll == 0 {
		a.timing = defaultTiming()
	}
	for _, k := range channels {
		a.deliverers[k] = newDeliverer(a, k, c.Senders[k])
	}
	return a, nil
}

// Run does the work until ctx is done. Several processes may run on one
// database: one of them decides what is wrong and who is told, all of them send.
func (a *Alerter) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	backoff := run.Backoff{Min: a.timing.poll, Max: 5 * time.Second}
	for _, d := range a.deliverers {
		g.Go(func() error { return run.Loop(ctx, a.log.With("channel", string(d.kind)), backoff, d.session) })
	}
	g.Go(func() error { return run.Loop(ctx, a.log, backoff, a.leadSession) })
	g.Go(func() error { return run.Loop(ctx, a.log, backoff, a.watchSession) })
	g.Go(func() error { return a.audits(ctx) })
	return g.Wait()
}

// Changed returns a channel that is closed when an incident or a message
// changes, here or in another process.
func (a *Alerter) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Leading reports whether this process decides.
func (a *Alerter) Leading() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leads
}

// tell wakes the deliverers and whoever waits for a change.
func (a *Alerter) tell() {
	for _, d := range a.deliverers {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.changed)
	a.changed = make(chan struct{})
}

// watchSession takes notice of what other processes did, and counts what the
// metrics show.
func (a *Alerter) watchSession(ctx context.Context, up func()) error {
	tick := time.NewTicker(a.timing.watch)
	defer tick.Stop()
	last := int64(-1)
	for n := 0; ; n++ {
		id, err := a.store.lastEvent(ctx)
		if err != nil {
			return err
		}
		if n%5 == 0 {
			if err := a.count(ctx); err != nil {
				return err
			}
		}
		up()
		if id != last && last >= 0 {
			a.tell()
		}
		last = id
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// moment is the time as the database keeps it.
func (a *Alerter) moment() time.Time { return a.now().UTC().Truncate(time.Microsecond) }

// uuid makes a random UUID (RFC 9562, version 4).
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
