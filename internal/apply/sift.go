package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
)

// sifter tells, change by change, what can be applied from what must wait.
type sifter struct {
	a *Applier
	s *session
	d *draft
	// tables of the bodies that were met.
	tables map[*change.Table]*sifted
}

// sifted is a sender's table.
type sifted struct {
	table  *change.Table
	id     string
	shape  *shape // nil where the target does not fit
	misfit cause  // why not
	// entry is what the registry says; known is false when it is not in it.
	entry  Table
	known  bool
	target string // schema.name
	key    []int
	links  *links
	linked bool // links is known
}

// fate is what to do with a change.
type fate uint8

const (
	fateApply fate = iota
	fateDone       // it is parked, passed over, or nobody's
	fateAlone      // only change by change can do it
)

// errAlone means that a transaction must be applied change by change.
var errAlone = errors.New("must be applied change by change")

func (a *Applier) sifter(s *session, d *draft) *sifter {
	return &sifter{a: a, s: s, d: d, tables: map[*change.Table]*sifted{}}
}

// sifts reports whether b must be sifted: it does not fit, or something waits
// that it may have to wait for.
func (a *Applier) sifts(b *batch) bool {
	switch {
	case a.parked == nil || len(b.txs) == 0:
		return false
	case b.fold == nil || b.draft != nil || a.parked.stale.Load():
		return true
	}
	return a.parked.active() && a.parked.touches(b)
}

// touches reports whether b may have changes of a table of which something
// waits, or rows that refer to one.
func (p *parkset) touches(b *batch) bool {
	if len(p.provides) > 0 {
		return true
	}
	var body *change.Body
	for i := range b.txs {
		if b.txs[i].body == body {
			continue
		}
		body = b.txs[i].body
		for j := range body.Tables {
			id := body.Tables[j].ID()
			if p.tables[id] > 0 || p.marks[id] != nil {
				return true
			}
		}
	}
	return false
}

// sift folds b, taking out what must wait. An error is errAlone, errFull in a
// RowError, or not about the data at all.
func (a *Applier) sift(ctx context.Context, s *session, b *batch) error {
	if err := a.refreshParked(ctx, s); err != nil {
		return err
	}
	d := a.parked.draft()
	err := a.siftInto(ctx, s, b, d)
	b.draft = d
	return err
}

// siftInto folds b with what it parks in d.
func (a *Applier) siftInto(ctx context.Context, s *session, b *batch, d *draft) error {
	sift := a.sifter(s, d)
	b.fold, b.sifted = newFolded(a.cfg.Facility), nil
	for i := range b.txs {
		t := &b.txs[i]
		b.fold.source = t.src
		var kept txRef
		if t.src != nil {
			kept = t.without()
		}
		for j := range t.tx.Changes {
			c := &t.tx.Changes[j]
			if !c.Op.OfRows() {
				continue
			}
			tab, err := sift.table(ctx, &t.body.Tables[c.Table])
			if err != nil {
				return err
			}
			v, err := sift.change(ctx, tab, c, parkedAt{tx: t.tx, src: t.src, epoch: b.to.Epoch, n: j})
			if err != nil {
				return err
			}
			switch v {
			case fateAlone:
				return errAlone
			case fateApply:
				b.fold.change(tab.shape, c)
				if t.src != nil {
					kept.keep(tab.shape, c)
				}
			}
		}
		if t.src != nil {
			b.sifted = append(b.sifted, kept)
		}
	}
	return nil
}

// without is the transaction with none of its changes; keep adds one.
func (t *txRef) without() txRef {
	kept := *t
	kept.tx, kept.shapes = &change.Tx{Seq: t.tx.Seq, LSN: t.tx.LSN, CommitMicros: t.tx.CommitMicros}, make([]*shape, len(t.body.Tables))
	return kept
}

func (t *txRef) keep(sh *shape, c *change.Change) {
	t.tx.Changes = append(t.tx.Changes, *c)
	t.shapes[c.Table] = sh
}

// refreshParked reads again what waits, if it may have changed.
func (a *Applier) refreshParked(ctx context.Context, s *session) error {
	if !a.parked.stale.Load() {
		return nil
	}
	return a.parked.load(ctx, s, a.cfg.Facility, a.cfg.Direction)
}

