package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/run"
)

// Slot and publications of the local database.
const Slot = "holdfast"

var errNewEpoch = errors.New("a new epoch begins")

// backlogBytes is how much may wait before changes gather for better packing
// although the link is up.
const backlogBytes = 1 << 20

// Capture reads the WAL into the queue until ctx is done, whatever happens to
// the database or the queue's disk meanwhile.
func (u *Uplink) Capture(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-u.settled:
	}
	return run.Loop(ctx, u.Log, run.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second},
		func(ctx context.Context, up func()) error {
			err := u.captureOnce(ctx, up)
			u.captureRuns(false, err)
			var gap *capture.GapError
			if errors.As(err, &gap) {
				u.pendingGap = gap.Reason
			}
			if errors.Is(err, errNewEpoch) {
				return nil
			}
			return err
		})
}

func (u *Uplink) captureOnce(ctx context.Context, up func()) error {
	slot, err := u.ensureSlot(ctx)
	if err != nil {
		return err
	}
	reason := u.gapReason(slot)
	if reason != "" {
		if err := u.newEpoch(ctx, reason); err != nil {
			return err
		}
		u.pendingGap = ""
	}
	if reason != "" || slot.Created {
		// From here on the slot is where the queue's stream begins.
		if err := u.Queue.Mark(slot.ConfirmedFlush); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.mu.Lock()
	u.recap = cancel
	u.mu.Unlock()
	c, err := capture.New(capture.Config{
		ConnString: u.CaptureConn, Slot: Slot, Log: u.base,
		Next: u.next(), Linger: u.linger,
	}, u.Queue)
	if err != nil {
		return err
	}
	u.captureRuns(true, nil)
	up()
	err = c.Run(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errNewEpoch) {
		return errNewEpoch
	}
	return err
}

// gapReason says why something may lie between the queue's end and what the
// slot will give next, or "" when nothing can.
func (u *Uplink) gapReason(slot capture.SlotInfo) string {
	_, lsn, _ := u.Queue.Tail()
	switch {
	case u.pendingGap != "":
		return u.pendingGap
	case slot.Created && u.hasHistory():
		return "the replication slot was gone: the database was restored or replaced"
	case !slot.Created && slot.ConfirmedFlush > max(lsn, u.Queue.Marked()):
		return "the replication slot is ahead of the queue: the queue lost its end"
	}
	return ""
}

// next is the position of the first transaction that is not in the queue yet.
func (u *Uplink) next() change.Position {
	epoch := u.epoch.current()
	if tail, _, ok := u.Queue.Tail(); ok && tail.Epoch == epoch {
		return change.Position{Epoch: epoch, Seq: tail.Seq + 1}
	}
	return change.Position{Epoch: epoch, Seq: 1}
}

// hasHistory reports whether this epoch's stream has begun.
func (u *Uplink) hasHistory() bool { return u.next().Seq > 1 || u.Queue.Marked() > 0 }

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

func (u *Uplink) captureRuns(on bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.captured.Running != on {
		u.captured.Running, u.captured.Since = on, time.Now()
	}
	u.slot = on
	switch {
	case on:
		u.captured.Error = ""
		close(u.changed) // the loader waits for this
		u.changed = make(chan struct{})
	case err != nil && !errors.Is(err, context.Canceled):
		u.captured.Error = err.Error()
	}
}

// ensureSlot makes the slot if there is none, or none that can be used.
func (u *Uplink) ensureSlot(ctx context.Context) (capture.SlotInfo, error) {
	conn, err := pgx.Connect(ctx, u.CaptureConn)
	if err != nil {
		return capture.SlotInfo{}, fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Close(ctx)
	slot, err := capture.EnsureSlot(ctx, conn, Slot)
	if err != nil || !slot.Lost {
		return slot, err
	}
	if err := capture.DropSlot(ctx, conn, Slot); err != nil {
		return slot, err
	}
	return capture.EnsureSlot(ctx, conn, Slot)
}
