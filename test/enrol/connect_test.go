package enrol_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/hub"
	"github.com/agogsaas/holdfast/cloud/provision"
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
	c, err := tun.DialTCP(patience(t, 2*time.Minute), id.Stream())
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
	ln := listen(t, r.ca, r.ca, tls.RequireAndVerifyClientCert)
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

// TestABrokerThatOthersRunIsKnownByItsOwnAuthority: the box trusts that one and
// no other there, and shows its certificate only where it is wanted.
func TestABrokerThatOthersRunIsKnownByItsOwnAuthority(t *testing.T) {
	t.Parallel()
	r, dir := newRegion(t), t.TempDir()
	others, err := provision.LoadCA(t.TempDir(), "others")
	if err != nil {
		t.Fatal(err)
	}
	k := enrol.NewKeeper(dir, mustEnrol(t, dir, r.token("la", 0)), nil)
	foreign, err := k.ForeignTLS(others.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(by, wants *provision.CA, conf *tls.Config, auth tls.ClientAuthType) (string, error) {
		t.Helper()
		ln := listen(t, by, wants, auth)
		c, err := tls.Dial("tcp", ln.Addr().String(), conf)
		if err != nil {
			return "", err
		}
		defer c.Close()
		got, err := io.ReadAll(c)
		return string(got), err
	}
	for _, tt := range []struct {
		name      string
		by, wants *provision.CA
		conf      *tls.Config
		auth      tls.ClientAuthType
		want      string // "": refused
	}{
		{"it wants no certificate", others, others, foreign, tls.NoClientCert, "nobody"},
		{"it takes its own certificates only", others, others, foreign, tls.VerifyClientCertIfGiven, "nobody"},
		{"it takes the region's boxes", others, r.ca, foreign, tls.RequireAndVerifyClientCert, "la-AT-foo-E1"},
		{"another authority signed", r.ca, r.ca, foreign, tls.NoClientCert, ""},
		{"the region's broker was configured", others, r.ca, k.TLS(), tls.NoClientCert, ""},
	} {
		if got, err := dial(tt.by, tt.wants, tt.conf, tt.auth); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: the broker greets %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := k.ForeignTLS(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// listen is a broker whose certificate one authority signed, and which wants
// the certificates of another.
func listen(t *testing.T, by, wants *provision.CA, auth tls.ClientAuthType) net.Listener {
	t.Helper()
	certFile, keyFile, err := by.Server("mqtt", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	cert.Certificate = cert.Certificate[:1] // a broker that does not show its authority
	boxes := x509.NewCertPool()
	boxes.AddCert(wants.Certificate())
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: boxes, ClientAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = greet(c)
		}
	})
	return ln
}

func greet(c net.Conn) error {
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tc := c.(*tls.Conn)
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	name := "nobody"
	if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 {
		name = certs[0].Subject.CommonName
	}
	_, err := io.WriteString(c, name)
	return err
}
