package ingest

import (
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

// Session takes the frames of one connected facility.
type Session struct {
	facility string
	applier  *apply.Applier
	begin    change.Position
	stack    *run.Stack
	durable  chan change.Position

	mu    sync.Mutex
	err   error // why it has ended
	ended bool  // durable is closed
}

func (in *Ingest) newSession(ctx context.Context, facility string) (*Session, error) {
	log := in.cfg.Log.With("facility", facility)
	s := &Session{facility: facility, durable: make(chan change.Position, 1), stack: run.New(log)}
	a, err := apply.New(ctx, in.pool, apply.Config{
		Facility: facility,
		Registry: in.tables.registry,
		OnApplied: func(p apply.Progress) {
			in.setStuck(facility, nil)
			in.counters.add(facility, p)
			in.cfg.Applied(facility, p)
		},
		OnDigest:  func(v apply.Verdict) { in.cfg.Verdict(facility, v) },
		OnDurable: s.isDurable,
		OnStuck:   func(err error) { in.setStuck(facility, err) },
		Patience:  in.cfg.Patience,
		Park:      true,
		Log:       in.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s.applier, s.begin = a, a.Durable()
	s.stack.Go("apply "+facility, func(ctx context.Context) error { return s.run(ctx, log) })
	return s, nil
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
	}
}

// Position is the last transaction that was durable when the session began.
func (s *Session) Position() change.Position { return s.begin }

// Push takes a frame, waiting for room. An error ends the session; what was
// pushed before may or may not have been applied. The frame must not be
// changed afterwards.
func (s *Session) Push(ctx context.Context, f change.Sealed) error {
	err := s.applier.Push(ctx, f)
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

// Close ends the session: what is not committed is undone. It may be called
// more than once.
func (s *Session) Close() { s.end(nil) }

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