func (x *sifter) table(ctx context.Context, t *change.Table) (*sifted, error) {
	if tab := x.tables[t]; tab != nil {
		return tab, nil
	}
	reg := x.a.cfg.Registry()
	tab := &sifted{table: t, id: t.ID(), key: t.KeyColumns()}
	tab.entry, tab.known = reg.Table(t.Schema, t.Name)
	if tab.known {
		tab.target = x.a.at().schema(&tab.entry) + "." + t.Name
	}
	sh, err := x.a.shape(ctx, x.s, reg, t)
	switch c, ok := causeOf(err, tab.id, x.a.cfg.Direction); {
	case err == nil:
		tab.shape = sh
	case ok:
		tab.misfit = c
	default:
		return nil, err
	}
	x.tables[t] = tab
	return tab, nil
}

// links are the table's foreign keys; nil when it is not in the target.
func (x *sifter) links(ctx context.Context, tab *sifted) (*links, error) {
	if tab.linked || !tab.known {
		return tab.links, nil
	}
	l, err := x.a.pool.catalog.linksOf(ctx, x.s, x.a.at().name(&tab.entry))
	if err != nil {
		return nil, err
	}
	tab.links, tab.linked = l, true
	return l, nil
}

// change judges one change and parks it if it must wait.
func (x *sifter) change(ctx context.Context, tab *sifted, c *change.Change, at parkedAt) (fate, error) {
	sh, d := tab.shape, x.d
	if sh != nil && sh.passedOver {
		return fateDone, nil
	}
	event := tab.known && tab.entry.Class == Event
	if event && (c.Op == change.Delete || c.Op == change.Truncate || len(tab.key) == 0 && c.Op == change.Update) {
		return fateApply.unless(sh == nil), nil // it is ignored there
	}
	if c.Op == change.Range || c.Op == change.Truncate {
		return x.whole(ctx, tab, c, at, event)
	}
	if sh == nil {
		return fateDone, x.park(ctx, tab, c, at, tab.misfit)
	}
	if d.base.active() || len(d.rows) > 0 {
		if why, err := x.held(ctx, tab, c); err != nil || why != nil {
			if err == nil {
				err = x.park(ctx, tab, c, at, *why)
			}
			return fateDone, err
		}
	}
	if err := x.foreign(tab, c); err != nil {
		why, _ := causeOf(err, tab.id, x.a.cfg.Direction)
		return fateDone, x.park(ctx, tab, c, at, why)
	}
	return fateApply, nil
}

func (v fate) unless(no bool) fate {
	if no {
		return fateDone
	}
	return v
}

// at is where the stream's rows go.
func (a *Applier) at() place { return place{a.cfg.Facility, a.cfg.Direction} }

// foreign refuses a row that names another facility.
func (x *sifter) foreign(tab *sifted, c *change.Change) error {
	f := folded{facility: x.a.cfg.Facility}
	return f.check(&change.Tx{Changes: []change.Change{{Op: c.Op, Row: c.Row, Absent: c.Absent, Key: c.Key, Range: c.Range}}}, []*shape{tab.shape})
}

// held returns why the change must wait for another, nil if it need not.
func (x *sifter) held(ctx context.Context, tab *sifted, c *change.Change) (*cause, error) {
	d := x.d
	if d.waitsOf(tab.id) > 0 && len(tab.key) > 0 {
		now, old := keysOf(tab.key, c)
		if d.waits(rowHash(tab.table, now)) || old != nil && d.waits(rowHash(tab.table, old)) {
			return &behindCause, nil
		}
	}
	if c.Row != nil && d.anyProvided() {
		l, err := x.links(ctx, tab)
		if err != nil {
			return nil, err
		}
		for _, h := range l.needs(tab.target, tab.table, c) {
			if d.provided(h) {
				return &parentCause, nil
			}
		}
	}
	return nil, nil
}

