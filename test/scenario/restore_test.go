package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// copyCluster copies the data of a cluster that is stopped, with its owners.
func copyCluster(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy a cluster: %v: %s", err, out)
	}
}

// backUp stops the region and keeps a copy of its database.
func backUp(t *testing.T, s *site.Site) (folder string) {
	t.Helper()
	if err := s.Cloud.Stop(); err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(s.Dir, "backup")
	copyCluster(t, filepath.Join(s.ClusterDir(), "data"), folder)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return folder
}

// restore puts the region back to a backup.
func restore(t *testing.T, s *site.Site, backup string) {
	t.Helper()
	if err := s.Cloud.Stop(); err != nil {
		t.Fatal(err)
	}
	copyCluster(t, backup, filepath.Join(s.ClusterDir(), "data"))
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantEvent waits until something of a kind is among a facility's events.
func wantEvent(t *testing.T, region *pgxpool.Pool, facility, kind string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		var n int
		var all string
		err := region.QueryRow(ctx, `SELECT count(*) FILTER (WHERE kind = $2), coalesce(string_agg(kind || ': ' || detail, E'\n' ORDER BY id), 'none')
			FROM holdfast.stream_event WHERE facility = $1`, facility, kind).Scan(&n, &all)
		if err == nil && n == 0 {
			err = fmt.Errorf("no event %q of %s; there are:\n%s", kind, facility, all)
		}
		return err
	})
}

func TestARegionRestoredFromABackupGetsItsRowsAgain(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	work(t, crew, 50)
	sameFloor(t, crew, edge, region)
	backup := backUp(t, s)
	work(t, crew, 100)
	sameFloor(t, crew, edge, region)

	restore(t, s, backup)
	// Each row once, those of the log too: the box still has all that follows.
	sameFloor(t, crew, edge, region)
	wantEvent(t, region, "la", "region_restored")
	work(t, crew, 20)
	sameFloor(t, crew, edge, region)
}

// TestARegionRestoredFromAVeryOldBackupIsFilledAnew: the box no longer keeps
// what the region lacks.
func TestARegionRestoredFromAVeryOldBackupIsFilledAnew(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdgeWith(t, s, site.EdgeOptions{ID: "la", Extra: "queue: {keep: 0}\n"})
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	work(t, crew, 50)
	sameFloor(t, crew, edge, region)
	backup := backUp(t, s)

	// Acknowledged, and more than is kept together.
	for i := range 3 {
		_, err := edge.Exec(t.Context(), `INSERT INTO floor_part (facility_id, code, writer, n, drawing)
			SELECT 'la', 'bulk-' || $1::int || '-' || i, 100, i, (SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 30 + i % 2))
			FROM generate_series(1, 6000) i`, i)
		if err != nil {
			t.Fatal(err)
		}
		work(t, crew, 20)
		sameFloor(t, crew, edge, region)
	}
	if _, err := edge.Exec(t.Context(), `DELETE FROM floor_part WHERE code LIKE 'bulk-1-%'`); err != nil {
		t.Fatal(err)
	}
	work(t, crew, 20)
	sameFloor(t, crew, edge, region)
	untilSeen(t, la, region)
	work(t, crew, 1) // with its acknowledgement the box lets go of what was held
	sameFloor(t, crew, edge, region)

	restore(t, s, backup)
	work(t, crew, 20)
	began := time.Now()
	sameKeyed(t, crew, edge, region)
	t.Logf("filled anew %s after the restore", time.Since(began).Round(10*time.Millisecond))
	wantEvent(t, region, "la", "region_restored")
	wantEvent(t, region, "la", "epoch")
	work(t, crew, 20)
	sameKeyed(t, crew, edge, region)
	if n := epochs(t, region, "la"); n != 1 {
		t.Errorf("%d new epochs began, want 1", n)
	}
}

// untilSeen waits until the box knows that the region has all it has now, so
// that nobody asks for it to tell conflicts.
func untilSeen(t *testing.T, e *site.Edge, region *pgxpool.Pool) {
	t.Helper()
	var has int64
	if err := region.QueryRow(t.Context(), `SELECT seq FROM holdfast.position WHERE facility = $1`, e.ID).Scan(&has); err != nil {
		t.Fatal(err)
	}
	own := pool(t, e.DSN(pgcluster.Owner, pgcluster.Database))
	eventually(t, func(ctx context.Context) error {
		var seen int64
		err := own.QueryRow(ctx, `SELECT seen_seq FROM holdfast.position`).Scan(&seen)
		if err == nil && seen < has {
			err = fmt.Errorf("the box knows that the region has %d of %d transactions", seen, has)
		}
		return err
	})
}

// epochs is how many epochs the box has begun after its first.
func epochs(t *testing.T, region *pgxpool.Pool, facility string) uint64 {
	t.Helper()
	var epoch int64
	if err := region.QueryRow(t.Context(), `SELECT epoch FROM holdfast.position WHERE facility = $1`, facility).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	return uint64(epoch) & 0xffffffff
}
