package transfer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// sized makes frames that are as large as wanted; nobody opens them.
func sized(n, size int) []change.Sealed {
	list := make([]change.Sealed, n)
	for i := range list {
		seq := uint64(i + 1)
		list[i] = change.Sealed{Header: change.Header{Epoch: 1, First: seq, Last: seq}, Bytes: make([]byte, size)}
	}
	return list
}

// drink reads whatever comes until the link ends, and tells of what is no frame.
func drink(other chan<- time.Time) func(*Link) {
	return func(l *Link) {
		for {
			typ, _, err := l.Receive()
			if err != nil {
				return
			}
			if typ != proto.TypeFrame && other != nil {
				other <- time.Now()
			}
		}
	}
}

func TestNoMoreIsSentThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := pair(t, drink(nil))
		defer near.Close()
		s := NewSender(near, 1<<30)
		s.Limit(100_000)
		began := time.Now()
		for _, f := range sized(101, 10_000) {
			if err := s.Send(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		// 1.01 MB at 100 KB/s, of which a burst of 20 KB and the last frame's
		// own 10 KB need no waiting.
		if took := time.Since(began); took < 9600*time.Millisecond || took > 10*time.Second {
			t.Errorf("a megabyte took %s", took)
		}
	})
}

func TestFirstFrameAfterALullLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := pair(t, drink(nil))
		defer near.Close()
		s := NewSender(near, 1<<30)
		s.Limit(10_000)
		for _, f := range sized(3, 1000) {
			time.Sleep(5 * time.Second) // less than what is taken for dead
			began := time.Now()
			if err := s.Send(t.Context(), f); err != nil || time.Since(began) > time.Millisecond {
				t.Fatalf("it left after %s: %v", time.Since(began), err)
			}
		}
	})
}

// Nobody waits for what a lower limit had made him wait for.
func TestALimitThatIsLiftedCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := pair(t, drink(nil))
		defer near.Close()
		s := NewSender(near, 1<<30)
		s.Limit(10_000)
		list := sized(3, 10_000_000) // a debt of 1000 seconds
		if err := s.Send(t.Context(), list[0]); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Send(t.Context(), list[1]); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		s.Limit(0)
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("it waited for %s", took)
		}
		s.Limit(10_000)
		if err := s.Send(t.Context(), list[2]); err != nil || time.Since(began) != time.Second {
			t.Errorf("an old debt counts after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := s.Send(ctx, list[0]); err == nil {
			t.Error("a frame passed although there is a debt")
		}
	})
}

func TestSmallMessagesPassWhileFramesWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := make(chan time.Time, 1)
		near := pair(t, drink(other))
		defer near.Close()
		s := NewSender(near, 1<<30)
		s.Limit(100_000)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, f := range sized(1000, 1<<20) {
				if s.Send(ctx, f) != nil {
					return
				}
			}
		})
		for range 100 {
			time.Sleep(time.Second)
			began := time.Now()
			if err := near.Send(proto.TypeAck, &proto.Ack{Epoch: 1, Seq: 1}); err != nil {
				t.Fatal(err)
			}
			if at := <-other; at.Sub(began) > time.Millisecond {
				t.Fatalf("an acknowledgement took %s", at.Sub(began))
			}
		}
		stop()
		wg.Wait()
	})
}
