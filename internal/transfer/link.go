// Package transfer carries stream messages over one WebSocket: sealed frames
// ahead of their acknowledgements up to a window, and the words around them.
//
// In:  internal/queue, through edge/uplink, which sends what waits.
// Out: cloud/ingest, which receives it and acknowledges what is durable.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/agogsaas/holdfast/proto"
)

const (
	// pingEvery and idleTimeout decide how soon a dead path is noticed: both
	// sides ping, and one that has read nothing for idleTimeout gives up. A
	// dead path shows no error of its own: writes only fill buffers.
	pingEvery   = 3 * time.Second
	idleTimeout = 10 * time.Second
	// controlTimeout bounds pings and the small messages of the receiver.
	controlTimeout = 10 * time.Second
	// pongTimeout bounds pongs, for which nothing is read meanwhile.
	pongTimeout = 2 * time.Second
	// helloTimeout and helloMaxBytes bound the first message.
	helloTimeout  = 5 * time.Second
	helloMaxBytes = 64 << 10
)

// Link is one WebSocket between an edge and its region. Send may be called
// from several goroutines, Receive from one.
//
// A receiver of frames may stop reading for as long as it likes (it has no
// room, or cannot apply): it goes on pinging, so the sender knows that it is
// alive and waits.
type Link struct {
	ws      *websocket.Conn
	writing sync.Mutex
	opening bool // owned by the reader: no Hello yet, pings do not buy time
}

func newLink(ws *websocket.Conn) *Link {
	l := &Link{ws: ws}
	ws.SetReadLimit(proto.MaxStreamMessageBytes)
	extend := func() error {
		if l.opening {
			return nil
		}
		return ws.SetReadDeadline(time.Now().Add(idleTimeout))
	}
	ws.SetPongHandler(func(string) error { return extend() })
	ws.SetPingHandler(func(data string) error {
		// A large frame may be under way, which says as much as a pong. Where none
		// is, the time must suffice: a write that runs out of it ends the link,
		// and on a busy machine a few milliseconds pass between two lines.
		if !l.opening && l.writing.TryLock() {
			_ = ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongTimeout))
			l.writing.Unlock()
		}
		return extend()
	})
	return l
}

// Dial opens a link to url through dial (the tunnel). The address in url is
// used for the Host header only where dial ignores it.
func Dial(ctx context.Context, url string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*Link, error) {
	d := websocket.Dialer{NetDialContext: dial, HandshakeTimeout: 5 * time.Second, ReadBufferSize: 16 << 10, WriteBufferSize: 32 << 10}
	ws, resp, err := d.DialContext(ctx, url, nil)
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("open the stream: the region answered %s: %w", resp.Status, err)
		}
		return nil, fmt.Errorf("open the stream: %w", err)
	}
	return newLink(ws), nil
}

// Accept turns an HTTP request into a link. On error it has answered already.
func Accept(w http.ResponseWriter, r *http.Request) (*Link, error) {
	u := websocket.Upgrader{HandshakeTimeout: 5 * time.Second, ReadBufferSize: 32 << 10, WriteBufferSize: 16 << 10}
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		return nil, fmt.Errorf("accept the stream: %w", err)
	}
	return newLink(ws), nil
}

// Send writes one message. It blocks while the other side does not read; Close
// unblocks it.
func (l *Link) Send(t proto.StreamType, payload any) error {
	b, err := proto.EncodeStream(t, payload)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return fmt.Errorf("send on the stream: %w", err)
	}
	return nil
}

// ReceiveHello returns the first message of a link that was accepted. Who has
// not said who he is gets neither much room nor much time.
func (l *Link) ReceiveHello() (proto.StreamType, any, error) {
	l.opening = true
	l.ws.SetReadLimit(helloMaxBytes)
	defer func() {
		l.opening = false
		l.ws.SetReadLimit(proto.MaxStreamMessageBytes)
	}()
	return l.receive(helloTimeout)
}

// Receive returns the next message (see proto.DecodeStream). An error ends
// the link: the path is dead, the peer closed, or spoke nonsense.
func (l *Link) Receive() (proto.StreamType, any, error) { return l.receive(idleTimeout) }

func (l *Link) receive(within time.Duration) (proto.StreamType, any, error) {
	if err := l.ws.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, nil, fmt.Errorf("receive from the stream: %w", err)
	}
	kind, r, err := l.ws.NextReader()
	if err != nil {
		return 0, nil, fmt.Errorf("receive from the stream: %w", err)
	}
	if !l.opening {
		r = arriving{l.ws, r}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return 0, nil, fmt.Errorf("receive from the stream: %w", err)
	}
	if kind != websocket.BinaryMessage {
		return 0, nil, fmt.Errorf("receive from the stream: %w: a text message", proto.ErrMalformed)
	}
	return proto.DecodeStream(b)
}

// arriving reads a message whose path is alive for as long as more of it
// comes: a large frame may take minutes on a narrow link, and nothing, not even
// a ping, gets past it.
type arriving struct {
	ws *websocket.Conn
	r  io.Reader
}

func (a arriving) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		err = cmp.Or(err, a.ws.SetReadDeadline(time.Now().Add(idleTimeout)))
	}
	return n, err
}

// Keepalive pings until ctx is done. Then, at once, the link is closed, so that
// whoever blocks in Send or Receive comes back: on a dead path a frame may be half
// written, and a ping waits behind it.
func (l *Link) Keepalive(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	defer l.Close()
	stop := context.AfterFunc(ctx, l.Close)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			err := l.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(controlTimeout))
			var timeout net.Error
			if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
				return fmt.Errorf("ping: %w", err)
			}
		}
	}
}

// Goodbye tells the other side why, as well as it can, and closes.
func (l *Link) Goodbye(code, text string) {
	defer l.Close()
	b, err := proto.EncodeStream(proto.TypeGoodbye, &proto.Goodbye{Code: code, Text: text})
	if err != nil {
		return
	}
	// A Send may be under way and never end; this ends it.
	_ = l.ws.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.ws.SetWriteDeadline(time.Now().Add(time.Second)) // closing anyway
	_ = l.ws.WriteMessage(websocket.BinaryMessage, b)
}

// Close drops the link. It may be called more than once.
func (l *Link) Close() { _ = l.ws.Close() } // nothing is pending that Close could lose

// RemoteAddr is the peer's address.
func (l *Link) RemoteAddr() net.Addr { return l.ws.RemoteAddr() }