// whole judges a change of many rows.
func (x *sifter) whole(ctx context.Context, tab *sifted, c *change.Change, at parkedAt, event bool) (fate, error) {
	d := x.d
	switch {
	case tab.shape == nil && event: // rows of history
		for i, row := range c.Range.Rows {
			at.row = i
			if err := x.park(ctx, tab, &change.Change{Op: change.Insert, Row: row}, at, tab.misfit); err != nil {
				return fateDone, err
			}
		}
		return fateDone, nil
	case tab.shape == nil && tab.misfit.reason == ReasonUnread && tab.entry.Unread.Soon:
		return fateDone, hint.Wrap(fmt.Errorf("%w: %s", ErrUnsettled, tab.misfit.message), "%s", tab.misfit.remedy)
	case tab.shape == nil && !tab.known:
		return fateDone, x.full(tab, tab.misfit)
	case tab.shape == nil:
		// The table is sent again as a whole when it fits.
		d.passOver(tab, tab.misfit)
		return fateDone, nil
	case d.waitsOf(tab.id) > 0:
		return fateAlone, nil
	case c.Range != nil && x.foreign(tab, c) != nil:
		return fateAlone, nil
	}
	if c.Range != nil {
		x.comesAgain(tab, c)
		if d.anyProvided() && len(c.Range.Rows) > 0 {
			l, err := x.links(ctx, tab)
			if err != nil {
				return fateDone, err
			}
			if l != nil && len(l.refs) > 0 {
				return fateAlone, nil
			}
		}
	}
	return fateApply, nil
}

// comesAgain lifts the mark of a table that is being sent again, which is from its
// first row on: what is still on its way of the time before is not all.
func (x *sifter) comesAgain(tab *sifted, c *change.Change) {
	m := x.d.mark(tab.id)
	if c.Range == nil || c.Range.After != nil {
		return
	}
	if m != nil {
		x.a.pool.came(x.a.cfg.Facility, x.a.cfg.Direction, tab.id)
	}
	if m != nil && m.asked {
		x.d.lift(tab)
	}
}

// parkedAt is where in the stream a change is.
type parkedAt struct {
	tx     *change.Tx
	src    *source // on the way down
	epoch  uint64
	n, row int
	// ofRange: the change is a row of a key range.
	ofRange bool
}

// park adds a change to what waits. Past the limits it is passed over, if its
// table can be sent again; otherwise the stream must wait.
func (x *sifter) park(ctx context.Context, tab *sifted, c *change.Change, at parkedAt, why cause) error {
	p := &parkedRow{
		table: tab.table, change: c, seq: at.tx.Seq, epoch: at.epoch, commitMicros: at.tx.CommitMicros, cause: why,
		ofRange: at.ofRange,
	}
	if at.src != nil {
		p.seen, p.by = at.src.seen, at.src.by()
	}
	again := tab.known && tab.entry.Class != Event && len(tab.key) > 0
	misfit := tab.shape == nil
	if m := x.d.mark(tab.id); misfit && again && m != nil || !x.d.room(p.bytes()) {
		if !again {
			return x.full(tab, why)
		}
		if why.reason == ReasonBehind || why.reason == ReasonParent {
			why.remedy = ""
		}
		x.d.passOver(tab, why)
		return nil
	}
	var old change.Row
	p.key, old = keysOf(tab.key, c)
	if len(tab.key) > 0 {
		p.hash = rowHash(tab.table, p.key)
	} else { // each row of history stands for itself
		p.hash = hashOf([]byte("event"), []byte(tab.id), fmt.Appendf(nil, "%d:%d %d %d", at.epoch, at.tx.Seq, at.n, at.row))
	}
	if old != nil {
		h := rowHash(tab.table, old)
		p.old = &h
	}
	l, err := x.links(ctx, tab)
	if err != nil {
		return err
	}
	p.provides = l.provides(tab.target, tab.table, c)
	for _, h := range l.needs(tab.target, tab.table, c) {
		if x.d.provided(h) {
			p.waitsFor = append(p.waitsFor, h)
		}
	}
	x.d.add(p)
	return nil
}

// full is the error that holds the stream up.
func (x *sifter) full(tab *sifted, why cause) error {
	err := fmt.Errorf("%w: %s", errFull, why.message)
	advice := why.remedy
	if advice == "" {
		advice = "Look at what waits: holdfastctl parked list."
	}
	return &RowError{Table: tab.id, Err: hint.Wrap(err, "%s", advice)}
}
