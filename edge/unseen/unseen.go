// Package unseen tells which rows of the box were changed by transactions that
// the region had not seen when it made a change of its own.
//
// They are the ones that are in the queue after the position up to which the
// region had seen it. An index over these frames finds a row's changes:
//
//	unseen.go   the index is brought up to the queue's end when somebody asks
//	block.go    it holds fingerprints of keys, in sorted blocks
//	exact.go    the frames that match are opened, and tell what was done
//	order.go    which keys lie in a key range
//
// Little is read before the first question, and what the region has seen is
// forgotten. But where a backlog waits it is read as it grows: the first change
// that comes down after an outage is not to wait until days are read.
//
// In:  internal/apply, which asks before it applies what comes down.
// Out: internal/queue, which is read again.
package unseen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

// Limits of the index.
const (
	// maxFingerprints bounds the memory: at six bytes each some 48 MB. Of the
	// oldest blocks beyond it only the places of the frames are kept, and every
	// question opens them.
	maxFingerprints = 8 << 20
	// aheadFrom is how much must wait in the queue to be read before a question,
	// and aheadEvery how often that is looked at; aheadAgain, when it cannot be read.
	// It is read for aheadSlice at a time, and others have their turn in between.
	aheadFrom  = 1 << 20
	aheadEvery = time.Second
	aheadAgain = 30 * time.Second
	aheadSlice = 10 * time.Millisecond
	// cachedBodies is how many opened frames are kept: rows that are asked for
	// repeatedly are mostly the same.
	cachedBodies = 4
)

// Index is an apply.Local over the queue. It may be used by several goroutines.
type Index struct {
	q       *queue.Queue
	settled func(context.Context) error

	mu     sync.Mutex
	begun  bool
	from   change.Position // the index holds what comes after
	seen   change.Position // what Seen was called with last
	cursor *queue.Cursor
	blocks []*block
	tables map[string]*tableKeys
	max    int // fingerprints
	cache  []cached
}

// New returns an index over q. settled returns once every transaction that was
// committed before the call is in q.
func New(q *queue.Queue, settled func(context.Context) error) *Index {
	return &Index{q: q, settled: settled, max: maxFingerprints, tables: map[string]*tableKeys{}}
}

// Settled is apply.Local's.
func (x *Index) Settled(ctx context.Context) error { return x.settled(ctx) }

// Seen says that nobody will ask for what is not after p.
func (x *Index) Seen(p change.Position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = p
	n := 0
	for n < len(x.blocks) && !p.Before(x.blocks[n].end) {
		x.from = x.blocks[n].end
		n++
	}
	x.blocks = append([]*block(nil), x.blocks[n:]...)
}

// Run reads a backlog as it grows, until ctx is done.
func (x *Index) Run(ctx context.Context) error {
	wait := time.NewTimer(aheadEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		next := aheadEvery
		for more := true; more; {
			var err error
			if more, err = x.readAhead(ctx); err != nil {
				next = aheadAgain // whoever asks meets what is wrong, and says so
			}
		}
		wait.Reset(next)
	}
}

// readAhead reads some of a backlog, and reports whether there is more.
func (x *Index) readAhead(ctx context.Context) (more bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	tail, _, ok := x.q.Tail()
	if !ok || !x.seen.Before(tail) || x.seen == (change.Position{}) || x.q.Stats().Bytes < aheadFrom {
		return false, nil
	}
	if err := x.upTo(ctx, tail, x.seen, aheadSlice); err != nil {
		return false, err
	}
	return x.cursor.Position().Before(tail), nil
}

// upTo brings the index up to tail, for questions about what comes after seen. It ends
// before that after about most, if that is not 0.
func (x *Index) upTo(ctx context.Context, tail, seen change.Position, most time.Duration) error {
	if !x.begun || seen.Before(x.from) || x.cursor.Position().Before(seen) {
		x.reset(seen)
	}
	return x.extend(ctx, tail, most)
}

// Touched is apply.Local's.
func (x *Index) Touched(ctx context.Context, seen change.Position, keys apply.Keys) (map[int]apply.Touch, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	tail, _, ok := x.q.Tail()
	if !ok || !seen.Before(tail) {
		return nil, nil
	}
	if err := x.upTo(ctx, tail, seen, 0); err != nil {
		return nil, err
	}
	if len(keys.Rows) == 0 {
		return nil, nil
	}
	a := newAsked(keys)
	for _, b := range x.blocks {
		if !seen.Before(b.end) {
			continue
		}
		if err := x.search(ctx, b, seen, a); err != nil {
			return nil, err
		}
	}
	return a.touched(), nil
}

