package transfer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// pipes is a network in memory, whose time synctest rules.
type pipes struct {
	near  func(net.Conn) net.Conn // what the dialler gets; nil is the pipe itself
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	p.conns <- b
	if p.near != nil {
		a = p.near(a)
	}
	return a, nil
}

// pair returns both ends of a link. What serve returns ends the far end.
func pair(t *testing.T, serve func(*Link)) *Link { return pairOver(t, nil, serve) }

func pairOver(t *testing.T, path func(net.Conn) net.Conn, serve func(*Link)) *Link {
	t.Helper()
	p := &pipes{near: path, conns: make(chan net.Conn, 1), done: make(chan struct{})}
	var wg sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		l, err := Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		serve(l)
	})}
	wg.Go(func() { _ = srv.Serve(p) })
	near, err := Dial(t.Context(), "ws://hub"+proto.StreamPath, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		srv.Close()
		wg.Wait()
	})
	return near
}

// frames seals n frames. The packer is shared by the process, so this must
// happen outside of a synctest bubble.
func frames(t *testing.T, n uint64) []change.Sealed {
	t.Helper()
	var list []change.Sealed
	for seq := uint64(1); seq <= n; seq++ {
		f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: 1, First: seq, Last: seq},
			&change.Body{Txs: []change.Tx{{Seq: seq}}})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func TestAReceiverThatDoesNotReadIsNotTakenForDead(t *testing.T) {
	frame := frames(t, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		read := make(chan struct{})
		got := make(chan any, 1)
		near := pair(t, func(l *Link) {
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = l.Keepalive(ctx) })
			<-read // busy for five minutes
			_, msg, err := l.Receive()
			if err != nil {
				t.Error(err)
			}
			got <- msg
			stop()
			wg.Wait()
		})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		ended := make(chan error, 1)
		wg.Go(func() { _ = near.Keepalive(ctx) })
		wg.Go(func() {
			for {
				if _, _, err := near.Receive(); err != nil {
					ended <- err
					return
				}
			}
		})
		wg.Go(func() { _ = near.Send(proto.TypeFrame, frame.Bytes) })
		time.Sleep(5 * time.Minute) // the bubble's time
		select {
		case err := <-ended:
			t.Fatalf("the link was given up while the receiver was busy: %v", err)
		default:
		}
		close(read)
		if b, ok := (<-got).([]byte); !ok || len(b) == 0 {
			t.Error("the frame did not arrive")
		}
		stop()
		wg.Wait()
	})
}

func TestADeadPathIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		near := pair(t, func(*Link) { <-hang }) // neither reads nor pings
		began := time.Now()
		_, _, err := near.Receive()
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want a timeout", err)
		}
		if took := time.Since(began); took > idleTimeout {
			t.Errorf("noticed after %s, want %s", took, idleTimeout)
		}
		close(hang)
	})
}

// TestALinkThatIsGivenUpEndsAtOnce has a frame and a ping behind it stuck on a dead
// path.
func TestALinkThatIsGivenUpEndsAtOnce(t *testing.T) {
	frame := frames(t, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		near := pair(t, func(*Link) { <-hang })
		ctx, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = near.Keepalive(ctx) })
		wg.Go(func() {
			if err := near.Send(proto.TypeFrame, frame.Bytes); err == nil {
				t.Error("the frame was sent")
			}
		})
		time.Sleep(pingEvery + time.Second) // the bubble's time
		began := time.Now()
		giveUp()
		wg.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("the link ended %s after it was given up", took)
		}
		close(hang)
	})
}

// narrow passes 16 KiB a second.
type narrow struct{ net.Conn }

func (n narrow) Write(b []byte) (int, error) {
	sent := 0
	for len(b) > 0 {
		part := min(len(b), 16<<10)
		m, err := n.Conn.Write(b[:part])
		sent += m
		if err != nil {
			return sent, err
		}
		time.Sleep(time.Second) // the bubble's time
		b = b[part:]
	}
	return sent, nil
}

func TestALargeFrameArrivesOverANarrowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := make([]byte, 1<<20) // a minute's worth
		got := make(chan int, 1)
		near := pairOver(t, func(c net.Conn) net.Conn { return narrow{c} }, func(l *Link) {
			_, msg, err := l.Receive()
			if err != nil {
				t.Error(err)
			}
			b, _ := msg.([]byte)
			got <- len(b)
		})
		if err := near.Send(proto.TypeFrame, large); err != nil {
			t.Fatal(err)
		}
		if n := <-got; n != len(large) {
			t.Errorf("%d bytes arrived, want %d", n, len(large))
		}
	})
}

func TestTheWindowHoldsTheSenderBack(t *testing.T) {
	list := frames(t, 10)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		received := 0
		near := pair(t, func(l *Link) {
			for {
				if _, _, err := l.Receive(); err != nil {
					return
				}
				mu.Lock()
				received++
				mu.Unlock()
			}
		})
		size := int64(len(list[0].Bytes))
		s := NewSender(near, 3*size)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, f := range list {
				if s.Send(ctx, f) != nil {
					return
				}
			}
		})
		count := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return received
		}
		if n := count(); n != 3 {
			t.Errorf("%d frames were sent into a window of 3", n)
		}
		s.Acked(change.Position{Epoch: 1, Seq: 2})
		if n := count(); n != 5 {
			t.Errorf("%d frames were sent after two were acknowledged, want 5", n)
		}
		stop()
		near.Close()
		wg.Wait()
	})
}

func TestPingsBuyNoTimeBeforeTheHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		near := pair(t, func(l *Link) {
			began := time.Now()
			if _, _, err := l.ReceiveHello(); err == nil {
				t.Error("a hello came that nobody sent")
			}
			ended <- time.Since(began)
		})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = near.Keepalive(ctx) })
		if took := <-ended; took > helloTimeout {
			t.Errorf("a link without a hello was held for %s", took)
		}
		stop()
		wg.Wait()
	})
}
