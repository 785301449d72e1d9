package sim

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// columnSeeds are no more than a few: what waits for a column is tried again after
// up to half a minute.
const columnSeeds = 4

// TestColumnsAddedOnEitherSideFirstLoseNothing adds columns to a table, here before
// there and there before here, while both sides write it and the link comes and
// goes. Once every database has them, all rows are the same, these columns included.
func TestColumnsAddedOnEitherSideFirstLoseNothing(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	for seed := *from; seed < *from+min(*seeds, columnSeeds); seed++ {
		if err := columnSeed(t, l, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func columnSeed(t *testing.T, l *lane, seed uint64) error {
	ctx, cancel := context.WithTimeout(t.Context(), seedWithin)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if *loud {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := newWorld(ctx, t, l, seed, t.TempDir(), log, max(*calm, 2*time.Minute))
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Errorf("seed %d: end: %v", seed, err)
		}
	}()
	w.growing = true
	for range 8 {
		if err = w.runCalm(ctx, 4); err != nil {
			break
		}
		d := l.all()[w.rand.IntN(3)]
		if err = w.addColumn(ctx, d); err != nil {
			break
		}
	}
	w.heal()
	for _, d := range l.all() {
		for range columnsMax {
			if err == nil {
				err = w.addColumn(ctx, d)
			}
		}
	}
	if err == nil {
		err = w.rest(ctx)
	}
	if err == nil {
		err = w.settle(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w\n\nwhat happened:%s%s", err, w.told.String(), w.dump(context.WithoutCancel(ctx)))
	}
	return nil
}

// addColumn gives a database the next column of grow, if it lacks one.
func (w *world) addColumn(ctx context.Context, d *database) error {
	n, err := d.columns(ctx)
	if err != nil || n == columnsMax {
		return err
	}
	w.tell("\n    column %d in %s", n+1, d.pool.Config().ConnConfig.Host)
	_, err = d.pool.Exec(ctx, fmt.Sprintf(`ALTER TABLE grow ADD COLUMN c%d text`, n+1))
	return err
}
