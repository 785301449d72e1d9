package stream

import "github.com/agogsaas/holdfast/internal/change"

// Received counts what a stream has brought, before anything is done about it.
type Received struct {
	Position change.Position // last transaction, whole or in part
	Frames   uint64
}

// note counts a frame.
func (b *box) note(h change.Header) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got.Position = change.Position{Epoch: h.Epoch, Seq: h.Last}
	b.got.Frames++
}

// Received returns what a facility's stream has brought, and false while it is
// not connected.
func (s *Server) Received(facility string) (Received, bool) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return Received{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got, true
}
