package downlink

import (
	"context"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// Session applies what one stream brings. What the local database refuses is
// parked; only what cannot be kept holds the stream up, visibly, for as long as
// it takes. The way up goes on meanwhile.
type Session struct {
	down    *Downlink
	applier *apply.Applier
	begin   change.Position
	durable chan change.Position
}

// Position is the last of the region's transactions that was durable here when
// the session began; zero when none was.
func (s *Session) Position() change.Position { return s.begin }

// Run applies until ctx is done or the stream cannot go on: the next one begins
// where this one has come to.
func (s *Session) Run(ctx context.Context) error {
	s.down.set(func(st *State) { st.Running = true })
	err := s.applier.Run(ctx)
	s.down.set(func(st *State) {
		st.Running = false
		if ctx.Err() == nil {
			st.Problem = problem(err)
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("apply what came down: %w", err)
}

// Push takes a message of the stream, waiting for room.
func (s *Session) Push(ctx context.Context, m *proto.Down) error {
	f, err := change.Parse(m.Frame)
	if err != nil {
		return fmt.Errorf("read what came down: %w", err)
	}
	return s.applier.PushSparse(ctx, f, change.Position{Epoch: m.PrevEpoch, Seq: m.PrevSeq}, m.More)
}

// Durable gives the newest position that no crash can take back each time that
// it grows: this may be acknowledged.
func (s *Session) Durable() <-chan change.Position { return s.durable }

// isDurable replaces the position that waits in the channel with a newer one.
func (s *Session) isDurable(p change.Position) {
	select {
	case <-s.durable:
	default:
	}
	select {
	case s.durable <- p:
	default: // the applier is the only one that puts some in
	}
	s.down.set(func(st *State) { st.Position = p })
}

func (s *Session) applied(p apply.Progress) {
	if p.Parked > 0 {
		s.down.parked(p.Parked)
	}
	s.down.set(func(st *State) {
		st.AppliedAt, st.Problem = time.Now(), nil
		if !p.Committed.IsZero() {
			st.CommitAt = p.Committed
		}
	})
}

func (s *Session) stuck(err error) {
	s.down.set(func(st *State) {
		st.Problem = nil
		if err != nil {
			st.Problem = problem(err)
		}
	})
}
