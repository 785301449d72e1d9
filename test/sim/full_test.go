package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"
)

// A facility is away for longer than its queue has room for. Its people notice
// nothing, the slot goes on, and when it is back both sides are equal and no
// event is missing.
func TestAFullQueueLosesNothing(t *testing.T) {
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
	la := w.edges[0]
	begin := func() {
		if err := la.start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := la.crash(); err != nil {
		t.Fatal(err)
	}
	la.queueMax = 1 << 20
	begin()
	if err := fill(ctx, la, 1, 200, 50); err != nil {
		t.Fatal(err)
	}

	la.cable.cut()
	// While the box is away the region changes rows that change there too, and
	// rows that do not.
	if _, err := w.region.db.Exec(ctx, `INSERT INTO doc VALUES ('la', 1, 'cloud'), ('la', 50, 'cloud')`); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		arm  func()
		rows int
	}{
		{func() { la.shrink.FailBefore(1) }, 50},
		{func() { la.shrink.FailAfter(1) }, 100},
		{func() { la.shrink.FailAfter(2) }, 1_000_000},
		{func() { la.shrink.FailBefore(2) }, 1_000_000},
	} {
		c.arm()
		if err := fill(ctx, la, i+2, 6000, c.rows); err != nil {
			t.Fatal(err)
		}
		if err := settled(ctx, la); err != nil {
			t.Fatalf("the queue does not take all: %v", err)
		}
		s := la.queue.Stats()
		// Rows that change again and again are folded; others cannot be.
		if la.up.Thinned().IsZero() != (c.rows < 1000) || s.Bytes > la.queueMax {
			t.Fatalf("left out at %s: %+v", la.up.Thinned(), s)
		}
		t.Logf("%d transactions in %d KB", s.Transactions, s.Bytes>>10)
		if err := la.crash(); err != nil {
			t.Fatal(err)
		}
		begin()
	}
	la.cable.restore(-1)
	w.lossy = true // rows that both sides changed are as the box has them, whatever each had seen
	if err := w.settle(ctx); err != nil {
		t.Fatal(err)
	}
	err = until(ctx, *calm, func() (bool, error) {
		for _, c := range []struct{ table, row string }{{"memo", "id || ' ' || val"}, {"happened", "id::text || n"}, {"doc", "id || ' ' || val"}} {
			here, err := rowsOf(ctx, la.db, c.table, c.row, "la")
			if err != nil {
				return false, err
			}
			there, err := rowsOf(ctx, w.region.db, c.table, c.row, "la")
			if err != nil || !slices.Equal(here, there) {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatalf("the two sides differ: %v", err)
	}
	var events, told, doc int
	err = w.region.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM happened WHERE facility_id = 'la'),
		(SELECT count(DISTINCT kind) FROM holdfast.stream_event WHERE facility = 'la' AND kind IN ('folded', 'thinned')),
		(SELECT count(*) FROM doc WHERE facility_id = 'la' AND id = 50) + (SELECT count(*) FROM holdfast.conflict WHERE key ->> 'id' = '50')`).Scan(&events, &told, &doc)
	if err != nil || events != 2*(20+4*600) || told != 2 || doc == 0 {
		// What was left out counts as having touched every row: where the box does
		// not have the region's own, that is a conflict, and it is in the audit.
		t.Errorf("%d events arrived, the region was told of %d kinds, its own row is there or told of %d times, %v", events, told, doc, err)
	}
}

// fill commits n transactions that change the same rows again and again, and an
// event in every tenth; twice, side by side.
func fill(ctx context.Context, e *edge, round, n, rows int) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = e.db.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%[1]d LOOP
				INSERT INTO memo (facility_id, id, val) VALUES ('la', %[2]d + i %% %[4]d, md5(random()::text) || md5(random()::text) || md5(random()::text))
					ON CONFLICT (facility_id, id) DO UPDATE SET val = EXCLUDED.val;
				IF i %% 7 = 0 THEN DELETE FROM memo WHERE facility_id = 'la' AND id = %[2]d + (i * 3) %% %[4]d; END IF;
				IF i %% 10 = 0 THEN INSERT INTO happened (facility_id, n) VALUES ('la', i); END IF;
				COMMIT; END LOOP;
				INSERT INTO doc VALUES ('la', 1, 'edge %[3]d') ON CONFLICT (facility_id, id) DO UPDATE SET val = EXCLUDED.val; END $$`, n, 10_000_000*(i+1), round, rows))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// settled waits until all that was committed is in the queue.
func settled(ctx context.Context, e *edge) error {
	return until(ctx, *calm, func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, *calm)
		defer cancel()
		return e.up.Settled(ctx) == nil, ctx.Err()
	})
}
