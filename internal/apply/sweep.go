package apply

import (
	"context"
	"fmt"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// What the cloud removes without naming it, a whole table or what a key range
// does not list, is removed in steps: the rows are as many as they are.

// sweepRows is how many rows are looked at in one step.
const sweepRows = 5000

// sweeps reports whether fact rows that a key range does not have are removed.
func (x *execution) sweeps(sh *shape) bool {
	return x.decides(sh) && x.facts.restored && x.facts.whole && x.unread(sh) == nil
}

// sweep deletes the facility's rows that the operation leaves no place for,
// save what was touched here.
func (x *execution) sweep(ctx context.Context, o *op, seen change.Position) error {
	sh, r := o.shape, o.keyRange
	if r == nil {
		r = &change.KeyRange{}
	}
	after := r.After
	for {
		keys, err := x.lockBeyond(ctx, sh, r, after)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := x.sweepKeys(ctx, sh, o.src, seen, keys); err != nil {
				return err
			}
		}
		if len(keys) < sweepRows {
			return nil
		}
		after = keys[len(keys)-1]
	}
}

// lockBeyond locks the next rows after the key that are in the range and not
// among its rows, and returns their keys in order.
func (x *execution) lockBeyond(ctx context.Context, sh *shape, r *change.KeyRange, after change.Row) ([]change.Row, error) {
	if calls := x.searchFor(nil, sh.schemas); len(calls) > 0 {
		if _, err := x.pipeline(ctx, calls); err != nil {
			return nil, err
		}
	}
	args, asText := sh.packColumns(r.Rows, sh.key)
	l := sh.limits(x.facility, after, r.UpTo)
	args = l.args(sh, args, after, r.UpTo)
	sql := sh.beyondSQL(l, asText)
	keys, err := x.session.query(ctx, sql, sh.facilityArg(args, x.facility))
	if err != nil {
		return nil, fmt.Errorf("lock rows of %s: %w", sh.target.sql(), err)
	}
	return keys, nil
}

// sweepKeys deletes the rows, which are locked, save those that were touched.
func (x *execution) sweepKeys(ctx context.Context, sh *shape, src *source, seen change.Position, keys []change.Row) error {
	if err := x.settle(ctx); err != nil {
		return err
	}
	touched, err := x.touched(ctx, sh, seen, keys)
	if err != nil {
		return err
	}
	// What was made here the cloud never had, so it has not removed it either.
	// The edge's version stands, as it does against a range.
	w := &work{shape: sh, policy: PolicyEdge, touched: map[int]Touch{}}
	var gone []change.Row
	for i, key := range keys {
		t, ok := touched[i]
		switch {
		case !ok:
			gone = append(gone, key)
		case !t.Inserted || t.Unsure:
			w.touched[len(w.entries)] = t
			w.entries = append(w.entries, entry{state: rowGone, row: key, src: src})
			w.keys = append(w.keys, key)
		}
	}
	if len(gone) > 0 {
		if _, err := x.pipeline(ctx, []call{sh.deleteCall(gone, x.facility)}); err != nil {
			return err
		}
	}
	if len(w.entries) == 0 {
		return nil
	}
	if err := x.lock(ctx, w); err != nil {
		return err
	}
	return x.write(ctx, []*work{w}, seen)
}

// lockSQL locks and reads the facility's rows with the given keys: nobody may
// change or delete them, but rows that refer to them may be made. It takes an
// array for each key column, then the facility, and returns the place of the
// key, from 1, and the columns.
func (sh *shape) lockSQL(asText bool) string {
	return sh.cached(fmt.Sprint("lock ", asText), func() string {
		a := arrays{sh, sh.key, asText}
		var read, selected []string
		for i, c := range sh.columns {
			read = append(read, fmt.Sprintf("t.%s AS r%d", sh.columnName(c), i))
			selected = append(selected, fmt.Sprintf("r.r%d", i))
		}
		keys := strings.Replace(a.unnest(), ") AS u(", ") WITH ORDINALITY AS u(", 1)
		keys = strings.TrimSuffix(keys, ")") + ", place)"
		// Each key is looked up by itself: as a join it was seen to go through the
		// keys for each row of the table, while the table was small.
		return "SELECT u.place, " + strings.Join(selected, ", ") + " FROM " + keys + ", LATERAL (SELECT " + strings.Join(read, ", ") +
			" FROM " + sh.target.from() + " AS t WHERE " + a.byKey() + sh.mine(len(sh.key)+1) + " FOR NO KEY UPDATE OF t) AS r"
	})
}

// beyondSQL locks the facility's rows of a key range that are not among the
// given keys, and returns their keys in order, no more than sweepRows. It takes
// what rangeSQL takes.
func (sh *shape) beyondSQL(l limits, asText bool) string {
	return sh.cached(fmt.Sprint("beyond ", l, asText), func() string {
		nk := len(sh.key)
		a := arrays{sh, sh.key, asText}
		var order []string
		keys, given := make([]string, nk), make([]string, nk)
		for i, k := range sh.key {
			keys[i], given[i] = "t."+sh.columnName(k), a.value(i)
			if k != sh.facilityColumn || nk == 1 { // it is the same in all of them
				order = append(order, sh.ordered(k))
			}
		}
		next := nk + 1
		where := l.where(sh, &next)
		return fmt.Sprintf("SELECT %s FROM %s AS t WHERE (%s) NOT IN (SELECT %s FROM %s)%s%s ORDER BY %s LIMIT %d FOR NO KEY UPDATE OF t",
			strings.Join(keys, ", "), sh.target.from(), strings.Join(keys, ", "), strings.Join(given, ", "), a.unnest(),
			where, sh.mine(next), strings.Join(order, ", "), sweepRows)
	})
}
