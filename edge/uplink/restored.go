package uplink

import (
	"context"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/proto"
)

// A local database that was put back from a backup has older rows than the
// region, and lacks some. Sent up as key ranges, which are exactly what they
// say, they would undo what the region has acknowledged. So
//
//  1. it is found out: the database ends before the queue does, or before what
//     the region has, or it has less of the way down than it had told the region
//     to be durable (Welcome.WentBack). The last is known only in a session, so
//     that no fact table is loaded before one has agreed;
//  2. a new epoch begins, which is restored: what people change from then on
//     goes into the queue, and stays there. So does what is there of the epoch
//     that began when the slot was found gone, before the region had said why;
//  3. what the queue has of the time before goes up: it is newer than the database;
//  4. the region sends its rows down, and downlink takes them for what the rows
//     are, save what people changed since (internal/apply);
//  5. a Heal ends it: the queue leaves. Where not all that people changed is in it
//     the tables go up behind.
//
// A table that is refused here meanwhile is not captured: of it nothing is removed,
// and what is replaced is told.
//
// A table that did not take the region's rows, because it lacks a column, say, waits
// with its own until they have come: sent up before, they would remove them there.
// The region sends them again when the table fits, and asks for the box's behind them.
// Where what was changed of it here is not known (it was refused, too, or is new), that
// cannot be decided by itself: it all begins again, once, when the table would take
// what the region sent of it. One of which the database refused single rows, and has
// them parked, waits until they are applied, or somebody discards them.

// holdsBack is what may not leave yet.
type holdsBack struct {
	after change.Position // frames behind this
	until <-chan struct{} // closed when they may; nil when all may
}

// Restored reports whether the local database is older than what the region has
// of it, and whether all that was changed here since is in the queue.
func (u *Uplink) Restored() (restored, whole bool) {
	now := u.epoch.Get()
	return now.Restored && u.Down != nil, now.Whole
}

// ready reports whether the region can send its rows: it has what the queue had
// of the time before.
func (u *Uplink) ready() bool {
	now := u.epoch.Get()
	u.mu.Lock()
	lost := u.pastLost
	u.mu.Unlock()
	return now.Restored && !now.Opening && u.Down != nil && (lost || now.After.Seq == 0 || !u.Queue.Acked().Before(now.After))
}

// mayLoad reports whether fact tables may go up as key ranges. When that
// changes an order is given.
func (u *Uplink) mayLoad() bool {
	restored, _ := u.Restored()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.Down == nil || u.agreed && !restored
}

// judge notes that the region does not say of the local database that it went
// back, unless it could not know: asked is true when it was told how far the way
// down is here. It returns what may not leave in this session.
func (u *Uplink) judge(w *proto.Welcome, asked bool) holdsBack {
	now := u.epoch.Get()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agreed = u.agreed || asked && (w.Version < proto.StreamVersionDown || w.DownEpoch != 0)
	if u.Down != nil && (now.Restored || !u.agreed && w.Epoch < now.Number) {
		after := now.After
		if after == (change.Position{}) { // it is opening, or the build before began it
			after.Epoch = now.Number
		}
		return holdsBack{after, u.free}
	}
	return holdsBack{}
}

// wait returns when a frame may leave.
func (h holdsBack) wait(ctx context.Context, f *change.Header) error {
	if h.until == nil || !h.after.Before(change.Position{Epoch: f.Epoch, Seq: f.Last}) {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-h.until:
		return nil
	}
}

// restored ends the wait for the region's rows: they are all here.
func (u *Uplink) restored(ctx context.Context) error {
	u.setting.Lock()
	defer u.setting.Unlock()
	now := u.epoch.Get()
	if !now.Restored || now.Opening {
		return nil
	}
	u.mu.Lock()
	needless := u.needless
	u.mu.Unlock()
	if now.Whole {
		if err := u.store.callOff(ctx, needless); err != nil {
			return err
		}
	}
	if err := u.store.putBack(ctx); err != nil {
		return err
	}
	now.Restored, now.Whole, now.After = false, false, change.Position{}
	if err := u.epoch.Set(now); err != nil {
		return err
	}
	u.Log.Warn("the region has sent its rows to this database, which had been put back; its own changes go up now", "epoch", now.Number)
	u.mu.Lock()
	close(u.free)
	u.free = make(chan struct{})
	u.mu.Unlock()
	u.orders.give(order{})
	return nil
}

// notWhole notes that what the region does not have was not deleted for sure.
func (u *Uplink) notWhole() error {
	u.setting.Lock()
	defer u.setting.Unlock()
	now := u.epoch.Get()
	if !now.Whole || now.Opening {
		return nil
	}
	now.Whole = false
	return u.epoch.Set(now)
}

// setEpoch makes e the current epoch, for Capture. The session changes what is
// known of it.
func (u *Uplink) setEpoch(e epoch.Epoch) error {
	u.setting.Lock()
	defer u.setting.Unlock()
	return u.epoch.Set(e)
}

// past is what the slot still gives of the time before the database was put
// back, when it went back with it: what was there when the server started, and
// not after the last that the queue has. Some commits are numbered in another
// order than they are timed.
func (u *Uplink) past(ctx context.Context) (epoch.Past, error) {
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return epoch.Past{}, fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	lsn, err := capture.Recovered(ctx, conn.Conn())
	if err != nil {
		return epoch.Past{}, err
	}
	tail, _, ok := u.Queue.Tail()
	if !ok {
		return epoch.Past{}, nil
	}
	f, err := u.Queue.Cursor(change.Position{Epoch: tail.Epoch, Seq: tail.Seq - 1}).Next(ctx)
	if err == nil {
		var body *change.Body
		if body, err = f.Open(); err == nil && len(body.Txs) > 0 {
			const apart = time.Second
			return epoch.Past{LSN: lsn, Micros: body.Txs[len(body.Txs)-1].CommitMicros + apart.Microseconds()}, nil
		}
	}
	if ctx.Err() != nil {
		return epoch.Past{}, ctx.Err()
	}
	// What comes again counts as changed since: it stands, and is told as conflicts.
	u.Log.Warn("the end of the queue cannot be read; changes of the time before may come again", "err", err)
	return epoch.Past{}, nil
}

// losePast notes that the queue does not have all of the time before this epoch.
func (u *Uplink) losePast() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pastLost = true
}

// forgetAgreement begins an epoch of which no session knows.
func (u *Uplink) forgetAgreement() {
	u.mu.Lock()
	u.agreed, u.pastLost, u.needless = false, false, nil
	u.mu.Unlock()
	u.renew()
}

// renew has the session begin anew: what it was told is not so any more.
func (u *Uplink) renew() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.renewed)
	u.renewed = make(chan struct{})
}

// untilRenewed ends a session that is to begin anew.
func untilRenewed(ctx context.Context, renewed <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-renewed:
		return errNewEpoch
	}
}

// heal obeys a Heal.
func (u *Uplink) heal(ctx context.Context, m *proto.Heal) error {
	if m.Restored {
		return u.restored(ctx)
	}
	if m.Mend != "" {
		o := order{}
		for _, table := range m.Tables {
			o.mends = append(o.mends, mend{table, m.Mend})
		}
		u.orders.give(o)
		return nil
	}
	u.Log.Warn("the region asks for tables again", "table", m.Tables, "reason", m.Reason)
	u.orders.give(order{reload: m.Tables, reloadAll: len(m.Tables) == 0})
	return nil
}
