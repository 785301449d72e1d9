package queue

import (
	"fmt"
	"slices"
	"sort"

	"github.com/agogsaas/holdfast/internal/change"
)

// The index is what is known of the frames without reading them: a checkpoint
// every so often with the sums up to there, the last few thousand frames, and
// the tail. A month's backlog costs it some hundred kilobytes.

const (
	checkpointFrames = 256
	checkpointBytes  = 4 << 20
	recentFrames     = 4096
)

// sums counts frames from the beginning of the log.
type sums struct {
	frames, txs, changes, bytes int64
}

func (s sums) minus(t sums) sums {
	return sums{s.frames - t.frames, s.txs - t.txs, s.changes - t.changes, s.bytes - t.bytes}
}

// entry is one frame's place in the log and what counts of it.
type entry struct {
	index   uint64
	epoch   uint64
	first   uint64
	last    uint64
	more    bool
	changes uint32
	bytes   int
	micros  int64
}

func newEntry(index uint64, h *change.Header, size int) entry {
	return entry{index, h.Epoch, h.First, h.Last, h.More, h.Changes, size, h.CommitMicros}
}

func (e *entry) end() change.Position { return change.Position{Epoch: e.epoch, Seq: e.last} }

func (s *sums) add(e *entry) {
	s.frames++
	s.changes += int64(e.changes)
	s.bytes += int64(e.bytes)
	if !e.more {
		s.txs += int64(e.last - e.first + 1) // a big transaction counts with its last part
	}
}

// checkpoint is a frame that starts a transaction, and the sums before it.
type checkpoint struct {
	index  uint64
	start  change.Position
	before sums
}

// span is entries of the log that do not count: parts of a transaction whose
// rest never came.
type span struct{ from, to uint64 }

// order is what the next frame must follow.
type order struct {
	tail     change.Position // last whole transaction
	open     uint64          // number of the unfinished big transaction, or 0
	nextPart uint32
}

// follow returns the order after h, and whether the parts before h are void.
func (o order) follow(h *change.Header) (next order, void bool, err error) {
	if o.open != 0 && h.Epoch == o.tail.Epoch && h.First == o.open && h.Part == o.nextPart {
		next = o
	} else {
		next, void = order{tail: o.tail}, o.open != 0
		switch {
		case h.Part != 0:
			return o, false, fmt.Errorf("%w: part %d of transaction %d:%d without the part before it", ErrOrder, h.Part, h.Epoch, h.First)
		case h.Epoch < o.tail.Epoch:
			return o, false, fmt.Errorf("%w: epoch %d after epoch %d", ErrOrder, h.Epoch, o.tail.Epoch)
		case h.Epoch > o.tail.Epoch && h.First != 1:
			return o, false, fmt.Errorf("%w: transaction %d is the first of epoch %d", ErrOrder, h.First, h.Epoch)
		case h.Epoch == o.tail.Epoch && h.First != o.tail.Seq+1:
			return o, false, fmt.Errorf("%w: transaction %d:%d after %s", ErrOrder, h.Epoch, h.First, o.tail)
		}
	}
	if h.More {
		// The epoch is noted before its first transaction is whole.
		if h.Epoch != next.tail.Epoch {
			next.tail = change.Position{Epoch: h.Epoch}
		}
		next.open, next.nextPart = h.First, h.Part+1
		return next, void, nil
	}
	return order{tail: change.Position{Epoch: h.Epoch, Seq: h.Last}}, void, nil
}

// index is guarded by Queue.mu.
type index struct {
	first, last uint64 // entries in the log; last is 0 when there are none
	order       order
	openFrom    uint64 // the entry where the unfinished transaction starts
	openSums    sums   // the sums before it
	voids       []span
	checkpoints []checkpoint
	total       sums // of all entries that count, unfinished parts included
	recent      [recentFrames]entry

	// visible is the last entry of tail, the last whole transaction.
	visible     uint64
	visibleSums sums
	tail        change.Position
	tailLSN     uint64

	// ackIndex is the last entry that is acknowledged; oldest is the commit
	// time of the first transaction after it, or 0.
	ackIndex uint64
	ackSums  sums
	oldest   int64

	// visit is told of each entry while the index is built; nil is fine.
	visit func(i uint64, h *change.Header, size int)
}

// check returns the entry that frames would start at, or why they do not follow.
func (x *index) check(frames []change.Sealed) (uint64, error) {
	o := x.order
	var err error
	for i := range frames {
		if o, _, err = o.follow(&frames[i].Header); err != nil {
			return 0, err
		}
	}
	return x.last + 1, nil
}

