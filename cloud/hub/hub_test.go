package hub_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/cloud/hub"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

func newHub(t *testing.T) *hub.Hub {
	t.Helper()
	key, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{PrivateKey: key, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return h
}

// box is a facility's end of the tunnel.
func box(t *testing.T, h *hub.Hub, number uint32) (*tunnel.Tunnel, tunnel.PublicKey) {
	t.Helper()
	key, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	tun, err := tunnel.New(tunnel.Config{PrivateKey: key, Addresses: []netip.Prefix{netip.PrefixFrom(proto.FacilityAddress(number), 128)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	if err := tun.SetPeer(tunnel.Peer{
		PublicKey:         h.PublicKey(),
		Endpoint:          fmt.Sprintf("127.0.0.1:%d", h.Port()),
		AllowedIPs:        []netip.Prefix{netip.PrefixFrom(proto.HubAddress, 128)},
		KeepaliveInterval: tunnel.DefaultKeepalive,
	}); err != nil {
		t.Fatal(err)
	}
	return tun, key.Public()
}

// whoami answers each connection with the facility that it comes from.
func whoami(t *testing.T, h *hub.Hub) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := h.Listener().Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
				if err != nil {
					return
				}
				id, ok := h.FacilityOf(ap.Addr())
				_, _ = fmt.Fprintf(c, "%s %v\n", id, ok)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = h.Close()
		wg.Wait()
	})
}

func dial(t *testing.T, tun *tunnel.Tunnel, patience time.Duration) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := tun.DialTCP(ctx, netip.AddrPortFrom(proto.HubAddress, proto.StreamPort))
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func readLine(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(buf[:n]))
}

func TestEachConnectionIsKnownByItsFacility(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whoami(t, h)
	for n, id := range map[uint32]string{1: "la", 70000: "frankfurt"} {
		b, key := box(t, h, n)
		if err := h.Add(hub.Facility{ID: id, Number: n, PublicKey: key}); err != nil {
			t.Fatal(err)
		}
		c, err := dial(t, b, 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := readLine(t, c); got != id+" true" {
			t.Errorf("facility %s is taken for %q", id, got)
		}
	}
}

func TestARemovedFacilityIsCutOffAtOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whoami(t, h)
	la, laKey := box(t, h, 1)
	other, otherKey := box(t, h, 2)
	for _, f := range []hub.Facility{{ID: "la", Number: 1, PublicKey: laKey}, {ID: "frankfurt", Number: 2, PublicKey: otherKey}} {
		if err := h.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	c, err := dial(t, la, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, c)
	kept, err := dial(t, other, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, kept)
	if err := h.Remove("la"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		links := h.Links()
		return len(links) == 1 && links[0].Facility == "frankfurt" && links[0].Conns == 1
	})
	if _, ok := h.FacilityOf(proto.FacilityAddress(1)); ok {
		t.Error("the removed facility still has an address")
	}
	if c, err := dial(t, la, 2*time.Second); err == nil {
		_ = c.Close()
		t.Error("the removed facility connected again")
	}
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Errorf("the other facility was disturbed: %v", err)
	}
	if err := h.Remove("nowhere"); err != nil {
		t.Errorf("remove of an unknown facility: %v", err)
	}
}

func TestAReplacedBoxIsOutAndTheNewOneIsIn(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whoami(t, h)
	old, oldKey := box(t, h, 1)
	if err := h.Add(hub.Facility{ID: "la", Number: 1, PublicKey: oldKey}); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t, old, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, c)
	next, nextKey := box(t, h, 1)
	for range 2 { // the second is a repetition and disturbs nothing
		if err := h.Add(hub.Facility{ID: "la", Number: 1, PublicKey: nextKey}); err != nil {
			t.Fatal(err)
		}
	}
	c, err = dial(t, next, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := readLine(t, c); got != "la true" {
		t.Errorf("the new box is %q", got)
	}
	if c, err := dial(t, old, 2*time.Second); err == nil {
		_ = c.Close()
		t.Error("the old box connected")
	}
}

func TestAKeyOrNumberBelongsToOneFacility(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	_, key := box(t, h, 1)
	_, key2 := box(t, h, 2)
	if err := h.Add(hub.Facility{ID: "la", Number: 1, PublicKey: key}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []hub.Facility{
		{ID: "frankfurt", Number: 2, PublicKey: key},
		{ID: "frankfurt", Number: 1, PublicKey: key2},
		{ID: "frankfurt", Number: 0, PublicKey: key2},
		{ID: "Frankfurt", Number: 2, PublicKey: key2},
		{ID: "frankfurt", Number: 2},
	} {
		if err := h.Add(f); err == nil {
			t.Errorf("accepted %+v", f)
		}
	}
	if n := len(h.Links()); n != 1 {
		t.Errorf("%d facilities", n)
	}
}

func TestTheLinkShowsThatTheBoxIsThere(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whoami(t, h)
	b, key := box(t, h, 1)
	if err := h.Add(hub.Facility{ID: "la", Number: 1, PublicKey: key}); err != nil {
		t.Fatal(err)
	}
	if l, ok := h.Link("la"); !ok || !l.Heard.IsZero() {
		t.Fatalf("before anything was heard: %+v, %v", l, ok)
	}
	c, err := dial(t, b, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, c)
	waitFor(t, func() bool {
		l, ok := h.Link("la")
		return ok && l.Conns == 1 && l.Rx > 0 && l.Tx > 0 && time.Since(l.Heard) < 5*time.Second && time.Since(l.Handshake) < 30*time.Second && l.Endpoint != ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if took, err := h.Probe(ctx, "la"); err != nil || took <= 0 {
		t.Errorf("probe: %v, %v", took, err)
	}
	_ = b.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if took, err := h.Probe(ctx, "la"); err == nil {
		t.Errorf("a closed box answered after %v", took)
	}
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(h); err != nil {
		t.Fatal(err)
	}
	if got, err := reg.Gather(); err != nil || len(got) != 6 {
		t.Errorf("%d metrics, %v", len(got), err)
	}
}

func TestWhoHasNotCalledIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	_, key := box(t, newHub(t), 1) // of another hub
	if err := h.Add(hub.Facility{ID: "la", Number: 1, PublicKey: key}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := h.Probe(ctx, "la"); err == nil || ctx.Err() != nil {
		t.Errorf("probe: %v, %v", err, ctx.Err())
	}
}

func TestTheHubKeepsItsKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.key")
	first, err := hub.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := hub.LoadKey(path)
	if err != nil || again != first {
		t.Errorf("another key after restart: %v", err)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.LoadKey(path); err == nil {
		t.Error("a damaged key file was accepted or replaced")
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.Tick(20 * time.Millisecond); !cond(); <-tick {
		if time.Now().After(deadline) {
			t.Fatal("condition not met within two minutes")
		}
	}
}
