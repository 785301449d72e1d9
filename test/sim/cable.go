package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
)

// cable joins one facility with the region, in memory. A step cuts it, at once
// or after so many bytes, which is how a link dies in the middle of a frame.
type cable struct {
	addr   netip.Addr
	accept chan net.Conn

	mu     sync.Mutex
	up     bool
	budget int // bytes until it is cut; negative is for ever
	conns  map[*cableConn]bool
}

var errCut = errors.New("the cable is cut")

func newCable(addr netip.Addr, accept chan net.Conn) *cable {
	return &cable{addr: addr, accept: accept, up: true, budget: -1, conns: map[*cableConn]bool{}}
}

// Dial is the facility's way to the region.
func (c *cable) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c.mu.Lock()
	if !c.up {
		c.mu.Unlock()
		return nil, errCut
	}
	a, b := net.Pipe()
	near, far := &cableConn{Conn: a, cable: c}, &cableConn{Conn: b, cable: c}
	c.conns[near], c.conns[far] = true, true
	c.mu.Unlock()
	select {
	case c.accept <- far:
		return near, nil
	case <-ctx.Done():
		_, _ = near.Close(), far.Close()
		return nil, ctx.Err()
	}
}

// cut ends all connections and refuses new ones.
func (c *cable) cut() {
	c.mu.Lock()
	c.up = false
	conns := c.conns
	c.conns = map[*cableConn]bool{}
	c.mu.Unlock()
	for k := range conns {
		_ = k.Conn.Close()
	}
}

// restore joins the two again, for budget bytes; negative is for ever.
func (c *cable) restore(budget int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up, c.budget = true, budget
}

// spend takes n bytes off the budget and reports whether they may pass.
func (c *cable) spend(n int) bool {
	c.mu.Lock()
	if c.budget < 0 {
		c.mu.Unlock()
		return true
	}
	c.budget -= n
	ok := c.budget >= 0
	c.mu.Unlock()
	if !ok {
		c.cut()
	}
	return ok
}

// cableConn is one end of a connection.
type cableConn struct {
	net.Conn
	cable *cable
}

func (k *cableConn) Write(b []byte) (int, error) {
	if !k.cable.spend(len(b)) {
		return 0, errCut
	}
	n, err := k.Conn.Write(b)
	if errors.Is(err, io.ErrClosedPipe) {
		err = errCut
	}
	return n, err
}

func (k *cableConn) Close() error {
	k.cable.mu.Lock()
	delete(k.cable.conns, k)
	k.cable.mu.Unlock()
	return k.Conn.Close()
}

// RemoteAddr is the facility's tunnel address, by which the region knows it.
func (k *cableConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(k.cable.addr, 1))
}

// socket is the region's end of all cables.
type socket struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSocket(accept chan net.Conn) *socket {
	return &socket{accept: accept, closed: make(chan struct{})}
}

func (s *socket) Accept() (net.Conn, error) {
	select {
	case c := <-s.accept:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *socket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *socket) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 1} }

// joined reports that nothing cuts the cable or is going to.
func (c *cable) joined() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up && c.budget < 0
}
