package stream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// idle is a session to which nothing is pushed.
type idle struct{ durable chan change.Position }

func (idle) Position() change.Position                 { return change.Position{} }
func (idle) Push(context.Context, change.Sealed) error { return nil }
func (s idle) Durable() <-chan change.Position         { return s.durable }
func (idle) Err() error                                { return nil }
func (idle) Close(context.Context)                     {}
func frame(t *testing.T, seq uint64) change.Sealed {
	t.Helper()
	var b change.Builder
	b.Begin(seq, 1)
	b.AddNote(change.NoteSeen, "1:1")
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: 7, Reason: "f:la"}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// log stands for the region's log of the way down.
type log struct {
	from   change.Position
	frames chan DownFrame
	acked  chan change.Position
}

func (*log) Epoch() uint64             { return 7 }
func (l *log) Acked(p change.Position) { l.acked <- p }
func (*log) Close()                    {}
func (l *log) Next(ctx context.Context) (DownFrame, error) {
	select {
	case <-ctx.Done():
		return DownFrame{}, ctx.Err()
	case f, ok := <-l.frames:
		if !ok {
			return DownFrame{}, errors.New("the log no longer holds what follows")
		}
		return f, nil
	}
}

// serve runs a region's end with that way down, nil for a region without.
func serve(t *testing.T, down func(context.Context, string, uint32, change.Position, bool) (Down, error)) (addr string) {
	t.Helper()
	return serveWith(t, Config{Down: down})
}

func serveAs(t *testing.T, down func(context.Context, string, uint32, change.Position, bool) (Down, error)) (addr string, s *Server) {
	t.Helper()
	return serveAll(t, Config{Down: down})
}

func serveWith(t *testing.T, c Config) (addr string) {
	t.Helper()
	addr, _ = serveAll(t, c)
	return addr
}

