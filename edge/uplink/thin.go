package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

// A queue that is full must not be left alone: the WAL would hold what it does
// not take, until the slot is lost, and with it the events. So what waits is made
// smaller, in two steps. First, of a row that changed several times only the last
// image stays. If that is not enough, the rows of fact tables are left out: the
// local database has them, and they are sent again from there, by key ranges,
// behind everything else. Events are nowhere else, and stay. If they alone fill
// the queue it stays full and the WAL holds the rest.

const (
	// thinShare is which part of the limit must have come since the last time, and
	// must be free afterwards: to write the queue anew costs as much as all that it
	// holds.
	thinShare = 4
	// thinWithin bounds what the local database may take to note the tables.
	thinWithin = 10 * time.Second
	// loadShare is which part of the limit a load leaves to the people's changes.
	loadShare = 2
	// roomEvery is how often a load that waits for room looks.
	roomEvery = 500 * time.Millisecond
)

// sink is the queue as capture sees it.
type sink struct {
	*queue.Queue
	u   *Uplink
	ctx context.Context // capture's
	// again: making room failed half way, and is tried again.
	again *bool
}

// Append makes room where there is none.
func (s sink) Append(frames ...change.Sealed) error {
	err := s.Queue.Append(frames...)
	if !errors.Is(err, queue.ErrFull) || !s.makeRoom() {
		return err
	}
	return s.Queue.Append(frames...)
}

// makeRoom folds what waits, and where that gives too little leaves the rows of
// fact tables out.
func (s sink) makeRoom() bool {
	u, stats := s.u, s.Stats()
	enough := stats.LimitBytes / thinShare
	if s.Unshrunk() < enough && !*s.again {
		return false
	}
	facts, ids := u.facts()
	if len(facts) == 0 {
		return false
	}
	of := func(t *change.Table) bool { return facts[t.ID()] && len(t.KeyColumns()) > 0 }
	began := time.Now()
	freed, err := u.fold(s.ctx, of)
	if err == nil && stats.LimitBytes-s.Stats().Bytes < enough {
		var more int64
		more, err = u.leaveOut(s.ctx, ids, of)
		freed += more
	}
	*s.again = err != nil
	if err != nil {
		u.Log.Error("the queue is full and could not be made smaller", "err", err)
		return false
	}
	u.Log.Warn("the queue was full and was made smaller", "bytes", freed, "took", time.Since(began).Round(time.Millisecond))
	return freed > 0
}

// fold leaves out the changes of rows that change again further on.
func (u *Uplink) fold(ctx context.Context, of func(*change.Table) bool) (int64, error) {
	x := &change.Fold{Of: of}
	tail, _, _ := u.Queue.Tail()
	cursor := u.Queue.Cursor(u.Queue.Acked())
	for cursor.Position().Before(tail) {
		f, err := cursor.Next(ctx)
		var lost *queue.LostError
		if errors.As(err, &lost) {
			continue
		}
		if err == nil {
			err = x.Look(&f)
		}
		if err != nil {
			return 0, fmt.Errorf("read what waits: %w", err)
		}
	}
	return u.Queue.Shrink(x.Fold)
}

// leaveOut leaves the rows of fact tables out. The tables are marked first: a
// crash in between only loads them once more.
func (u *Uplink) leaveOut(ctx context.Context, ids []string, of func(*change.Table) bool) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, thinWithin)
	defer cancel()
	if err := u.store.reload(ctx, ids, false); err != nil {
		return 0, err
	}
	u.mu.Lock()
	u.thinned = time.Now()
	u.mu.Unlock()
	u.orders.give(order{})
	u.Log.Warn("rows of fact tables are left out of the queue; the tables are sent again once there is a link", "table", ids)
	return u.Queue.Shrink(func(f change.Sealed) (change.Sealed, error) { return change.Thin(f, of) })
}

// facts are the tables whose rows can be sent again from the local database.
func (u *Uplink) facts() (set map[string]bool, ids []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	set = make(map[string]bool)
	for _, e := range u.tables {
		if e.Class == "fact" && e.State != proto.TableRefused {
			set[e.ID()] = true
			ids = append(ids, e.ID())
		}
	}
	return set, ids
}

// Thinned returns when rows were last left out of the queue because it was full;
// zero when they never were since the start.
func (u *Uplink) Thinned() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.thinned
}

// errNoRoom interrupts a load.
var errNoRoom = errors.New("the queue has no room for rows that are sent again")

// hasRoom reports whether a table may be loaded now: the queue is for what people
// change. What was left out of it for want of room waits for a link.
func (u *Uplink) hasRoom() bool {
	s := u.Queue.Stats()
	if s.LimitBytes == 0 {
		return true
	}
	u.mu.Lock()
	waits := !u.thinned.IsZero() && !u.link.Up
	u.mu.Unlock()
	return !waits && s.Bytes < s.LimitBytes/loadShare
}

// awaitRoom waits until a table may be loaded.
func (u *Uplink) awaitRoom(ctx context.Context) error {
	for !u.hasRoom() {
		if err := sleep(ctx, roomEvery); err != nil {
			return err
		}
	}
	return nil
}
