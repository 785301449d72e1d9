package scenario

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// intruder has taken a box over: it has its identity and its tunnel, and says
// what it likes.
type intruder struct {
	t   *testing.T
	id  *enrol.Identity
	tun *tunnel.Tunnel
}

func intrude(t *testing.T, e *site.Edge) *intruder {
	t.Helper()
	id, err := enrol.Load(e.StateDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	tun, err := tunnel.New(tunnel.Config{
		PrivateKey: id.TunnelKey, Addresses: []netip.Prefix{netip.PrefixFrom(id.Tunnel.Address, 128)},
		MTU: id.Tunnel.MTU, Profile: tunnel.Edge, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(log)
	s.Close("tunnel", tun.Close)
	s.Go("tunnel", tun.Run)
	t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Errorf("stop the intruder: %v", err)
		}
	})
	err = tun.SetPeer(tunnel.Peer{
		PublicKey: id.Tunnel.HubKey, Endpoint: e.Tunnel.Addr(),
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(id.Tunnel.HubAddress, 128)}, KeepaliveInterval: id.Tunnel.Keepalive,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &intruder{t, id, tun}
}

func (i *intruder) url() string { return "ws://" + i.id.Stream().String() + proto.StreamPath }

// dial opens a stream and says nothing yet.
func (i *intruder) dial() *transfer.Link {
	i.t.Helper()
	var link *transfer.Link
	eventually(i.t, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		link, err = transfer.Dial(ctx, i.url(), i.tun.DialContext)
		return err
	})
	i.t.Cleanup(link.Close)
	return link
}

// raw opens a stream of which each message may be anything.
func (i *intruder) raw() *websocket.Conn {
	i.t.Helper()
	d := websocket.Dialer{NetDialContext: i.tun.DialContext, HandshakeTimeout: 5 * time.Second}
	ws, resp, err := d.DialContext(within(i.t), i.url(), nil)
	if err != nil {
		i.t.Fatal(err)
	}
	resp.Body.Close()
	i.t.Cleanup(func() { ws.Close() })
	return ws
}

func (i *intruder) hello() proto.Hello {
	return proto.Hello{Version: proto.StreamVersion, VersionMin: proto.StreamVersionMin, Facility: i.id.Facility, Epoch: i.id.EpochBase()}
}

// enter opens a stream in the proper way and returns where the region stands.
func (i *intruder) enter() (*transfer.Link, change.Position) {
	i.t.Helper()
	link := i.dial()
	hello := i.hello()
	if err := link.Send(proto.TypeHello, &hello); err != nil {
		i.t.Fatal(err)
	}
	_, msg, err := link.Receive()
	w, ok := msg.(*proto.Welcome)
	if !ok {
		i.t.Fatalf("got %T and %v, want a welcome", msg, err)
	}
	return link, change.Position{Epoch: w.Epoch, Seq: w.Seq}
}

// ended waits until the region has ended a stream, and returns its last word.
func ended(link *transfer.Link, within time.Duration) (code string, err error) {
	timer := time.AfterFunc(within, link.Close)
	defer timer.Stop()
	for {
		_, msg, err := link.Receive()
		if bye, ok := msg.(*proto.Goodbye); ok {
			return bye.Code, nil
		}
		if err != nil {
			if !timer.Stop() {
				return "", fmt.Errorf("the stream is still open after %s", within)
			}
			return "closed", nil
		}
	}
}

// acked waits until the region has acknowledged a position.
func acked(link *transfer.Link, p change.Position) error {
	timer := time.AfterFunc(20*time.Second, link.Close)
	defer timer.Stop()
	for {
		_, msg, err := link.Receive()
		switch m := msg.(type) {
		case *proto.Ack:
			if !(change.Position{Epoch: m.Epoch, Seq: m.Seq}).Before(p) {
				return nil
			}
		case *proto.Goodbye:
			return errors.New(m.Text)
		}
		if err != nil {
			return err
		}
	}
}

// forge seals one transaction.
func (i *intruder) forge(p change.Position, table change.Table, changes ...change.Change) change.Sealed {
	i.t.Helper()
	f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: p.Epoch, First: p.Seq, Last: p.Seq},
		&change.Body{Tables: []change.Table{table}, Txs: []change.Tx{{Seq: p.Seq, CommitMicros: 1, Changes: changes}}})
	if err != nil {
		i.t.Fatal(err)
	}
	return f
}
