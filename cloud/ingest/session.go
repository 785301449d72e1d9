package ingest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/run"
)

// closeGrace is how long a session may take to end: its transaction is
// cancelled, which takes milliseconds while the database answers.
const closeGrace = 10 * time.Second

// drainMax is how long what was received may take to be applied when the link is
// gone, so that it need not be sent again. A box waits for longer for its welcome
// (10 s), and a window of a first load takes a few seconds.
const drainMax = 7 * time.Second

// Session takes the frames of one connected facility.
type Session struct {
	facility string
	applier  *apply.Applier
	begin    change.Position
	stack    *run.Stack
	durable  chan change.Position

	mu              sync.Mutex
	err             error // why it has ended
	ended           bool  // durable is closed
	closing         error // why nothing more is taken
	pushed, applied change.Position
	stuck           bool          // what was pushed waits for something
	moved           chan struct{} // closed and replaced when one of these changes
}

func (in *Ingest) newSession(ctx context.Context, facility string) (*Session, error) {
	log := in.cfg.Log.With("facility", facility)
	s := &Session{facility: facility, durable: make(chan change.Position, 1), stack: run.New(log), moved: make(chan struct{})}
	a, err := apply.New(ctx, in.pool, apply.Config{
		Facility: facility,
		Registry: in.tables.registry,
		OnApplied: func(p apply.Progress) {
			in.setStuck(facility, nil)
			s.note(func() { s.applied, s.stuck = p.Position, false })
			in.counters.add(facility, p)
			in.cfg.Applied(facility, p)
		},
		Whole:     in.whole(facility),
		OnDigest:  func(v apply.Verdict) { in.cfg.Verdict(facility, v) },
		OnDurable: s.isDurable,
		OnStuck: func(err error) {
			in.setStuck(facility, err)
			s.note(func() { s.stuck = err != nil })
		},
		Patience: in.cfg.Patience,
		GiveWay:  in.cfg.GiveWay,
		Park:     true,
		Log:      in.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s.applier, s.begin, s.applied = a, a.Durable(), a.Applied()
	s.stack.Go("apply "+facility, func(ctx context.Context) error { return s.run(ctx, log) })
	return s, nil
}

// whole tells of which tables a box has all rows, for one session: once it has, it has.
func (in *Ingest) whole(facility string) func(ctx context.Context, enrolment uint32, schema, table string) (bool, error) {
	type box struct {
		enrolment     uint32
		schema, table string
	}
	known := map[box]bool{}
	return func(ctx context.Context, enrolment uint32, schema, table string) (bool, error) {
		b := box{enrolment, schema, table}
		if !known[b] {
			yes, err := in.store.whole(ctx, facility, enrolment, schema, table)
			if err != nil {
				return false, err
			}
			known[b] = yes
		}
		return known[b], nil
	}
}

// run applies until the session is closed. A session that ends by itself
// stays, with its error, until it is closed.
func (s *Session) run(ctx context.Context, log *slog.Logger) error {
	err := s.applier.Run(ctx)
	if ctx.Err() == nil {
		log.Warn("session ended", "err", err)
	}
	s.finish(err)
	<-ctx.Done()
	return ctx.Err()
}

// finish closes Durable and keeps the first error.
func (s *Session) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !errors.Is(err, context.Canceled) {
		s.err = err
	}
	if !s.ended {
		s.ended = true
		close(s.durable)
		s.noteLocked()
	}
}

// note changes what drain looks at.
func (s *Session) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.noteLocked()
}

func (s *Session) noteLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// Position is the last transaction that was durable when the session began.
func (s *Session) Position() change.Position { return s.begin }

// Push takes a frame, waiting for room. An error ends the session; what was
// pushed before may or may not have been applied. The frame must not be
// changed afterwards.
func (s *Session) Push(ctx context.Context, f change.Sealed) error {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing != nil {
		return closing
	}
	err := s.applier.Push(ctx, f)
	if to := (change.Position{Epoch: f.Header.Epoch, Seq: f.Header.Last}); err == nil && !f.Header.More {
		s.note(func() {
			if s.pushed.Before(to) {
				s.pushed = to
			}
		})
	}
	if own := s.Err(); own != nil && err != nil {
		return own
	}
	return err
}

// Durable gives the newest position that is on the region's disk each time
// that it grows, and is closed when the session has ended.
func (s *Session) Durable() <-chan change.Position { return s.durable }

// Err says why the session ended by itself; nil before.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session when all that was pushed is applied. It does not wait
// for that when ctx ends, nor for longer than a few seconds, nor when it would
// wait for something else: what is not committed is undone then, and will be sent
// again. It may be called more than once.
func (s *Session) Close(ctx context.Context) {
	s.drain(ctx, ErrClosed)
	s.end(nil)
}

// ErrClosed is returned by Push after Close.
var ErrClosed = errors.New("the session is closed")

// drain takes nothing more, because of why, and waits for what was taken.
func (s *Session) drain(ctx context.Context, why error) {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	for {
		s.mu.Lock()
		s.closing = cmp.Or(s.closing, why)
		done, moved := s.ended || s.stuck || !s.applied.Before(s.pushed), s.moved
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Session) end(why error) {
	if why != nil {
		s.mu.Lock()
		if s.err == nil {
			s.err = why
		}
		s.mu.Unlock()
	}
	if err := s.stack.Stop(closeGrace); err != nil {
		s.finish(err)
	}
}

// isDurable replaces the position that waits in the channel with a newer one.
func (s *Session) isDurable(p change.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	select {
	case <-s.durable:
	default:
	}
	s.durable <- p
}
