package tunnel_test

import (
	"net"
	"sync"
	"testing"
)

// relay stands between an edge and the hub as a NAT does: the hub sees the
// relay's outside port, which roam changes.
type relay struct {
	inside *net.UDPConn
	hub    *net.UDPAddr

	mu      sync.Mutex
	edge    *net.UDPAddr
	outside *net.UDPConn
	wg      sync.WaitGroup
}

func newRelay(t testing.TB, hubPort uint16) *relay {
	t.Helper()
	inside, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{inside: inside, hub: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(hubPort)}}
	_ = inside.SetReadBuffer(4 << 20)
	r.roam(t)
	r.wg.Go(r.out)
	t.Cleanup(func() {
		_ = inside.Close()
		r.mu.Lock()
		_ = r.outside.Close()
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.inside.LocalAddr().String() }

// roam takes a new outside port; what is under way to the old one is lost.
func (r *relay) roam(t testing.TB) {
	t.Helper()
	next, err := net.DialUDP("udp4", nil, r.hub)
	if err != nil {
		t.Fatal(err)
	}
	_ = next.SetReadBuffer(4 << 20)
	r.mu.Lock()
	old := r.outside
	r.outside = next
	r.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	r.wg.Go(func() { r.in(next) })
}

func (r *relay) out() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.inside.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.edge = from
		out := r.outside
		r.mu.Unlock()
		_, _ = out.Write(buf[:n])
	}
}

func (r *relay) in(c *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		edge := r.edge
		r.mu.Unlock()
		if edge != nil {
			_, _ = r.inside.WriteToUDP(buf[:n], edge)
		}
	}
}
