package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// TestAStreamThatCannotBeAppliedWaitsVisiblyAndGoesOnByItself puts things in
// the way of the region's apply and takes them away again.
func TestAStreamThatCannotBeAppliedWaitsVisiblyAndGoesOnByItself(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	tables := pool(t, s.RegionDSN(pgcluster.App, pgcluster.Database))
	var done atomic.Int64
	crew := floorCrew(la, 2, seed, &done)
	work(t, crew, 20)
	sameFloor(t, 30*time.Second, crew, edge, region)
	for _, trouble := range []struct{ name, make, mend, says string }{
		{"a table is missing", `ALTER TABLE floor_part RENAME TO floor_part_away`, `ALTER TABLE floor_part_away RENAME TO floor_part`, "floor_part"},
		{"a column is missing", `ALTER TABLE floor_part RENAME stock TO stock_away`, `ALTER TABLE floor_part RENAME stock_away TO stock`, "stock"},
		{"the region is stricter", `ALTER TABLE floor_count ADD CONSTRAINT no_more CHECK (n < 0) NOT VALID`, `ALTER TABLE floor_count DROP CONSTRAINT no_more`, "no_more"},
	} {
		if _, err := tables.Exec(t.Context(), trouble.make); err != nil {
			t.Fatal(err)
		}
		work(t, crew, 20)
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			status, err := ctl(t, s, "sync", "status", "la")
			if err == nil && !(strings.Contains(status, "Waits") && strings.Contains(status, trouble.says)) {
				err = fmt.Errorf("%s: holdfastctl sync status does not say so:\n%s", trouble.name, status)
			}
			return err
		})
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			v, err := metric(ctx, la.URL(), "holdfast_link_stuck")
			if err == nil && v != 1 {
				err = errors.New("the box does not know that its changes wait")
			}
			return err
		})
		wantEvent(t, region, "la", "stuck")
		work(t, crew, 20) // nobody is held up
		if _, err := tables.Exec(t.Context(), trouble.mend); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		sameFloor(t, 30*time.Second, crew, edge, region)
		t.Logf("%s: equal %s after it was mended", trouble.name, time.Since(began).Round(10*time.Millisecond))
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			v, err := metric(ctx, la.URL(), "holdfast_link_stuck")
			if err == nil && v != 0 {
				err = errors.New("the box still believes that its changes wait")
			}
			return err
		})
		if status, err := ctl(t, s, "sync", "status", "la"); err != nil || strings.Contains(status, "Waits") {
			t.Errorf("%s: it is mended, and holdfastctl says %v\n%s", trouble.name, err, status)
		}
	}
	var events int
	if err := region.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.stream_event WHERE kind = 'stuck'`).Scan(&events); err != nil {
		t.Fatal(err)
	}
	if events > 12 {
		t.Errorf("three troubles made %d events", events)
	}
}
