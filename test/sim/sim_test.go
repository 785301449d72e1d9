package sim

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	from  = flag.Uint64("sim.from", 1, "the first seed")
	seeds = flag.Uint64("sim.seeds", 16, "how many seeds; 0 is for ever")
	times = flag.Uint64("sim.times", 1, "how many times each seed is run: how the threads interleave is not the seed's to say")
	lanes = flag.Int("sim.lanes", 2, "how many seeds run side by side")
	moves = flag.Int("sim.steps", 30, "how many steps a seed has")
	calm  = flag.Duration("sim.patience", time.Minute, "how long both sides may take to come to rest")
	loud  = flag.Bool("sim.log", false, "show what the programs log")
)

// TestBothSidesComeOutAsTheBooksSay runs one seed after the other.
func TestBothSidesComeOutAsTheBooksSay(t *testing.T) {
	t.Parallel()
	var next, ran atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	for range *lanes {
		l := newLane(t)
		wg.Go(func() {
			for t.Context().Err() == nil && !t.Failed() {
				seed := *from + (next.Add(1)-1) / *times
				if *seeds > 0 && seed >= *from+*seeds {
					return
				}
				ran.Add(1)
				if err := runSeed(t, l, seed); err != nil {
					t.Errorf("seed %d: %v\n\nrun it again: make sim FROM=%d SEEDS=1", seed, err, seed)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds in %s", ran.Load(), time.Since(began).Round(time.Second))
}

// raceless is how many seeds are run without the race detector, behind those that
// are run with it: with it a seed costs half as much again.
const raceless = 84

// TestMoreSeedsComeOutAsTheBooksSay runs seeds with the program that TestEachMutantDies
// breaks: what a mutant dies of must be what was broken.
func TestMoreSeedsComeOutAsTheBooksSay(t *testing.T) {
	t.Parallel()
	if told, err := simulate(t, build(t), "", *from+*seeds, raceless); err != nil {
		t.Fatalf("%v:\n%s", err, told)
	}
}

const seedWithin = 15 * time.Minute

func runSeed(t *testing.T, l *lane, seed uint64) error {
	ctx, cancel := context.WithTimeout(t.Context(), seedWithin)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if *loud {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	dir := t.TempDir()
	defer os.RemoveAll(dir) // now: there may be thousands of seeds
	w, err := newWorld(ctx, t, l, seed, dir, log, *calm)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Errorf("seed %d: end: %v", seed, err)
		}
	}()
	err = w.run(ctx, *moves)
	if err == nil {
		w.heal()
		err = w.rest(ctx)
	}
	if err == nil {
		err = w.settle(ctx)
	}
	if err != nil && *loud {
		_ = pprof.Lookup("goroutine").WriteTo(t.Output(), 1)
	}
	if err != nil {
		return fmt.Errorf("%w\n\nwhat happened:%s%s", err, w.told.String(), w.dump(context.WithoutCancel(ctx)))
	}
	return nil
}
