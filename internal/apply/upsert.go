package apply

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// upsert applies batches. It holds a connection only while it applies one, or
// while a big transaction is open.
func (a *Applier) upsert(ctx context.Context, in <-chan *batch) error {
	var open *session // while a big transaction is
	defer func() {
		if open != nil {
			open.rollback(context.WithoutCancel(ctx))
			open.release()
		}
	}()
	for {
		var b *batch
		select {
		case b = <-in:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b.part == nil {
			if err := a.giveWay(ctx, b); err != nil {
				return err
			}
			if err := a.persist(ctx, b); err != nil {
				return err
			}
			continue
		}
		if open == nil {
			if err := a.untilSettled(ctx); err != nil {
				return err
			}
			var err error
			if open, err = a.pool.bigSession(ctx); err != nil {
				return err
			}
		}
		if err := a.persistPart(ctx, open, b); err != nil {
			return err
		}
		if b.part.last {
			open.release()
			open = nil
		}
	}
}

// untilSettled waits, on the way down, until it can be told what was changed here: a
// transaction in parts is not tried again in place, and a stream that ends and
// begins all the time would hold up what it waits for.
func (a *Applier) untilSettled(ctx context.Context) error {
	if a.cfg.Direction != Down {
		return nil
	}
	for wait := stuckMin; ; wait = min(2*wait, stuckMax) {
		short, cancel := context.WithTimeout(ctx, settleTimeout)
		err := a.cfg.Local.Settled(short)
		cancel()
		if err == nil {
			if wait > stuckMin {
				a.cfg.OnStuck(nil)
			}
			return nil
		}
		a.cfg.OnStuck(fmt.Errorf("%w: %w", ErrUnsettled, err))
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// A batch of largeChanges waits for those behind it, giveWayMost at most: a
// backlog drains all the same.
const (
	largeChanges = batchMaxChanges / 10
	giveWayMost  = time.Second
	giveWayLook  = 10 * time.Millisecond
)

// giveWay holds a large batch back, without a connection, while others wait.
func (a *Applier) giveWay(ctx context.Context, b *batch) error {
	if b.changes < largeChanges {
		return nil
	}
	for began := time.Now(); a.cfg.GiveWay() && time.Since(began) < giveWayMost; {
		if err := pause(ctx, giveWayLook); err != nil {
			return err
		}
	}
	return nil
}

// Waits between attempts to apply what is refused.
const (
	stuckMin = 200 * time.Millisecond
	stuckMax = 5 * time.Second
)

// persist applies b, waiting for as long as a row or table is in the way. It
// waits without a connection: others need it.
func (a *Applier) persist(ctx context.Context, b *batch) error {
	began := time.Now()
	for wait := stuckMin; ; wait = min(2*wait, stuckMax) {
		lost, err := a.attempt(ctx, b)
		if err == nil {
			if wait > stuckMin {
				a.cfg.OnStuck(nil)
				a.log.Info("stream goes on", "seq", b.to.Seq)
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		row, isRow := errors.AsType[*RowError](err)
		if lost || (!isRow && !passing(err)) {
			if isRow {
				a.cfg.OnStuck(row)
			}
			return err
		}
		if wait == stuckMin {
			a.cfg.OnStuck(err)
			a.log.Warn("stream waits", "seq", b.from.Seq+1, "wait", wait, "err", err)
		}
		if a.cfg.Patience > 0 && time.Since(began) > a.cfg.Patience {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		a.pool.catalog.forget()
		b.refold()
	}
}

// attempt applies b once. lost is true when the connection broke.
func (a *Applier) attempt(ctx context.Context, b *batch) (lost bool, err error) {
	s, err := a.pool.session(ctx)
	if err != nil {
		return true, err
	}
	defer s.release()
	if err := a.applyBatch(ctx, s, b); err != nil {
		s.rollback(context.WithoutCancel(ctx))
		return a.pool.afterLoss(s), err
	}
	return false, nil
}

// persistPart applies one part of a big transaction. It does not try again:
// the earlier parts are gone with the transaction.
func (a *Applier) persistPart(ctx context.Context, s *session, b *batch) error {
	err := a.applyPart(ctx, s, b)
	if err == nil {
		return nil
	}
	s.rollback(context.WithoutCancel(ctx))
	a.pool.afterLoss(s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if row, ok := errors.AsType[*RowError](err); ok {
		a.cfg.OnStuck(row)
	}
	return err
}
