// Package downlink takes what comes down from the region into the local
// database: master rows, and what was changed there of this facility's own.
//
// In:  edge/uplink, whose stream the frames come by.
// Out: internal/apply, which writes them and decides conflicts.
package downlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// maxConns is enough for one stream: one connection applies, one tries parked
// changes again, and one more reads positions.
const maxConns = 4

// beginTimeout bounds how long a session waits for the local database: the way
// up must not be held up by it. readyAgain is how often one that did not answer
// is asked again.
const (
	beginTimeout = 2 * time.Second
	readyAgain   = 300 * time.Millisecond
)

// ErrNotReady says that the local database cannot be written now. What comes
// down waits in the region.
var ErrNotReady = errors.New("the local database is not ready for what comes down")

// Config is what a Downlink needs.
type Config struct {
	Facility string
	// ConnString connects a role that may write the applications' tables and
	// set session_replication_role, to the local database.
	ConnString string
	// Registry returns the tables that are synced now.
	Registry func() *apply.Registry
	// Local tells what the facility's people changed meanwhile.
	Local apply.Local
	// Hold is told from where on Local still needs the box's own queue.
	Hold func(change.Position)
	// Restored tells, while the local database is older than what the region has of
	// it, that the region's rows are what it must become, and whether all that was
	// changed here since then is in the queue. May be nil.
	Restored func() (restored, whole bool)
	// Held is how many bytes the box's own queue keeps for that. Beyond some, what
	// a parked change is decided by is given up, and the facility's rows stand
	// against it. May be nil.
	Held func() int64
	// DB connects as a role that owns holdfast.parked, in the local database.
	DB  *pgxpool.Pool
	Log *slog.Logger
}

// Downlink is this box's end of the way down.
type Downlink struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex
	pool  *apply.Pool   // nil while the local database cannot be reached
	ready chan struct{} // closed when pool is there
	begun bool          // Begin was called
	state State
	seen  change.Position // what Hold was told last, were nothing parked
	// parkedSeen is the least of what is parked; meaningless when nothing is.
	parkedSeen change.Position
	news       chan struct{} // holds a token when what is parked may be told anew
}

// State is how the way down fares.
type State struct {
	// Running is true while a stream from the region is applied.
	Running bool
	// Position is the last of the region's transactions that is durable here,
	// AppliedAt when one was last applied, and CommitAt when the region had
	// committed that.
	Position            change.Position
	AppliedAt, CommitAt time.Time
	// Problem is why changes from the region wait, nil when they do not.
	Problem *proto.Problem
	// Parked is how many of the region's changes wait while the rest flows, and
	// ParkedWhy why the oldest of them does.
	Parked    int64
	ParkedWhy string
}

// New prepares a downlink; it does not touch the database.
func New(c Config) *Downlink {
	return &Downlink{cfg: c, log: c.Log.With("part", "downlink"), ready: make(chan struct{}), news: make(chan struct{}, 1)}
}

// State returns how the way down fares now.
func (d *Downlink) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

func (d *Downlink) set(f func(*State)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.state)
}

// Run keeps the connections to the local database until ctx is done. Sessions
// work only while it runs.
func (d *Downlink) Run(ctx context.Context) error {
	return run.Loop(ctx, d.log, run.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second},
		func(ctx context.Context, up func()) error {
			p, err := apply.OpenPool(ctx, apply.PoolConfig{ConnString: d.cfg.ConnString, MaxConns: maxConns, MaxBig: 1, Log: d.log})
			if err != nil {
				d.set(func(s *State) { s.Problem = problem(err) })
				return err
			}
			defer p.Close()
			up()
			d.mu.Lock()
			d.pool, d.state.Problem = p, nil
			close(d.ready)
			d.mu.Unlock()
			defer func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.pool, d.ready = nil, make(chan struct{})
			}()
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return p.Run(ctx) })
			g.Go(func() error {
				if err := d.Ready(ctx); err != nil { // Holdfast's tables may be yet to be made
					return err
				}
				return p.Retry(ctx, apply.ParkConfig{
					Direction: apply.Down, Registry: d.cfg.Registry, Local: d.cfg.Local, OnLook: d.looked, Heal: d.askAgain, Log: d.cfg.Log,
				})
			})
			return g.Wait()
		})
}

// Ready waits until a session can begin, as far as one can know.
func (d *Downlink) Ready(ctx context.Context) error {
	for {
		d.mu.Lock()
		p, ready := d.pool, d.ready
		d.mu.Unlock()
		if p != nil {
			if _, err := p.Position(ctx, d.cfg.Facility); err == nil {
				return nil
			}
			ready = nil // it is there, and does not answer
		}
		if err := d.wait(ctx, ready, readyAgain); err != nil {
			return err
		}
	}
}

// wait waits for ready, and not longer than that.
func (d *Downlink) wait(ctx context.Context, ready <-chan struct{}, most time.Duration) error {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-ready:
	case <-t.C:
	}
	return ctx.Err()
}

// Begin opens the way down for one stream. ErrNotReady: not now. The first time
// it waits a moment, because everything starts at once.
func (d *Downlink) Begin(ctx context.Context) (*Session, error) {
	d.mu.Lock()
	ready, begun := d.ready, d.begun
	d.begun = true
	d.mu.Unlock()
	if !begun {
		if err := d.wait(ctx, ready, beginTimeout); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	p := d.pool
	d.mu.Unlock()
	if p == nil {
		return nil, ErrNotReady
	}
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	s := &Session{down: d, durable: make(chan change.Position, 1)}
	a, err := apply.New(ctx, p, apply.Config{
		Facility: d.cfg.Facility, Direction: apply.Down, Park: true, Registry: d.cfg.Registry, Local: d.cfg.Local,
		Restored: d.cfg.Restored, OnApplied: s.applied, OnDurable: s.isDurable, OnStuck: s.stuck, OnSeen: d.hold, Log: d.cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	s.applier, s.begin = a, a.Durable()
	d.hold(a.Seen())
	d.set(func(st *State) { st.Position = s.begin })
	return s, nil
}

// problem is an error in words for people.
func problem(err error) *proto.Problem {
	return &proto.Problem{Text: err.Error(), Remedy: hint.Of(err)}
}
