package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// try applies what is due: first all at once, then chain by chain.
func (r *retrier) try(ctx context.Context, s *session, a *Applier, due []*chain, list []*waiting, o *outcome) error {
	began := time.Now()
	provides := map[keyHash]int{}
	for _, w := range list {
		for _, h := range w.provides {
			provides[h]++
		}
	}
	if a.cfg.Direction == Up {
		// A correction goes in a transaction of its own, which has an author; see echo.go.
		if n := slices.IndexFunc(due, (*chain).edited); n >= 0 && len(due) > 1 {
			due, o.cut = due[:max(n, 1)], true
		}
	}
	rows, size := 0, 0
	for i, c := range due {
		for _, w := range c.rows {
			rows, size = rows+1, size+w.bytes
		}
		if i > 0 && (rows > roundMaxRows || size > roundMaxBytes) {
			due, o.cut = due[:i], true
			break
		}
	}
	if slices.ContainsFunc(due, func(c *chain) bool { return slices.Contains(tableReasons, c.rows[0].reason) }) {
		// What is known of the table may be older than its mending.
		r.pool.catalog.forget()
	}
	x := &execution{facility: a.cfg.Facility, session: s, careful: alwaysCareful}
	if a.cfg.Direction == Down {
		x.facts = &facts{local: a.cfg.Local, registry: a.cfg.Registry, now: time.Now()}
	}
	o.x = x
	t := &trial{r: r, a: a, x: x, sift: a.sifter(s, r.pool.newParkset().draft()), provides: provides, o: o}
	due, err := t.load(ctx, due)
	if err != nil {
		return err
	}
	if len(due) > 1 {
		if ok, err := t.together(ctx, due); err != nil || ok {
			return err
		}
	}
	for i, c := range due {
		if i > 0 && time.Since(began) > roundMaxTime {
			o.cut = true
			return nil
		}
		if err := t.one(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// tableReasons are those that a change of the table takes away.
var tableReasons = []Reason{ReasonMissingTable, ReasonMissingColumn, ReasonType, ReasonNotNull, ReasonPrivilege, ReasonOther}

// trial is the trying of one round.
type trial struct {
	r        *retrier
	a        *Applier
	x        *execution
	sift     *sifter
	provides map[keyHash]int
	o        *outcome
}

const (
	keptHead = `SELECT id, schema_name, table_name, op, key, row, old_key, columns, epoch, seq, (extract(epoch FROM commit_at) * 1000000)::bigint, `
	// Locked, so that nobody removes one by hand that is just being applied.
	keptTail = `, edited_by FROM holdfast.parked WHERE id = ANY ($1) AND state = 'waiting' FOR UPDATE`
	keptSQL  = keptHead + `0::bigint, 0::bigint, '', false` + keptTail
	// keptDownSQL also reads what is decided by.
	keptDownSQL = keptHead + `seen_epoch, seen_seq, made_by, of_range` + keptTail
)

// load reads the values of the chains' changes, and leaves out the chains of
// tables that do not fit.
func (t *trial) load(ctx context.Context, due []*chain) (fit []*chain, err error) {
	byID := map[int64]*waiting{}
	var ids []int64
	for _, c := range due {
		for _, w := range c.rows {
			byID[w.id] = w
			ids = append(ids, w.id)
		}
	}
	sql := keptSQL
	if t.a.cfg.Direction == Down {
		sql = keptDownSQL
	}
	rows, err := t.x.session.conn.Conn().Query(ctx, sql, ids)
	if err != nil {
		return nil, fmt.Errorf("read parked rows: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[kept])
	if err != nil {
		return nil, fmt.Errorf("read parked rows: %w", err)
	}
	tables := map[string]*change.Table{} // one for all rows that have the same
	for i := range list {
		p, err := list[i].restore()
		if err != nil {
			return nil, err
		}
		id := p.table.ID() + string(list[i].Columns)
		if tables[id] == nil {
			tables[id] = p.table
		}
		p.table = tables[id]
		byID[p.id].row = p
	}
	for _, c := range due {
		// Somebody may have removed one by hand.
		c.rows = slices.DeleteFunc(c.rows, func(w *waiting) bool { return w.row == nil })
		if len(c.rows) == 0 {
			continue
		}
		ok, err := t.fits(ctx, c)
		if err != nil {
			return nil, err
		}
		if ok {
			fit = append(fit, c)
		}
	}
	return fit, nil
}

// fits reports whether the chain's tables can take it. What is of a table that
// is not synced any more is given up; of one that does not fit, it is said why.
func (t *trial) fits(ctx context.Context, c *chain) (bool, error) {
	for _, w := range c.rows {
		tab, err := t.sift.table(ctx, w.row.table)
		if err != nil {
			return false, err
		}
		switch {
		case tab.shape == nil && w == c.rows[0]:
			t.r.misfits[t.a.cfg.Facility+" "+w.table] = time.Now().Add(retryMax)
			if !w.tried || w.reason != tab.misfit.reason {
				t.o.failed = append(t.o.failed, failure{w.id, tab.misfit})
			}
			for _, behind := range c.rows[1:] {
				if !behind.tried {
					t.o.tried = append(t.o.tried, behind.id)
				}
			}
			return false, nil
		case tab.shape != nil && tab.shape.passedOver:
			t.o.discarded = append(t.o.discarded, w.id)
		}
	}
	c.rows = slices.DeleteFunc(c.rows, func(w *waiting) bool { return slices.Contains(t.o.discarded, w.id) })
	return len(c.rows) > 0, nil
}

// together applies all chains as one set, if each may go.
func (t *trial) together(ctx context.Context, due []*chain) (ok bool, err error) {
	var rows []*waiting
	in := map[keyHash]int{}
	for _, c := range due {
		rows = append(rows, c.rows...)
		for _, w := range c.rows {
			for _, h := range w.provides {
				in[h]++
			}
		}
	}
	left := map[keyHash]int{}
	for h, n := range t.provides {
		left[h] = n - in[h]
	}
	for _, w := range rows {
		if slices.ContainsFunc(w.waits, func(h keyHash) bool { return left[h] > 0 }) {
			return false, nil
		}
	}
	slices.SortFunc(rows, func(a, b *waiting) int { return int(a.id - b.id) })
	why, err := t.apply(ctx, rows)
	if err != nil || why != nil {
		return false, err
	}
	t.done(rows...)
	return true, nil
}

// one applies a chain: what its changes come to if that can be done, otherwise
// as many of them as can be.
func (t *trial) one(ctx context.Context, c *chain) error {
	rows := c.rows
	if len(rows) > 1 && !slices.ContainsFunc(rows, func(w *waiting) bool { return t.blocked(w, rows) }) {
		why, err := t.apply(ctx, rows)
		if err != nil {
			return err
		}
		if why == nil {
			t.done(rows...)
			return nil
		}
	}
	for i, w := range rows {
		if t.blocked(w, nil) {
			if w.reason != ReasonParent {
				t.o.failed = append(t.o.failed, failure{w.id, parentCause})
			}
			t.tried(rows[i:])
			return nil
		}
		why, err := t.apply(ctx, rows[i:i+1], rows[i+1:]...)
		if err != nil {
			return err
		}
		if why != nil {
			t.o.failed = append(t.o.failed, failure{w.id, *why})
			t.tried(rows[i+1:])
			return nil
		}
		t.done(w)
	}
	return nil
}

func (t *trial) tried(rows []*waiting) {
	for _, w := range rows {
		if !w.tried {
			t.o.tried = append(t.o.tried, w.id)
		}
	}
}

// blocked reports whether w refers to a change that waits and is not among rows.
func (t *trial) blocked(w *waiting, rows []*waiting) bool {
	if len(w.waits) == 0 {
		return false
	}
	left := t.provides
	if len(rows) > 0 {
		left = map[keyHash]int{}
		for _, h := range w.waits {
			left[h] = t.provides[h]
		}
		for _, other := range rows {
			for _, h := range other.provides {
				left[h]--
			}
		}
		return slices.ContainsFunc(w.waits, func(h keyHash) bool { return left[h] > 0 })
	}
	return blocked(w, left)
}

func (t *trial) done(rows ...*waiting) {
	for _, w := range rows {
		t.o.applied = append(t.o.applied, w.id)
		for _, h := range w.provides {
			t.provides[h]--
		}
	}
}

// apply applies changes behind a savepoint. It returns why they are refused. What of the
// same rows comes later is what the other side has of them: these are told of with that.
func (t *trial) apply(ctx context.Context, rows []*waiting, later ...*waiting) (*cause, error) {
	list := make([]late, len(rows))
	for i, w := range rows {
		tab, err := t.sift.table(ctx, w.row.table)
		if err != nil {
			return nil, err
		}
		if tab.shape == nil {
			return &tab.misfit, nil
		}
		if err := t.sift.foreign(tab, w.row.change); err != nil {
			c, _ := causeOf(err, tab.id, t.a.cfg.Direction)
			return &c, nil
		}
		list[i] = newLate(tab.shape, w.row, t.a.cfg.Direction)
		if t.a.cfg.Direction == Down {
			continue // a correction is told once: what comes behind it has no author
		}
		for _, w := range later {
			tab, err := t.sift.table(ctx, w.row.table) // it may have had other columns then
			if err != nil {
				return nil, err
			}
			if tab.shape == nil {
				list[i].keys = nil
				break
			}
			list[i].but(tab.shape.rowsOf(w.row.change))
		}
	}
	p, err := t.x.savepoint(ctx, "park")
	if err != nil {
		return nil, err
	}
	if err = t.run(ctx, list); err == nil {
		return nil, p.release(ctx)
	}
	c, ok := causeOf(err, rows[0].table, t.a.cfg.Direction)
	if !ok || gone(ctx) {
		return nil, err
	}
	return &c, p.undo(ctx)
}

// run applies changes, and says to the other side what came of them.
func (t *trial) run(ctx context.Context, list []late) error {
	before, err := t.x.present(ctx, list)
	if err != nil {
		return err
	}
	if len(list) == 1 {
		l := &list[0]
		err = t.x.applyChange(ctx, single{l.shape, t.x.lateChange(l), l.src, true})
	} else {
		f := newFolded(t.a.cfg.Facility)
		var txs []txRef
		for i := range list {
			l := &list[i]
			f.source = l.src
			c := t.x.lateChange(l)
			f.change(l.shape, c)
			if l.src != nil {
				txs = append(txs, txRef{tx: &change.Tx{Seq: l.src.tx.Seq, Changes: []change.Change{*c}}, shapes: []*shape{l.shape}, src: l.src})
			}
		}
		if t.x.facts != nil {
			t.x.facts.txs = txs
		}
		err = t.x.run(ctx, f, nil, nil)
	}
	if err != nil {
		return err
	}
	return t.x.echo(ctx, list, before)
}
