package apply

import (
	"bytes"
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// applyRows applies the one transaction of b, or those that belong together, as
// they were made: change by change, in order. Two rows that swap a unique value, for example, pass through the
// same states as at the sender. On a RowError nothing of it is committed.
func (a *Applier) applyRows(ctx context.Context, s *session, b *batch) error {
	t := b.txs[len(b.txs)-1]
	pos := change.Position{Epoch: b.to.Epoch, Seq: t.tx.Seq}
	x := a.execution(s, b)
	x.careful = alwaysCareful
	if err := x.run(ctx, newFolded(a.cfg.Facility), a.positionCalls(b.from, b.to, b.seen, t.tx), checkPosition); err != nil {
		s.rollback(ctx)
		return err
	}
	for _, t := range b.txs {
		if err := a.changesOneByOne(ctx, x, t, change.Position{Epoch: pos.Epoch, Seq: t.tx.Seq}); err != nil {
			s.rollback(ctx)
			return err
		}
	}
	if err := a.compare(ctx, s, b); err != nil {
		s.rollback(ctx)
		return err
	}
	if err := a.commit(ctx, s); err != nil {
		s.rollback(ctx)
		if refused(err) {
			return describe(err, a.cfg.Direction, a.cfg.Facility, pos, nil, nil)
		}
		return err
	}
	a.committed(b, countLacking(x.lacking), t.tx)
	return nil
}

func alwaysCareful(*target) bool { return true }

func (a *Applier) changesOneByOne(ctx context.Context, x *execution, t txRef, pos change.Position) error {
	for i := range t.tx.Changes {
		c := &t.tx.Changes[i]
		if !c.Op.OfRows() {
			continue
		}
		sh := t.shapes[c.Table]
		f := newFolded(a.cfg.Facility)
		f.source = t.src
		if x.facts != nil {
			x.facts.source = t.src
		}
		f.change(sh, c)
		var err error
		if c.Op == change.Range && !sh.passedOver {
			err = x.unblock(ctx, sh, sh.trim(c).Range)
		}
		if c.Op == change.Update && c.Key != nil {
			err = x.makeWay(ctx, sh, c)
		}
		if err == nil {
			err = x.run(ctx, f, nil, nil)
		}
		if err != nil {
			if refused(err) && !gone(ctx) {
				err = describe(err, a.cfg.Direction, a.cfg.Facility, pos, sh, c)
			}
			return err
		}
	}
	return nil
}

// makeWay deletes the facility's row that has the new key of a row that gets
// another one. At the sender there was none: it is left from before changes
// were lost on the way, and the range that mends it comes behind this change.
func (x *execution) makeWay(ctx context.Context, sh *shape, c *change.Change) error {
	if sh.passedOver || sh.class == Event || len(sh.key) == 0 || x.facts != nil && sh.class == Fact {
		return nil // on the way down the row that is there is decided about
	}
	row, _, _ := sh.restoreKey(c)
	key := make(change.Row, len(sh.key))
	for i, k := range sh.key {
		key[i] = row[k]
	}
	if bytes.Equal(keyID(c.Key), keyID(key)) {
		return nil
	}
	f := newFolded(x.facility)
	f.change(sh, &change.Change{Op: change.Delete, Table: c.Table, Key: key})
	return x.run(ctx, f, nil, nil)
}

// applyPart applies one part of a transaction, or of several that belong
// together, that is too big for a batch, in the target transaction that its first part opens and its last one commits.
// The session stays the same over all of them.
func (a *Applier) applyPart(ctx context.Context, s *session, b *batch) error {
	if b.part.void {
		// The sender has lost the rest: what is here of it is undone.
		s.rollback(ctx)
		a.bigDraft, a.bigSent = nil, nil
		return a.applyFolded(ctx, s, b)
	}
	var last *change.Tx
	if len(b.txs) > 0 {
		last = b.txs[len(b.txs)-1].tx
	}
	pos := b.to
	x := a.execution(s, b)
	if b.part.first {
		a.big, a.bigTo, a.bigSent = Progress{Missing: map[string]int64{}}, b.to, nil
		if err := x.run(ctx, newFolded(a.cfg.Facility), a.positionCalls(b.from, b.to, b.seen, last), checkPosition); err != nil {
			return err
		}
	}
	if x.facts != nil {
		x.facts.sent = a.bigSent
	}
	if err := a.partRows(ctx, s, x, b, pos); err != nil {
		return err
	}
	if x.facts != nil {
		a.bigSent = x.facts.sent
	}
	if err := a.keepLacking(ctx, x); err != nil {
		return err
	}
	for table, n := range countLacking(x.lacking) {
		a.big.Missing[table] += n
	}
	a.big.Changes, a.big.Bytes = a.big.Changes+b.changes, a.big.Bytes+b.bytes
	a.big.countTables(b.fold)
	a.big.Txs += b.whole()
	if !b.part.last {
		return nil
	}
	// The commit time and LSN are those of the last part; the first may not know them yet.
	move := a.positionCalls(a.bigTo, b.to, b.seen, last)[1:]
	if err := x.run(ctx, newFolded(a.cfg.Facility), move, nil); err != nil {
		return err
	}
	if err := a.commit(ctx, s); err != nil {
		if refused(err) {
			return describe(err, a.cfg.Direction, a.cfg.Facility, pos, nil, nil)
		}
		return err
	}
	a.bigSent = nil
	p := a.big
	p.Position = b.to
	if a.bigDraft != nil {
		a.parked.merge(a.bigDraft)
		p.Parked, a.bigDraft = len(a.bigDraft.rows), nil
	}
	a.sawUpTo(b)
	a.finish(p, last)
	return nil
}

// partRows applies the rows of a part folded, or one by one if that fails.
func (a *Applier) partRows(ctx context.Context, s *session, x *execution, b *batch, pos change.Position) error {
	if a.parked != nil {
		return a.partOrParked(ctx, s, x, b)
	}
	if b.fold == nil {
		fold, err := a.foldAll(ctx, s, b.txs)
		if err != nil {
			if refused(err) {
				err = describe(err, a.cfg.Direction, a.cfg.Facility, pos, nil, nil)
			}
			return err
		}
		b.fold = fold
	}
	p, err := x.savepoint(ctx, "part")
	if err != nil {
		return err
	}
	if err = x.run(ctx, b.fold, nil, nil); err == nil {
		return p.release(ctx)
	}
	if gone(ctx) || !refused(err) {
		return err
	}
	if err := p.undo(ctx); err != nil {
		return err
	}
	x.careful = alwaysCareful
	for _, t := range b.txs {
		if err := a.changesOneByOne(ctx, x, t, change.Position{Epoch: pos.Epoch, Seq: t.tx.Seq}); err != nil {
			return err
		}
	}
	return nil
}
