package transfer

import (
	"context"
	"sync"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// Sender sends frames ahead of their acknowledgements, up to a window, and no
// faster than a limit.
type Sender struct {
	link   *Link
	window int64
	pace   *pacer
	more   bool // owned by SendDown: the next frame belongs to the one before

	mu       sync.Mutex
	inFlight []flight
	bytes    int64
	room     chan struct{} // holds a token when an acknowledgement made room
}

type flight struct {
	last  change.Position
	bytes int64
}

// NewSender returns a sender that keeps at most window bytes unacknowledged;
// a single larger frame is sent alone.
func NewSender(link *Link, window int64) *Sender {
	return &Sender{link: link, window: max(window, 1), pace: newPacer(), room: make(chan struct{}, 1)}
}

// Limit sets how many bytes of frames may be sent in a second, from now on; 0
// is as many as the link takes. Other messages are not counted and do not wait.
func (s *Sender) Limit(bytesPerSecond uint64) { s.pace.set(bytesPerSecond) }

// Send waits for room in the window and sends a frame. The parts of one big
// transaction cannot be acknowledged before the last, so they do not wait.
func (s *Sender) Send(ctx context.Context, f change.Sealed) error {
	if err := s.wait(ctx, f, f.Header.Part == 0); err != nil {
		return err
	}
	return s.link.Send(proto.TypeFrame, f.Bytes)
}

// SendDown is Send for the way down. Frames that belong together cannot be
// acknowledged one by one either. It is called from one goroutine.
func (s *Sender) SendDown(ctx context.Context, f change.Sealed, prev change.Position, more bool) error {
	if err := s.wait(ctx, f, f.Header.Part == 0 && !s.more); err != nil {
		return err
	}
	s.more = more
	return s.link.Send(proto.TypeDown, &proto.Down{PrevEpoch: prev.Epoch, PrevSeq: prev.Seq, Frame: f.Bytes, More: more})
}

// wait waits for room if the frame may wait, and for its turn, and counts it.
func (s *Sender) wait(ctx context.Context, f change.Sealed, may bool) error {
	size := int64(len(f.Bytes))
	for may && !s.fits(size) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.room:
		}
	}
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	s.pace.spend(len(f.Bytes))
	s.mu.Lock()
	s.inFlight = append(s.inFlight, flight{
		last: change.Position{Epoch: f.Header.Epoch, Seq: f.Header.Last}, bytes: size,
	})
	s.bytes += size
	s.mu.Unlock()
	return nil
}

func (s *Sender) fits(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes == 0 || s.bytes+size <= s.window
}

// Acked makes room: everything up to and including p is durable.
func (s *Sender) Acked(p change.Position) {
	s.mu.Lock()
	n := 0
	for n < len(s.inFlight) && !p.Before(s.inFlight[n].last) {
		s.bytes -= s.inFlight[n].bytes
		n++
	}
	s.inFlight = s.inFlight[n:]
	s.mu.Unlock()
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// Waiting returns how many bytes are sent and not acknowledged.
func (s *Sender) Waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
