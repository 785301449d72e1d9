package hub

import (
	"net"
	"net/netip"
	"sync"

	"github.com/agogsaas/holdfast/proto"
)

// listener hands out the connections of known facilities and remembers them,
// so that Remove can close them.
type listener struct {
	net.Listener
	hub *Hub
}

// conn forgets itself when it is closed.
type conn struct {
	net.Conn
	hub    *Hub
	member *member
	once   sync.Once
}

// Accept waits for a connection of a known facility.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if kept := l.hub.keep(c); kept != nil {
			return kept, nil
		}
		_ = c.Close()
	}
}

// keep returns c as one that Remove closes, nil when its facility is unknown.
func (h *Hub) keep(c net.Conn) net.Conn {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return nil
	}
	n, _ := proto.FacilityNumber(ap.Addr())
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byNum[n]
	if m == nil {
		return nil
	}
	k := &conn{Conn: c, hub: h, member: m}
	m.conns[k] = struct{}{}
	return k
}

// Close closes the connection.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.hub.mu.Lock()
		delete(c.member.conns, c)
		c.hub.mu.Unlock()
	})
	return c.Conn.Close()
}
