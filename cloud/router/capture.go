package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/hint"
)

var (
	errNewEpoch = errors.New("a new epoch begins")
	errTaken    = errors.New("another process of this region reads its WAL, and sends what goes down")
)

const (
	// takenAfter is how long somebody else must have been reading: what this process
	// read with before may be about to end.
	takenAfter = 2 * time.Second
	// freeLooks is how often in a row nobody reads who did, until he is gone.
	freeLooks = 6
)

// capture reads the region's WAL into the log until ctx is done. It alone
// begins new epochs.
func (r *Router) capture(ctx context.Context, up func()) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.settled:
	}
	err := r.captureOnce(ctx, up)
	var broken *capture.GapError
	if errors.As(err, &broken) {
		r.mu.Lock()
		r.gap = gap{reason: broken.Reason, spoilt: true}
		r.mu.Unlock()
	}
	if errors.Is(err, errNewEpoch) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, errTaken): // nothing is wrong
		r.stats.CaptureErr = ""
	case err != nil && ctx.Err() == nil:
		r.stats.CaptureErr = err.Error()
	}
	return err
}

func (r *Router) captureOnce(ctx context.Context, up func()) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if errors.Is(context.Cause(ctx), errNewEpoch) {
			err = errNewEpoch
		}
	}()
	r.mu.Lock()
	r.recap = cancel
	r.mu.Unlock()
	slot, err := r.ensureSlot(ctx)
	if err != nil {
		return err
	}
	if err := r.openStream(ctx, slot); err != nil {
		return err
	}
	next, _, _ := r.sink.Tail()
	next.Seq++
	c, err := capture.New(capture.Config{
		ConnString: r.c.ConnString, Slot: r.c.Slot, Next: next, Origins: true, Beside: r.beside, OnLeftOut: r.leaveOut, MaxFrameChanges: r.c.frameChanges, Log: r.c.Log.With("step", "region"),
	}, r.sink)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.stats.CaptureErr, r.reading = "", c
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.reading = nil
		r.mu.Unlock()
	}()
	up()
	return c.Run(ctx)
}

// beside is the column that says whose a row of one of the region's tables is.
func (r *Router) beside(table string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.routes.byID[table]; e != nil {
		return e.column
	}
	return ""
}

