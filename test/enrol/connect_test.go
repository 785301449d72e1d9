package enrol_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/hub"
	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/internal/tunnel"
)

// TestAnEnrolledBoxReachesTheRegion goes the whole way with what the box was
// given: through the tunnel, and with its certificate.
func TestAnEnrolledBoxReachesTheRegion(t *testing.T) {
	t.Parallel()
	key, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{PrivateKey: key})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer h.Close()
	r := newRegionWithHub(t, key.Public(), fmt.Sprintf("127.0.0.1:%d", h.Port()))
	dir := t.TempDir()
	id := mustEnrol(t, dir, r.token("la", 0))

	boxes, err := r.Active(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes { // as the region does at its start
		if err := h.Add(hub.Facility{ID: b.Facility, Number: b.Number, PublicKey: tunnel.PublicKey(b.TunnelKey)}); err != nil {
			t.Fatal(err)
		}
	}
	tun, err := tunnel.New(tunnel.Config{
		PrivateKey: id.TunnelKey, MTU: id.Tunnel.MTU,
		Addresses: []netip.Prefix{netip.PrefixFrom(id.Tunnel.Address, id.Tunnel.Address.BitLen())},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	if err := tun.SetPeer(tunnel.Peer{
		PublicKey: id.Tunnel.HubKey, Endpoint: id.Tunnel.Endpoint, KeepaliveInterval: id.Tunnel.Keepalive,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(id.Tunnel.HubAddress, id.Tunnel.HubAddress.BitLen())},
	}); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		c, err := h.Listener().Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			who, _ := h.FacilityOf(ap.Addr())
			_, _ = io.WriteString(c, "hello "+who)
		}
	})
	c, err := tun.DialTCP(patience(t, 20*time.Second), id.Stream())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello la" {
		t.Errorf("the region says %q, %v", got, err)
	}
}

// TestTheBrokerAndTheBoxKnowEachOther does what broker and box do: each shows
// its certificate and trusts the region's authority only.
func TestTheBrokerAndTheBoxKnowEachOther(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	dir := t.TempDir()
	id := mustEnrol(t, dir, r.token("la", 0))
	certFile, keyFile, err := r.ca.Server("mqtt", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	cert.Certificate = cert.Certificate[:1] // a broker that does not show its authority
	boxes := x509.NewCertPool()
	boxes.AddCert(r.ca.Certificate())
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: boxes, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ln.Close()
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = greet(c)
		}
	})
	k := enrol.NewKeeper(dir, id, nil)
	c, err := tls.Dial("tcp", ln.Addr().String(), k.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "la-AT-foo-E1" {
		t.Errorf("the broker says %q, %v", got, err)
	}

	// The box of another region is refused, and refuses.
	other := newRegion(t)
	otherDir := t.TempDir()
	stranger := enrol.NewKeeper(otherDir, mustEnrol(t, otherDir, other.token("la", 0)), nil)
	if c, err := tls.Dial("tcp", ln.Addr().String(), stranger.TLS()); err == nil {
		_ = c.Close()
		t.Error("a box took another region's broker for its own")
	}
}

func greet(c net.Conn) error {
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tc := c.(*tls.Conn)
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	_, err := io.WriteString(c, tc.ConnectionState().PeerCertificates[0].Subject.CommonName)
	return err
}
