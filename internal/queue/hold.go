package queue

import (
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// Hold keeps everything after p, whatever is acknowledged, because somebody
// still reads it here. It is not remembered across Open, and a later call
// replaces it: what may be dropped is dropped with the next Ack. Held frames
// count as acknowledged ones otherwise: they are given up when MaxBytes would
// be passed, and their reader gets ErrBehind.
func (q *Queue) Hold(p change.Position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = &p
}

// Headers calls fn with each entry of the log, in order: its place, its header
// (nil if it cannot be read) and the size of its frame. It is for building an
// index right after Open: nothing may have been appended since. A header is
// believed as far as its neighbours agree with it; Entry verifies.
func (q *Queue) Headers(fn func(i uint64, h *change.Header, size int)) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	x := &index{visit: fn}
	if err := x.scan(q.log, q.o.Dir); err != nil {
		return fmt.Errorf("read the headers: %w", err)
	}
	return nil
}

// Entry returns the frame at place i of the log, verified. Places count from 1
// and are never given twice; the first Append takes the one after Last.
func (q *Queue) Entry(i uint64) (change.Sealed, error) {
	q.mu.Lock()
	first, last := q.ix.first, q.ix.last
	q.mu.Unlock()
	switch {
	case i < first:
		return change.Sealed{}, ErrBehind
	case i > last:
		return change.Sealed{}, fmt.Errorf("%w: entry %d of %d", ErrAhead, i, last)
	}
	raw, err := q.read(i)
	if err != nil {
		return change.Sealed{}, err
	}
	return change.Parse(raw)
}

// Entries returns the places of the first and the last frame that are held; 0,
// 0 when there never was one.
func (q *Queue) Entries() (first, last uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ix.first, q.ix.last
}

// HeldBytes is the size of all frames that are held, acknowledged or not.
func (q *Queue) HeldBytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ix.checkpoints) == 0 {
		return 0
	}
	return q.ix.total.bytes - q.ix.checkpoints[0].before.bytes
}
