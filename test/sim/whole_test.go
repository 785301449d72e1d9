package sim

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// A box that took another's place has all that the region sent it. Then it loses its slot
// and with it what nobody had read: that a row was removed. The row must go in the
// region too, as it would with the facility's first box; also where the slot was lost
// before the box had been told that it has all.
func TestWhatAReplacedBoxRemovedUnreadIsGoneOnBothSides(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	for name, told := range map[string]bool{"once it is whole": true, "before": false} {
		t.Run(name, func(t *testing.T) { removedUnread(t, l, told) })
	}
}

func removedUnread(t *testing.T, l *lane, told bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := newWorld(ctx, t, l, 1, t.TempDir(), slog.New(slog.DiscardHandler), *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, e := range w.edges {
		if err := errors.Join(w.edgeCommit(ctx, e, []op{{row: row{"doc", 0}}, {row: row{"doc", 1}}}), w.rest(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.boxReplaced(ctx), w.rest(ctx)); err != nil {
		t.Fatal(err)
	}
	i := 0
	if w.edges[i].enrolment == 1 {
		i = 1
	}
	e := w.edges[i]
	if err := until(ctx, *calm, func() (there bool, err error) {
		err = e.pool.QueryRow(ctx, `SELECT count(*) = 2 FROM doc`).Scan(&there)
		whole, err2 := w.whole(ctx, e)
		return there && (whole || !told), errors.Join(err, err2)
	}); err != nil {
		t.Fatal(err)
	}
	w.lossy, w.ticksLost[e.id] = true, true
	for i, err := range []error{
		e.crash(),
		w.edgeCommit(ctx, e, []op{{row: row{"doc", 0}, delete: true}}),
		dropSlots(ctx, e.pool),
		e.start(ctx),
		w.settle(ctx),
	} {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	var left int
	if err := w.region.pool.QueryRow(ctx, `SELECT count(*) FROM doc WHERE facility_id = $1`, e.id).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d rows are left in the region, not one: %v", left, err)
	}
}
