package smtp

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// listener makes connections that can be slow, below TLS too.
type listener struct {
	net.Listener
	done <-chan struct{} // the server's
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, done: l.done}, nil
}

type conn struct {
	net.Conn
	done <-chan struct{}
	slow atomic.Int64 // a time.Duration for each byte that is sent
}

// under is what a connection with or without TLS runs over.
func under(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

// Write sends one byte after the other when it is to be slow.
func (c *conn) Write(b []byte) (int, error) {
	each := time.Duration(c.slow.Load())
	if each == 0 {
		return c.Conn.Write(b)
	}
	pace := time.NewTicker(each)
	defer pace.Stop()
	for i := range b {
		select {
		case <-pace.C:
		case <-c.done:
			return i, net.ErrClosed
		}
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}
