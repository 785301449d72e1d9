package stream

import "github.com/agogsaas/holdfast/proto"

// Verify puts a question about a table to a facility. It reports whether the
// facility is connected. The answer comes through its session, or, when there
// is none, by Config.Unverified.
func (s *Server) Verify(facility string, q *proto.Verify) (asked bool, err error) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return false, nil
	}
	return true, b.link.Send(proto.TypeVerify, q)
}

// Stream numbers the facility's present stream, 0 when it has none. What was
// asked in another one is not answered any more.
func (s *Server) Stream(facility string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[facility]; b != nil {
		return b.number
	}
	return 0
}
