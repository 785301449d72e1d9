package sim

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
)

// A facility's link is down for so long that its queue fills, twice. What waited
// longest gives way; the workers notice nothing, the box prunes its history
// meanwhile, and when the link is back both sides are equal and the region has all
// of the history, each row once.
func TestAQueueThatWasFullGaveWayAndNothingIsMissing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), seedWithin)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if *loud {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	// Rows without a key could arrive twice, so that nothing would give way.
	l := newLane(t, "tick")
	l.queueMax = 160 << 10
	w, err := newWorld(ctx, t, l, *from, t.TempDir(), log, *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := w.fillQueue(ctx); err != nil {
		t.Fatalf("seed %d: %v\n\nwhat happened:%s%s", *from, err, w.told.String(), w.dump(context.WithoutCancel(ctx)))
	}
}

func (w *world) fillQueue(ctx context.Context) error {
	e := w.edges[0]
	w.lossy = true // whether the cloud's changes were seen is not known of what gave way
	w.putBack[e.id] = true
	w.ticksLost[e.id] = true
	e.cable.cut()
	ways := map[uint64]bool{}
	for i := 0; len(ways) < 2; i++ {
		if i == 5000 {
			return fmt.Errorf("nothing gave way: %+v", e.queue.Stats())
		}
		if err := w.edgeCommit(ctx, e, w.someOps()); err != nil {
			return err
		}
		if i%50 == 0 {
			if err := w.cloudCommit(ctx, e, w.someOps()); err != nil {
				return err
			}
		}
		if err := e.up.Settled(ctx); err != nil {
			return err
		}
		if s := e.queue.Stats(); s.GaveWay > 0 {
			ways[s.GaveWay] = true
		}
	}
	if _, err := e.pool.Exec(ctx, `DELETE FROM happened WHERE n % 3 <> 0`); err != nil {
		return err
	}
	w.heal()
	return w.settle(ctx)
}
