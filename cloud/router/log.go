package router

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

// sink is the log as capture sees it. Capture numbers the region's transactions
// by itself; the numbers in the log are others.
type sink struct {
	r *Router

	mu     sync.Mutex // held while a batch is appended
	free   []*change.Builder
	told   map[string]bool // tables that were said not to be sent
	unsure *unsure
	// has is an append that failed and had taken place all the same.
	has []change.Sealed
}

func newSink(r *Router) *sink { return &sink{r: r, told: map[string]bool{}} }

// unsure is an append that failed and may have taken place all the same.
type unsure struct {
	split    *splitter
	captured []change.Sealed
}

// Append splits a captured batch and makes it durable, in one step.
func (s *sink) Append(captured ...change.Sealed) error {
	r := s.r
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(captured) == 0 || s.settle(captured) {
		return nil
	}
	p, err := s.splitAll(captured)
	if err != nil {
		return err
	}
	if len(p.out) == 0 {
		if p.lsn != 0 {
			// The slot moves on: what was read held nothing for anybody.
			if err := r.queue.Mark(p.lsn); err != nil {
				return err
			}
		}
		r.appended(p, captured)
		return nil
	}
	if err := r.c.AppendFault.Do(func() error { return r.queue.Append(p.out...) }); err != nil {
		s.unsure = &unsure{p, captured}
		return fmt.Errorf("append to the log of the way down: %w", err)
	}
	r.appended(p, captured)
	return nil
}

// settle finds out what became of an append that failed, and reports whether
// these frames were in it and are in the log. mu is held.
func (s *sink) settle(captured []change.Sealed) bool {
	if u := s.unsure; u != nil {
		s.unsure = nil
		tail, _, ok := s.r.queue.Tail()
		if ok && tail.Epoch == u.split.epoch && tail.Seq == u.split.seq {
			s.r.appended(u.split, u.captured)
			s.has = u.captured
		}
	}
	if len(captured) == 0 {
		return false
	}
	has := s.has
	s.has = nil
	return len(captured) == len(has) && bytes.Equal(captured[0].Bytes, has[0].Bytes)
}

func (s *sink) splitAll(captured []change.Sealed) (*splitter, error) {
	r := s.r
	r.mu.Lock()
	routes, state, epoch := r.routes, r.split, r.index.epoch
	r.mu.Unlock()
	p := newSplitter(state, epoch, captured[len(captured)-1].Header.LSN, routes, &s.free)
	p.passed, p.nobodys = s.notSent, s.notTold
	if p.open && captured[0].Header.Part == 0 {
		if err := p.void(); err != nil {
			return nil, err
		}
	}
	for i := range captured {
		body, err := captured[i].Open()
		if err != nil {
			return nil, fmt.Errorf("open a captured frame: %w", err)
		}
		if err := p.frame(&captured[i].Header, body); err != nil {
			return nil, err
		}
	}
	return p, p.end()
}

// appended counts what the log has now, and wakes those who wait.
func (r *Router) appended(p *splitter, captured []change.Sealed) {
	frames := p.out
	_, last := r.queue.Entries()
	entry := last - uint64(len(frames)) + 1
	r.mu.Lock()
	defer r.mu.Unlock()
	r.split = p.commit()
	before := r.index.tail
	woken := map[string]bool{}
	for _, w := range r.index.waiting {
		woken[w.bucket] = true
	}
	for i := range frames {
		f := &frames[i]
		r.cache.put(entry, *f)
		r.index.add(entry, &f.Header, len(f.Bytes))
		woken[f.Header.Reason] = true
		if !strings.HasPrefix(f.Header.Reason, "f:") {
			r.stats.Wide++
		}
		entry++
	}
	if r.index.tail != before {
		for name := range woken {
			r.index.wake(name)
		}
	}
	r.stats.Opened += uint64(len(captured))
	r.stats.Sealed += uint64(len(frames))
	notify(r.pruneLook)
}

// notSent says once that a table's changes reach nobody.
func (s *sink) notSent(table string) {
	if !s.told[table] {
		s.told[table] = true
		s.r.log.Debug("changes of a table that is not synced are passed over", "table", table)
	}
}

// notTold says once that removed rows of a table stay where they are.
func (s *sink) notTold(table string) {
	if id := "delete " + table; !s.told[id] {
		s.told[id] = true
		s.r.log.Error("rows that are removed here stay at their facility: the table's replica identity does not say whose they were, and the region has more than one tenant", "table", table)
	}
}

// Mark notes that the WAL up to lsn holds nothing that is missing.
func (s *sink) Mark(lsn uint64) error { return s.r.queue.Mark(lsn) }

// Marked returns what Mark noted last.
func (s *sink) Marked() uint64 { return s.r.queue.Marked() }

// Tail is in capture's numbers, which begin anew with each start.
func (s *sink) Tail() (change.Position, uint64, bool) {
	s.mu.Lock()
	s.settle(nil)
	s.mu.Unlock()
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return change.Position{Epoch: s.r.index.epoch, Seq: s.r.split.counted}, s.r.split.lsn, true
}

func (s *sink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure, s.has = nil, nil
}

// frames keeps the frames that are read most: those that have just come.
type frames struct {
	mu    sync.Mutex
	held  map[uint64]change.Sealed
	order []uint64
	bytes int
}

// cacheBytes bounds the frames that are kept in memory.
const cacheBytes = 32 << 20

func (c *frames) put(entry uint64, f change.Sealed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[uint64]change.Sealed{}
	}
	if _, ok := c.held[entry]; ok || len(f.Bytes) > cacheBytes/4 {
		return
	}
	c.held[entry] = f
	c.order = append(c.order, entry)
	c.bytes += len(f.Bytes)
	for c.bytes > cacheBytes {
		c.bytes -= len(c.held[c.order[0]].Bytes)
		delete(c.held, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *frames) get(entry uint64) (change.Sealed, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.held[entry]
	return f, ok
}

// frame returns an entry of the log, which is of the given epoch.
func (r *Router) frame(entry, epoch uint64) (change.Sealed, error) {
	if f, ok := r.cache.get(entry); ok {
		return f, nil
	}
	f, err := r.queue.Entry(entry)
	switch {
	case err == nil:
		r.cache.put(entry, f)
		r.mu.Lock()
		r.stats.Read++
		r.mu.Unlock()
		return f, nil
	case errors.Is(err, queue.ErrBehind):
		return f, ErrBehind
	case errors.Is(err, queue.ErrClosed):
		return f, err
	}
	r.needEpoch(epoch, gap{reason: "the log of the way down was damaged on disk: " + err.Error()})
	return f, ErrBehind
}

func (c *frames) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.order, c.bytes = nil, nil, 0
}
