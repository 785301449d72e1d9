package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// checkBoundaries looks at rows that are only ever changed together.
func (w *world) checkBoundaries(ctx context.Context) error {
	look := func(db *pgxpool.Pool, where string) error {
		for _, e := range w.edges {
			var ns []int
			rows, err := db.Query(ctx, `SELECT n FROM pair WHERE facility_id = $1`, e.id)
			if err == nil {
				ns, err = pgx.CollectRows(rows, pgx.RowTo[int])
			}
			if err != nil {
				return fmt.Errorf("look at the pair of %s in %s: %w", e.id, where, err)
			}
			if len(ns) == 2 && ns[0] != ns[1] {
				return fmt.Errorf("%s shows half of a transaction of %s: %d and %d", where, e.id, ns[0], ns[1])
			}
		}
		return nil
	}
	return look(w.region.db, "the region")
}

// settle waits until check has nothing to say: tables may still be on their way
// again after something was lost. What stays wrong is wrong.
func (w *world) settle(ctx context.Context) error {
	var wrong error
	if err := until(ctx, w.patience, func() (bool, error) {
		wrong = w.check(ctx)
		return wrong == nil, nil
	}); err != nil {
		return errors.Join(err, wrong)
	}
	return nil
}

// check compares both sides with each other and with the books. Nothing may be
// under way.
func (w *world) check(ctx context.Context) error {
	var wrong []error
	for _, e := range w.edges {
		for _, t := range []struct{ table, row string }{
			{"doc", "id || ' ' || val"},
			{"pair", "id || ' ' || n"},
			{"happened", "id || ' ' || n"},
			{"edge_count", "n::text"},
			{"cloud_count", "n::text"},
		} {
			here, err := rowsOf(ctx, e.db, t.table, t.row, e.id)
			if err != nil {
				return err
			}
			there, err := rowsOf(ctx, w.region.db, t.table, t.row, e.id)
			if err != nil {
				return err
			}
			if t.table == "happened" && w.putBack[e.id] && len(there) == len(w.books[e.id].edge) {
				continue
			}
			if !slices.Equal(here, there) {
				wrong = append(wrong, fmt.Errorf("%s of %s differs:\n  edge   %v\n  region %v", t.table, e.id, here, there))
			}
		}
		wrong = append(wrong, w.checkTicks(ctx, e))
		docs, err := rowsOf(ctx, e.db, "doc", "id || ' ' || val", e.id)
		if err != nil {
			return err
		}
		wrong = append(wrong, w.checkBooks(e, docs))
		if !w.lossy {
			wrong = append(wrong, w.checkAudit(ctx, e))
		}
	}
	wrong = append(wrong, w.checkMaster(ctx), w.checkParked(ctx))
	return errors.Join(wrong...)
}

// checkParked looks for changes that were parked: no database refuses any here,
// and one that comes later than the rest of its transaction makes the counts
// say too little.
func (w *world) checkParked(ctx context.Context) error {
	dbs := []*pgxpool.Pool{w.region.db}
	for _, e := range w.edges {
		dbs = append(dbs, e.db)
	}
	for _, db := range dbs {
		var n int
		if err := db.QueryRow(ctx, `SELECT count(*) FROM holdfast.parked`).Scan(&n); err != nil || n > 0 {
			return cmp.Or(err, fmt.Errorf("%d changes were parked", n))
		}
	}
	return nil
}

func rowsOf(ctx context.Context, db *pgxpool.Pool, table, row, facility string) ([]string, error) {
	where := "facility_id = $1"
	if table == "price" {
		where = "$1 <> ''"
	}
	rows, err := db.Query(ctx, "SELECT "+row+" FROM "+table+" WHERE "+where+" ORDER BY 1", facility)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// checkTicks counts rows that nothing tells apart: each must have come once.
func (w *world) checkTicks(ctx context.Context, e *edge) error {
	ticks, err := rowsOf(ctx, w.region.db, "tick", "n::text", e.id)
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, n := range ticks {
		times[n]++
	}
	for _, t := range w.books[e.id].edge {
		n := times[fmt.Sprint(t.n)]
		if n > 1 || n == 0 && !w.ticksLost[e.id] {
			return fmt.Errorf("tick %d of %s is in the region %d times", t.n, e.id, n)
		}
	}
	return nil
}

// checkBooks compares the rows with what the books say they must be.
func (w *world) checkBooks(e *edge, docs []string) error {
	b := w.books[e.id]
	have := map[int]string{}
	for _, d := range docs {
		id, val, _ := strings.Cut(d, " ")
		have[int(id[0]-'0')] = val
	}
	var wrong []error
	for _, key := range b.keys() {
		if w.lossy && slices.ContainsFunc(b.cloud, func(t *tx) bool { return t.on(key) != nil }) {
			continue // what had seen what is not known any more
		}
		if want := b.expected(key); have[key] != want {
			wrong = append(wrong, fmt.Errorf("row %d of %s is %q, the books say %q:%s", key, e.id, have[key], want, b.story(key)))
		}
	}
	return errors.Join(wrong...)
}

// checkAudit looks for each version that did not stand among the conflicts of
// the region.
func (w *world) checkAudit(ctx context.Context, e *edge) error {
	rows, err := w.region.db.Query(ctx, `SELECT coalesce(cloud_row ->> 'val', '') FROM holdfast.conflict WHERE facility_id = $1 AND table_name = 'doc'`, e.id)
	if err != nil {
		return err
	}
	told, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var wrong []error
	b := w.books[e.id]
	lost := b.losers()
	for _, key := range slices.Sorted(maps.Keys(lost)) {
		for _, value := range lost[key] {
			if !slices.Contains(told, value) {
				wrong = append(wrong, fmt.Errorf("the version %q of row %d of %s did not stand, and no conflict says so:%s", value, key, e.id, b.story(key)))
			}
		}
	}
	return errors.Join(wrong...)
}

func (w *world) checkMaster(ctx context.Context) error {
	there, err := rowsOf(ctx, w.region.db, "price", "id || ' ' || val", "-")
	if err != nil {
		return err
	}
	for _, e := range w.edges {
		here, err := rowsOf(ctx, e.db, "price", "id || ' ' || val", "-")
		if err != nil {
			return err
		}
		if !slices.Equal(here, there) {
			return fmt.Errorf("price differs:\n  %s %v\n  region %v", e.id, here, there)
		}
	}
	return nil
}
