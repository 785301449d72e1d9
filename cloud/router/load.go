package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// Loading: the rows that a facility lacks are written into the region's own WAL
// by key ranges, addressed to it, and so take their place between the changes
// before and after them. Only connected facilities are loaded, and none gets
// further ahead of its acknowledgements than LoadAheadBytes.

var errPaused = errors.New("the load waits for its facility")

// errParked: what is parked here of the table is newer than what would be sent.
var errParked = errors.New("the load waits for what is parked of its table")

// loadEvery is how often loads that wait are looked at, at most.
const (
	loadEvery = 200 * time.Millisecond
	// failedEvery is how often a table that could not be sent is tried again.
	failedEvery = 20 * time.Second
)

// load works through the loads of the connected facilities.
func (r *Router) load(ctx context.Context, up func()) error {
	if err := r.waitOpen(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	again := time.NewTicker(failedEvery)
	defer again.Stop()
	var mu sync.Mutex
	running, failed := map[string]bool{}, map[string]time.Time{}
	for {
		list, err := r.due(ctx)
		if err != nil {
			return err
		}
		up()
		if err := r.mend(ctx); err != nil {
			return err
		}
		if err := r.restored(ctx); err != nil {
			return err
		}
		for _, l := range list {
			id := l.Facility + " " + l.Schema + "." + l.Table
			mu.Lock()
			if time.Since(failed[id]) < failedEvery {
				mu.Unlock()
				continue
			}
			start := !running[l.Facility] && len(running) < loadersMax
			running[l.Facility] = running[l.Facility] || start
			if !running[l.Facility] {
				delete(running, l.Facility)
			}
			mu.Unlock()
			if !start {
				continue
			}
			wg.Go(func() {
				err := r.loadOne(ctx, l)
				mu.Lock()
				defer mu.Unlock()
				delete(running, l.Facility)
				delete(failed, id)
				switch {
				case errors.Is(err, errParked):
					failed[id] = time.Now() // others have their turn
				case err != nil && ctx.Err() == nil:
					// One table must not hold up the others, nor other facilities.
					failed[id] = time.Now()
					r.log.Warn("a table cannot be sent to a facility now", "facility", l.Facility, "table", l.Schema+"."+l.Table, "err", err)
				}
				notify(r.loadLook)
			})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.loadLook:
		case <-again.C:
		}
	}
}

// due returns the loads of connected facilities that have room for more.
func (r *Router) due(ctx context.Context) ([]Load, error) {
	r.mu.Lock()
	online := slices.Sorted(maps.Keys(r.online))
	r.mu.Unlock()
	online = slices.DeleteFunc(online, func(f string) bool { return r.room(f) != nil })
	if len(online) == 0 {
		return nil, nil
	}
	return r.store.loads(ctx, online, true)
}

// room returns errPaused when a facility should not be sent more rows now.
func (r *Router) room(facility string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.online[facility] == 0 || !r.open {
		return errPaused
	}
	b := r.index.buckets[facilityBucket(facility)]
	if b == nil || len(b.refs) == 0 {
		return nil
	}
	i := b.after(r.acked[facility].Seq)
	if i == len(b.refs) {
		return nil
	}
	before := int64(0)
	if i > 0 {
		before = b.refs[i-1].bytes
	}
	if b.bytes-before > r.c.LoadAheadBytes {
		return errPaused
	}
	return nil
}

// Why a facility is sent a table.
const (
	reasonJoined   = "joined"   // it has not heard of master data yet
	reasonReplaced = "replaced" // its box is a new one
	reasonEpoch    = "epoch"    // the way down began anew
	reasonResync   = "resync"   // it was away for too long, or somebody asked
	reasonRestored = "restored" // its database was put back from a backup
)

// loadOne sends a table's rows to its facility until all are sent or it waits.
func (r *Router) loadOne(ctx context.Context, l Load) error {
	r.mu.Lock()
	routes := r.routes
	r.mu.Unlock()
	route := routes.of(proto.SyncedTable{Schema: l.Schema, Name: l.Table}, l.Facility)
	if _, listed := routes.tenants[l.Facility]; route == nil && !listed {
		notify(r.look) // what it gets is not known yet
		return nil
	}
	if route == nil {
		l.complete = false
		return r.loaded(ctx, l, change.Position{}) // the facility gets none of it
	}
	there, err := r.store.existing(ctx, []string{route.schema}, []string{l.Table})
	if err != nil {
		return err
	}
	t := capture.Table{Schema: route.schema, Name: l.Table}
	if !there[t.ID()] {
		l.complete = false
		return r.loaded(ctx, l, change.Position{})
	}
	tenant, listed := routes.tenants[l.Facility]
	if !listed {
		notify(r.look) // it has just joined
		return nil
	}
	f, err := r.facility(ctx, l.Facility)
	if err != nil {
		return err
	}
	// A box that took another's place may need what even an old region has.
	has := f.Enrolments <= 1 || int(l.whole) == f.Enrolments
	if !route.master && l.Reason != reasonReplaced && has && r.isBehind(l.Facility) {
		r.log.Warn("a facility is not sent what a restored region has of it; its own rows come up", "facility", l.Facility, "table", t.ID())
		at, err := r.mendAt(ctx, l.Facility)
		if errors.Is(err, errPaused) {
			return nil
		} else if err != nil {
			return err
		}
		l.complete = false
		return r.loaded(ctx, l, at)
	}
	if !route.master && l.Reason != reasonReplaced {
		// What is parked here is newer than what this region would send.
		if parked, err := r.store.parked(ctx, l, allBoxes); err != nil {
			return err
		} else if parked {
			waits := fmt.Sprintf("%s.%s is sent again when what is parked of it is decided: see holdfastctl parked --facility %s", l.Schema, l.Table, l.Facility)
			if err := r.store.eventOnce(ctx, l.Facility, "load_waits", waits); err != nil {
				return err
			}
			return errParked
		}
	}
	part := capture.Part{To: l.Facility, Between: func(context.Context) error { return r.room(l.Facility) }}
	part.TooLarge = func(ctx context.Context, tx pgx.Tx) error { return r.store.incomplete(ctx, tx, l) }
	switch {
	case route.facility != "" || route.column == "":
	case route.master:
		part.Column, part.Value, part.OrNull = route.column, tenant, true
	default:
		part.Column, part.Value = route.column, l.Facility
	}
	began, rows := time.Now(), l.Rows
	err = r.loadPart(ctx, t, part, l.after, func(ctx context.Context, tx pgx.Tx, after change.Row, n int64) error {
		rows += n
		return r.store.progress(ctx, tx, l, after, n)
	})
	switch {
	case errors.Is(err, errPaused), errors.Is(err, errRestarted):
		return nil
	case errors.Is(err, capture.ErrNoKey):
		l.complete = false
		r.log.Warn("a table without a key: only what changes from now on is sent down", "facility", l.Facility, "table", t.ID())
	case err != nil:
		return fmt.Errorf("load %s for %s: %w", t.ID(), l.Facility, err)
	}
	if l.complete = l.complete && !route.master && f.Enrolments > 1; l.complete {
		// What is applied late of the box before goes down behind this.
		parked, err := r.store.parked(ctx, l, f.Enrolments)
		if err != nil {
			return err
		}
		l.complete = !parked
	}
	var mend change.Position
	if !route.master && (l.complete || l.Reason == reasonEpoch || l.Reason == reasonResync) {
		if mend, err = r.mendAt(ctx, l.Facility); errors.Is(err, errPaused) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := r.loaded(ctx, l, mend); err != nil {
		return err
	}
	r.log.Info("a facility was sent a table", "facility", l.Facility, "table", t.ID(), "rows", rows, "reason", l.Reason, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// loaded notes that all of a load was sent, and where the facility must be before its
// own rows come up behind it; zero when they need not.
func (r *Router) loaded(ctx context.Context, l Load, mend change.Position) error {
	if err := r.store.loaded(ctx, l, mend); err != nil {
		return err
	}
	notify(r.loadLook)
	return nil
}

// loadPart takes a connection for no longer than it loads: whoever holds one
// must not wait for another.
func (r *Router) loadPart(ctx context.Context, t capture.Table, part capture.Part, after change.Row, progress capture.Progress) error {
	conn, err := r.c.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Release()
	return capture.LoadPart(ctx, conn.Conn(), t, part, after, progress)
}

// ErrNotSent is returned for a table of which facilities get nothing.
var ErrNotSent = errors.New("the table is not sent down")

// Resync has tables (schema.name, as facilities know them) sent to a facility
// again, or all of its tables. It begins when the facility is connected.
func (r *Router) Resync(ctx context.Context, facility string, tables ...string) error {
	select {
	case <-r.settled: // before, it is not known what is sent down
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	list := r.routes.tables()
	r.mu.Unlock()
	if len(tables) > 0 {
		for _, id := range tables {
			if !slices.ContainsFunc(list, func(t proto.SyncedTable) bool { return t.ID() == id }) {
				return fmt.Errorf("%w: %s", ErrNotSent, id)
			}
		}
		list = slices.DeleteFunc(list, func(t proto.SyncedTable) bool { return !slices.Contains(tables, t.ID()) })
	}
	if err := r.store.ask(ctx, facility, list, reasonResync); err != nil {
		return err
	}
	notify(r.loadLook)
	return nil
}

// Loads returns how the tables fare that are sent to a facility by key ranges,
// or to all facilities when facility is empty.
func (r *Router) Loads(ctx context.Context, facility string) ([]Load, error) {
	var only []string
	if facility != "" {
		only = []string{facility}
	}
	return r.store.loads(ctx, only, false)
}
