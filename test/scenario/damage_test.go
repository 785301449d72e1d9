package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// TestFlippedBitsInTheQueueAreToldAndHealed damages the queue's files while
// changes wait in them.
func TestFlippedBitsInTheQueueAreToldAndHealed(t *testing.T) {
	t.Parallel()
	seed, rng := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	for round := range 3 {
		work(t, crew, 30)
		sameKeyed(t, crew, edge, region)
		before, err := lossesTold(t.Context(), region, "la")
		if err != nil {
			t.Fatal(err)
		}
		la.Cut()
		work(t, crew, 100)
		if err := la.Agent.Stop(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(la.StateDir(), "queue", "*.wal"))
		if err != nil || len(files) == 0 {
			t.Fatalf("files of the queue: %v, %v", files, err)
		}
		path := files[len(files)-1]
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		end := len(b)
		for end > 0 && b[end-1] == 0 {
			end--
		}
		// In what waits, at the end of the file, and at any place of it. One alone may
		// have hit what fills a record up, which harms nothing.
		for range 3 + round*4 {
			bit := end - 1 - rng.IntN(end/3)
			b[bit] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := la.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		la.Restore()
		sameKeyed(t, crew, edge, region)
		eventually(t, func(ctx context.Context) error {
			events, err := lossesTold(ctx, region, "la")
			if err == nil && len(events) <= len(before) {
				err = fmt.Errorf("nobody was told of the bits of round %d; the events so far: %q", round, events)
			}
			return err
		})
	}
	// The log has no key: what is missing of it must have been told.
	var here, there int
	if err := edge.QueryRow(t.Context(), `SELECT count(*) FROM floor_log`).Scan(&here); err != nil {
		t.Fatal(err)
	}
	if err := region.QueryRow(t.Context(), `SELECT count(*) FROM floor_log`).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there > here {
		t.Errorf("the region's log has %d rows, the facility's %d: some came twice", there, here)
	}
	t.Logf("%d of %d rows without a key were lost", here-there, here)
}

// lossesTold lists what a facility's events say about changes that were lost on
// the way: a gap, or an epoch that begins anew.
func lossesTold(ctx context.Context, region *pgxpool.Pool, facility string) ([]string, error) {
	rows, err := region.Query(ctx, `SELECT kind || ': ' || detail FROM holdfast.stream_event
		WHERE facility = $1 AND kind IN ('gap', 'epoch') ORDER BY id`, facility)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// TestALostQueueOrSlotBeginsANewEpochAndHeals takes away what the stream hangs on.
func TestALostQueueOrSlotBeginsANewEpochAndHeals(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	for i, loss := range []func() error{
		func() error { return os.RemoveAll(filepath.Join(la.StateDir(), "queue")) },
		func() error { // a file that belongs to no log: all of it is put aside
			return os.WriteFile(filepath.Join(la.StateDir(), "queue", "foreign.wal"), []byte("?"), 0o600)
		},
		func() error {
			_, err := pool(t, la.DSN(pgcluster.Capture, pgcluster.Database)).Exec(t.Context(), `SELECT pg_drop_replication_slot('holdfast')`)
			return err
		},
		func() error { return os.Remove(filepath.Join(la.StateDir(), "epoch")) },
	} {
		work(t, crew, 30)
		sameKeyed(t, crew, edge, region)
		la.Cut()
		work(t, crew, 50)
		if err := la.Agent.Kill9(); err != nil {
			t.Fatal(err)
		}
		work(t, crew, 20)
		if err := loss(); err != nil {
			t.Fatal(err)
		}
		if err := la.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		la.Restore()
		work(t, crew, 10)
		sameKeyed(t, crew, edge, region)
		if n := epochs(t, region, "la"); n != uint64(i)+1 {
			t.Errorf("after loss %d the region is at epoch %d, want %d", i, n, i+1)
		}
	}
	wantEvent(t, region, "la", "epoch")
}