// reset begins anew after p.
func (x *Index) reset(p change.Position) {
	x.begun, x.from, x.blocks, x.cache = true, p, nil, nil
	clear(x.tables)
	x.cursor = x.q.Cursor(p)
}

// extend reads the queue up to tail. What cannot be read counts as having
// touched everything.
func (x *Index) extend(ctx context.Context, tail change.Position, most time.Duration) error {
	var add *block
	began := time.Now()
	for x.cursor.Position().Before(tail) && (most == 0 || time.Since(began) < most) {
		f, err := x.cursor.Next(ctx)
		var lost *queue.LostError
		switch {
		case errors.As(err, &lost):
			x.add(add)
			add = nil
			x.add(lostBlock(change.Position{Epoch: lost.Epoch, Seq: lost.First}, change.Position{Epoch: lost.Epoch, Seq: lost.Last}))
			continue
		case errors.Is(err, queue.ErrBehind):
			x.add(add)
			add = nil
			if err := x.skipDropped(); err != nil {
				return err
			}
			continue
		case err != nil:
			x.begun = false // what was read of it is not in a block
			return fmt.Errorf("read what the region has not seen: %w", err)
		}
		if add != nil && !add.takes(&f.Header) {
			x.add(add)
			add = nil
		}
		if add == nil {
			add = newBlock(&f.Header)
		}
		if err := x.index(add, &f); err != nil {
			x.begun = false
			return err
		}
	}
	x.add(add)
	return nil
}

// skipDropped goes on at the oldest frame that is held: what the region had not
// seen before it is gone.
func (x *Index) skipDropped() error {
	s := x.q.Stats()
	oldest := change.Position{Epoch: s.Epoch, Seq: s.First - 1}
	if !x.cursor.Position().Before(oldest) {
		x.begun = false
		return fmt.Errorf("read what the region has not seen: %w", queue.ErrBehind)
	}
	x.add(lostBlock(change.Position{Epoch: oldest.Epoch, Seq: 1}, oldest))
	x.cursor = x.q.Cursor(oldest)
	return nil
}

// index adds the keys of a frame to the block.
func (x *Index) index(b *block, f *change.Sealed) error {
	h := &f.Header
	n := b.frame(h)
	if h.Kind == change.Gap {
		b.wide = append(b.wide, wide{frame: n, all: true})
	} else {
		body, err := f.OpenBounds()
		if err != nil {
			return fmt.Errorf("read what the region has not seen: %w", err)
		}
		x.indexBody(b, n, body)
	}
	b.end = change.Position{Epoch: h.Epoch, Seq: h.Last}
	return nil
}

func (x *Index) indexBody(b *block, n uint16, body *change.Body) {
	tables := make([]*tableKeys, len(body.Tables))
	for i := range body.Tables {
		tables[i] = x.table(&body.Tables[i])
	}
	for i := range body.Txs {
		for j := range body.Txs[i].Changes {
			c := &body.Txs[i].Changes[j]
			if !c.Op.OfRows() {
				continue
			}
			t := tables[c.Table]
			switch c.Op {
			case change.Truncate:
				b.wide = append(b.wide, wide{frame: n, table: t.id})
			case change.Range:
				// Copies: they are all that is kept of the frame.
				b.wide = append(b.wide, wide{frame: n, table: t.id, keyed: true, after: copyRow(c.Range.After), upTo: copyRow(c.Range.UpTo), order: t.order})
			default:
				if c.Key != nil {
					b.add(t.print(t.fromKey(c.Key)), n)
				}
				if c.Row != nil {
					b.add(t.print(t.fromRow(c.Row, c.Absent, c.Key)), n)
				}
			}
		}
	}
}

func copyRow(row change.Row) change.Row {
	row = slices.Clone(row)
	for i := range row {
		row[i] = bytes.Clone(row[i])
	}
	return row
}

// add takes a block that is complete, and makes larger ones of small ones.
func (x *Index) add(b *block) {
	if b == nil {
		return
	}
	b.sort()
	x.blocks = append(x.blocks, b)
	for n := len(x.blocks); n > 1; n = len(x.blocks) {
		p, q := x.blocks[n-2], x.blocks[n-1]
		if len(p.prints) > 2*len(q.prints)+64 || !p.joins(q) {
			break
		}
		x.blocks = append(x.blocks[:n-2], p.join(q))
	}
	total := 0
	for i := len(x.blocks) - 1; i >= 0; i-- {
		if total += len(x.blocks[i].prints); total > x.max {
			x.blocks[i].forget()
		}
	}
}
