package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// gather numbers frames, leaves out what is applied already, and folds whole
// transactions into batches. It hands a batch over the moment that upsert is
// free, so that a small change does not wait for more; while upsert is busy
// the batch grows.
func (a *Applier) gather(ctx context.Context, in <-chan opened, out chan<- *batch) error {
	g := &gatherer{a: a, out: out, resolver: resolver{applier: a}}
	for {
		var f opened
		var send chan<- *batch
		if g.batch != nil {
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
}

// take adds a frame.
func (g *gatherer) take(ctx context.Context, f opened) error {
	h := &f.header
	skip, err := g.number(ctx, h)
	if err != nil || skip {
		return err
	}
	if h.Kind == change.Gap {
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
		if err := g.add(ctx, txRef{
			tx: tx, body: f.body,
			bytes: f.bytes / len(f.body.Txs), unpacked: int(h.BodyBytes) / len(f.body.Txs),
		}); err != nil {
			return err
		}
	}
	return nil
}

// number checks that the frame follows. It reports whether to skip all of it.
func (g *gatherer) number(ctx context.Context, h *change.Header) (skip bool, err error) {
	next := &g.a.next
	switch {
	case h.Epoch < next.Epoch:
		return false, fmt.Errorf("%w: epoch %d of %s, the region is at %s", ErrOldEpoch, h.Epoch, g.a.cfg.Facility, next)
	case h.Epoch > next.Epoch:
		if h.First != 1 || g.part > 0 {
			return false, fmt.Errorf("%w: epoch %d of %s begins with transaction %d instead of 1, the region is at %s",
				ErrGap, h.Epoch, g.a.cfg.Facility, h.First, next)
		}
		began := "the facility's stream begins"
		if next.Epoch > 0 {
			began = fmt.Sprintf("the facility's stream begins anew after %s", next)
		}
		if err := g.event(ctx, change.Position{Epoch: h.Epoch}, streamEvent{"epoch", began}); err != nil {
			return false, err
		}
	case h.Last <= next.Seq:
		return true, nil
	case h.First > next.Seq+1:
		return false, fmt.Errorf("%w: transaction %d of %s, the region is at %s", ErrGap, h.First, g.a.cfg.Facility, next)
	}
	if h.Kind == change.Gap {
		return false, nil // whatever part was expected, it is lost
	}
	if isPart := h.More || h.Part > 0; !isPart && g.part > 0 || isPart && h.Part != g.part {
		return false, fmt.Errorf("%w: part %d of transaction %d of %s, expected part %d",
			ErrGap, h.Part, h.First, g.a.cfg.Facility, g.part)
	}
	return false, nil
}

// add folds one transaction into the batch.
func (g *gatherer) add(ctx context.Context, t txRef) error {
	b := g.batch
	if b != nil && (b.changes+len(t.tx.Changes) > batchMaxChanges || b.unpacked+t.unpacked > batchMaxBytes) {
		if err := g.flush(ctx); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		b = &batch{from: g.a.next, fold: newFolded(g.a.cfg.Facility)}
	}
	if err := g.resolver.fold(ctx, nil, b.fold, &t); err != nil {
		if !refused(err) && !errors.Is(err, errUnknown) {
			return err
		}
		// upsert folds it itself, and deals with what is wrong.
		if err := g.flush(ctx); err != nil {
			return err
		}
		b = &batch{from: g.a.next}
	}
	g.batch = b
	b.txs = append(b.txs, t)
	b.changes += len(t.tx.Changes)
	b.bytes += t.bytes
	b.unpacked += t.unpacked
	g.a.next.Seq = t.tx.Seq
	b.to = g.a.next
	if b.fold == nil || b.changes >= batchMaxChanges || isDigest(t.tx) {
		return g.flush(ctx)
	}
	return nil
}

// takePart hands over one part of a big transaction.
func (g *gatherer) takePart(ctx context.Context, f opened) error {
	if err := g.flush(ctx); err != nil {
		return err
	}
	from := g.a.next
	to := change.Position{Epoch: from.Epoch, Seq: f.header.First}
	t := txRef{tx: &f.body.Txs[0], body: f.body, bytes: f.bytes}
	b := &batch{
		from: from, to: to, txs: []txRef{t}, changes: len(t.tx.Changes), bytes: f.bytes,
		part: &part{first: g.part == 0, last: !f.header.More}, fold: newFolded(g.a.cfg.Facility),
	}
	if err := g.resolver.fold(ctx, nil, b.fold, &b.txs[0]); err != nil {
		if !refused(err) && !errors.Is(err, errUnknown) {
			return err
		}
		b.fold = nil
	}
	g.part++
	if b.part.last {
		g.part = 0
		g.a.next = to
	}
	g.batch = b
	return g.flush(ctx)
}

// event moves the position without a transaction and records why.
func (g *gatherer) event(ctx context.Context, to change.Position, e streamEvent) error {
	if err := g.flush(ctx); err != nil {
		return err
	}
	g.batch = &batch{from: g.a.next, to: to, event: &e, fold: newFolded(g.a.cfg.Facility)}
	if g.part > 0 {
		g.batch.part = &part{last: true, void: true}
	}
	g.a.next, g.part = to, 0
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
