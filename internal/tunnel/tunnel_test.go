package tunnel_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

var (
	hubAddr = netip.MustParseAddr("fd48:6f6c:6466::1")
	stream  = netip.AddrPortFrom(hubAddr, 7400)
)

func TestBytesComeBackUnchanged(t *testing.T) {
	t.Parallel()
	for _, p := range []struct {
		name string
		edge tunnel.Profile
		addr netip.Addr
	}{
		{"edge profile", tunnel.Edge, facilityAddr(1)},
		{"hub profile on both ends", tunnel.Hub, facilityAddr(2)},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			hub := newTunnel(t, tunnel.Hub, hubAddr)
			edge := newTunnel(t, p.edge, p.addr)
			join(t, hub, edge, p.addr)
			echo(t, hub)
			c := dial(t, edge)
			for _, n := range []int{1, 1359, 1360, 1361, 64 << 10, 8 << 20} {
				mustExchange(t, c, n)
			}
		})
	}
}

func TestIPv4InsideTheTunnel(t *testing.T) {
	t.Parallel()
	h, e := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	hub, edge := newTunnel(t, tunnel.Hub, h), newTunnel(t, tunnel.Edge, e)
	join(t, hub, edge, e)
	peer := hubPeer(hub, fmt.Sprintf("127.0.0.1:%d", hub.Port()))
	peer.AllowedIPs = []netip.Prefix{netip.PrefixFrom(h, 32)}
	if err := edge.SetPeer(peer); err != nil {
		t.Fatal(err)
	}
	l, err := hub.Listen(netip.AddrPortFrom(h, 7400))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	c, err := edge.DialContext(t.Context(), "tcp", "10.99.0.1:7400")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustExchange(t, c, 2<<20)
}

func TestTheSourceAddressIsProven(t *testing.T) {
	t.Parallel()
	hub := newTunnel(t, tunnel.Hub, hubAddr)
	// The hub knows this edge as facility 1; it calls itself facility 2.
	edge := newTunnel(t, tunnel.Edge, facilityAddr(2))
	join(t, hub, edge, facilityAddr(1))
	echo(t, hub)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if c, err := edge.DialContext(ctx, "tcp", stream.String()); err == nil {
		_ = c.Close()
		t.Fatal("a facility connected under another one's address")
	}
}

func TestAConnectionSurvivesANewSourcePort(t *testing.T) {
	t.Parallel()
	hub := newTunnel(t, tunnel.Hub, hubAddr)
	edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
	if err := hub.SetPeer(tunnel.Peer{PublicKey: edge.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(facilityAddr(1), 128)}}); err != nil {
		t.Fatal(err)
	}
	echo(t, hub)
	relay := newRelay(t, hub.Port())
	if err := edge.SetPeer(hubPeer(hub, relay.addr())); err != nil {
		t.Fatal(err)
	}
	c := dial(t, edge)
	mustExchange(t, c, 1<<20)
	before := endpointOf(t, hub)
	for range 3 {
		relay.roam(t)
		start := time.Now()
		mustExchange(t, c, 1<<20)
		// A move that nobody tells the hub of is noticed by the keepalive.
		if took := time.Since(start); took > tunnel.DefaultKeepalive {
			t.Errorf("took %v after roaming", took)
		}
	}
	if after := endpointOf(t, hub); after == before {
		t.Errorf("the hub still sends to %s", before)
	}
}

func TestPeersComeAndGoWhileAnotherTransfers(t *testing.T) {
	t.Parallel()
	hub := newTunnel(t, tunnel.Hub, hubAddr)
	edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
	join(t, hub, edge, facilityAddr(1))
	echo(t, hub)
	c := dial(t, edge)

	done := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { done <- exchange(c, 24<<20) })
	for n := 2; ; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if n < 4 {
				t.Fatalf("only %d peers came and went", n-2)
			}
			return
		default:
		}
		addr := facilityAddr(n)
		other := newTunnel(t, tunnel.Edge, addr)
		join(t, hub, other, addr)
		mustExchange(t, dial(t, other), 1000)
		if err := hub.RemovePeer(other.PublicKey()); err != nil {
			t.Fatal(err)
		}
		_ = other.Close()
	}
}

