package provision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func mustCA(t *testing.T, dir string) *CA {
	t.Helper()
	ca, err := LoadCA(dir, "us-east")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestTheAuthorityStaysTheSame(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ca")
	first := mustCA(t, dir)
	if again := mustCA(t, dir); again.Pin() != first.Pin() || !bytes.Equal(again.cert.Raw, first.cert.Raw) {
		t.Error("another authority after a restart")
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v, %v", info.Mode(), err)
	}
	// The first start ended between the key and its certificate.
	if err := os.Remove(first.CertFile()); err != nil {
		t.Fatal(err)
	}
	if again := mustCA(t, dir); again.Pin() != first.Pin() {
		t.Error("the pin changed with the certificate")
	}
}

func TestADamagedAuthorityIsSaidAndNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustCA(t, dir)
	other := t.TempDir()
	mustCA(t, other)
	for _, name := range []string{"ca.key", "ca.crt"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string][]byte{"torn": good[:len(good)/2], "empty": nil, "another region's": foreign} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadCA(dir, "us-east"); err == nil {
				t.Errorf("%s with %s content was taken", name, what)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
				t.Errorf("%s was replaced", name)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAServerCertificateIsKeptWhileItServes(t *testing.T) {
	t.Parallel()
	ca := mustCA(t, t.TempDir())
	load := func(hosts ...string) *x509.Certificate {
		t.Helper()
		certFile, keyFile, err := ca.Server("mqtt", hosts)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		if len(pair.Certificate) != 2 || !bytes.Equal(pair.Certificate[1], ca.cert.Raw) {
			t.Error("the authority is not in the chain")
		}
		return pair.Leaf
	}
	first := load("127.0.0.1", "region.example")
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, host := range []string{"127.0.0.1", "region.example"} {
		if _, err := first.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Error(err)
		}
	}
	if again := load("region.example", "127.0.0.1"); !again.Equal(first) {
		t.Error("replaced without need")
	}
	moved := load("region.example", "127.0.0.1", "10.0.0.7")
	if moved.Equal(first) || moved.VerifyHostname("10.0.0.7") != nil {
		t.Error("a new address is not in the certificate")
	}
	if ca.serves(moved, ca.key, nil, time.Now()) {
		t.Error("serves with a key that is not its own")
	}
	if _, err := moved.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server's certificate passes for a box's")
	}
}

func TestTheRegionsOwnClientIsNoServer(t *testing.T) {
	t.Parallel()
	ca := mustCA(t, t.TempDir())
	c, err := ca.Client("holdfast-region-canary")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || c.Leaf.Subject.CommonName != "holdfast-region-canary" {
		t.Errorf("%v, of %s", err, c.Leaf.Subject)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
		t.Error("it passes for a server's")
	}
	if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(c.Leaf.PublicKey) {
		t.Error("the key is another's")
	}
}

func TestABoxCertificateIsOnlyThat(t *testing.T) {
	t.Parallel()
	ca := mustCA(t, t.TempDir())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.device(&key.PublicKey, "la-AT-foo-E1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
		t.Error("a box's certificate passes for a server's")
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, usage %v", c.IsCA, c.KeyUsage)
	}
}

func TestSourcesDoNotSlowEachOther(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLimiter(func() time.Time { return now })
	use := func(addr string) (n int) {
		for range 3 * sourceBurst {
			if _, ok := l.allow(addr); ok {
				n++
			}
		}
		return n
	}
	for _, addr := range []string{"192.0.2.1:5000", "[2001:db8:1:2::1]:5000", "[::ffff:192.0.2.9]:1"} {
		if n := use(addr); n != sourceBurst {
			t.Errorf("%s was let in %d times at once, want %d", addr, n, sourceBurst)
		}
	}
	for _, same := range []string{"192.0.2.1:6000", "[2001:db8:1:2:ffff::9]:1", "192.0.2.9:2"} {
		if n := use(same); n != 0 {
			t.Errorf("%s counts as another source: %d", same, n)
		}
	}
	now = now.Add(10 * sourceEvery)
	if n := use("192.0.2.1:5000"); n != 10 {
		t.Errorf("let in %d times after %v", n, 10*sourceEvery)
	}
	if _, ok := l.allow("no address"); ok {
		t.Error("a source without an address was let in")
	}
}