// ensureSlot makes the slot if there is none, or none that can be used.
func (r *Router) ensureSlot(ctx context.Context) (capture.SlotInfo, error) {
	conn, err := pgx.Connect(ctx, r.c.ConnString)
	if err != nil {
		return capture.SlotInfo{}, fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := r.notTaken(ctx, conn); err != nil {
		return capture.SlotInfo{}, err
	}
	r.mu.Lock()
	spoilt := r.gap.spoilt
	r.mu.Unlock()
	if spoilt {
		if err := capture.DropSlot(ctx, conn, r.c.Slot); err != nil {
			return capture.SlotInfo{}, err
		}
		// The next slot must find its publications; publish fills them.
		own, err := r.c.DB.Acquire(ctx)
		if err != nil {
			return capture.SlotInfo{}, fmt.Errorf("reach the region's database: %w", err)
		}
		defer own.Release()
		if err := capture.MakePublications(ctx, own.Conn()); err != nil {
			return capture.SlotInfo{}, err
		}
		notify(r.look)
	}
	return capture.EnsureSlot(ctx, conn, r.c.Slot)
}

// notTaken waits until nobody reads from the slot. Two processes that took it from each
// other would begin epochs for ever; the next one has its turn when the one before is
// gone, and not when it only connects again.
func (r *Router) notTaken(ctx context.Context, conn *pgx.Conn) error {
	tick, enough := time.NewTicker(50*time.Millisecond), time.NewTimer(takenAfter)
	defer tick.Stop()
	defer enough.Stop()
	for free := 0; ; {
		slot, _, err := capture.ReadSlot(ctx, conn, r.c.Slot)
		if err != nil {
			return err
		}
		if free++; slot.Active {
			free, r.taken = 0, true
		}
		if free > 0 && !r.taken || free > freeLooks {
			r.taken = false
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-enough.C:
			return hint.Wrap(errTaken, "Nothing is to be done: when that one ends this one goes on, and sends every facility its tables again.")
		case <-tick.C:
		}
	}
}

// needEpoch ends the given epoch, unless that is done or under way: whoever
// asks again and again must not hold up the one that is beginning.
func (r *Router) needEpoch(epoch uint64, g gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open || r.index.epoch != epoch {
		return
	}
	if r.gap.reason != "" {
		r.gap.above = max(r.gap.above, g.above)
		return
	}
	r.gap = g
	if r.recap != nil {
		r.recap(errNewEpoch)
	}
}

// have is the end in the WAL of what the log holds of this epoch.
func (r *Router) have() uint64 {
	_, lsn, _ := r.sink.Tail()
	return max(lsn, r.queue.Marked())
}

// openStream makes sure that the slot gives what follows the log's end, and
// begins a new epoch where it does not. It takes the steps of epoch.Epoch.
func (r *Router) openStream(ctx context.Context, slot capture.SlotInfo) error {
	now, from := r.epoch.Get(), slot.ConfirmedFlush
	r.mu.Lock()
	g := r.gap
	r.mu.Unlock()
	if g.reason != "" && !g.spoilt && !slot.Created {
		from = max(from, r.have()) // nothing is missing in the WAL
	}
	if g.reason == "" && !now.Opening {
		g.reason = slot.Gap(r.have())
	}
	if g.reason != "" || now.Opening {
		used, err := r.store.maxEpoch(ctx)
		if err != nil {
			return err
		}
		n := now.Number
		if g.reason != "" || used >= n {
			n = max(n, g.above, used) + 1
		}
		now = epoch.Epoch{Number: n, Opening: true, Reason: g.reason}
		if err := r.epoch.Set(now); err != nil {
			return err
		}
		r.mu.Lock()
		r.gap = gap{}
		r.close() // at once: what is asked of the old epoch asks for no other
		r.mu.Unlock()
		if err := r.begin(ctx, now, from); err != nil {
			return err
		}
	}
	return r.setOpen(ctx)
}

// begin begins an epoch that is noted as opening.
func (r *Router) begin(ctx context.Context, now epoch.Epoch, from uint64) error {
	r.mu.Lock()
	r.index.reset(now.Number)
	r.split.restart(&r.index)
	r.cache.clear()
	routes := r.routes
	r.mu.Unlock()
	r.sink.forget()
	if err := r.store.reloadAll(ctx, now.Number, routes.tables(), reasonEpoch); err != nil {
		return err
	}
	if err := r.queue.Remark(from); err != nil {
		return err
	}
	now.Opening = false
	if err := r.epoch.Set(now); err != nil {
		return err
	}
	if now.Reason != "" {
		r.log.Warn("new epoch of the way down: every facility is sent its tables again", "epoch", now.Number, "reason", now.Reason)
	}
	return nil
}

// close ends the readers; mu is held.
func (r *Router) close() {
	if r.open {
		r.open, r.opened = false, make(chan struct{})
	}
}

// setOpen lets readers in, if they are not.
func (r *Router) setOpen(ctx context.Context) error {
	r.mu.Lock()
	open, epoch := r.open, r.index.epoch
	r.mu.Unlock()
	if open {
		return nil
	}
	list, heard, err := r.store.positions(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.acked)
	clear(r.dirty)
	r.heard = heard
	for f, p := range list {
		if p.Epoch != epoch || p.Seq > r.index.tail {
			p = change.Position{Epoch: epoch}
		}
		r.acked[f] = p
	}
	r.open = true
	close(r.opened)
	notify(r.look) // tables may wait to be announced
	notify(r.loadLook)
	return nil
}
