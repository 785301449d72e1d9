package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/test/rig/relay"
)

// begin runs a relay to target until the test ends.
func begin(t *testing.T, network, target string) *relay.Relay {
	t.Helper()
	r, err := relay.New(relay.Config{Network: network, Listen: "127.0.0.1:0", Target: target, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	return r
}

// echoUDP answers every packet with itself.
func echoUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { c.Close(); wait.Wait() })
	return c.LocalAddr().String()
}

// echoTCP answers every byte with itself, and an end with an end.
func echoTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends text and returns what comes back within the time, "" if nothing.
func ask(t *testing.T, c net.Conn, text string, within time.Duration) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return hear(t, c, within)
}

func hear(t *testing.T, c net.Conn, within time.Duration) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(buf[:n])
}

const (
	soon    = 5 * time.Second        // in time, on a busy machine
	silence = 150 * time.Millisecond // long enough to believe that nothing comes
)

func TestACutSwallowsPacketsWithoutAWord(t *testing.T) {
	t.Parallel()
	r := begin(t, "udp", echoUDP(t))
	c := dial(t, "udp", r.Addr())
	if got := ask(t, c, "one", soon); got != "one" {
		t.Fatalf("got %q", got)
	}
	r.Cut()
	if got := ask(t, c, "two", silence); got != "" || !r.IsCut() {
		t.Fatalf("%q came through a cut", got)
	}
	r.Restore()
	if got := ask(t, c, "three", soon); got != "three" {
		t.Fatalf("after the cut got %q; what was sent meanwhile must be lost", got)
	}
}

func TestAHalfOpenLinkCarriesOneDirection(t *testing.T) {
	t.Parallel()
	r := begin(t, "udp", echoUDP(t))
	c := dial(t, "udp", r.Addr())
	r.Cut(relay.Down)
	if got := ask(t, c, "lost answer", silence); got != "" {
		t.Fatalf("got %q", got)
	}
	if up, down := r.Stats(relay.Up), r.Stats(relay.Down); up.Packets != 1 || down.Packets != 0 || down.Dropped != 1 {
		t.Fatalf("up %+v, down %+v", up, down)
	}
}

func TestLossFollowsTheSeed(t *testing.T) {
	t.Parallel()
	survivors := func() string {
		r := begin(t, "udp", echoUDP(t))
		if err := r.SetFaults(relay.Faults{Loss: 0.5}, relay.Up); err != nil {
			t.Fatal(err)
		}
		c := dial(t, "udp", r.Addr())
		for i := range byte(40) {
			c.Write([]byte{'A' + i})
		}
		var got string
		for {
			s := hear(t, c, silence)
			if s == "" {
				return got
			}
			got += s
		}
	}
	first, second := survivors(), survivors()
	if first != second || len(first) < 8 || len(first) > 32 {
		t.Fatalf("the same seed let %q through, then %q", first, second)
	}
}

func TestPacketsAreDelayedAndOvertaken(t *testing.T) {
	t.Parallel()
	r := begin(t, "udp", echoUDP(t))
	r.SetFaults(relay.Faults{Delay: 50 * time.Millisecond}, relay.Up)
	c := dial(t, "udp", r.Addr())
	began := time.Now()
	if got := ask(t, c, "late", soon); got != "late" || time.Since(began) < 50*time.Millisecond {
		t.Fatalf("got %q after %s", got, time.Since(began))
	}
	r.SetFaults(relay.Faults{Reorder: 0.3}, relay.Up)
	var sent, got []byte
	for i := range byte(40) {
		c.Write([]byte{i})
		sent = append(sent, i)
	}
	for range sent {
		got = append(got, hear(t, c, soon)...)
	}
	if bytes.Equal(sent, got) || len(sent) != len(got) {
		t.Fatalf("%d sent, %d came, in order: %v", len(sent), len(got), bytes.Equal(sent, got))
	}
}

func TestAStreamStallsInACutAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := begin(t, "tcp", echoTCP(t))
	c := dial(t, "tcp", r.Addr())
	if got := ask(t, c, "one", soon); got != "one" {
		t.Fatalf("got %q", got)
	}
	r.Cut()
	if got := ask(t, c, "two", silence); got != "" {
		t.Fatalf("%q came through a cut", got)
	}
	young := dial(t, "tcp", r.Addr())
	if got := ask(t, young, "new", silence); got != "" {
		t.Fatalf("%q came through a cut on a new connection", got)
	}
	r.Restore()
	if got := hear(t, c, soon); got != "two" {
		t.Fatalf("after the cut got %q", got)
	}
	if got := hear(t, young, soon); got != "new" {
		t.Fatalf("after the cut got %q", got)
	}
}

func TestAStreamArrivesWholeOverABadLink(t *testing.T) {
	t.Parallel()
	r := begin(t, "tcp", echoTCP(t))
	r.SetFaults(relay.Faults{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02})
	c := dial(t, "tcp", r.Addr())
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		c.Write(want)
		c.(*net.TCPConn).CloseWrite()
	})
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	got, err := io.ReadAll(c)
	wait.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
	}
}

func TestANarrowLinkTakesItsTime(t *testing.T) {
	t.Parallel()
	r := begin(t, "tcp", echoTCP(t))
	r.SetFaults(relay.Faults{BytesPerSecond: 1 << 20}, relay.Up)
	c := dial(t, "tcp", r.Addr())
	began := time.Now()
	var wait sync.WaitGroup
	wait.Go(func() {
		c.Write(make([]byte, 512<<10))
		c.(*net.TCPConn).CloseWrite()
	})
	n, err := io.Copy(io.Discard, c)
	wait.Wait()
	if took := time.Since(began); err != nil || n != 512<<10 || took < 450*time.Millisecond {
		t.Fatalf("%d bytes in %s, %v", n, took, err)
	}
}

func TestAResetIsSeenByBothEnds(t *testing.T) {
	t.Parallel()
	r := begin(t, "tcp", echoTCP(t))
	c := dial(t, "tcp", r.Addr())
	if got := ask(t, c, "one", soon); got != "one" {
		t.Fatalf("got %q", got)
	}
	r.Reset()
	c.SetReadDeadline(time.Now().Add(soon))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after a reset: %v", err)
	}
}

func TestUDPGoesOnFromANewPortAfterAReset(t *testing.T) {
	t.Parallel()
	r := begin(t, "udp", echoUDP(t))
	c := dial(t, "udp", r.Addr())
	if got := ask(t, c, "one", soon); got != "one" {
		t.Fatalf("got %q", got)
	}
	r.Reset()
	deadline := time.Now().Add(soon)
	for ask(t, c, "two", silence) != "two" { // packets get lost meanwhile
		if time.Now().After(deadline) {
			t.Fatal("the relay did not go on")
		}
	}
}

func TestAnotherProcessCutsByName(t *testing.T) {
	t.Parallel()
	la := begin(t, "udp", echoUDP(t))
	s := httptest.NewServer(relay.Control(map[string][]*relay.Relay{"la": {la}}))
	t.Cleanup(s.Close)
	post := func(path string) int {
		resp, err := http.Post(s.URL+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := post("/la/cut"); code != http.StatusNoContent || !la.IsCut() {
		t.Fatalf("cut: %d", code)
	}
	if code := post("/la/restore"); code != http.StatusNoContent || la.IsCut() {
		t.Fatalf("restore: %d", code)
	}
	for path, want := range map[string]int{
		"/nowhere/cut": 404, "/la/explode": 400, "/la/faults?loss=2": 400, "/la/faults?delay=x": 400,
		"/la/faults?loss=0.02&delay=80ms&jitter=20ms&bytes_per_second=64000": 204,
	} {
		if code := post(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}