func serveAll(t *testing.T, c Config) (addr string, s *Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = New(Config{
		Listener: l, Log: slog.New(slog.DiscardHandler), Region: "us-east", Down: c.Down, Pace: c.Pace,
		FacilityOf:  func(netip.Addr) (string, uint32, bool) { return "la", 1, true },
		Open:        func(context.Context, string) (Session, error) { return idle{make(chan change.Position)}, nil },
		Tables:      func() (proto.Tables, <-chan struct{}) { return proto.Tables{}, nil },
		TableStates: func(context.Context, string, []proto.TableState) error { return nil },
		Explain:     func(error) *proto.Problem { return nil },
		Event:       func(context.Context, string, string, string) {},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // waited for in the cleanup
	t.Cleanup(func() { cancel(); <-done })
	return l.Addr().String(), s
}

// greet opens a stream as a box of that version does.
func greet(t *testing.T, addr string, hello proto.Hello) (*transfer.Link, *proto.Welcome) {
	t.Helper()
	var d net.Dialer
	link, err := transfer.Dial(t.Context(), "ws://"+addr+proto.StreamPath, d.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	hello.VersionMin, hello.Facility, hello.Epoch = 1, "la", 1<<32
	if err := link.Send(proto.TypeHello, &hello); err != nil {
		t.Fatal(err)
	}
	_, msg, err := link.Receive()
	if err != nil {
		t.Fatal(err)
	}
	w, ok := msg.(*proto.Welcome)
	if !ok {
		t.Fatalf("answered with %T", msg)
	}
	return link, w
}

func TestWhatComesDownIsSentAndAcknowledged(t *testing.T) {
	t.Parallel()
	l := &log{frames: make(chan DownFrame, 8), acked: make(chan change.Position, 8)}
	addr := serve(t, func(_ context.Context, _ string, _ uint32, from change.Position, _ bool) (Down, error) {
		l.from = from
		return l, nil
	})
	link, w := greet(t, addr, proto.Hello{Version: 2, DownEpoch: 7, DownSeq: 3})
	if w.Version != 2 || w.DownEpoch != 7 || l.from != (change.Position{Epoch: 7, Seq: 3}) {
		t.Fatalf("welcome %+v, from %s", w, l.from)
	}
	want := frame(t, 9)
	l.frames <- DownFrame{Prev: l.from, Frame: want, More: true}
	_, msg, err := link.Receive()
	got, ok := msg.(*proto.Down)
	if err != nil || !ok || got.PrevEpoch != 7 || got.PrevSeq != 3 || !got.More || string(got.Frame) != string(want.Bytes) {
		t.Fatalf("%+v, %v", msg, err)
	}
	if err := link.Send(proto.TypeAck, &proto.Ack{Epoch: 7, Seq: 9}); err != nil {
		t.Fatal(err)
	}
	if p := <-l.acked; p != (change.Position{Epoch: 7, Seq: 9}) {
		t.Errorf("acknowledged %s", p)
	}
	close(l.frames) // what follows is not held any more: the box comes again
	if _, msg, err := link.Receive(); err != nil {
		t.Fatal(err)
	} else if g, ok := msg.(*proto.Goodbye); !ok || g.Code != proto.GoodbyeShutdown {
		t.Errorf("%+v", msg)
	}
}

// The release before this one knows no way down, at either end.
func TestEitherEndMayBeTheReleaseBefore(t *testing.T) {
	t.Parallel()
	opened := func(context.Context, string, uint32, change.Position, bool) (Down, error) {
		t.Error("a way down is opened for a box that does not know it")
		return nil, errors.New("not for this one")
	}
	link, w := greet(t, serve(t, opened), proto.Hello{Version: 1})
	if w.Version != 1 || w.DownEpoch != 0 {
		t.Errorf("an old box is told of version %d, epoch %d", w.Version, w.DownEpoch)
	}
	if err := link.Send(proto.TypeTableStates, &proto.TableStates{}); err != nil {
		t.Error(err)
	}
	if _, w := greet(t, serve(t, nil), proto.Hello{Version: 2, DownEpoch: 7}); w.Version != 1 || w.DownEpoch != 0 {
		t.Errorf("a region without a way down says version %d, epoch %d", w.Version, w.DownEpoch)
	}
}

func TestStreamBeginsAnewWhenTheWayDownCanBeOpened(t *testing.T) {
	t.Parallel()
	var there atomic.Bool
	l := &log{frames: make(chan DownFrame), acked: make(chan change.Position, 1)}
	addr := serve(t, func(context.Context, string, uint32, change.Position, bool) (Down, error) {
		if !there.Load() {
			return nil, errors.New("the region's WAL is not read yet")
		}
		return l, nil
	})
	link, w := greet(t, addr, proto.Hello{Version: 2})
	if w.Version != 2 || w.DownEpoch != 0 {
		t.Fatalf("%+v", w)
	}
	there.Store(true)
	began := time.Now()
	if _, msg, err := link.Receive(); err != nil {
		t.Fatal(err, time.Since(began))
	} else if _, ok := msg.(*proto.Goodbye); !ok {
		t.Fatalf("%+v", msg)
	}
	if _, w = greet(t, addr, proto.Hello{Version: 2}); w.DownEpoch != 7 {
		t.Fatalf("%+v", w)
	}
}

func TestABoxIsToldThatAnotherTakesItsPlace(t *testing.T) {
	t.Parallel()
	addr, s := serveAs(t, nil)
	s.Fence(t.Context(), "la") // nobody is there
	link, _ := greet(t, addr, proto.Hello{Version: 1})
	for !s.IsConnected("la") {
		runtime.Gosched()
	}
	told := make(chan struct{})
	go func() { defer close(told); s.Fence(t.Context(), "la") }() // waited for below
	_, msg, err := link.Receive()
	if g, ok := msg.(*proto.Goodbye); err != nil || !ok || g.Code != proto.GoodbyeFenced {
		t.Errorf("%+v, %v", msg, err)
	}
	link.Close()
	<-told
}

// It may come once more before its tunnel is gone, and must not get what is the new box's.
func TestABoxThatWasReplacedIsNotServed(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(context.Context, string, uint32, change.Position, bool) (Down, error) {
		t.Error("the way down was opened")
		return nil, errors.New("not for this box")
	})
	var d net.Dialer
	link, err := transfer.Dial(t.Context(), "ws://"+addr+proto.StreamPath, d.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	if err := link.Send(proto.TypeHello, &proto.Hello{VersionMin: 1, Version: 2, Facility: "la", Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	_, msg, err := link.Receive()
	if g, ok := msg.(*proto.Goodbye); err != nil || !ok || g.Code != proto.GoodbyeFenced {
		t.Errorf("%+v, %v", msg, err)
	}
}
