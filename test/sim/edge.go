package sim

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
)

// edge is a facility's agent: the rooms of a row, without people.
type edge struct {
	id string
	*database
	dir string
	// enrolment counts the facility's boxes; this one is the newest. old is where
	// the one before keeps what it had not sent, "" when there was none.
	enrolment uint32
	old       string
	loads     loads // of this one, when it was enrolled
	// backedUp is which box of this facility the region's backup knows, 0 for none, and
	// whole whether that was told there that it has all rows.
	backedUp uint32
	whole    bool
	cable    *cable
	log      *slog.Logger

	// queueMax is how many bytes the queue takes; 0 is no limit.
	queueMax int64
	// write and sync are the queue's way to its disk.
	write, sync fault.Point

	stack *run.Stack
	queue *queue.Queue
	up    *uplink.Uplink
	down  *downlink.Downlink
}

func (e *edge) start(_ context.Context) error {
	e.stack = run.New(e.log)
	var err error
	e.queue, err = queue.Open(queue.Options{
		Dir: filepath.Join(e.dir, "queue"), SegmentBytes: 1 << 20, KeepBytes: -1, MaxBytes: e.queueMax, WriteFault: &e.write, SyncFault: &e.sync, Log: e.log.With("part", "queue"),
	})
	if err != nil {
		return err
	}
	e.stack.Close("queue", e.queue.Close)
	e.queue.Hold(change.Position{})
	local := unseen.New(e.queue, func(ctx context.Context) error { return e.up.Settled(ctx) })
	e.down = downlink.New(downlink.Config{
		Facility: e.id, ConnString: e.conn, Local: local, DB: e.pool, Log: e.log,
		Registry: func() *apply.Registry { return e.up.Registry() },
		Restored: func() (restored, whole bool) { return e.up.Restored() },
		Hold:     func(seen change.Position) { e.queue.Hold(seen); local.Seen(seen) },
	})
	e.up, err = uplink.New(uplink.Config{
		Facility: e.id, EpochBase: uint64(e.enrolment) << 32, EpochFile: filepath.Join(e.dir, "epoch"), DB: e.pool, CaptureConn: e.conn,
		Queue: e.queue, Down: e.down, Linger: 20 * time.Millisecond, GiveWayAfter: 100 * time.Millisecond, Dial: e.cable.Dial, Hub: "region:1", Agent: "sim", Log: e.log,
	})
	if err != nil {
		return err
	}
	e.stack.Go("what the region has not seen", local.Run)
	e.stack.Go("way down", e.down.Run)
	e.stack.Go("transfer", e.up.Transfer)
	e.stack.Go("capture", e.up.Capture)
	e.stack.Go("tables", e.up.Tables)
	e.stack.Go("room in the queue", e.up.GiveWay)
	return nil
}

// crash ends the program so that nothing more reaches its disk.
func (e *edge) crash() error {
	if e.stack == nil {
		return nil
	}
	e.write.Break(nil)
	e.sync.Break(nil)
	err := e.stack.Stop(stopWithin)
	e.write.Heal()
	e.sync.Heal()
	e.stack = nil
	if errors.Is(err, fault.Err) {
		err = nil // the farewell did not reach the disk either
	}
	return err
}
