package capture

import "time"

// A walsender hands over each change by itself. A reader that is as fast wakes
// up for every one of them and takes the time from the workers; so behind the
// first message of a transaction it naps until the rest of it is there, and for
// as long as no frame may leave anyway. A local socket holds fewer than 300
// messages, and the walsender must not stand still: naps get shorter when many
// have come in one.
const (
	napMin  = 500 * time.Microsecond
	napMany = 100
	napFew  = 40
)

// lull is how long the reader naps.
type lull struct {
	limit time.Duration
	at    int // count of messages at the last nap
}

// next returns the length of the nap behind the n-th message, where due is how
// long no frame may leave.
func (l *lull) next(n int, due time.Duration) time.Duration {
	switch got := n - l.at; {
	case l.limit == 0 || got < napFew:
		l.limit = min(max(2*l.limit, napMin), busyPause)
	case got > napMany:
		l.limit = max(l.limit/2, napMin)
	}
	l.at = n
	return min(max(due, napMin), l.limit)
}

// untilDue is how long what comes now cannot leave in a frame.
func (s *stream) untilDue() time.Duration {
	if linger := s.c.c.Linger(); linger > 0 {
		return min(linger, busyPause)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.pauseEnd)
}

// longNap is for a transaction of which skippedFrom rows were passed over:
// nobody waits for the others, however slowly they come. But what people commit
// behind them waits, so that naps get shorter where the WAL is lateFrom behind, if
// somebody committed anything within atWorkFor: to read as fast as a backlog is
// applied takes some of the processors from it.
const (
	longNap     = 5 * time.Millisecond
	skippedFrom = 64
	lateFrom    = 50 * time.Millisecond
	atWorkFor   = 10 * time.Second
)

// passing returns the length of a nap behind the n-th message, in a transaction
// that is passed over and was committed so long ago. atWork says that people commit
// beside it.
func (l *lull) passing(n int, ago time.Duration, atWork bool) time.Duration {
	if ago < lateFrom || !atWork {
		l.at = n
		return longNap
	}
	return l.next(n, longNap)
}
