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

// overtaking is how many changes of each of the others must arrive before the
// backlog has ended.
const overtaking = 10

// A facility comes back with a backlog, of which the end is held up until the
// test has seen enough: what another facility commits meanwhile, and what comes
// down to either, arrives all the same. The facility's own changes follow its
// backlog, because they are one stream in commit order.
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
	// The last transaction makes a row that somebody in the region is making too.
	const last = 5000
	if _, err := la.pool.Exec(ctx, `INSERT INTO doc VALUES ('la', $1, 'x')`, last); err != nil {
		t.Fatal(err)
	}
	if err := la.up.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	end := change.Position{Epoch: at.Epoch, Seq: la.queue.Stats().Last}
	held, err := w.region.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it was done, or the test has failed
	if _, err := held.Exec(ctx, `INSERT INTO doc VALUES ('la', $1, 'x')`, last); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	la.cable.restore(-1)
	var wg sync.WaitGroup
	for _, way := range []struct {
		name     string
		from, to *pgxpool.Pool
		facility string
		key      int
	}{
		{"another facility's change to the region", frankfurt.pool, w.region.pool, "frankfurt", 1000},
		{"a change of the region to the facility that drains", w.region.pool, la.pool, "la", 2000},
		{"a change of the region to another facility", w.region.pool, frankfurt.pool, "frankfurt", 3000},
	} {
		wg.Go(func() {
			lags, err := lags(ctx, way.from, way.to, way.facility, way.key, overtaking)
			if err != nil {
				t.Errorf("%s does not arrive while a backlog waits: %v", way.name, err)
				return
			}
			slices.Sort(lags)
			t.Logf("%s: p50 %s, longest %s", way.name, lags[len(lags)/2], lags[len(lags)-1])
		})
	}
	wg.Wait()
	if !la.queue.Acked().Before(end) {
		t.Error("the backlog was not held up: nothing was overtaken")
	}
	if err := held.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := lags(ctx, la.pool, w.region.pool, "la", 4000, 1); err != nil {
		t.Fatalf("the draining facility's own change does not follow its backlog: %v", err)
	}
	t.Logf("drained in %s", time.Since(began))
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

// lags commits so many changes, one after the other, and measures until each is
// visible on the other side.
func lags(ctx context.Context, from, to *pgxpool.Pool, facility string, key, n int) ([]time.Duration, error) {
	var list []time.Duration
	for ; len(list) < n; key++ {
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
	return list, nil
}
