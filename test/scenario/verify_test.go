package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// forge changes rows in the region as a broken apply would: nobody takes it for
// a change that was made there.
func forge(t *testing.T, region *pgxpool.Pool, facility string, statements ...string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), region, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'holdfast', 'up ' || facility || ' ' || epoch || ':' || seq)
			FROM holdfast.position WHERE facility = $1`, facility); err != nil {
			return err
		}
		for _, sql := range statements {
			tag, err := tx.Exec(t.Context(), sql)
			if err != nil {
				return err
			}
			if tag.RowsAffected() != 1 {
				return fmt.Errorf("%s: %d rows", sql, tag.RowsAffected())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatDiffersIsFoundAndMendedWhilePeopleWork changes rows in the region
// behind everybody's back. The continuous comparison says that all was equal
// before; the operator's command finds exactly these rows, and mends them.
func TestWhatDiffersIsFoundAndMendedWhilePeopleWork(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), pool(t, s.RegionDSN(pgcluster.Superuser, pgcluster.Database))
	if _, err := edge.Exec(t.Context(), `INSERT INTO floor_part SELECT 'la', 'old ' || i, -1, i, NULL, i FROM generate_series(1, 3000) i`); err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	crew := floorCrew(la, 2, seed, &done)
	work(t, crew, 20)
	sameFloor(t, crew, edge, region)
	eventually(t, func(ctx context.Context) error {
		status, err := ctl(t, s, "sync", "status", "la")
		if err == nil && strings.Count(status, "equal at") < 3 {
			err = fmt.Errorf("not every table with a key has been seen to be equal:\n%s", status)
		}
		return err
	})

	ctx, stop := context.WithCancel(t.Context())
	working := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := crew[0].work(t.Context(), 5); err != nil {
				working <- err
				return
			}
		}
		working <- nil
	}()
	for _, table := range []string{"floor_part", "floor_step", "floor_count"} {
		if out, err := ctl(t, s, "verify", "la", table); err != nil {
			t.Errorf("a false alarm: %v\n%s", err, out)
		}
	}
	forge(t, region, "la",
		`UPDATE floor_part SET stock = stock + 0.001 WHERE facility_id = 'la' AND code = 'old 17'`,
		`DELETE FROM floor_part WHERE facility_id = 'la' AND code = 'old 1800'`,
		`INSERT INTO floor_part VALUES ('la', 'old 18b', -1, 0)`)
	out, err := ctl(t, s, "verify", "la", "floor_part", "--repair", "--dry-run")
	if err == nil {
		t.Error("rows differ, and the exit code is 0")
	}
	for _, want := range []string{"3 rows differ", "old 17", "old 1800", "old 18b", "missing", "too many", "not the same", "Nothing was changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if out, err := ctl(t, s, "verify", "la", "floor_part", "--repair"); err != nil || !strings.Contains(out, "3 repaired") {
		t.Errorf("the repair: %v\n%s", err, out)
	}
	wantEvent(t, region, "la", "difference")
	wantEvent(t, region, "la", "repaired")

	// A region that was killed goes on.
	if err := s.Cloud.Kill9(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(context.Context) error {
		if out, err := ctl(t, s, "verify", "la", "floor_part"); err != nil || !strings.Contains(out, "equal") {
			return errors.Join(err, errors.New(out))
		}
		return nil
	})
	stop()
	if err := <-working; err != nil {
		t.Error(err)
	}
	sameFloor(t, crew, edge, region)
}
