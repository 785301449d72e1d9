package apply

import (
	"context"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// The removal of a row that is not in the region waits for nobody who is just making
// a row of that key there. If that one commits before the removal does, the row was
// made by somebody who had not seen the removal: at the facility it does not stand,
// and the region, which found nothing to remove, would keep it. So what a removal did
// not find is looked for once more before the commit. What is made between that look
// and the commit is told to the facility again behind it, as seen by whoever made it:
// then it stands on both sides.
//
// At the facility none of this is needed: what is made there stands.

// missed is a removal that did not find all of its rows.
type missed struct {
	shape *shape
	keys  []change.Row
}

// missedBy notes what the call was to remove and did not find all of.
func (x *execution) missedBy(c *opCall) {
	if x.watch && c.gone != nil {
		x.missed = append(x.missed, missed{c.shape, c.gone})
	}
}

// removeRemade removes rows that others have made at the keys of what was missed.
func (x *execution) removeRemade(ctx context.Context) error {
	if len(x.missed) == 0 {
		return nil
	}
	calls := make([]call, len(x.missed))
	for i, m := range x.missed {
		a, args := x.missedArgs(m)
		sql := "DELETE FROM " + m.shape.target.from() + " AS t USING " + a.unnest() + " WHERE " + a.byKey() + m.shape.mine(len(a.columns)+1)
		calls[i] = call{sql: sql + " AND t.xmin <> pg_current_xact_id()::xid", args: args, op: &opCall{shape: m.shape}}
	}
	if _, err := x.pipeline(ctx, calls); err != nil {
		return err
	}
	own, err := x.session.query(ctx, "SELECT pg_current_xact_id()::xid::text", nil)
	if err != nil {
		return fmt.Errorf("read the transaction's number: %w", err)
	}
	x.xid = own[0][0]
	return nil
}

// tellRemade writes the rows that are there all the same, behind the commit, as they are.
func (x *execution) tellRemade(ctx context.Context) error {
	if len(x.missed) == 0 {
		return nil
	}
	calls := []call{{sql: "BEGIN"}}
	if len(x.search) > 0 {
		calls = append(calls, call{sql: "SET LOCAL search_path = pg_catalog, " + quoteAll(x.search)})
	}
	for _, m := range x.missed {
		a, args := x.missedArgs(m)
		c := m.shape.columnName(append(m.shape.settable(), m.shape.key...)[0])
		sql := "UPDATE " + m.shape.target.from() + " AS t SET " + c + " = t." + c + " FROM " + a.unnest() + " WHERE " + a.byKey() + m.shape.mine(len(a.columns)+1)
		args = append(args, arg{value: x.xid})
		calls = append(calls, call{sql: fmt.Sprintf("%s AND t.xmin <> $%d::text::xid", sql, len(args)), args: args, op: &opCall{shape: m.shape}})
	}
	_, err := x.pipeline(ctx, append(calls, call{sql: "COMMIT"}))
	if err != nil {
		x.session.rollback(ctx)
	}
	return err
}

// missedArgs are a statement's parameters that say which rows were missed: an array for
// each key column, then the facility.
func (x *execution) missedArgs(m missed) (arrays, []arg) {
	a := arrays{m.shape, m.shape.key, false}
	args, asText := a.pack(m.keys, func(key change.Row, i int) []byte { return key[i] })
	a.asText = asText
	return a, m.shape.facilityArg(args, x.facility)
}
