// Package ingest takes what the facilities send into the region's database: a
// session for each connected facility, and the list of synced tables.
//
// In:  cloud/stream, which hands over the frames of each facility.
// Out: internal/apply; cloud/fleet is told what was applied.
package ingest

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
	"github.com/agogsaas/holdfast/internal/run"
)

// Config is what an Ingest needs.
type Config struct {
	// DB is the region's own database, for the list of tables and the counters.
	DB *pgxpool.Pool
	// ApplyConnString connects a role that may write the applications' tables
	// and set session_replication_role, to the same database.
	ApplyConnString string
	// MaxConns bounds the connections that apply; see apply.PoolConfig.
	MaxConns int
	// Patience is how long a session waits in place for the cause of a refused
	// transaction to go before it ends with the error, so that the facility
	// hears of it and comes again. Default 5 s.
	Patience time.Duration
	// Applied is told each commit. It must not block. May be nil.
	Applied func(facility string, p apply.Progress)
	// Verdict is told what each comparison with a facility's rows came to. It
	// must not block. May be nil.
	Verdict func(facility string, v apply.Verdict)
	// Stuck is told why a facility's stream waits, and nil when it goes on.
	// It must not block. May be nil.
	Stuck func(facility string, err error)
	// CheckRegion says what is wrong with the region's side of a table;
	// CheckFacilities asks the connected facilities for theirs, by facility,
	// and names those that did not answer. Either may be nil.
	CheckRegion     CheckRegion
	CheckFacilities CheckFacilities
	// GiveWay reports that what people change in the region waits behind what is
	// applied: large batches give way. May be nil.
	GiveWay func() bool
	// Heal asks a facility to send a table (schema.name) again, and reports
	// whether it could be asked. May be nil.
	Heal func(facility, table, reason string) bool
	Log  *slog.Logger
}

// Ingest is the region's side of all facilities' streams.
type Ingest struct {
	cfg      Config
	pool     *apply.Pool
	store    store
	tables   *tables
	counters *counters
	shapes   shapes

	mu       sync.Mutex
	sessions map[string]*slot
}

// slot is one facility's place: at most one session at a time.
type slot struct {
	mu      sync.Mutex // held while a session begins
	session *Session
	stuck   error // what the stream waits for
}

// New connects to the region's database and loads the list of tables.
func New(ctx context.Context, c Config) (*Ingest, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Second
	}
	if c.Applied == nil {
		c.Applied = func(string, apply.Progress) {}
	}
	if c.Verdict == nil {
		c.Verdict = func(string, apply.Verdict) {}
	}
	if c.Stuck == nil {
		c.Stuck = func(string, error) {}
	}
	pool, err := apply.OpenPool(ctx, apply.PoolConfig{ConnString: c.ApplyConnString, MaxConns: c.MaxConns, Log: c.Log})
	if err != nil {
		return nil, err
	}
	in := &Ingest{cfg: c, pool: pool, store: store{c.DB}, sessions: map[string]*slot{}}
	in.tables, in.counters = newTables(in.store), newCounters(in.store)
	if err := in.tables.load(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return in, nil
}

// Run keeps the list of tables fresh, makes positions durable and writes the
// counters, until ctx is done. Sessions work only while it runs; it ends those
// that are left, and closes the connections.
func (in *Ingest) Run(ctx context.Context) error {
	defer in.pool.Close()
	defer in.closeAll()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return in.pool.Run(gctx) })
	g.Go(func() error {
		return run.Loop(gctx, in.cfg.Log.With("part", "tables"), run.Backoff{Max: 5 * time.Second}, in.tables.watch)
	})
	g.Go(func() error { return in.counters.run(gctx, in.cfg.Log) })
	g.Go(func() error {
		return in.pool.Retry(gctx, apply.ParkConfig{Registry: in.tables.registry, Heal: in.cfg.Heal, Loading: in.loading, Log: in.cfg.Log})
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (in *Ingest) closeAll() {
	in.mu.Lock()
	var open []*Session
	for _, s := range in.sessions {
		if s.session != nil {
			open = append(open, s.session)
		}
	}
	in.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range open {
		wg.Go(func() { s.end(nil) })
	}
	wg.Wait()
}

// Open begins a session of the facility. An older one of the same facility is
// ended first, as Close does: its last transaction is committed or undone when
// Open reads the position.
func (in *Ingest) Open(ctx context.Context, facility string) (*Session, error) {
	in.mu.Lock()
	place := in.sessions[facility]
	if place == nil {
		place = &slot{}
		in.sessions[facility] = place
	}
	in.mu.Unlock()

	place.mu.Lock()
	defer place.mu.Unlock()
	if old := place.current(in); old != nil {
		old.drain(ctx, ErrReplaced)
		old.end(ErrReplaced)
	}
	s, err := in.newSession(ctx, facility)
	if err != nil {
		return nil, fmt.Errorf("open the session of %s: %w", facility, err)
	}
	in.mu.Lock()
	place.session = s
	in.mu.Unlock()
	return s, nil
}

func (p *slot) current(in *Ingest) *Session {
	in.mu.Lock()
	defer in.mu.Unlock()
	return p.session
}

// ErrReplaced ends a session when a newer one of the same facility begins.
var ErrReplaced = errors.New("a newer session of the facility has begun")

// Stuck returns why the facility's stream waits, nil if it does not.
func (in *Ingest) Stuck(facility string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p := in.sessions[facility]; p != nil {
		return p.stuck
	}
	return nil
}

// setStuck notes what the stream waits for, and tells it on when it is news.
func (in *Ingest) setStuck(facility string, err error) {
	in.mu.Lock()
	p := in.sessions[facility]
	news := (p.stuck == nil) != (err == nil)
	p.stuck = err
	in.mu.Unlock()
	if news {
		in.cfg.Stuck(facility, err)
	}
}
