package queue

import (
	"errors"
	"fmt"
	"sort"

	"github.com/agogsaas/holdfast/internal/change"
)

// ErrGaveWay is within a LostError: what is lost was given up for newer changes.
var ErrGaveWay = errors.New("the queue was full, and what had waited longest gave way")

// Front returns the oldest waiting transactions that could give way together:
// those after from, up to and including to, in frames of about so many bytes; false
// when there are none.
func (q *Queue) Front(bytes int64) (from, to change.Position, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := &q.ix
	from = q.acked
	if from.Before(q.gaveWay) {
		from = q.gaveWay
	}
	if from.Epoch != x.tail.Epoch {
		// Nothing of this epoch has left yet.
		if len(x.checkpoints) == 0 || x.checkpoints[0].start != (change.Position{Epoch: x.tail.Epoch, Seq: 1}) {
			return from, to, false
		}
		from = change.Position{Epoch: x.tail.Epoch}
	}
	first := sort.Search(len(x.checkpoints), func(i int) bool { return x.checkpoints[i].index > x.ackIndex+1 })
	beyond := sort.Search(len(x.checkpoints), func(i int) bool { return x.checkpoints[i].before.bytes-x.ackSums.bytes > bytes })
	i := max(first, beyond-1) // the first may be larger by itself
	if i >= len(x.checkpoints) || x.checkpoints[i].index > x.visible {
		return from, to, false
	}
	start := x.checkpoints[i].start
	to = change.Position{Epoch: start.Epoch, Seq: start.Seq - 1}
	return from, to, from.Before(to)
}

// GiveWay forgets everything up to to, as Front gave it, although it has not
// arrived: whoever reads it gets a LostError with ErrGaveWay. What of it must not
// be lost has to be elsewhere before.
func (q *Queue) GiveWay(to change.Position) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if q.broken {
		if err := q.reopen(); err != nil {
			return fmt.Errorf("reopen the log: %w", err)
		}
	}
	q.mu.Lock()
	if _, ok := q.ix.startsAfter(to); !ok {
		q.mu.Unlock()
		return nil // it has been acknowledged and dropped meanwhile
	}
	n := q.noteNow()
	n.GaveWay = to
	q.mu.Unlock()
	if err := q.note.save(n); err != nil {
		return fmt.Errorf("note what gives way: %w", err)
	}
	q.mu.Lock()
	q.gaveWay = to
	q.mu.Unlock()
	return q.finishGiveWay()
}

// finishGiveWay drops what was noted to give way. appendMu is held, or the queue
// is not shared yet.
func (q *Queue) finishGiveWay() error {
	q.mu.Lock()
	c, ok := q.ix.startsAfter(q.gaveWay)
	ok = ok && q.acked.Before(q.gaveWay)
	q.mu.Unlock()
	if !ok {
		return nil
	}
	h, _, err := q.readHeader(c.index)
	if err != nil {
		return fmt.Errorf("read what follows: %w", err)
	}
	q.mu.Lock()
	if q.ix.ackIndex < c.index {
		q.ix.ackIndex, q.ix.ackSums, q.ix.oldest = c.index-1, c.before, h.CommitMicros
	}
	q.mu.Unlock()
	return q.dropBefore(c.index)
}

// gaveWayAfter reports whether what follows p is no longer held because it gave
// way; mu is held.
func (q *Queue) gaveWayAfter(p change.Position) bool {
	if len(q.ix.checkpoints) == 0 || p.Epoch != q.gaveWay.Epoch || !p.Before(q.gaveWay) {
		return false
	}
	return q.ix.checkpoints[0].start == change.Position{Epoch: q.gaveWay.Epoch, Seq: q.gaveWay.Seq + 1}
}

// startsAfter returns the checkpoint that begins with what follows p.
func (x *index) startsAfter(p change.Position) (checkpoint, bool) {
	follows := change.Position{Epoch: p.Epoch, Seq: p.Seq + 1}
	i := sort.Search(len(x.checkpoints), func(i int) bool { return !x.checkpoints[i].start.Before(follows) })
	if i == len(x.checkpoints) || x.checkpoints[i].start != follows {
		return checkpoint{}, false
	}
	return x.checkpoints[i], true
}
