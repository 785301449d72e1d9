package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// checkBoundaries looks at rows that are only ever changed together.
func (w *world) checkBoundaries(ctx context.Context) error {
	rows, err := w.region.pool.Query(ctx, `SELECT facility_id || ' has ' || string_agg(n::text, ' and ') FROM pair GROUP BY facility_id HAVING min(n) <> max(n)`)
	var halves []string
	if err == nil {
		halves, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("look at the pairs in the region: %w", err)
	}
	if len(halves) > 0 {
		return fmt.Errorf("the region shows half of a transaction: %s", strings.Join(halves, ", "))
	}
	return nil
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

// rowsSQL reads all that is compared, in one snapshot.
const rowsSQL = `SELECT 'doc', facility_id, id || ' ' || val FROM doc
	UNION ALL SELECT 'plan', facility_id, id || ' ' || val FROM plan
	UNION ALL SELECT 'job', facility_id, id || ' ' || done || ' ' || due FROM job
	UNION ALL SELECT 'memo', facility_id, id || ' ' || val || ' ' || coalesce(left(big, 20) || length(big), '-') FROM memo
	UNION ALL SELECT 'grow', facility_id, to_jsonb(grow)::text FROM grow
	UNION ALL SELECT 'pair', facility_id, id || ' ' || n FROM pair
	UNION ALL SELECT 'happened', facility_id, id || ' ' || n FROM happened
	UNION ALL SELECT 'edge_count', facility_id, n::text FROM edge_count
	UNION ALL SELECT 'cloud_count', facility_id, n::text FROM cloud_count
	UNION ALL SELECT 'tick', facility_id, n::text FROM tick
	UNION ALL SELECT 'price', '', id || ' ' || val FROM price
	UNION ALL SELECT 'conflict', facility_id, coalesce(CASE decision WHEN 'cloud' THEN edge_row ELSE cloud_row END ->> 'val', '')
		FROM holdfast.conflict WHERE table_name IN ('doc', 'plan')
	UNION ALL SELECT 'parked', '', facility || ' ' || table_name || ' ' || message FROM holdfast.parked
		WHERE table_name <> 'grow' OR state = 'waiting'
	ORDER BY 1, 2, 3`

// holding is what one database has, as text, by table and facility.
type holding map[[2]string][]string

func look(ctx context.Context, db *pgxpool.Pool) (holding, error) {
	h := holding{}
	rows, err := db.Query(ctx, rowsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	var table, facility string
	var row string
	_, err = pgx.ForEachRow(rows, []any{&table, &facility, &row}, func() error {
		at := [2]string{table, facility}
		h[at] = append(h[at], row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	return h, nil
}

// check compares both sides with each other and with the books. Nothing may be
// under way.
func (w *world) check(ctx context.Context) error {
	region, err := look(ctx, w.region.pool)
	if err != nil {
		return err
	}
	wrong := []error{region.checkParked("the region")}
	for _, e := range w.edges {
		box, err := look(ctx, e.pool)
		if err != nil {
			return err
		}
		for _, table := range []string{"doc", "plan", "job", "memo", "grow", "pair", "happened", "edge_count", "cloud_count"} {
			here, there := box[[2]string{table, e.id}], region[[2]string{table, e.id}]
			if table == "happened" && (w.putBack[e.id] || e.enrolment > 1) && len(there) == len(w.books[e.id].edge) {
				continue
			}
			if !slices.Equal(here, there) {
				wrong = append(wrong, fmt.Errorf("%s of %s differs:\n  edge   %v\n  region %v", table, e.id, here, there))
			}
		}
		price := [2]string{"price", ""}
		if !slices.Equal(box[price], region[price]) {
			wrong = append(wrong, fmt.Errorf("price differs:\n  %s %v\n  region %v", e.id, box[price], region[price]))
		}
		wrong = append(wrong, w.checkTicks(e, region), w.checkBooks(e, box), box.checkParked(e.id))
		if !w.lossy {
			wrong = append(wrong, w.checkAudit(e, region))
		}
	}
	return errors.Join(wrong...)
}

// checkParked looks for changes that were parked: no database refuses any here,
// and one that comes later than the rest of its transaction makes the counts
// say too little. Those of grow, which is not in the books, must not be left so.
func (h holding) checkParked(where string) error {
	if list := h[[2]string{"parked", ""}]; len(list) > 0 {
		return fmt.Errorf("%s parked changes: %v", where, list)
	}
	return nil
}

// checkTicks counts rows that nothing tells apart: each must have come once.
func (w *world) checkTicks(e *edge, region holding) error {
	times := map[string]int{}
	for _, n := range region[[2]string{"tick", e.id}] {
		times[n]++
	}
	if most := len(w.books[e.id].edge); len(region[[2]string{"tick", e.id}]) > most {
		return fmt.Errorf("there are %d ticks of %s in the region, of %d transactions", len(region[[2]string{"tick", e.id}]), e.id, most)
	}
	for _, t := range w.books[e.id].edge {
		n := times[fmt.Sprint(t.n)]
		lost := w.ticksLost[e.id] || t.untold
		if n > 1 || n == 0 && !lost {
			return fmt.Errorf("tick %d of %s is in the region %d times", t.n, e.id, n)
		}
	}
	return nil
}

// rows are those of the tables that are in the books.
func (h holding) rows(facility string) map[row]string {
	rows := map[row]string{}
	for table := range writeSQL {
		for _, d := range h[[2]string{table, facility}] {
			id, val, _ := strings.Cut(d, " ")
			rows[row{table, int(id[0] - '0')}] = val
		}
	}
	return rows
}

// checkBooks compares the rows with what the books say they must be.
func (w *world) checkBooks(e *edge, box holding) error {
	b, have := w.books[e.id], box.rows(e.id)
	var wrong []error
	for _, r := range b.rows() {
		if w.lossy && slices.ContainsFunc(b.cloud, func(t *tx) bool { return t.on(r) != nil }) {
			continue // what had seen what is not known any more
		}
		if w.putBack[e.id] && b.expected(r)[0] == "" && slices.ContainsFunc(b.cloud, func(t *tx) bool { return t.on(r) != nil && t.on(r).value == "" }) {
			continue // it may come back, where nothing was changed here since the backup
		}
		if last := b.lastEdge(r); w.lossy && last != nil && last.on(r).value == "" && (last.early || w.comeBack[e.id]) {
			continue // it may come back, as what nobody had read did not remove it
		}
		if want := b.expected(r); !slices.Contains(want, have[r]) {
			wrong = append(wrong, fmt.Errorf("row %s of %s is %q, the books say %q:%s", r, e.id, have[r], slices.Compact(want), b.story(r)))
		}
	}
	return errors.Join(wrong...)
}

// checkAudit looks for each version that did not stand among the conflicts of
// the region.
func (w *world) checkAudit(e *edge, region holding) error {
	told := region[[2]string{"conflict", e.id}]
	var wrong []error
	b := w.books[e.id]
	lost := b.losers()
	for _, r := range b.rows() {
		for _, value := range lost[r] {
			if !slices.Contains(told, value) {
				wrong = append(wrong, fmt.Errorf("the version %q of row %s of %s did not stand, and no conflict says so:%s", value, r, e.id, b.story(r)))
			}
		}
	}
	return errors.Join(wrong...)
}
