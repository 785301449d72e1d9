package capture

import (
	"context"
	"testing"
	"time"
)

// TestALoneTransactionLeavesAtOnceAndManyGather holds the promise of both ends:
// no wait for the worker who is alone, few frames for many who are not.
func TestALoneTransactionLeavesAtOnceAndManyGather(t *testing.T) {
	t.Parallel()
	s := benchStream(t)
	now := time.Now()
	commit := func(n int) {
		t.Helper()
		s.mu.Lock()
		defer s.mu.Unlock()
		for range n {
			for _, m := range [][]byte{beginMessage(), insertMessage(1), commitMessage()} {
				if err := s.message(context.Background(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.since, s.idle = now, true
	}
	leaves := func(what string, want int, wait time.Duration) {
		t.Helper()
		b, w := s.take(now)
		switch {
		case want == 0 && b != nil:
			t.Fatalf("%s: a frame of %d left", what, b.whole)
		case want == 0 && w != wait:
			t.Fatalf("%s: waits %s, want %s", what, w, wait)
		case want > 0 && (b == nil || b.whole != want):
			t.Fatalf("%s: %+v left, want %d transactions", what, b, want)
		}
		if b != nil {
			s.recycle(b.b)
		}
	}
	commit(1)
	leaves("the first", 1, 0)
	now = now.Add(time.Millisecond)
	commit(1)
	leaves("one right behind it", 0, calmPause-time.Millisecond)
	now = now.Add(calmPause)
	commit(busyFrom - 1)
	leaves("after the pause", busyFrom, 0)
	commit(1)
	leaves("one behind many", 0, busyPause)
	now = now.Add(calmPause)
	leaves("it still waits", 0, busyPause-calmPause)
	commit(calmBelow - 1)
	now = now.Add(busyPause)
	leaves("after the long pause, still many", calmBelow, 0)
	commit(1)
	leaves("one behind them", 0, busyPause)
	now = now.Add(busyPause)
	leaves("after the long pause, a lone one", 1, 0)
	commit(1)
	now = now.Add(calmPause)
	leaves("calm again", 1, 0)
}
