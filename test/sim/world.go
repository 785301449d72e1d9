package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/proto"
)

// world is all that one seed plays with.
type world struct {
	seed   uint64
	rand   *rand.Rand
	region *region
	edges  []*edge
	books  map[string]*book
	told   strings.Builder // the steps so far, for a failure
	t      testing.TB
	// lossy: something was lost that no book can follow. Both sides must still
	// come out equal.
	lossy bool
	// ticksLost: rows of a facility without a key may be lost.
	ticksLost map[string]bool
	growing   bool            // rows of grow are written
	patience  time.Duration   // until rest
	backedUp  bool            // there is a backup of the region
	putBack   map[string]bool // facilities whose database was put back: history stays in the region
	// comeBack: facilities of which the region was restored to when their box, not the
	// first, did not have all rows. What was removed there since may come back.
	comeBack map[string]bool
}

// newWorld starts a region and its facilities, and waits until they are joined.
func newWorld(ctx context.Context, t testing.TB, l *lane, seed uint64, dir string, log *slog.Logger, patience time.Duration) (_ *world, err error) {
	w := &world{seed: seed, rand: rand.New(rand.NewPCG(seed, 0x686f6c64)), books: map[string]*book{}, t: t, ticksLost: map[string]bool{}, putBack: map[string]bool{}, comeBack: map[string]bool{}, patience: patience}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, d := range l.all() {
		if err := d.reset(ctx); err != nil {
			return w, err
		}
	}
	accept := make(chan net.Conn)
	r := &region{database: l.region, dir: filepath.Join(dir, "region"), addrs: map[netip.Addr]string{}, enrolments: map[string]*atomic.Uint32{}, accept: accept, log: log.With("side", "region")}
	w.region = r
	for i, id := range facilities {
		addr := netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i + 2)})
		r.addrs[addr] = id
		r.enrolments[id] = new(atomic.Uint32)
		r.enrolments[id].Store(1)
		e := &edge{id: id, enrolment: 1, database: l.edges[id], dir: filepath.Join(dir, id), queueMax: l.queueMax, cable: newCable(addr, accept), log: log.With("side", id)}
		w.edges, w.books[id] = append(w.edges, e), &book{}
	}
	for _, d := range append([]string{r.dir}, w.edges[0].dir, w.edges[1].dir) {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return w, err
		}
	}
	if err := r.start(ctx); err != nil {
		return w, err
	}
	for _, e := range w.edges {
		if err := e.start(ctx); err != nil {
			return w, err
		}
	}
	if err := w.rest(ctx); err != nil {
		return w, err
	}
	for _, e := range w.edges {
		if err := w.loaded(ctx, e); err != nil {
			return w, err
		}
	}
	return w, nil
}

// loaded waits until the tables have gone up: a range that is under way stands
// against what the cloud changes meanwhile.
func (w *world) loaded(ctx context.Context, e *edge) error {
	if err := until(ctx, w.patience, func() (bool, error) {
		return !e.loading() && e.queue.Stats().Transactions == 0, nil
	}); err != nil {
		return fmt.Errorf("the tables of %s do not go up: %w", e.id, err)
	}
	return nil
}

// loading reports whether tables of the box are to go up.
func (e *edge) loading() bool {
	restored, _ := e.up.Restored()
	states := e.up.TableStates()
	return restored || len(states) == 0 || slices.ContainsFunc(states, func(t proto.TableState) bool { return t.State != proto.TableStreaming })
}

// rest waits until each side has all that the other has committed.
func (w *world) rest(ctx context.Context) error {
	if w.lossy {
		return w.settle(ctx) // the counts may have gone back
	}
	var last error
	want := func(db *pgxpool.Pool, where, table, facility string, n int) bool {
		have := -1
		err := db.QueryRow(ctx, "SELECT n FROM "+table+" WHERE facility_id = $1", facility).Scan(&have)
		if have != n {
			last = fmt.Errorf("%s of %s is %d in %s where it must be %d: %w", table, facility, have, where, n, cmp.Or(err, errLate))
		}
		return have == n
	}
	pending := slices.Clone(w.edges)
	err := until(ctx, w.patience, func() (bool, error) {
		pending = slices.DeleteFunc(pending, func(e *edge) bool {
			b := w.books[e.id]
			return want(w.region.pool, "the region", "edge_count", e.id, len(b.edge)) &&
				want(e.pool, "its own database", "cloud_count", e.id, len(b.cloud)) &&
				want(w.region.pool, "the region", "cloud_count", e.id, len(b.cloud))
		})
		return len(pending) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("no rest within %s: %w", w.patience, last)
	}
	return nil
}

var errLate = errors.New("it has not arrived")

// until asks again and again until ok, within d.
func until(ctx context.Context, d time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (w *world) close() error {
	var errs []error
	for _, e := range w.edges {
		errs = append(errs, e.crash())
	}
	if w.region != nil {
		errs = append(errs, w.region.stop())
	}
	return errors.Join(errs...)
}
