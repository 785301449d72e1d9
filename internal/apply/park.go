package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// parkChunk is how many changes of a transaction are tried between savepoints.
const parkChunk = 32

// parkRows applies the one transaction of b, or those that belong together, change by change. What the target
// refuses is parked in the same transaction, and the position moves on.
func (a *Applier) parkRows(ctx context.Context, s *session, b *batch) error {
	t := b.txs[len(b.txs)-1]
	pos := change.Position{Epoch: b.to.Epoch, Seq: t.tx.Seq}
	if err := a.refreshParked(ctx, s); err != nil {
		return err
	}
	d := a.parked.draft()
	x := a.execution(s, b)
	x.careful = alwaysCareful
	err := x.run(ctx, newFolded(a.cfg.Facility), a.positionCalls(b.from, b.to, b.seen, t.tx), checkPosition)
	if err == nil {
		err = a.rowsOrParked(ctx, x, b, d)
	}
	if err == nil {
		err = a.keepLacking(ctx, x)
	}
	if err == nil {
		err = a.commit(ctx, s)
	}
	if err != nil {
		s.rollback(ctx)
		if refused(err) && !gone(ctx) {
			return describe(err, a.cfg.Direction, a.cfg.Facility, pos, nil, nil)
		}
		return err
	}
	a.parked.merge(d)
	b.draft = d
	a.committed(b, countLacking(x.lacking), t.tx)
	return nil
}

// rowsOrParked applies the changes of b's transactions in the open target
// transaction, and writes down what must wait.
func (a *Applier) rowsOrParked(ctx context.Context, x *execution, b *batch, d *draft) error {
	b.fold, b.sifted = newFolded(a.cfg.Facility), nil
	sift := a.sifter(x.session, d)
	for i := range b.txs {
		t := &b.txs[i]
		r := &rowRun{a: a, x: x, sift: sift, tx: t.tx, src: t.src, body: t.body, epoch: b.to.Epoch, counts: b.fold}
		if err := r.apply(ctx, d); err != nil {
			return err
		}
		r.count()
	}
	_, err := x.pipeline(ctx, d.calls(a.cfg.Facility, a.cfg.Direction, b.to))
	return err
}

// apply applies the transaction's changes, and parks what must wait in d.
func (r *rowRun) apply(ctx context.Context, d *draft) error {
	changes := r.tx.Changes
	for at := 0; at < len(changes); at += parkChunk {
		to := min(at+parkChunk, len(changes))
		before := d.fork()
		refusedAt, err := r.try(ctx, at, to, false)
		if err != nil {
			return err
		}
		if refusedAt < 0 {
			continue
		}
		*d = *before
		if _, err := r.try(ctx, at, to, true); err != nil {
			return err
		}
	}
	return nil
}

// rowRun is the applying of one transaction change by change.
type rowRun struct {
	a      *Applier
	x      *execution
	sift   *sifter
	tx     *change.Tx
	src    *source // on the way down
	body   *change.Body
	epoch  uint64
	counts *folded
}

// at is the place of the transaction's n-th change.
func (r *rowRun) at(n int) parkedAt { return parkedAt{tx: r.tx, src: r.src, epoch: r.epoch, n: n} }

// try applies the changes from at to to-1 behind one savepoint, or behind one
// each. With one, it undoes all of them when the target refuses one and
// returns which; with one each, it parks those that are refused.
func (r *rowRun) try(ctx context.Context, at, to int, each bool) (refusedAt int, err error) {
	var all *savepoint
	if !each {
		if all, err = r.x.savepoint(ctx, "park"); err != nil {
			return -1, err
		}
	}
	for i := at; i < to; i++ {
		c := &r.tx.Changes[i]
		if !c.Op.OfRows() {
			continue
		}
		tab, err := r.sift.table(ctx, &r.body.Tables[c.Table])
		if err != nil {
			return -1, err
		}
		v, err := r.sift.change(ctx, tab, c, r.at(i))
		if err != nil {
			return -1, err
		}
		if v == fateDone {
			continue
		}
		if v == fateAlone {
			if !each {
				return at, all.undo(ctx) // one by one from here
			}
			if err := r.whole(ctx, tab, c, i); err != nil {
				return -1, err
			}
			continue
		}
		why, err := r.x.applyOne(ctx, single{tab.shape, c, r.src, false}, each)
		if err != nil {
			return -1, err
		}
		if why == nil {
			continue
		}
		if !each {
			return i, all.undo(ctx)
		}
		if c.Op == change.Range {
			err = r.whole(ctx, tab, c, i)
		} else {
			err = r.sift.park(ctx, tab, c, r.at(i), *why)
		}
		if err != nil {
			return -1, err
		}
	}
	if !each {
		return -1, all.release(ctx)
	}
	return -1, nil
}