// add counts a frame that was checked.
func (x *index) add(h *change.Header, size int) {
	next, void, err := x.order.follow(h)
	if err != nil {
		// Only a damaged log comes here (scan); go on from what is there.
		next, void = order{tail: change.Position{Epoch: h.Epoch, Seq: h.Last}}, x.order.open != 0
		if h.More {
			next = order{tail: change.Position{Epoch: h.Epoch, Seq: h.First - 1}, open: h.First, nextPart: h.Part + 1}
		}
	}
	if x.first == 0 {
		x.first = 1
	}
	x.last = max(x.last+1, x.first)
	if x.visit != nil {
		x.visit(x.last, h, size)
	}
	if void {
		x.voids = append(x.voids, span{x.openFrom, x.last - 1})
		x.total = x.openSums
	}
	if next.open != 0 && (x.order.open == 0 || void) {
		x.openFrom, x.openSums = x.last, x.total
	}
	if h.Part == 0 {
		x.checkpoint(h)
	}
	e := newEntry(x.last, h, size)
	x.recent[x.last%recentFrames] = e
	x.total.add(&e)
	x.order = next
	if next.open == 0 {
		x.visible, x.visibleSums = x.last, x.total
		x.tail, x.tailLSN = next.tail, h.LSN
		if x.oldest == 0 {
			x.oldest = h.CommitMicros
		}
	}
}

// addUnreadable counts an entry whose header cannot be trusted.
func (x *index) addUnreadable() {
	if x.first == 0 {
		x.first = 1
	}
	x.last = max(x.last+1, x.first)
	if x.visit != nil {
		x.visit(x.last, nil, 0)
	}
	x.recent[x.last%recentFrames] = entry{}
}

func (x *index) checkpoint(h *change.Header) {
	if n := len(x.checkpoints); n > 0 {
		c := &x.checkpoints[n-1]
		if x.last-c.index < checkpointFrames && x.total.bytes-c.before.bytes < checkpointBytes {
			return
		}
	}
	x.checkpoints = append(x.checkpoints, checkpoint{x.last, change.Position{Epoch: h.Epoch, Seq: h.First}, x.total})
}

// before returns the last checkpoint that starts at or before p, or the first.
func (x *index) before(p change.Position) checkpoint {
	i := sort.Search(len(x.checkpoints), func(i int) bool { return p.Before(x.checkpoints[i].start) })
	return x.checkpoints[max(i-1, 0)]
}

// skipVoid returns the first entry from i on that counts.
func (x *index) skipVoid(i uint64) uint64 {
	for _, v := range x.voids {
		if v.from <= i && i <= v.to {
			i = v.to + 1
		}
	}
	return i
}

// clampAck keeps an acknowledgement from being ahead of truth.
func (x *index) clampAck(p change.Position) change.Position {
	if x.tail.Before(p) {
		return x.tail
	}
	return p
}

// droppable returns the first entry to keep, so that keep bytes of
// acknowledged frames remain, and 0 when dropping would not give a segment
// back. The last whole transaction always stays.
func (x *index) droppable(keep, step int64) uint64 {
	if len(x.checkpoints) == 0 {
		return 0
	}
	i := sort.Search(len(x.checkpoints), func(i int) bool {
		c := &x.checkpoints[i]
		return c.index > x.ackIndex || c.index > x.visible || x.ackSums.bytes-c.before.bytes < keep
	}) - 1
	if i < 1 {
		return 0
	}
	if keep > 0 && x.checkpoints[i].before.bytes-x.checkpoints[0].before.bytes < step/4 {
		return 0
	}
	return x.checkpoints[i].index
}

// upTo returns the entry to keep from, min or earlier, so that everything after
// p stays; 0 when that is everything.
func (x *index) upTo(min uint64, p change.Position) uint64 {
	// The first checkpoint that starts after p may be in the middle of what
	// follows p; the one before it is not.
	i := sort.Search(len(x.checkpoints), func(i int) bool { return p.Before(x.checkpoints[i].start) }) - 1
	if i < 1 {
		return 0
	}
	if c := x.checkpoints[i].index; c < min {
		return c
	}
	return min
}

// dropBefore forgets the entries before min, which is a checkpoint's.
func (x *index) dropBefore(min uint64) {
	x.first = min
	i := sort.Search(len(x.checkpoints), func(i int) bool { return x.checkpoints[i].index >= min })
	x.checkpoints = slices.Delete(x.checkpoints, 0, i)
	x.voids = slices.DeleteFunc(x.voids, func(v span) bool { return v.to < min })
}

// waiting counts what is not acknowledged.
func (x *index) waiting() sums { return x.visibleSums.minus(x.ackSums) }
