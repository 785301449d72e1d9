package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// whole applies a range or a truncate of a table of which something waits, or
// that the target refused at once. A range is the sender's newest word on its
// keys: what waits there is older, and is replaced. Its rows that the target
// refuses are parked one by one.
func (r *rowRun) whole(ctx context.Context, tab *sifted, c *change.Change, n int) error {
	d := r.sift.d
	if d.waitsOf(tab.id) > 0 {
		// What this transaction parked so far must be there to be replaced.
		calls := d.calls(r.a.cfg.Facility, r.a.cfg.Direction, change.Position{Epoch: r.epoch, Seq: r.tx.Seq})
		if _, err := r.x.pipeline(ctx, calls); err != nil {
			return err
		}
		if err := r.replace(ctx, tab, c); err != nil {
			return err
		}
	}
	if c.Op == change.Truncate {
		why, err := r.x.applyOne(ctx, single{tab.shape, c, r.src, false}, true)
		if why != nil {
			d.passOver(tab, *why)
		}
		return err
	}
	r.sift.comesAgain(tab, c)
	fit, err := r.fitting(ctx, tab, c, n)
	if err != nil {
		return err
	}
	if len(fit) == len(c.Range.Rows) {
		if why, err := r.x.applyOne(ctx, single{tab.shape, c, r.src, false}, true); why == nil || err != nil {
			return err
		}
	}
	return r.rangeRows(ctx, tab, c, fit, n)
}

// fitting parks the range's rows that must wait and returns the places of the others.
func (r *rowRun) fitting(ctx context.Context, tab *sifted, c *change.Change, n int) (fit []int, err error) {
	for i, row := range c.Range.Rows {
		one := &change.Change{Op: change.Insert, Row: row}
		var why *cause
		if err := r.sift.foreign(tab, one); err != nil {
			w, _ := causeOf(err, tab.id, r.a.cfg.Direction)
			why = &w
		} else if why, err = r.sift.held(ctx, tab, one); err != nil {
			return nil, err
		}
		if why == nil {
			fit = append(fit, i)
			continue
		}
		if err := r.sift.park(ctx, tab, one, r.atRow(n, i), *why); err != nil {
			return nil, err
		}
	}
	return fit, nil
}

