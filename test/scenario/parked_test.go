package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/compare"
)

// TestWhatCannotBeAppliedWaitsVisiblyAndTheRestFlows puts things in the way of
// the region's apply and takes them away again.
func TestWhatCannotBeAppliedWaitsVisiblyAndTheRestFlows(t *testing.T) {
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
	sameFloor(t, crew, edge, region)
	for _, trouble := range []struct{ name, make, mend, reason string }{
		{"a table is missing", `ALTER TABLE floor_part RENAME TO floor_part_away`, `ALTER TABLE floor_part_away RENAME TO floor_part`, "missing_table"},
		{"a column is missing", `ALTER TABLE floor_part RENAME stock TO stock_away`, `ALTER TABLE floor_part RENAME stock_away TO stock`, "missing_column"},
		{"the region is stricter", `ALTER TABLE floor_count ADD CONSTRAINT no_more CHECK (n < 0) NOT VALID`, `ALTER TABLE floor_count DROP CONSTRAINT no_more`, "check"},
	} {
		if _, err := tables.Exec(t.Context(), trouble.make); err != nil {
			t.Fatal(err)
		}
		work(t, crew, 20)
		eventually(t, func(ctx context.Context) error {
			status, err := ctl(t, s, "sync", "status", "la")
			if err == nil && (!strings.Contains(status, "parked") || strings.Contains(status, "Waits")) {
				err = fmt.Errorf("%s: holdfastctl sync status does not say so:\n%s", trouble.name, status)
			}
			return err
		})
		work(t, crew, 20)
		sameLog(t, edge, region) // everything else flows
		var list []v1.Parked
		out, err := ctl(t, s, "parked", "list", "--facility", "la", "--reason", trouble.reason, "--json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err != nil || len(list) == 0 || list[0].Remedy == "" {
			t.Errorf("%s: parked are %+v, %v", trouble.name, list, err)
		}
		if v, err := metric(t.Context(), la.URL(), "holdfast_link_stuck"); err != nil || v != 0 {
			t.Errorf("%s: the box believes that its stream is stuck: %v, %v", trouble.name, v, err)
		}
		wantEvent(t, region, "la", "parked")
		if _, err := tables.Exec(t.Context(), trouble.mend); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		sameFloor(t, crew, edge, region)
		t.Logf("%s: equal %s after it was mended", trouble.name, time.Since(began).Round(10*time.Millisecond))
		eventually(t, func(ctx context.Context) error {
			status, err := ctl(t, s, "sync", "status", "la")
			if err == nil && strings.Contains(status, "parked") {
				err = fmt.Errorf("%s: it is mended, and holdfastctl says\n%s", trouble.name, status)
			}
			return err
		})
	}
	var events int
	if err := region.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.stream_event WHERE kind IN ('stuck', 'parked')`).Scan(&events); err != nil {
		t.Fatal(err)
	}
	if events > 12 {
		t.Errorf("three troubles made %d events", events)
	}

	// A row that another one is in the way of, until a person decides.
	for _, on := range []struct {
		db  *pgxpool.Pool
		sql string
	}{
		{tables, `CREATE UNIQUE INDEX only_one ON floor_part (facility_id) WHERE code LIKE 'zz%'`},
		{edge, `INSERT INTO floor_part (facility_id, code, writer, n, drawing) VALUES ('la', 'zz1', 99, 1, 'first')`},
		{edge, `INSERT INTO floor_part (facility_id, code, writer, n, drawing) VALUES ('la', 'zz2', 99, 1, 'second')`},
	} {
		if _, err := on.db.Exec(t.Context(), on.sql); err != nil {
			t.Fatal(err)
		}
	}
	var id string
	eventually(t, func(ctx context.Context) error {
		page, err := s.API.Parked(ctx, v1.ParkedFilter{Facility: "la"}, 0, "")
		if err == nil && len(page.Items) != 1 {
			err = fmt.Errorf("%d changes are parked", len(page.Items))
		}
		if err == nil {
			id = strconv.FormatInt(page.Items[0].ID, 10)
		}
		return err
	})
	if out, err := ctl(t, s, "parked", "show", id); err != nil || !strings.Contains(out, "IN THE WAY (public.floor_part)") || !strings.Contains(out, "first") {
		t.Errorf("shown as %v\n%s", err, out)
	}
	eventually(t, func(ctx context.Context) error {
		v, err := metric(ctx, s.URL(), `holdfast_facility_parked_changes{facility="la"}`)
		if err == nil && v != 1 {
			err = fmt.Errorf("the metric says %v", v)
		}
		return err
	})
	if out, err := ctl(t, s, "parked", "discard", id, "--yes"); err != nil {
		t.Errorf("discard: %v\n%s", err, out)
	}
	if _, err := edge.Exec(t.Context(), `DELETE FROM floor_part WHERE code = 'zz2'`); err != nil {
		t.Fatal(err)
	}
	sameFloor(t, crew, edge, region)
}

// sameLog waits until the log, which has no key, is the same on both sides.
func sameLog(t *testing.T, edge, region *pgxpool.Pool) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		return compare.Tables(ctx, edge, region, compare.Table{Schema: "public", Name: "floor_log"})
	})
}
