package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// Slot and publications of the local database.
const Slot = "holdfast"

var errNewEpoch = errors.New("a new epoch begins")

// backlogBytes is how much may wait before changes gather for better packing
// although the link is up.
const backlogBytes = 1 << 20

// Capture reads the WAL into the queue until ctx is done, whatever happens to
// the database or the queue's disk meanwhile. It alone begins new epochs.
func (u *Uplink) Capture(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-u.settled:
	}
	return run.Loop(ctx, u.Log, run.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second},
		func(ctx context.Context, up func()) error {
			err := u.captureOnce(ctx, up)
			u.captureRuns(nil, err)
			var gap *capture.GapError
			if errors.As(err, &gap) {
				u.pendingGap, u.slotSpoilt, u.wentBack = gap.Reason, !gap.Older, gap.Older
			}
			if errors.Is(err, errNewEpoch) {
				return nil
			}
			return err
		})
}

func (u *Uplink) captureOnce(ctx context.Context, up func()) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if errors.Is(context.Cause(ctx), errNewEpoch) {
			err = errNewEpoch
		}
	}()
	u.mu.Lock()
	u.recap = cancel
	u.mu.Unlock()
	slot, err := u.ensureSlot(ctx)
	if err != nil {
		return err
	}
	if err := u.openStream(ctx, slot); err != nil {
		return err
	}
	past := u.epoch.Get().Past
	c, err := capture.New(capture.Config{
		ConnString: u.CaptureConn, Slot: Slot, Log: u.base,
		Next: u.next(), Linger: u.linger,
		// What was decided here while the region's changes were applied goes up.
		Keep:    []string{proto.ConflictTable},
		PastLSN: past.LSN, PastMicros: past.Micros,
		OnLeftOut: u.leaveOut,
	}, u.Queue)
	if err != nil {
		return err
	}
	u.captureRuns(c, nil)
	up()
	return c.Run(ctx)
}

// openStream makes sure that the slot gives what follows the queue's end, and
// begins a new epoch where it does not, or where the stream was asked to begin
// anew.
func (u *Uplink) openStream(ctx context.Context, slot capture.SlotInfo) error {
	now := u.epoch.Get()
	from := slot.ConfirmedFlush
	reason, above := u.gapReason(slot), now.Number
	older := u.wentBack || reason != "" && u.pendingGap == "" && slot.Older(u.have())
	// The slot went back with the database: it gives all that people changed since.
	restored, whole := older, older && u.Queue.Opened().Damaged == ""
	var after change.Position
	if reason == "" {
		w := u.wantedEpoch()
		if reason, above, restored = w.reason, max(above, w.above), w.restored; reason != "" {
			// Nothing is missing here: what the queue has is not read twice.
			from = max(from, u.have())
			after = w.after
		}
	}
	if reason != "" {
		// Where nothing of this epoch has left, what the queue has of it is not of the
		// time before either, unless it is only now that the database went back. A queue
		// that was damaged may not reach that far any more.
		none := now.Restored || u.Queue.Acked().Epoch < now.Number
		if tail, _, ok := u.Queue.Tail(); after == (change.Position{}) && none && !older && ok && !tail.Before(now.After) {
			after = now.After
		}
		next := epoch.Epoch{Number: max(now.Number, above) + 1, Opening: true, Reason: reason, Restored: restored || now.Restored, After: after}
		next.Whole = next.Restored && whole && (now.Whole || !now.Restored)
		next.Past = now.Past
		if whole {
			past, err := u.past(ctx)
			if err != nil {
				return err
			}
			next.Past = past
		}
		now = next
		if err := u.setEpoch(now); err != nil {
			return err
		}
		u.forgetAgreement()
		u.pendingGap, u.slotSpoilt, u.wentBack = "", false, false
	}
	if !now.Opening {
		return nil
	}
	if now.Restored {
		if err := u.store.reload(ctx, nil, true); err != nil {
			return err
		}
		if err := u.store.comesAgain(ctx, u.Facility); err != nil {
			return err
		}
	} else if err := u.store.reloadLost(ctx); err != nil {
		return err
	}
	if now.Restored && now.Whole {
		due, err := u.store.facts(ctx)
		if err != nil {
			return err
		}
		u.mu.Lock()
		u.needless = due
		u.mu.Unlock()
	}
	if err := u.Queue.Remark(from); err != nil {
		return err
	}
	if now.After == (change.Position{}) {
		var ok bool
		if now.After, _, ok = u.Queue.Tail(); !ok {
			now.After = change.Position{Epoch: now.Number}
		}
	}
	now.Opening, now.Unread = false, !now.Restored
	if err := u.setEpoch(now); err != nil {
		return err
	}
	switch {
	case now.Restored && u.Down != nil:
		u.renew()
		u.Log.Warn("new epoch: this database was put back, and waits for the region's rows before it sends its own", "epoch", now.Number, "reason", now.Reason)
	case now.Reason != "":
		u.Log.Warn("new epoch: every table is sent again", "epoch", now.Number, "reason", now.Reason)
	}
	u.orders.give(order{})
	return nil
}

