package fleet

import (
	"context"
	"sync"
)

// Event says which facilities have changed since the reader's last one.
type Event struct {
	Facilities map[string]struct{} // ids; the reader owns the map
}

// sub is one reader. Its channel holds at most one event, which grows while
// the reader is busy: a slow reader gets the latest state, not all of them.
type sub struct {
	mu     sync.Mutex
	ch     chan Event
	closed bool
}

func (s *sub) tell(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	var e Event
	select {
	case e = <-s.ch:
	default:
		e.Facilities = make(map[string]struct{}, 1)
	}
	e.Facilities[id] = struct{}{}
	s.ch <- e // only tell sends, and it has just made room
}

// Subscribe returns a channel of changes. It is closed when ctx is done. The
// reader takes what it needs from Snapshot or Facility; how often it reads is
// its own affair.
func (f *Fleet) Subscribe(ctx context.Context) <-chan Event {
	s := &sub{ch: make(chan Event, 1)}
	f.mu.Lock()
	f.subs[s] = struct{}{}
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		delete(f.subs, s)
		f.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = true
		close(s.ch)
	})
	return s.ch
}
