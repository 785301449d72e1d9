package sim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// calmSteps are those after which nothing is lost, as far as the books know.
var calmSteps = []string{
	"edge commits", "cloud commits", "both commit", "price changes", "cut", "restore", "restore for a while", "rest", "agent crashes", "region crashes",
	"database of an edge crashes",
}

// TestADatabaseThatWasPutBackLosesNothing puts the database of one facility back
// to what it was some steps ago, twice, while the rest goes on.
func TestADatabaseThatWasPutBackLosesNothing(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	for seed := *from; seed < *from+min(*seeds, putBackSeeds); seed++ {
		if err := putBackSeed(t, l, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// putBackSeeds are no more than a few: each copies a server's folder.
const putBackSeeds = 4

func putBackSeed(t *testing.T, l *lane, seed uint64) error {
	ctx, cancel := context.WithTimeout(t.Context(), seedWithin)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if *loud {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := newWorld(ctx, t, l, seed, t.TempDir(), log, *calm)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Errorf("seed %d: end: %v", seed, err)
		}
	}()
	for i := range 2 {
		if err = w.putBackOnce(ctx, i); err != nil {
			return fmt.Errorf("time %d: %w\n\nwhat happened:%s%s", i, err, w.told.String(), w.dump(context.WithoutCancel(ctx)))
		}
	}
	return nil
}

func (w *world) putBackOnce(ctx context.Context, n int) error {
	if err := w.runCalm(ctx, 10); err != nil {
		return err
	}
	e := w.someEdge()
	if err := w.edgeCommit(ctx, e, w.someOps()); err != nil {
		return err
	}
	backup := filepath.Join(w.t.TempDir(), "backup")
	clean := w.rand.IntN(2) == 0
	if err := w.offline(e, clean, func() error { return copyFolder(e.server.DataDir(), backup) }); err != nil {
		return err
	}
	if err := e.start(ctx); err != nil {
		return err
	}
	if err := w.runCalm(ctx, 15); err != nil {
		return err
	}
	w.heal()
	if err := w.rest(ctx); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil { // what was recorded must have left as well
		return err
	}
	if w.rand.IntN(3) == 0 { // something waits in the queue
		e.cable.cut()
		w.tell("queued")
		w.lossy = true // what the cloud changed meanwhile is not told as a conflict
		if err := w.edgeCommit(ctx, e, w.someOps()); err != nil {
			return err
		}
		if err := e.up.Settled(ctx); err != nil {
			return err
		}
	}
	w.tell("put back")
	w.putBack[e.id] = true
	if err := w.offline(e, clean, func() error { return copyFolder(backup, e.server.DataDir()) }); err != nil {
		return err
	}
	late := 5 + n
	if _, err := e.pool.Exec(ctx, `INSERT INTO doc VALUES ($1, $2, 'late')`, e.id, late); err != nil {
		return err
	}
	if err := e.start(ctx); err != nil {
		return err
	}
	w.heal()
	if err := w.rest(ctx); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if err := w.loaded(ctx, e); err != nil {
		return err
	}
	region, err := look(ctx, w.region.pool)
	if err != nil {
		return err
	}
	if docs := region[[2]string{"doc", e.id}]; !slices.Contains(docs, fmt.Sprint(late, " late")) {
		return fmt.Errorf("what was changed after the database was put back is lost: %v", docs)
	}
	if err := w.runCalm(ctx, 10); err != nil {
		return err
	}
	w.heal()
	if err := w.rest(ctx); err != nil {
		return err
	}
	return w.settle(ctx)
}

// runCalm takes n steps of calmSteps.
func (w *world) runCalm(ctx context.Context, n int) error {
	for i := 0; i < n; {
		s := w.next()
		if !slices.Contains(calmSteps, s.name) {
			continue
		}
		i++
		fmt.Fprintf(&w.told, "\n%3d %s", i, s.name)
		if err := s.do(w, ctx); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.name, err)
		}
	}
	return nil
}

// offline stops the agent and its database server, clean or not, does something
// and starts the server.
func (w *world) offline(e *edge, clean bool, do func() error) error {
	if err := e.crash(); err != nil {
		return err
	}
	e.pool.Reset()
	if clean {
		e.server.Stop(w.t)
	} else {
		e.server.Kill9(w.t)
	}
	if err := do(); err != nil {
		return err
	}
	e.server.Start(w.t)
	return nil
}

// copyFolder makes to what from is, owners and all.
func copyFolder(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