// gapReason says why something may lie between the queue's end and what the
// slot will give next, or "" when nothing can. In an epoch that is opening
// there is no end yet.
func (u *Uplink) gapReason(slot capture.SlotInfo) string {
	have := u.have()
	switch {
	case u.pendingGap != "":
		return u.pendingGap
	case u.epoch.Get().Opening:
		return ""
	}
	return slot.Gap(have)
}

// have is the end in the WAL of what the queue holds of this epoch.
func (u *Uplink) have() uint64 {
	tail, lsn, ok := u.Queue.Tail()
	if !ok || tail.Epoch != u.epoch.Current() {
		return u.Queue.Marked()
	}
	return max(lsn, u.Queue.Marked())
}

// next is the position of the first transaction that is not in the queue yet.
func (u *Uplink) next() change.Position {
	now := u.epoch.Current()
	if tail, _, ok := u.Queue.Tail(); ok && tail.Epoch == now {
		return change.Position{Epoch: now, Seq: tail.Seq + 1}
	}
	return change.Position{Epoch: now, Seq: 1}
}

// linger is how long changes may gather now: not at all while they can leave
// at once, a little while a backlog drains, and as configured while the link
// is down. The WAL holds them meanwhile.
func (u *Uplink) linger() time.Duration {
	if !u.LinkState().Up {
		return u.Linger
	}
	if u.Queue.Stats().Bytes > backlogBytes {
		return min(u.Linger, 100*time.Millisecond)
	}
	return 0
}

// captureRuns notes that c reads the WAL now, or with nil that nothing does.
func (u *Uplink) captureRuns(c *capture.Capture, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.capture = c
	switch {
	case c != nil:
		u.captureErr = ""
		close(u.changed) // the loader waits for this
		u.changed = make(chan struct{})
	case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errNewEpoch):
		u.captureErr = err.Error()
	}
}

// CaptureState returns how the reading of the WAL fares now.
func (u *Uplink) CaptureState() Captured {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := Captured{Error: u.captureErr, Since: u.captured.Since}
	if u.capture != nil {
		s := u.capture.Stats()
		now.Running = s.State == capture.Streaming
		if s.Err != nil {
			now.Error = s.Err.Error()
		}
	}
	if now.Running != u.captured.Running {
		now.Since = time.Now()
	}
	u.captured = now
	return now
}

// ensureSlot makes the slot if there is none, or none that can be used.
func (u *Uplink) ensureSlot(ctx context.Context) (capture.SlotInfo, error) {
	conn, err := pgx.Connect(ctx, u.CaptureConn)
	if err != nil {
		return capture.SlotInfo{}, fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Close(ctx)
	if u.slotSpoilt {
		if err := u.discardSlot(ctx, conn); err != nil {
			return capture.SlotInfo{}, err
		}
	}
	slot, err := capture.EnsureSlot(ctx, conn, Slot)
	if err != nil || !slot.Lost {
		return slot, err
	}
	if err := capture.DropSlot(ctx, conn, Slot); err != nil {
		return slot, err
	}
	return capture.EnsureSlot(ctx, conn, Slot)
}

// discardSlot drops a slot that does not give what follows the queue's end, and
// sees to it that the next one finds its publications: settle fills them.
func (u *Uplink) discardSlot(ctx context.Context, conn *pgx.Conn) error {
	if err := capture.DropSlot(ctx, conn, Slot); err != nil {
		return err
	}
	local, err := u.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the local database: %w", err)
	}
	defer local.Release()
	return capture.MakePublications(ctx, local.Conn())
}