// count notes how many changes of each table there were.
func (r *rowRun) count() {
	for i := range r.tx.Changes {
		c := &r.tx.Changes[i]
		if !c.Op.OfRows() {
			continue
		}
		tab := r.sift.tables[&r.body.Tables[c.Table]]
		if tab == nil || tab.shape == nil || tab.shape.passedOver {
			continue
		}
		r.counts.table(tab.shape).changes++
	}
}

const parkSQL = `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash, op, row, old_key,
  old_key_hash, provides, waits_for, columns, bytes, commit_at, reason, code, constraint_name, message, remedy%s)
SELECT $1::text, $2::text, u.epoch, u.seq, u.s, u.t, u.key::jsonb, decode(u.hash, 'hex'), u.op, u.row::jsonb, u.old::jsonb,
  decode(u.oldhash, 'hex'), u.provides::bytea[], u.waits::bytea[], u.columns::jsonb, u.bytes,
  'epoch'::timestamptz + u.micros * interval '1 microsecond', u.reason, u.code, u.con, u.message, u.remedy%s
FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
  $13::text[], $14::text[], $15::text[], $16::int[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[]%s)
  WITH ORDINALITY AS u(epoch, seq, s, t, key, hash, op, row, old, oldhash, provides, waits, columns, bytes, micros, reason, code, con, message, remedy%s, n)
ORDER BY u.n`

// parkUpSQL and parkDownSQL write changes down. On the way down it is kept
// beside them what the region had seen of this facility when it made them, who
// made them, and whether they are only rows of a range: it is decided later.
var (
	parkUpSQL   = fmt.Sprintf(parkSQL, "", "", "", "")
	parkDownSQL = fmt.Sprintf(parkSQL, ", seen_epoch, seen_seq, made_by, of_range", ", u.seen_epoch, u.seen_seq, u.by, u.of_range::boolean",
		", $23::bigint[], $24::bigint[], $25::text[], $26::text[]", ", seen_epoch, seen_seq, by, of_range")
)

const passOverSQL = `INSERT INTO holdfast.parked_table AS t (facility, direction, schema_name, table_name, reason, message, remedy, passed_over, columns)
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::bigint, $9::jsonb)
ON CONFLICT (facility, direction, schema_name, table_name) DO UPDATE SET passed_over = t.passed_over + EXCLUDED.passed_over,
  reason = EXCLUDED.reason, message = EXCLUDED.message, remedy = EXCLUDED.remedy, columns = EXCLUDED.columns, asked_at = NULL`

const liftSQL = `DELETE FROM holdfast.parked_table WHERE facility = $1::text AND direction = $2::text AND schema_name = $3::text AND table_name = $4::text`

// parkCallMaxBytes bounds the values that one statement parks.
const parkCallMaxBytes = 8 << 20

// calls are the statements that write the draft down, as far as that is not
// done yet.
func (d *draft) calls(facility string, dir Direction, at change.Position) (calls []call) {
	if !d.news() {
		return nil
	}
	for rows := d.rows[d.stored:]; len(rows) > 0; {
		n, size := 0, 0
		for n < len(rows) && n < 1000 && (n == 0 || size < parkCallMaxBytes) {
			size += rows[n].bytes()
			n++
		}
		calls = append(calls, parkCall(rows[:n], facility, dir))
		rows = rows[n:]
	}
	d.stored = len(d.rows)
	for _, m := range d.marks {
		table := []arg{textArg(facility), textArg(string(dir)), textArg(m.table.Schema), textArg(m.table.Name)}
		if m.lifted {
			calls = append(calls, call{sql: liftSQL, args: table})
			continue
		}
		if m.passed > 0 {
			calls = append(calls, call{sql: passOverSQL, args: append(table, textArg(string(m.cause.reason)),
				textArg(clean(m.cause.message)), textArg(clean(m.cause.remedy)), number(m.passed), arg{value: toJSON(keepColumns(m.table))})})
			m.passed = 0
		}
	}
	for _, e := range d.events {
		calls = append(calls, call{sql: eventSQL, args: []arg{
			textArg(facility), textArg(e.kind), number(at.Epoch), number(at.Seq), textArg(clean(e.detail)),
		}})
	}
	d.events = nil
	return calls
}

