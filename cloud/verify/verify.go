// Package verify compares each synced table with every facility's rows, pass
// after pass: chunk by chunk it asks a box what its rows come to, and descends to
// the rows where the answer differs from what the region has at that place of
// the stream.
//
// In:  cloud/ingest, which tells what each comparison came to; cloud/api, which asks for a pass now.
// Out: cloud/stream, which puts the questions; the region's PostgreSQL.
package verify

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/proto"
)

// Defaults of Config.
const (
	// DefaultSecondLook is how long a difference has to last. Meanwhile a change
	// that was made in the region reaches the facility.
	DefaultSecondLook = 5 * time.Second
	// DefaultPassEvery is how long after a pass over a table the next one begins.
	DefaultPassEvery = 5 * time.Minute
	// DefaultPatience is how long a question may wait, behind a backlog say.
	DefaultPatience = 10 * time.Minute
)

// What the continuous comparison may take. A question costs the box some time of
// its database, under a lock, and the region some; both are paid for by a pause.
const (
	share       = 150 // times what a question took at the box and here together; what is spent around it is not timed
	regionShare = 12  // times what it took here, for all facilities together
	bytesPerSec = 8 << 10
	pauseMin    = 50 * time.Millisecond
)

// Config is what a Verifier needs.
type Config struct {
	DB *pgxpool.Pool
	// Ask puts a question to a facility, and reports whether it is connected.
	Ask func(facility string, q *proto.Verify) (asked bool, err error)
	// Stream numbers a facility's present stream; 0 when it has none.
	Stream func(facility string) uint64
	// Connected lists the facilities that have a stream.
	Connected func() []string
	// Event keeps something that a person should be able to read later.
	Event func(ctx context.Context, facility, kind, detail string)
	// SecondLook, PassEvery and Patience are as their defaults say; 0 is the default.
	SecondLook, PassEvery, Patience time.Duration
	Log                             *slog.Logger
}

// Verifier compares all facilities. Make it with New.
type Verifier struct {
	Config
	store      store
	ids        atomic.Uint64
	backWithin time.Duration

	mu       sync.Mutex
	waiting  map[uint64]chan answer
	walkers  map[string]*walker // of the facilities that are connected
	runs     map[string]*v1.VerifyRun
	bytes    uint64 // of all questions and answers, before they are packed
	compared time.Duration
}

// New does not touch the database.
func New(c Config) *Verifier {
	if c.SecondLook == 0 {
		c.SecondLook = DefaultSecondLook
	}
	if c.PassEvery == 0 {
		c.PassEvery = DefaultPassEvery
	}
	if c.Patience == 0 {
		c.Patience = DefaultPatience
	}
	v := &Verifier{
		Config: c, store: store{c.DB}, backWithin: backWithin, waiting: make(map[uint64]chan answer),
		walkers: make(map[string]*walker), runs: make(map[string]*v1.VerifyRun),
	}
	// So that an answer to a question from before a restart is not taken for another's.
	v.ids.Store(uint64(time.Now().UnixNano()))
	return v
}

// lookEvery is how often Run looks who has come.
const lookEvery = time.Second

// Run compares until ctx is done.
func (v *Verifier) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			for _, facility := range v.Connected() {
				if w := v.enter(facility); w != nil {
					g.Go(func() error { defer v.leave(w); return w.run(ctx) })
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// enter returns a walker for a facility that has none.
func (v *Verifier) enter(facility string) *walker {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.walkers[facility] != nil {
		return nil
	}
	w := &walker{v: v, facility: facility, wake: make(chan struct{}, 1), log: v.Log.With("facility", facility)}
	v.walkers[facility] = w
	return w
}

func (v *Verifier) leave(w *walker) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.walkers, w.facility)
	v.fail(w.facility, errGone)
}

// Verdict takes what a comparison came to. It does not block.
func (v *Verifier) Verdict(facility string, a apply.Verdict) {
	v.mu.Lock()
	v.bytes += uint64(a.Bytes)
	v.compared += a.Took
	v.mu.Unlock()
	v.deliver(a.Digest.ID, answer{facility: facility, Verdict: a})
}

// Unverified takes why there is no answer to a question. It does not block.
func (v *Verifier) Unverified(facility string, u *proto.Unverified) {
	v.deliver(u.ID, answer{facility: facility, problem: &u.Problem})
}

func (v *Verifier) deliver(id uint64, a answer) {
	v.mu.Lock()
	ch := v.waiting[id]
	v.mu.Unlock()
	if ch == nil {
		return // nobody waits for it any more
	}
	select {
	case ch <- a:
	default:
	}
}

// pauseFor is how long to wait after an answer, so that the continuous
// comparison takes no more than its share.
func (v *Verifier) pauseFor(a *apply.Verdict) time.Duration {
	v.mu.Lock()
	others := len(v.walkers)
	v.mu.Unlock()
	box := time.Duration(min(a.Digest.TookMicros, math.MaxInt32)) * time.Microsecond
	return max(pauseMin, share*(box+a.Took), regionShare*a.Took*time.Duration(max(1, others)),
		time.Duration(a.Bytes)*time.Second/bytesPerSec)
}
