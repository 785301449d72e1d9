package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// gather numbers frames, leaves out what is applied already, and folds whole
// transactions into batches. It hands a batch over the moment that upsert is
// free, so that a small change does not wait for more; while upsert is busy
// the batch grows.
func (a *Applier) gather(ctx context.Context, in <-chan opened, out chan<- *batch) error {
	g := &gatherer{a: a, out: out, resolver: resolver{applier: a}, seen: a.Seen()}
	for {
		var f opened
		var send chan<- *batch
		if g.batch != nil && !g.more && !g.waits() {
			select { // more input first
			case f = <-in:
				if err := g.take(ctx, f); err != nil {
					return err
				}
				continue
			default:
				send = out
			}
		}
		select {
		case f = <-in:
			if err := g.take(ctx, f); err != nil {
				return err
			}
		case send <- g.batch:
			g.batch = nil
		case <-g.due:
			g.due = nil
			if g.batch != nil && g.batch.notes {
				g.batch.notes = false // it has waited for long enough
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type gatherer struct {
	a        *Applier
	out      chan<- *batch
	resolver resolver
	batch    *batch // what is gathered so far, or nil
	// part is how many parts of the transaction next.Seq+1 have been taken.
	part uint32

	// more: the next frame belongs to the same transactions. joined: what is
	// added belongs to what is added next.
	more, joined bool
	// open: the batches before were parts, and their last is not handed over.
	open bool
	seen change.Position  // what the sender had seen
	due  <-chan time.Time // when a batch of notes alone must go
}

// take adds a frame.
func (g *gatherer) take(ctx context.Context, f opened) error {
	h := &f.header
	skip, err := g.number(ctx, &f)
	if err != nil || skip {
		return err
	}
	chained := g.more || f.more
	g.more = f.more
	if h.Kind == change.Gap {
		g.more = false
		return g.event(ctx, change.Position{Epoch: h.Epoch, Seq: h.Last},
			streamEvent{"gap", fmt.Sprintf("transactions %d to %d are lost at the facility: %s", h.First, h.Last, h.Reason)})
	}
	if h.More || h.Part > 0 {
		return g.takePart(ctx, f)
	}
	for i := range f.body.Txs {
		tx := &f.body.Txs[i]
		if tx.Seq <= g.a.next.Seq {
			continue // applied already
		}
		t := txRef{
			tx: tx, body: f.body,
			bytes: f.bytes / len(f.body.Txs), unpacked: int(h.BodyBytes) / len(f.body.Txs),
		}
		g.joined = chained && (f.more || i < len(f.body.Txs)-1)
		g.note(&t)
		if err := g.onlyAdd(ctx, &t); err != nil {
			return err
		}
		if err := g.add(ctx, t); err != nil {
			return err
		}
	}
	if g.open && !g.more {
		// What belonged together is complete.
		if g.batch == nil {
			g.batch = g.empty()
		}
		g.batch.part = &part{last: true}
		g.open = false
		return g.flush(ctx)
	}
	return nil
}

// note reads what the notes of a transaction from above say of it.
func (g *gatherer) note(t *txRef) {
	if g.a.cfg.Direction != Down {
		return
	}
	if seen, ok := seenIn(t.tx); ok {
		g.seen = seen
	}
	t.src = &source{tx: t.tx, epoch: g.a.next.Epoch, seen: g.seen}
	t.joined = g.joined
}

// onlyAdd sees to it that a box which may lack rows of a table removes none by its
// ranges: an empty box must not empty the region.
func (g *gatherer) onlyAdd(ctx context.Context, t *txRef) error {
	epoch := g.a.next.Epoch
	if g.a.cfg.Direction != Up || epoch>>32 <= 1 {
		return nil
	}
	whole := t.tx.Whole(epoch) && g.a.cfg.Whole != nil
	for i := range t.tx.Changes {
		if c := &t.tx.Changes[i]; whole && c.Op == change.Range {
			var err error
			if whole, err = g.a.cfg.Whole(ctx, uint32(epoch>>32), t.body.Tables[c.Table].Schema, t.body.Tables[c.Table].Name); err != nil {
				return err
			}
		}
	}
	if !whole {
		t.tx.OnlyAdd()
	}
	return nil
}

// waits reports whether the batch has nothing but notes, which wait for company.
func (g *gatherer) waits() bool {
	if !g.batch.notes {
		g.due = nil
		return false
	}
	if g.due == nil {
		g.due = time.After(g.a.cfg.NotesEvery)
	}
	return true
}

func (g *gatherer) empty() *batch {
	return &batch{from: g.a.next, to: g.a.next, seen: g.seen, fold: newFolded(g.a.cfg.Facility)}
}

// number checks that the frame follows. It reports whether to skip all of it.
func (g *gatherer) number(ctx context.Context, f *opened) (skip bool, err error) {
	h, next := &f.header, &g.a.next
	if f.sparse {
		return g.follow(ctx, f)
	}
	switch {
	case h.Epoch < next.Epoch:
		return false, fmt.Errorf("%w: epoch %d of %s, the region is at %s", ErrOldEpoch, h.Epoch, g.a.cfg.Facility, next)
	case h.Epoch > next.Epoch:
		if h.First != 1 || g.part > 0 {
			return false, fmt.Errorf("%w: epoch %d of %s begins with transaction %d instead of 1, the region is at %s",
				ErrGap, h.Epoch, g.a.cfg.Facility, h.First, next)
		}
		if err := g.begin(ctx, h.Epoch, "the facility's stream"); err != nil {
			return false, err
		}
	case h.Last <= next.Seq:
		return true, nil
	case h.First > next.Seq+1:
		return false, fmt.Errorf("%w: transaction %d of %s, the region is at %s", ErrGap, h.First, g.a.cfg.Facility, next)
	}
	return false, g.inParts(h)
}

// inParts checks that the parts of a transaction follow each other.
func (g *gatherer) inParts(h *change.Header) error {
	if h.Kind == change.Gap {
		return nil // whatever part was expected, it is lost
	}
	if isPart := h.More || h.Part > 0; !isPart && g.part > 0 || isPart && h.Part != g.part {
		return fmt.Errorf("%w: part %d of transaction %d of %s, expected part %d",
			ErrGap, h.Part, h.First, g.a.cfg.Facility, g.part)
	}
	return nil
}

// begin moves the position to a new epoch.
func (g *gatherer) begin(ctx context.Context, epoch uint64, stream string) error {
	began := stream + " begins"
	if g.a.next.Epoch > 0 {
		began += fmt.Sprintf(" anew after %s", g.a.next)
	}
	return g.event(ctx, change.Position{Epoch: epoch}, streamEvent{"epoch", began})
}

// follow is number for a frame that says itself what it follows.
func (g *gatherer) follow(ctx context.Context, f *opened) (skip bool, err error) {
	h, next := &f.header, &g.a.next
	gap := func() (bool, error) {
		return false, fmt.Errorf("%w: transactions %d to %d of epoch %d for %s follow %s, here is %s",
			ErrGap, h.First, h.Last, h.Epoch, g.a.cfg.Facility, f.prev, next)
	}
	switch {
	case h.Epoch < next.Epoch:
		return false, fmt.Errorf("%w: epoch %d for %s, here is %s", ErrOldEpoch, h.Epoch, g.a.cfg.Facility, next)
	case h.Epoch > next.Epoch:
		if f.prev != *next && f.prev != (change.Position{Epoch: h.Epoch}) || g.part > 0 || g.more {
			return gap()
		}
		if err := g.begin(ctx, h.Epoch, "the region's stream"); err != nil {
			return false, err
		}
	case h.Last <= next.Seq:
		return true, nil
	case f.prev == *next || next.Seq == 0 && f.prev.Epoch < next.Epoch:
	case next.Before(f.prev) || next.Seq < h.First:
		return gap() // neither behind the position nor around it
	}
	return false, g.inParts(h)
}

// add folds one transaction into the batch.
func (g *gatherer) add(ctx context.Context, t txRef) error {
	b := g.batch
	if b != nil && (g.a.full(b, len(t.tx.Changes)) || b.unpacked+t.unpacked > batchMaxBytes) {
		if err := g.spill(ctx); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		b = g.empty()
		b.notes = t.src != nil
	}
	b.notes = b.notes && onlyNotes(t.tx)
	if b.fold == nil {
		t.shapes = nil // something in it does not fit, and upsert folds all of it
	} else if err := g.resolver.fold(ctx, nil, b.fold, &t); err != nil {
		if !refused(err) && !errors.Is(err, errUnknown) {
			return err
		}
		// upsert folds it itself, and deals with what is wrong.
		if b.endsWhole() {
			if err := g.flush(ctx); err != nil {
				return err
			}
			b = g.empty()
		}
		b.fold, b.notes = nil, false
	}
	g.batch = b
	b.txs = append(b.txs, t)
	b.changes += len(t.tx.Changes)
	b.bytes += t.bytes
	b.unpacked += t.unpacked
	g.a.next.Seq = t.tx.Seq
	b.to, b.seen = g.a.next, g.seen
	if b.fold == nil && !t.joined && g.a.parked == nil || g.a.full(b, 1) || isDigest(t.tx) {
		return g.spill(ctx)
	}
	return nil
}

// spill hands the batch over because it is large enough. If it belongs to what
// follows, it becomes a part.
func (g *gatherer) spill(ctx context.Context) error {
	if g.batch == nil {
		return nil
	}
	if g.open || !g.batch.endsWhole() {
		g.batch.part = &part{first: !g.open}
		g.open = true
	}
	return g.flush(ctx)
}

// takePart hands over one part of a big transaction.
func (g *gatherer) takePart(ctx context.Context, f opened) error {
	if err := g.spill(ctx); err != nil {
		return err
	}
	from := g.a.next
	to := change.Position{Epoch: from.Epoch, Seq: f.header.First}
	t := txRef{tx: &f.body.Txs[0], body: f.body, bytes: f.bytes}
	g.joined = false
	g.note(&t)
	if err := g.onlyAdd(ctx, &t); err != nil {
		return err
	}
	b := &batch{
		from: from, to: to, txs: []txRef{t}, changes: len(t.tx.Changes), bytes: f.bytes, seen: g.seen,
		part: &part{first: !g.open, last: !f.header.More && !f.more, open: f.header.More}, fold: newFolded(g.a.cfg.Facility),
	}
	g.open = !b.part.last
	if err := g.resolver.fold(ctx, nil, b.fold, &b.txs[0]); err != nil {
		if !refused(err) && !errors.Is(err, errUnknown) {
			return err
		}
		b.fold = nil
	}
	g.part++
	if !f.header.More {
		g.part = 0
		g.a.next = to
	}
	g.batch = b
	return g.flush(ctx)
}

// event moves the position without a transaction and records why.
func (g *gatherer) event(ctx context.Context, to change.Position, e streamEvent) error {
	if g.open {
		g.batch = nil // the rest of what belongs together is lost, and so is this
	}
	if err := g.flush(ctx); err != nil {
		return err
	}
	g.batch = &batch{from: g.a.next, to: to, event: &e, seen: g.seen, fold: newFolded(g.a.cfg.Facility)}
	if g.open {
		g.batch.part = &part{last: true, void: true}
	}
	g.a.next, g.part, g.open = to, 0, false
	return g.flush(ctx)
}

// prepare does here, beside the batch before, what upsert would have to do.
func (g *gatherer) prepare() {
	if g.batch.fold != nil {
		g.batch.fold.prepare()
	}
}

// flush hands the batch over.
func (g *gatherer) flush(ctx context.Context) error {
	if g.batch == nil {
		return nil
	}
	g.prepare()
	select {
	case g.out <- g.batch:
		g.batch = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