func parkCall(rows []*parkedRow, facility string, dir Direction) call {
	text := func(at func(p *parkedRow) []byte) arg {
		return textArray(len(rows), func(i int) []byte { return at(rows[i]) })
	}
	num := func(typ string, at func(p *parkedRow) int64) arg {
		a, _ := arrayArg(binaryTypes[typ], len(rows), func(i int) []byte { return fmt.Append(nil, at(rows[i])) })
		return a
	}
	word := func(at func(p *parkedRow) string) arg {
		return text(func(p *parkedRow) []byte { return []byte(clean(at(p))) })
	}
	hex := func(h *keyHash) []byte {
		if h == nil {
			return nil
		}
		return fmt.Appendf(nil, "%x", h[:])
	}
	c := call{sql: parkUpSQL, args: []arg{
		textArg(facility), textArg(string(dir)),
		num("bigint", func(p *parkedRow) int64 { return int64(p.epoch) }),
		num("bigint", func(p *parkedRow) int64 { return int64(p.seq) }),
		word(func(p *parkedRow) string { return p.table.Schema }),
		word(func(p *parkedRow) string { return p.table.Name }),
		text(func(p *parkedRow) []byte { return toJSON(keepKey(p.table, p.key)) }),
		text(func(p *parkedRow) []byte { return hex(&p.hash) }),
		word(func(p *parkedRow) string { return p.change.Op.String() }),
		text(func(p *parkedRow) []byte {
			if p.change.Row == nil {
				return nil
			}
			return toJSON(keepRow(p.table, p.change.Row, p.change.Absent))
		}),
		text(func(p *parkedRow) []byte {
			if p.change.Op != change.Update || p.change.Key == nil {
				return nil
			}
			return toJSON(keepKey(p.table, p.change.Key))
		}),
		text(func(p *parkedRow) []byte { return hex(p.old) }),
		word(func(p *parkedRow) string { return hashArray(p.provides) }),
		word(func(p *parkedRow) string { return hashArray(p.waitsFor) }),
		text(func(p *parkedRow) []byte { return toJSON(keepColumns(p.table)) }),
		num("integer", func(p *parkedRow) int64 { return int64(p.bytes()) }),
		num("bigint", func(p *parkedRow) int64 { return p.commitMicros }),
		word(func(p *parkedRow) string { return string(p.cause.reason) }),
		word(func(p *parkedRow) string { return p.cause.code }),
		word(func(p *parkedRow) string { return p.cause.constraint }),
		word(func(p *parkedRow) string { return p.cause.message }),
		word(func(p *parkedRow) string { return p.cause.remedy }),
	}}
	if dir == Down {
		c.sql = parkDownSQL
		c.args = append(c.args,
			num("bigint", func(p *parkedRow) int64 { return int64(p.seen.Epoch) }),
			num("bigint", func(p *parkedRow) int64 { return int64(p.seen.Seq) }),
			word(func(p *parkedRow) string { return p.by }),
			word(func(p *parkedRow) string { return strconv.FormatBool(p.ofRange) }))
	}
	return c
}

// toJSON is for what always can be.
func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings
	}
	return b
}

// messageMaxBytes bounds the words that are kept about a change.
const messageMaxBytes = 2000

// clean makes words fit for a text column, whatever a box put into them.
func clean(s string) string {
	if len(s) > messageMaxBytes {
		s = s[:messageMaxBytes] + "…"
	}
	if !slices.Contains([]byte(s), 0) {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}
