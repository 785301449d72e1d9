package queue

import (
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// Stats is the state of the queue. Its numbers belong together.
type Stats struct {
	// Epoch, First and Last are the newest epoch and the numbers held of it;
	// Acked is the last acknowledged, 0 when that was in an older epoch.
	Epoch, First, Last, Acked uint64
	// Frames, Changes, Transactions and Bytes wait to be acknowledged.
	Frames, Changes, Transactions, Bytes int64
	// DiskBytes is the size of the files, kept frames included.
	DiskBytes int64
	// OldestCommit is when the first transaction that waits was committed;
	// zero when none does.
	OldestCommit time.Time
	// LimitBytes is Options.MaxBytes.
	LimitBytes int64
	// Marked is the WAL position that Mark noted.
	Marked uint64
	// GaveWay is the last transaction of the newest epoch that GiveWay gave up
	// and the other side has not been told of; 0 when there is none.
	GaveWay uint64
}

// Stats is cheap and never waits for the disk.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := &q.ix
	w := x.waiting()
	s := Stats{
		Epoch: x.tail.Epoch, Last: x.tail.Seq,
		Frames: w.frames, Changes: w.changes, Transactions: w.txs, Bytes: w.bytes,
		DiskBytes: q.files.bytes.Load(), LimitBytes: q.o.MaxBytes, Marked: q.marked,
	}
	if q.acked.Epoch == x.tail.Epoch {
		s.Acked = q.acked.Seq
	}
	if q.gaveWay.Epoch == x.tail.Epoch && q.acked.Before(q.gaveWay) {
		s.GaveWay = q.gaveWay.Seq
	}
	if len(x.checkpoints) > 0 {
		s.First = 1
		if c := x.checkpoints[0].start; c.Epoch == x.tail.Epoch {
			s.First = c.Seq
		}
	}
	if w.frames > 0 && x.oldest != 0 {
		s.OldestCommit = time.UnixMicro(x.oldest)
	}
	return s
}

// Acked returns the last acknowledged position.
func (q *Queue) Acked() change.Position {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acked
}

// moveAck walks the index to the last entry that p acknowledges. appendMu is
// held, or the queue is not shared yet.
func (q *Queue) moveAck(p change.Position) {
	q.mu.Lock()
	x := &q.ix
	i, s := max(x.ackIndex+1, x.first), x.ackSums
	if len(x.checkpoints) > 0 {
		// All before a checkpoint that starts at or before p is acknowledged.
		if c := x.before(p); c.index > i && !p.Before(c.start) {
			i, s = c.index, c.before
			x.ackIndex, x.ackSums = i-1, s
		}
	}
	q.mu.Unlock()
	for {
		q.mu.Lock()
		i = x.skipVoid(i)
		end := i > x.visible
		e := x.recent[i%recentFrames]
		if end {
			x.oldest = 0
		}
		q.mu.Unlock()
		if end {
			return
		}
		if e.index != i {
			h, size, err := q.readHeader(i)
			if err != nil {
				i++ // its fate is that of the next one that can be read
				continue
			}
			e = newEntry(i, &h, size)
		}
		if p.Before(e.end()) {
			q.mu.Lock()
			x.oldest = e.micros
			q.mu.Unlock()
			return
		}
		s.add(&e)
		q.mu.Lock()
		x.ackIndex, x.ackSums = i, s
		q.mu.Unlock()
		i++
	}
}

// readHeader returns the header and the size of a frame, unverified.
func (q *Queue) readHeader(i uint64) (change.Header, int, error) {
	raw, err := q.read(i)
	if err != nil {
		return change.Header{}, 0, err
	}
	h, err := change.Peek(raw)
	return h, len(raw), err
}

// read returns a copy of the bytes of entry i.
func (q *Queue) read(i uint64) ([]byte, error) {
	q.walMu.RLock()
	defer q.walMu.RUnlock()
	return q.log.get(i)
}