// rangeRows applies the range's rows at the given places one by one, after the
// rows that are not in the range.
func (r *rowRun) rangeRows(ctx context.Context, tab *sifted, c *change.Change, fit []int, n int) error {
	sh := tab.shape
	p, err := r.x.savepoint(ctx, "park")
	if err != nil {
		return err
	}
	whole := sh.trim(c).Range
	rows := &change.KeyRange{After: whole.After, UpTo: whole.UpTo, Partial: whole.Partial}
	for _, i := range fit {
		rows.Rows = append(rows.Rows, c.Range.Rows[i])
	}
	err = r.x.unblock(ctx, sh, rows)
	if err == nil && r.authoritative(sh, whole) {
		calls := r.x.searchFor(nil, sh.schemas)
		_, err = r.x.pipeline(ctx, append(calls, r.x.rangeCalls(nil, sh, whole)[0])) // without its rows
	} else if err == nil && r.x.sweeps(sh) {
		err = r.x.sweep(ctx, &op{shape: sh, keyRange: whole, src: r.src}, r.src.seen)
	}
	if err != nil {
		why, ok := causeOf(err, sh.name, r.a.cfg.Direction)
		if !ok || gone(ctx) {
			return err
		}
		if err := p.undo(ctx); err != nil {
			return err
		}
		r.sift.d.passOver(tab, why) // the next time that it is sent will mend it
	} else if err := p.release(ctx); err != nil {
		return err
	}
	for _, i := range fit {
		one := &change.Change{Op: change.Insert, Row: c.Range.Rows[i]}
		why, err := r.x.applyOne(ctx, single{tab.shape, r.x.asRange(tab.shape, one), r.src, true}, true)
		if err == nil && why != nil {
			err = r.sift.park(ctx, tab, one, r.atRow(n, i), *why)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// authoritative reports whether rows that a range does not have are removed.
func (r *rowRun) authoritative(sh *shape, k *change.KeyRange) bool {
	return len(sh.key) > 0 && sh.class != Event && !k.Partial && !r.x.decides(sh)
}

// atRow is the place of a row of the range that is the transaction's n-th change.
func (r *rowRun) atRow(n, row int) parkedAt {
	at := r.at(n)
	at.row, at.ofRange = row, true
	return at
}

// decides reports whether rows of the table may have been changed by both sides.
func (x *execution) decides(sh *shape) bool { return x.facts != nil && sh.class == Fact }

// asRange makes a row of a range a range again where that matters: it is what
// the cloud has, and not what it changed.
func (x *execution) asRange(sh *shape, c *change.Change) *change.Change {
	if !x.decides(sh) {
		return c
	}
	return &change.Change{Op: change.Range, Range: &change.KeyRange{Rows: []change.Row{c.Row}, Partial: true}}
}

// covered is a change that waits of a table, and which of its keys are in a range.
type covered struct {
	id            int64
	hash, old     []byte
	provides      [][]byte
	whole         bool // all columns were sent
	inKey, inOld  bool
	hashes        []keyHash
	provideHashes []keyHash
}

const coveredSQL = `SELECT id, key_hash, old_key_hash, provides,
  coalesce((SELECT count(*) FROM jsonb_object_keys(row)) = jsonb_array_length(columns), false), %s, coalesce(%s, false)
FROM holdfast.parked WHERE facility = $1::text AND direction = $2::text AND schema_name = $3::text AND table_name = $4::text AND state = 'waiting'`

// replace ends what waits of a table, or of a range of its keys.
func (r *rowRun) replace(ctx context.Context, tab *sifted, c *change.Change) error {
	args := []any{r.a.cfg.Facility, string(r.a.cfg.Direction), tab.table.Schema, tab.table.Name}
	if c.Op == change.Truncate {
		return r.replaceBy(ctx, tab, fmt.Sprintf(coveredSQL, "true", "true"), args)
	}
	if r.authoritative(tab.shape, c.Range) || r.x.sweeps(tab.shape) {
		p, err := r.x.savepoint(ctx, "park")
		if err != nil {
			return err
		}
		if _, err := r.x.pipeline(ctx, r.x.searchFor(nil, tab.shape.schemas)); err != nil {
			return err
		}
		sql, more := coveredRangeSQL(tab.shape, tab.shape.trim(c).Range)
		err = r.replaceBy(ctx, tab, sql, append(args, more...))
		if err == nil {
			return p.release(ctx)
		}
		if _, ok := causeOf(err, tab.id, r.a.cfg.Direction); !ok || gone(ctx) {
			return err
		}
		// The key of something that waits is not of the column's type.
		if err := p.undo(ctx); err != nil {
			return err
		}
	}
	if len(tab.key) == 0 {
		return nil
	}
	hashes := [][]byte{} // not NULL: a range may have no rows
	for _, row := range c.Range.Rows {
		now, _ := keysOf(tab.key, &change.Change{Op: change.Insert, Row: row})
		h := rowHash(tab.table, now)
		hashes = append(hashes, h[:])
	}
	return r.replaceBy(ctx, tab, fmt.Sprintf(coveredSQL, "key_hash = ANY ($5::bytea[])", "old_key_hash = ANY ($5::bytea[])"), append(args, hashes))
}

const (
	replaceSQL = `UPDATE holdfast.parked SET state = 'replaced', ended_at = now() WHERE id = ANY ($1::bigint[])`
	// A change of the key of which only the new one is in the range still
	// removes the old one, and the other way round.
	onlyOldSQL = `UPDATE holdfast.parked SET op = 'delete', key = old_key, key_hash = old_key_hash, row = NULL, old_key = NULL,
  old_key_hash = NULL, provides = '{}', waits_for = '{}' WHERE id = ANY ($1::bigint[])`
	onlyNewSQL = `UPDATE holdfast.parked SET op = 'insert', old_key = NULL, old_key_hash = NULL WHERE id = ANY ($1::bigint[])`
)

func (r *rowRun) replaceBy(ctx context.Context, tab *sifted, sql string, args []any) error {
	conn := r.x.session.conn.Conn()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("find what waits of %s: %w", tab.id, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c covered, err error) {
		err = row.Scan(&c.id, &c.hash, &c.old, &c.provides, &c.whole, &c.inKey, &c.inOld)
		c.hashes, c.provideHashes = toHashes([][]byte{c.hash}), toHashes(c.provides)
		return c, err
	})
	if err != nil {
		return fmt.Errorf("find what waits of %s: %w", tab.id, err)
	}
	var replaced, onlyOld, onlyNew []int64
	d := r.sift.d
	for _, c := range list {
		old := toHashes([][]byte{c.old})
		switch {
		case c.old == nil && c.inKey:
			replaced = append(replaced, c.id)
			d.drop(tab.id, c.hashes, c.provideHashes)
		case c.old == nil || !c.inKey && !c.inOld:
		case c.inKey && !c.inOld:
			onlyOld = append(onlyOld, c.id)
			d.loosen(c.hashes, c.provideHashes)
		case !c.inKey && c.whole:
			onlyNew = append(onlyNew, c.id)
			d.loosen(old, nil)
		default:
			if !c.inKey { // what it does not say was in the row that is replaced
				d.passOver(tab, cause{reason: ReasonBehind, message: "a row that changed its key waited, and what it was before was sent again"})
			}
			replaced = append(replaced, c.id)
			d.drop(tab.id, append(c.hashes, old...), c.provideHashes)
		}
	}
	for _, u := range []struct {
		sql string
		ids []int64
	}{{replaceSQL, replaced}, {onlyOldSQL, onlyOld}, {onlyNewSQL, onlyNew}} {
		if len(u.ids) == 0 {
			continue
		}
		if _, err := conn.Exec(ctx, u.sql, u.ids); err != nil {
			return fmt.Errorf("replace what waits of %s: %w", tab.id, err)
		}
	}
	return nil
}

// coveredRangeSQL finds the waiting changes, and whether their keys are in the range.
func coveredRangeSQL(sh *shape, k *change.KeyRange) (sql string, args []any) {
	next, where := 5, ""
	for _, b := range []struct {
		row change.Row
		cmp string
	}{{k.After, ">"}, {k.UpTo, "<="}} {
		if b.row == nil {
			continue
		}
		where += sh.bound(limits{}, b.cmp, &next)
		for _, v := range b.row {
			args = append(args, string(v))
		}
	}
	names := next
	for i := range sh.key {
		args = append(args, sh.keyNames[i])
	}
	in := func(column string) string {
		columns := make([]string, len(sh.key))
		for i, key := range sh.key {
			columns[i] = fmt.Sprintf("%s AS %s", sh.to[key].cast(fmt.Sprintf("(p.%s ->> $%d::text)", column, names+i)), sh.columnName(key))
		}
		return fmt.Sprintf(`id IN (SELECT t.parked_id FROM (SELECT id AS parked_id, %s FROM holdfast.parked p
    WHERE facility = $1::text AND direction = $2::text AND schema_name = $3::text AND table_name = $4::text AND state = 'waiting' AND %s IS NOT NULL OFFSET 0) AS t
    WHERE true%s)`, strings.Join(columns, ", "), column, where)
	}
	return fmt.Sprintf(coveredSQL, in("key"), in("old_key")), args
}

// partOrParked applies the rows of one part of a big transaction: folded,
// without what must wait, or one by one if the target refuses one.
func (a *Applier) partOrParked(ctx context.Context, s *session, x *execution, b *batch) error {
	if b.part.first {
		if err := a.refreshParked(ctx, s); err != nil {
			return err
		}
		a.bigDraft = a.parked.draft()
	}
	d := a.bigDraft
	before := d.fork()
	var err error
	if b.fold == nil || a.parked.active() || len(d.rows) > 0 {
		err = a.siftInto(ctx, s, b, d)
		if x.facts != nil {
			x.facts.txs = b.decided()
		}
	}
	if err != nil && !errors.Is(err, errAlone) {
		return err
	}
	if err == nil {
		p, err := x.savepoint(ctx, "part")
		if err != nil {
			return err
		}
		err = x.run(ctx, b.fold, d.calls(a.cfg.Facility, a.cfg.Direction, b.to), nil)
		if err == nil {
			return p.release(ctx)
		}
		if gone(ctx) || !refused(err) {
			return err
		}
		if err := p.undo(ctx); err != nil {
			return err
		}
	}
	*d = *before
	x.careful = alwaysCareful
	if err := a.rowsOrParked(ctx, x, b, d); err != nil {
		if refused(err) && !gone(ctx) {
			err = describe(err, a.cfg.Direction, a.cfg.Facility, change.Position{Epoch: b.to.Epoch, Seq: b.txs[0].tx.Seq}, nil, nil)
		}
		return err
	}
	return nil
}
