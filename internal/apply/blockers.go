package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// A range's rows may have unique values that stale rows still hold: of the same
// range, or of one that is yet to come. Those rows are deleted first; their own
// range brings them back as they are now. Rows before the range are as they are
// at the sender already: if one of them is in the way, the receiver's table is
// stricter than the sender's, and a person must decide.

// uniqueIndexesSQL returns the columns that each unique index needs, what it
// indexes, its condition, and where its operators are.
const uniqueIndexesSQL = uniqueIndexHead + ` ORDER BY i.indexrelid`

const uniqueIndexHead = `
SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0
         AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
           AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))),
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, false) FROM generate_series(1, i.indnkeyatts) n),
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'), i.indnullsnotdistinct,
       ARRAY(SELECT DISTINCT n.nspname::text FROM unnest(i.indclass::oid[]) c JOIN pg_opclass o ON o.oid = c
         JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE n.nspname <> 'pg_catalog')
FROM pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid`

type blockIndex struct {
	columns, values []string
	condition       string
	nullsEqual      bool
	schemas         []string
}

func scanBlockIndex(row pgx.CollectableRow) (u blockIndex, err error) {
	return u, row.Scan(&u.columns, &u.values, &u.condition, &u.nullsEqual, &u.schemas)
}

// unblock deletes the facility's rows from the range on that have the value of
// another row of the range in a unique index.
func (x *execution) unblock(ctx context.Context, sh *shape, r *change.KeyRange) error {
	if len(r.Rows) == 0 || len(sh.key) == 0 || sh.class == Event || x.facts == nil && r.Partial {
		return nil
	}
	rows, err := x.session.conn.Conn().Query(ctx, uniqueIndexesSQL, sh.target.oid)
	if err != nil {
		return err
	}
	indexes, err := pgx.CollectRows(rows, scanBlockIndex)
	if err != nil {
		return fmt.Errorf("read the unique indexes of %s: %w", sh.target.sql(), err)
	}
	args, asText := sh.packColumns(r.Rows, sh.columns)
	l := sh.limits(x.facility, r.After, nil)
	args = l.args(sh, args, r.After)
	args = sh.facilityArg(args, x.facility)
	calls := x.searchFor(nil, sh.schemas)
	for _, u := range indexes {
		if !sh.sends(u.columns) {
			continue
		}
		calls = x.searchFor(calls, u.schemas)
		sql := sh.unblockSQL(u, l, asText)
		if x.facts == nil || sh.class != Fact {
			calls = append(calls, call{sql: "DELETE" + sql, args: args, op: &opCall{shape: sh}})
			continue
		}
		// On the way down what was touched here does not give way.
		if _, err := x.pipeline(ctx, calls); err != nil {
			return err
		}
		calls = nil
		keys, err := x.session.query(ctx, "SELECT "+sh.keyList()+sql+" FOR NO KEY UPDATE OF t", args)
		if err != nil {
			return fmt.Errorf("lock rows of %s: %w", sh.target.sql(), err)
		}
		if len(keys) == 0 {
			continue
		}
		if err := x.sweepKeys(ctx, sh, x.facts.source, x.facts.source.seen, keys); err != nil {
			return err
		}
	}
	_, err = x.pipeline(ctx, calls)
	return err
}

// keyList is the key's columns of t.
func (sh *shape) keyList() string {
	names := make([]string, len(sh.key))
	for i, k := range sh.key {
		names[i] = "t." + sh.columnName(k)
	}
	return strings.Join(names, ", ")
}

// sends reports whether the sender's rows have all of the target's columns.
func (sh *shape) sends(names []string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(sh.columns, func(c int) bool { return sh.to[c].name == name }) {
			return false
		}
	}
	return true
}

// unblockSQL is where the rows are that give way, for what is to be done to them.
// It takes an array for each of the columns, the lower bound's values
// if there is one, then the facility.
func (sh *shape) unblockSQL(u blockIndex, l limits, asText bool) string {
	a := arrays{sh, sh.columns, asText}
	var sent, keys, selected, same []string
	for i, c := range sh.columns {
		sent = append(sent, a.value(i)+" AS "+sh.columnName(c))
	}
	for i, k := range sh.key {
		keys = append(keys, "t."+sh.columnName(k))
		selected = append(selected, fmt.Sprintf("%s AS k%d", sh.columnName(k), i))
	}
	equal := "="
	if u.nullsEqual {
		equal = "IS NOT DISTINCT FROM"
	}
	for i, v := range u.values {
		selected = append(selected, fmt.Sprintf("%s AS v%d", v, i))
		same = append(same, fmt.Sprintf("have.v%d %s new.v%d", i, equal, i))
	}
	next := len(sh.columns) + 1
	bound := l.where(sh, &next)
	key := func(of string) string {
		k := make([]string, len(sh.key))
		for i := range k {
			k[i] = fmt.Sprintf("%s.k%d", of, i)
		}
		return strings.Join(k, ", ")
	}
	list, mine := strings.Join(selected, ", "), sh.mine(next)
	return fmt.Sprintf(` FROM %s AS t WHERE (%s) IN (SELECT %s FROM (SELECT %s FROM %s AS t WHERE (%s)%s%s) AS have
 JOIN (SELECT %s FROM (SELECT %s FROM %s) AS r WHERE %s) AS new ON %s AND ROW(%s) IS DISTINCT FROM ROW(%s))%s`,
		sh.target.from(), strings.Join(keys, ", "), key("have"), list, sh.target.from(), u.condition, bound, mine,
		list, strings.Join(sent, ", "), a.unnest(), u.condition, strings.Join(same, " AND "), key("have"), key("new"), mine)
}
