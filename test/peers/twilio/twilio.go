// Package twilio stands in for Twilio: the part of its API that sends SMS, makes
// calls and looks numbers up, as a real HTTP server. It runs the TwiML of a call,
// signs what it sends by Twilio's published rule, keeps to Twilio's rates, and
// fails on request in the ways that Twilio and phones fail. At the other end are
// phones, for tests to expect things of and for a visitor to answer.
//
// In:  the region, as a client of Twilio's API; tests, and the page of test/peers.
// Out: the region's /hooks/twilio/.
package twilio

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Options say how the stand-in behaves. The zero value of each is Twilio's own.
type Options struct {
	AccountSID, AuthToken string
	// Phones is what a phone does until Behave says something else.
	Phones Behaviour
	// Numbers are the account's; nil: any.
	Numbers []string
	// Inbound is where replies are posted: the number's messaging webhook. "": nowhere.
	Inbound string
	// SegmentsPerSecond and CallsPerSecond are the account's rates; default 1 each.
	SegmentsPerSecond, CallsPerSecond float64
	// KeyWait bounds how long a Gather waits for a key after all was said; 0: as the
	// TwiML says.
	KeyWait time.Duration
	// RingMax bounds how long a phone rings; 0: as the call says.
	RingMax time.Duration
	// Speak is how long it takes to say a letter, and Pause a second of it; 0: no time.
	Speak, Pause time.Duration
	// BilledAfter is how long after its end a message or call has a price; default 20
	// seconds. Twilio says only that it takes a while.
	BilledAfter time.Duration
	// Transport carries callbacks; default http.DefaultTransport. With it a test stands
	// in for the proxy in front of a region.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// Twilio is the stand-in.
type Twilio struct {
	o        Options
	http     *http.Client
	segments *rate.Limiter
	calls    *rate.Limiter
	ctx      context.Context //nolint:containedctx // of all that goes on; Close ends it
	stop     context.CancelFunc
	work     *errgroup.Group

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when something changes
	phones   map[string]*Phone
	order    []*Phone
	messages []*Message
	called   []*Call
	faults   []Fault
	mode     Callbacks
	posted   []Posted
	requests int
}

// New makes one. Close ends what goes on in it.
func New(o Options) *Twilio {
	if o.SegmentsPerSecond == 0 {
		o.SegmentsPerSecond = 1
	}
	if o.CallsPerSecond == 0 {
		o.CallsPerSecond = 1
	}
	if o.BilledAfter == 0 {
		o.BilledAfter = 20 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Twilio{
		o: o, changed: make(chan struct{}), phones: map[string]*Phone{},
		http: &http.Client{
			Transport: o.Transport, Timeout: 15 * time.Second, // Twilio's own
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		segments: rate.NewLimiter(rate.Limit(o.SegmentsPerSecond), 1),
		calls:    rate.NewLimiter(rate.Limit(o.CallsPerSecond), 1),
		work:     &errgroup.Group{},
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// Close ends all calls and waits for what goes on.
func (t *Twilio) Close() {
	t.stop()
	_ = t.work.Wait() // nothing there returns an error
}

// do lets something go on by itself.
func (t *Twilio) do(f func()) {
	t.work.Go(func() error { f(); return nil })
}

// Fault is how one request of the API fails.
type Fault struct {
	// Status and Code are the answer, such as 400 and 21211. Without a code the body
	// is a proxy's page.
	Status, Code int
	RetryAfter   string
	Hang         bool // no answer, and no effect, until the client gives up
	Drop         bool // it takes effect, and the connection is cut before the answer
}

// Fail lets the next requests fail, one after the other. Lists and lookups count too.
func (t *Twilio) Fail(f ...Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, f...)
}

// Callbacks is how status callbacks are sent.
type Callbacks int

// The ways.
const (
	InOrder Callbacks = iota
	Twice
	Backwards // all at the end, the last first
	Alternate // of each message and call, every second one is lost
	Never
)

// Send sets how the status callbacks of later messages and calls are sent.
func (t *Twilio) Send(c Callbacks) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mode = c
}

// Posted is a request that was sent to the region.
type Posted struct {
	URL    string
	Status int // its answer's; 0: there was none
}

// Posted lists the requests that were sent to the region.
func (t *Twilio) Posted() []Posted {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Posted(nil), t.posted...)
}

// Requests is how many requests of its API there were.
func (t *Twilio) Requests() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests
}

// Message is an SMS.
type Message struct {
	SID, From, To, Body string
	Status              string
	ErrorCode           int
	Segments            int
	At                  time.Time
	Inbound             bool

	callback string
	valid    time.Duration // how long it may wait to be sent
	ended    time.Time     // guarded by t.mu
}

// Bill lets all that has ended have its price now.
func (t *Twilio) Bill() {
	t.update(func() {
		long := time.Now().Add(-t.o.BilledAfter)
		for _, m := range t.messages {
			if !m.ended.IsZero() {
				m.ended = long
			}
		}
		for _, c := range t.called {
			if !c.ended.IsZero() {
				c.ended = long
			}
		}
	})
}

// price is what Twilio charges for so many of something that has ended: a
// negative amount, as text, and null until it knows it.
func (t *Twilio) price(ended time.Time, n int, each float64) any {
	if ended.IsZero() || time.Since(ended) < t.o.BilledAfter || n == 0 {
		return nil
	}
	return strconv.FormatFloat(-float64(n)*each, 'f', 5, 64)
}

// update changes something under the lock and tells those who wait.
func (t *Twilio) update(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
}

// wait returns when ok says so, which is called under the lock; false when d is over.
func (t *Twilio) wait(d time.Duration, ok func() bool) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		t.mu.Lock()
		done, changed := ok(), t.changed
		t.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-over.C:
			return false
		case <-t.ctx.Done():
			return false
		}
	}
}

// sid makes an id of Twilio's shape.
func sid(kind string) string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return kind + hex.EncodeToString(b)
}
