package relay

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	retransmit  = 200 * time.Millisecond // what a lost chunk costs TCP
	overtakeBy  = 10 * time.Millisecond  // how far a reordered packet falls back
	narrowQueue = 250 * time.Millisecond // worth of bytes before a narrow link
)

// link decides what happens to each packet of one direction.
type link struct {
	mu     sync.Mutex
	faults Faults
	rng    *rand.Rand
	free   time.Time     // when the bandwidth is free again
	open   chan struct{} // closed while not cut
	cut    bool
	stats  Stats
}

func newLink(seed, direction uint64) *link {
	open := make(chan struct{})
	close(open)
	return &link{rng: rand.New(rand.NewPCG(seed, direction)), open: open}
}

func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == cut {
		return
	}
	l.cut = cut
	if cut {
		l.open = make(chan struct{})
	} else {
		close(l.open)
	}
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

func (l *link) setFaults(f Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
	l.free = time.Time{}
}

func (l *link) count() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

func (l *link) passed(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Packets++
	l.stats.Bytes += uint64(n)
}

func (l *link) dropped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Dropped++
}

// gate waits until the link is not cut.
func (l *link) gate(ctx context.Context) error {
	for {
		l.mu.Lock()
		open, cut := l.open, l.cut
		l.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-open:
		}
	}
}

// planPacket says when a datagram of n bytes is to be delivered, or that it is
// lost.
func (l *link) planPacket(n int, now time.Time) (due time.Time, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults
	// Chance is drawn for every packet, cut or not, so that what a seed
	// decides does not depend on when the cut came.
	lose, overtaken := l.chance(f.Loss), l.chance(f.Reorder)
	if l.cut || lose {
		l.stats.Dropped++
		return now, true
	}
	if l.queued(now) > narrowQueue {
		l.stats.Dropped++
		return now, true
	}
	due = l.narrow(n, now).Add(f.Delay + l.jitter(f.Jitter))
	if overtaken {
		due = due.Add(overtakeBy)
	}
	return due, false
}

// planChunk says when n bytes of a stream are to be delivered, and how long to
// read no more because the queue before a narrow link is full. A stream may
// not lose anything, so everything that goes wrong costs time.
func (l *link) planChunk(n int, now time.Time) (due time.Time, hold time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults
	due = l.narrow(n, now).Add(f.Delay + l.jitter(f.Jitter))
	if l.chance(f.Loss) {
		l.stats.Dropped++
		due = due.Add(retransmit + f.Delay)
	}
	return due, max(0, l.queued(now)-narrowQueue)
}

// The rest is called with mu held.

func (l *link) chance(p float64) bool { return p > 0 && l.rng.Float64() < p }

func (l *link) jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(l.rng.Int64N(int64(most)))
}

// queued is how long what waits before a narrow link takes to pass.
func (l *link) queued(now time.Time) time.Duration { return max(0, l.free.Sub(now)) }

// narrow returns when n bytes have passed the bandwidth limit.
func (l *link) narrow(n int, now time.Time) time.Time {
	rate := l.faults.BytesPerSecond
	if rate <= 0 {
		return now
	}
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / rate))
	return l.free
}
