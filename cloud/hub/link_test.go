package hub

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// TestASilentBoxIsForgottenButWelcome: after minutes of silence the hub drops
// what it remembers of the box, so that one whose clock fell back gets in
// again; what it reports of the link never falls back.
func TestASilentBoxIsForgottenButWelcome(t *testing.T) {
	t.Parallel()
	hubKey, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	boxKey, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{PrivateKey: hubKey})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer h.Close()
	wg.Go(func() {
		for {
			c, err := h.Listener().Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	})
	if err := h.Add(Facility{ID: "la", Number: 1, PublicKey: boxKey.Public()}); err != nil {
		t.Fatal(err)
	}
	visit := func() {
		t.Helper()
		box, err := tunnel.New(tunnel.Config{PrivateKey: boxKey, Addresses: []netip.Prefix{netip.PrefixFrom(proto.FacilityAddress(1), 128)}})
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		if err := box.SetPeer(tunnel.Peer{
			PublicKey: hubKey.Public(), Endpoint: fmt.Sprintf("127.0.0.1:%d", h.Port()),
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(proto.HubAddress, 128)},
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		c, err := box.DialTCP(ctx, netip.AddrPortFrom(proto.HubAddress, proto.StreamPort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Fatalf("the hub says %q, %v", got, err)
		}
	}
	look := func(now time.Time) Link {
		t.Helper()
		if err := h.look(now); err != nil {
			t.Fatal(err)
		}
		l, ok := h.Link("la")
		if !ok {
			t.Fatal("the facility is gone")
		}
		return l
	}
	visit()
	start := time.Now()
	first := look(start)
	if first.Rx == 0 || first.Handshake.IsZero() {
		t.Fatalf("nothing seen: %+v", first)
	}
	if look(start.Add(2 * time.Minute)); h.byID["la"].forgotten != (time.Time{}) {
		t.Error("forgotten while its keys may still be in use")
	}
	silent := look(start.Add(5 * time.Minute))
	if h.byID["la"].forgotten.IsZero() {
		t.Fatal("not forgotten")
	}
	stats, err := h.tun.Stats()
	if err != nil || len(stats) != 1 || !stats[0].LastHandshake.IsZero() {
		t.Errorf("the tunnel still knows %+v, %v", stats, err)
	}
	if silent.Rx < first.Rx || silent.Heard != first.Heard || silent.Endpoint != first.Endpoint || silent.Handshake != first.Handshake {
		t.Errorf("the link fell back from %+v to %+v", first, silent)
	}
	if again := look(start.Add(5*time.Minute + 2*time.Second)); again.Rx != silent.Rx || again.Heard != silent.Heard {
		t.Errorf("forgetting looks like a sign of life: %+v", again)
	}
	visit()
	if back := look(start.Add(6 * time.Minute)); back.Rx <= silent.Rx || !back.Heard.After(silent.Heard) {
		t.Errorf("the box is back and the link says %+v", back)
	}
}
