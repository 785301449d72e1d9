package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

func facilityAddr(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd48:6f6c:6466:1::%x", n))
}

func newTunnel(t testing.TB, p tunnel.Profile, addr netip.Addr) *tunnel.Tunnel {
	t.Helper()
	key, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	tun, err := tunnel.New(tunnel.Config{
		PrivateKey: key,
		Addresses:  []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())},
		Profile:    p,
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	})
	return tun
}

// join lets the edge call the hub.
func join(t testing.TB, hub, edge *tunnel.Tunnel, edgeAddr netip.Addr) {
	t.Helper()
	if err := hub.SetPeer(tunnel.Peer{PublicKey: edge.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(edgeAddr, edgeAddr.BitLen())}}); err != nil {
		t.Fatal(err)
	}
	if err := edge.SetPeer(hubPeer(hub, fmt.Sprintf("127.0.0.1:%d", hub.Port()))); err != nil {
		t.Fatal(err)
	}
}

func hubPeer(hub *tunnel.Tunnel, endpoint string) tunnel.Peer {
	return tunnel.Peer{
		PublicKey:         hub.PublicKey(),
		Endpoint:          endpoint,
		AllowedIPs:        []netip.Prefix{netip.PrefixFrom(hubAddr, 128)},
		KeepaliveInterval: tunnel.DefaultKeepalive,
	}
}

// echo serves every connection until the listener closes.
func echo(t testing.TB, hub *tunnel.Tunnel) {
	t.Helper()
	l, err := hub.Listen(stream)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		_ = hub.Close()
		wg.Wait()
	})
}

func dial(t testing.TB, edge *tunnel.Tunnel) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := edge.DialContext(ctx, "tcp", stream.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends n random bytes and wants them back.
func exchange(c net.Conn, n int) error {
	want := make([]byte, n)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, err := c.Write(want)
		sent <- err
	})
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil {
		_ = c.SetDeadline(time.Now())
		return fmt.Errorf("read: %w", err)
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errors.New("the bytes that came back differ")
	}
	return nil
}

func mustExchange(t testing.TB, c net.Conn, n int) {
	t.Helper()
	if err := exchange(c, n); err != nil {
		t.Fatal(err)
	}
}

func endpointOf(t testing.TB, hub *tunnel.Tunnel) string {
	t.Helper()
	s, err := hub.Stats()
	if err != nil || len(s) != 1 {
		t.Fatalf("stats: %v, %v", s, err)
	}
	return s[0].Endpoint
}

func runTunnel(t testing.TB, tun *tunnel.Tunnel) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = tun.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}
