package apply

import (
	"context"
	"math"
	"slices"
	"strings"
)

// Sequences are not synced. A row that comes with a number of its own leaves the
// sequence here where it was, and the next row that is added here would get a
// number that is taken: all of them at a box that took another's place. So in the
// transaction that writes rows each sequence is moved past the largest of its own
// numbers among them. A sequence's own are those that it would give out some
// time: one that counts in steps of two never meets the others.
//
// In the region only such sequences are moved, as those of a region that was
// restored. One that gives out every number shares them with the facility's; to
// move it would turn an error that is seen at once into two rows with one key.

// serial is a column that a sequence of the target counts.
type serial struct {
	column int // in the sender's rows
	sql    string
}

// findSerials says which sequences the shape's rows may overtake.
func (c *catalog) findSerials(sh *shape, d Direction) {
	for i := range sh.target.sequences {
		q := &sh.target.sequences[i]
		column := slices.IndexFunc(sh.to, func(to *targetColumn) bool { return to != nil && to.name == q.Column })
		switch {
		case column < 0 || d == Up && !q.Apart():
		case !q.Movable:
			c.log.Warn("a sequence cannot be moved past the rows that come: grant SELECT and UPDATE on it to the role that applies",
				"table", sh.target.schema+"."+sh.target.name, "sequence", q.Schema+"."+q.Name)
		default:
			sh.serials = append(sh.serials, serial{column, strings.NewReplacer("{name}", literal(q.Quoted()), "{sequence}", q.Quoted()).Replace(moveSQL)})
		}
	}
}

// moveSQL moves a sequence past those of the numbers that are its own. nextval
// never goes back, whoever else takes numbers meanwhile, and costs little; only a
// distance that nobody could take in the course of one statement is set.
const moveSQL = `WITH s AS MATERIALIZED (
  SELECT {name}::regclass AS name, p.seqincrement::numeric AS step, p.seqmin, p.seqmax, p.seqcache,
         q.last_value::numeric - CASE WHEN q.is_called THEN 0 ELSE p.seqincrement END AS last
  FROM {sequence} AS q, pg_sequence AS p WHERE p.seqrelid = {name}::regclass),
n AS MATERIALIZED (
  SELECT max(div(k.v - s.last, s.step)) AS steps FROM s, unnest($1::bigint[]) AS k(v)
  WHERE k.v BETWEEN s.seqmin AND s.seqmax AND (k.v - s.last) % s.step = 0),
c AS MATERIALIZED (
  SELECT least(n.steps + s.seqcache - 1, div(CASE WHEN s.step > 0 THEN s.seqmax ELSE s.seqmin END - s.last, s.step)) AS calls FROM s, n)
SELECT CASE WHEN n.steps > 100000 THEN setval(s.name, (s.last + n.steps * s.step)::bigint)
  ELSE (SELECT max(v) FROM (SELECT nextval(s.name) AS v FROM generate_series(1, c.calls::bigint)) AS taken) END
FROM s, n, c WHERE n.steps > 0`

// countOn moves the sequences past the rows of the batch.
func (x *execution) countOn(ctx context.Context, f *folded) error {
	numbers := map[string][][]byte{}
	for _, t := range f.tables {
		for _, o := range t.ops {
			for i := range o.shape.serials {
				s := &o.shape.serials[i]
				o.each(s.column, func(v []byte) { numbers[s.sql] = append(numbers[s.sql], v) })
			}
		}
	}
	var calls []call
	for sql, list := range numbers {
		array, _ := arrayArg(binaryTypes["bigint"], len(list), func(i int) []byte { return list[i] })
		calls = append(calls, call{sql: sql, args: []arg{array}, planned: true})
	}
	_, err := x.pipeline(ctx, calls)
	return err
}

// each calls fn with the whole numbers that rows of the operation may bring into
// a column: an update that leaves the key as it is brings none.
func (o *op) each(column int, fn func(v []byte)) {
	take := func(v []byte) {
		if _, ok := parseInt(v, math.MinInt64, math.MaxInt64); ok {
			fn(v)
		}
	}
	switch {
	case o.set != nil:
		for i := range o.set.entries {
			if e := &o.set.entries[i]; e.state == rowPut {
				take(e.row[column])
			}
		}
	case o.rename != nil:
		if !slices.Contains(o.rename.Absent, column) {
			take(o.rename.Row[column])
		}
	case o.keyRange != nil:
		for _, row := range o.keyRange.Rows {
			take(row[column])
		}
	}
}