func TestARemovedPeerIsOutAtOnce(t *testing.T) {
	t.Parallel()
	hub := newTunnel(t, tunnel.Hub, hubAddr)
	edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
	join(t, hub, edge, facilityAddr(1))
	echo(t, hub)
	c := dial(t, edge)
	mustExchange(t, c, 1000)
	if err := hub.RemovePeer(edge.PublicKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("still there?")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(1500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatalf("read %d bytes from a hub that removed the peer", n)
	}
	if s, err := hub.Stats(); err != nil || len(s) != 0 {
		t.Errorf("stats after removal: %v, %v", s, err)
	}
}

func TestCloseUnderTraffic(t *testing.T) {
	t.Parallel()
	for round := range 12 {
		hub := newTunnel(t, tunnel.Hub, hubAddr)
		edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
		join(t, hub, edge, facilityAddr(1))
		echo(t, hub)
		c := dial(t, edge)
		busy := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				buf := make([]byte, 64<<10)
				for first := true; ; first = false {
					if _, err := c.Write(buf); err != nil {
						return
					}
					if first {
						select {
						case busy <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
		<-busy
		first, second := edge, hub
		if round%2 == 1 {
			first, second = hub, edge
		}
		closed := make(chan struct{})
		wg.Go(func() {
			defer close(closed)
			_ = first.Close()
			_ = second.Close()
		})
		select {
		case <-closed:
		case <-time.After(2 * time.Minute):
			t.Fatal("Close hangs")
		}
		wg.Wait()
		if _, err := edge.DialContext(t.Context(), "tcp", stream.String()); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("dial after Close: %v", err)
		}
	}
}

func TestARestartedHubIsFoundWithinSeconds(t *testing.T) {
	t.Parallel()
	hubKey, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
	start := func(port uint16) *tunnel.Tunnel {
		hub, err := tunnel.New(tunnel.Config{
			PrivateKey: hubKey, ListenPort: port, Profile: tunnel.Hub,
			Addresses: []netip.Prefix{netip.PrefixFrom(hubAddr, 128)},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hub.Close() })
		if err := hub.SetPeer(tunnel.Peer{PublicKey: edge.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(facilityAddr(1), 128)}}); err != nil {
			t.Fatal(err)
		}
		echo(t, hub)
		return hub
	}
	hub := start(0)
	port := hub.Port()
	if err := edge.SetPeer(hubPeer(hub, fmt.Sprintf("127.0.0.1:%d", port))); err != nil {
		t.Fatal(err)
	}
	runTunnel(t, edge)
	mustExchange(t, dial(t, edge), 1000)
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	start(port)
	// Left alone, WireGuard keeps using the keys that the hub forgot for 15 s.
	begin := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := edge.DialTCP(ctx, stream)
		cancel()
		if took := time.Since(begin); took > 14*time.Second {
			t.Fatalf("took %v: %v", took, err)
		}
		if err == nil {
			defer c.Close()
			mustExchange(t, c, 1000)
			return
		}
	}
}

func TestAHostNameIsResolvedWhileRunning(t *testing.T) {
	t.Parallel()
	hub := newTunnel(t, tunnel.Hub, hubAddr)
	edge := newTunnel(t, tunnel.Edge, facilityAddr(1))
	join(t, hub, edge, facilityAddr(1))
	echo(t, hub)
	if err := edge.SetPeer(hubPeer(hub, fmt.Sprintf("localhost:%d", hub.Port()))); err != nil {
		t.Fatal(err)
	}
	runTunnel(t, edge)
	mustExchange(t, dial(t, edge), 1000)
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	key, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("key", "key", key)
	fmt.Fprintf(&b, "%v %s %#v", key, key, key)
	if secret := key.Reveal(); strings.Contains(b.String(), secret) || strings.Contains(b.String(), fmt.Sprint([32]byte(key))) {
		t.Error("the private key shows in " + b.String())
	}
	back, err := tunnel.ParsePrivateKey(key.Reveal())
	if err != nil || back != key {
		t.Errorf("parsed %v, %v", back == key, err)
	}
	pub, err := tunnel.ParsePublicKey(key.Public().String())
	if err != nil || pub != key.Public() {
		t.Errorf("parsed public key %v, %v", pub, err)
	}
}

func TestBadConfigurationNamesEachProblem(t *testing.T) {
	t.Parallel()
	_, err := tunnel.New(tunnel.Config{MTU: 576})
	if err == nil {
		t.Fatal("accepted")
	}
	sc := bufio.NewScanner(strings.NewReader(err.Error()))
	lines := 0
	for sc.Scan() {
		lines++
	}
	if lines != 3 {
		t.Errorf("want three problems, got %q", err)
	}
}
