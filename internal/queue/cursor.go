package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// Cursor reads frames in order. It belongs to one goroutine; a queue may have
// many. It is not invalidated by Append or Ack, and costs nothing when dropped.
type Cursor struct {
	q *Queue
	// pos is the last transaction that was handed out whole, or reported lost.
	pos change.Position
	// next is the entry to read next, 0 until it was looked up.
	next uint64
}

// Cursor returns a cursor behind after, the last transaction that the other
// side has.
func (q *Queue) Cursor(after change.Position) *Cursor {
	return &Cursor{q: q, pos: after}
}

// Position returns the last transaction that Next handed out whole.
func (c *Cursor) Position() change.Position { return c.pos }

// Next returns the frame that follows, and waits for it if there is none yet.
// The first frame may begin before the cursor's position, when that lies inside
// it. A transaction in parts is handed out once all of them are there.
//
// Errors: ErrBehind and ErrAhead are final for this cursor. *LostError is not:
// the next call goes on after the lost range. Anything else is ctx's, or
// ErrClosed.
func (c *Cursor) Next(ctx context.Context) (change.Sealed, error) {
	for {
		if err := ctx.Err(); err != nil {
			return change.Sealed{}, context.Cause(ctx)
		}
		ready, err := c.seek(ctx)
		if err != nil {
			return change.Sealed{}, err
		}
		if !ready {
			continue
		}
		f, err := c.load(c.next)
		if err != nil {
			if c.dropped() {
				c.next = 0 // seek says what has become of it
				continue
			}
			if err := c.lost(err); err != nil {
				return change.Sealed{}, err
			}
			continue
		}
		h := &f.Header
		if h.Epoch == c.pos.Epoch && h.First > c.pos.Seq+1 || h.Epoch > c.pos.Epoch && h.First > 1 {
			return change.Sealed{}, c.lost(fmt.Errorf("the log goes on with transaction %d", h.First))
		}
		c.next++
		if !c.pos.Before(change.Position{Epoch: h.Epoch, Seq: h.Last}) {
			continue // the rest of what was reported lost
		}
		if !h.More {
			c.pos = change.Position{Epoch: h.Epoch, Seq: h.Last}
		}
		return f, nil
	}
}

// seek makes next point to an entry that may be read, or waits for one and
// returns false.
func (c *Cursor) seek(ctx context.Context) (bool, error) {
	q := c.q
	q.mu.Lock()
	if q.closing {
		q.mu.Unlock()
		return false, ErrClosed
	}
	x := &q.ix
	grown, empty := q.grown, x.visible == 0
	switch {
	case empty:
	case c.next == 0 && c.pos.Seq == 0 && x.tail.Epoch < c.pos.Epoch:
		empty = true // it waits for an epoch to begin
	case c.next == 0:
		start, err := c.start(x)
		q.mu.Unlock()
		if err != nil {
			return false, err
		}
		return false, c.find(start)
	case c.next < x.first && !q.gaveWayAfter(c.pos):
		q.mu.Unlock()
		return false, ErrBehind
	case c.next < x.first:
		c.next = 0
		q.mu.Unlock()
		return false, nil
	default:
		c.next = x.skipVoid(c.next)
		empty = c.next > x.visible
	}
	q.mu.Unlock()
	if empty {
		return false, wait(ctx, grown)
	}
	return true, nil
}

// start returns the checkpoint from which to look for the position; mu is held.
func (c *Cursor) start(x *index) (uint64, error) {
	if x.tail.Before(c.pos) {
		return 0, fmt.Errorf("%w: it is at %s, the queue ends at %s", ErrAhead, c.pos, x.tail)
	}
	oldest := x.checkpoints[0].start
	follows := change.Position{Epoch: c.pos.Epoch, Seq: c.pos.Seq + 1}
	if x.checkpoints[0].index > x.first && c.pos.Before(oldest) {
		return x.first, nil // the oldest frames cannot be read: they are lost, not dropped
	}
	if c.q.gaveWayAfter(c.pos) {
		e := &LostError{Epoch: oldest.Epoch, First: follows.Seq, Last: c.q.gaveWay.Seq, Err: ErrGaveWay}
		c.pos = c.q.gaveWay
		return 0, e
	}
	if oldest.Epoch > c.pos.Epoch && oldest.Seq > 1 || oldest.Epoch == c.pos.Epoch && follows.Before(oldest) {
		return 0, fmt.Errorf("%w: it is at %s, the oldest frame kept starts at %s", ErrBehind, c.pos, oldest)
	}
	return x.before(follows).index, nil
}

// find walks from entry i to the first frame that ends after the position.
func (c *Cursor) find(i uint64) error {
	q := c.q
	for {
		q.mu.Lock()
		i = max(q.ix.skipVoid(i), q.ix.first)
		e, visible := q.ix.recent[i%recentFrames], q.ix.visible
		q.mu.Unlock()
		if i > visible {
			break
		}
		if e.index != i {
			h, size, err := q.readHeader(i)
			if errors.Is(err, ErrClosed) {
				return err
			}
			if err != nil {
				break // Next reports what is lost here
			}
			e = newEntry(i, &h, size)
		}
		if c.pos.Before(e.end()) {
			break
		}
		i++
	}
	c.next = i
	return nil
}

func (c *Cursor) load(i uint64) (change.Sealed, error) {
	raw, err := c.q.read(i)
	if err != nil {
		return change.Sealed{}, err
	}
	return change.Parse(raw)
}

func (c *Cursor) dropped() bool {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	return c.next < c.q.ix.first
}

// lost moves the cursor to the next transaction that can be read whole and
// returns what lies between, nil if that is nothing.
func (c *Cursor) lost(cause error) error {
	if errors.Is(cause, ErrClosed) {
		return cause
	}
	q := c.q
	q.mu.Lock()
	visible, tail := q.ix.visible, q.ix.tail
	q.mu.Unlock()
	e := &LostError{Epoch: tail.Epoch, First: c.pos.Seq + 1, Last: tail.Seq, Err: cause}
	i := c.next
	for ; i <= visible; i++ {
		q.mu.Lock()
		skip := q.ix.skipVoid(i)
		q.mu.Unlock()
		if skip != i {
			i = skip - 1
			continue
		}
		f, err := c.load(i)
		if err != nil {
			continue
		}
		// What the cursor stands at is whole if it starts a transaction after
		// the position; a part of one whose first part is gone is not.
		if f.Header.Part == 0 && c.pos.Before(change.Position{Epoch: f.Header.Epoch, Seq: f.Header.First}) {
			e.Epoch, e.Last = f.Header.Epoch, f.Header.First-1
			break
		}
	}
	if e.Epoch != c.pos.Epoch {
		e.First = 1
	}
	c.next = i
	if e.Last < e.First {
		return nil // what is damaged had no more to say
	}
	c.pos = change.Position{Epoch: e.Epoch, Seq: e.Last}
	q.o.Log.Error("frames cannot be read", "part", "queue", "epoch", e.Epoch, "first", e.First, "last", e.Last, "err", cause)
	return e
}
