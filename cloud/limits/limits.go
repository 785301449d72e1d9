// Package limits knows how fast each facility's frames may travel now: a limit,
// and times of the week with limits of their own, by the facility's clock.
//
// In:  cloud/api, which writes what an operator says.
// Out: cloud/stream, which keeps to it and tells the boxes.
package limits

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/run"
)

const (
	// lookEvery is how late a window may begin or end.
	lookEvery = 5 * time.Second
	// readEvery is how late a limit counts that somebody wrote past the API.
	readEvery = time.Minute
)

// Keeper holds the limits of all facilities and says when one of them changes.
type Keeper struct {
	db  *pgxpool.Pool
	log *slog.Logger

	mu      sync.Mutex
	limits  map[string]placed
	now     map[string]uint64 // bytes per second
	changed chan struct{}     // closed and replaced when one of now changes
}

// placed is a limit and whose clock it goes by.
type placed struct {
	Limit
	zone *time.Location
}

// New reads the limits.
func New(ctx context.Context, db *pgxpool.Pool, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{db: db, log: log, changed: make(chan struct{})}
	return k, k.Reload(ctx)
}

// Run takes notice of windows that begin and end until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	return run.Loop(ctx, k.log, run.Backoff{Min: time.Second, Max: lookEvery}, func(ctx context.Context, up func()) error {
		if err := k.Reload(ctx); err != nil {
			k.look(time.Now())
			return err
		}
		up()
		read := time.Now()
		for time.Since(read) < readEvery {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				k.look(time.Now())
			}
		}
		return nil
	})
}

// Reload reads the limits anew; what has changed counts at once.
func (k *Keeper) Reload(ctx context.Context) error {
	rows, err := k.rows(ctx)
	if err != nil {
		return err
	}
	limits := make(map[string]placed, len(rows))
	for _, r := range rows {
		l, err := r.limit()
		if err != nil {
			k.log.Warn("a facility's limit does not count", "facility", r.Facility, "err", err)
			continue
		}
		limits[r.Facility] = l
	}
	k.mu.Lock()
	k.limits = limits
	k.mu.Unlock()
	k.look(time.Now())
	return nil
}

func (r row) limit() (placed, error) {
	zone, err := time.LoadLocation(r.TimeZone)
	if err != nil {
		return placed{}, fmt.Errorf("its time zone: %w", err)
	}
	p := placed{Limit: Limit{KBps: r.KBps}, zone: zone}
	for _, text := range r.Windows {
		w, err := ParseWindow(text)
		if err != nil {
			return p, err
		}
		p.Windows = append(p.Windows, w)
	}
	return p, nil
}

// look works out what holds at a moment.
func (k *Keeper) look(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, same := make(map[string]uint64, len(k.limits)), true
	for f, l := range k.limits {
		now[f] = uint64(l.At(at.In(l.zone))) * 1000
		same = same && now[f] == k.now[f]
	}
	for f, was := range k.now {
		same = same && was == now[f]
	}
	k.now = now
	if !same {
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// Now returns how many bytes per second a facility's frames may take in either
// direction, 0 for no limit, and a channel that is closed when that of any
// facility changes.
func (k *Keeper) Now(facility string) (bytesPerSecond uint64, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now[facility], k.changed
}

// Of returns what was set for a facility, and false when nothing was.
func (k *Keeper) Of(facility string) (Limit, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.limits[facility]
	return l.Limit, ok
}
