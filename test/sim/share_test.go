package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/change"
)

var backlogSize = flag.Int("sim.backlog", 40_000, "how many transactions wait in TestABacklogHoldsUpNobodyElse")

// shareWithin is what half of the others' changes must keep while a backlog
// drains, on a machine that may have other things to do; what was measured is in
// docs/decisions.
const shareWithin = 3 * time.Second

// A facility comes back with a backlog: what another commits meanwhile, and what
// comes down to the first, is there as ever. Its own changes follow the backlog,
// because they are one stream in commit order.
func TestABacklogHoldsUpNobodyElse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if *loud {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := newWorld(ctx, t, newLane(t), 1, t.TempDir(), log, *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	la, frankfurt := w.edges[0], w.edges[1]
	la.cable.cut()
	if err := pile(ctx, la, *backlogSize); err != nil {
		t.Fatal(err)
	}
	at := la.queue.Stats()
	t.Logf("%d transactions, %d changes, %d frames, %d KB wait", at.Transactions, at.Changes, at.Frames, at.Bytes>>10)

	drained := make(chan struct{})
	began := time.Now()
	la.cable.restore(-1)
	var wg sync.WaitGroup
	for _, way := range []struct {
		name     string
		from, to *pgxpool.Pool
		facility string
		key      int
		within   time.Duration
	}{
		{"another facility's change to the region", frankfurt.pool, w.region.pool, "frankfurt", 1000, shareWithin},
		{"a change of the region to the facility that drains", w.region.pool, la.pool, "la", 2000, shareWithin},
		{"a change of the region to another facility", w.region.pool, frankfurt.pool, "frankfurt", 3000, shareWithin},
		{"the draining facility's own change to the region", la.pool, w.region.pool, "la", 4000, 0},
	} {
		wg.Go(func() {
			lags, err := lags(ctx, way.from, way.to, way.facility, way.key, drained)
			if err != nil {
				t.Errorf("%s: %v", way.name, err)
				return
			}
			slices.Sort(lags)
			half := lags[len(lags)/2]
			t.Logf("%s: %d, p50 %s, p99 %s, longest %s", way.name, len(lags), half, lags[len(lags)*99/100], lags[len(lags)-1])
			if way.within > 0 && half > way.within {
				t.Errorf("%s takes %s while the backlog drains", way.name, half)
			}
		})
	}
	err = until(ctx, 4*time.Minute, func() (bool, error) {
		return !la.queue.Acked().Before(change.Position{Epoch: at.Epoch, Seq: at.Last}), nil
	})
	t.Logf("drained in %s", time.Since(began))
	close(drained)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// pile commits transactions of two changes each while the facility is offline,
// and waits until they are in its queue.
func pile(ctx context.Context, e *edge, n int) error {
	const writers = 4
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			// One call for many transactions; each commits by itself.
			_, errs[i] = e.pool.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
				INSERT INTO memo (facility_id, id, val) VALUES ('%s', %d + i, md5(i::text));
				INSERT INTO happened (facility_id, n) VALUES ('%s', i); COMMIT; END LOOP; END $$`, n/writers, e.id, (i+1)*10_000_000, e.id))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return e.up.Settled(ctx)
}

// lags commits one change after the other and measures until each is visible on
// the other side, until done is closed.
func lags(ctx context.Context, from, to *pgxpool.Pool, facility string, key int, done <-chan struct{}) ([]time.Duration, error) {
	var list []time.Duration
	for ; ; key++ {
		select {
		case <-done:
			if len(list) > 0 {
				return list, nil
			}
		default:
		}
		began := time.Now()
		if _, err := from.Exec(ctx, `INSERT INTO doc VALUES ($1, $2, 'x')`, facility, key); err != nil {
			return nil, err
		}
		err := until(ctx, 3*time.Minute, func() (there bool, err error) {
			err = to.QueryRow(ctx, `SELECT EXISTS (SELECT FROM doc WHERE facility_id = $1 AND id = $2)`, facility, key).Scan(&there)
			return there, err
		})
		if err != nil {
			return nil, err
		}
		list = append(list, time.Since(began))
	}
}
