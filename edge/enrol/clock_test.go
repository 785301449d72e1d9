package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: begin.Add(-time.Hour), NotAfter: begin.Add(20 * 365 * 24 * time.Hour),
	})
	return a
}

var begin = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func (a *authority) sign(c *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	parent := a.cert
	if parent == nil {
		parent = c
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *authority) server(usage x509.ExtKeyUsage) *x509.Certificate {
	return a.sign(&x509.Certificate{
		DNSNames: []string{"region.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: begin, NotAfter: begin.Add(365 * 24 * time.Hour),
	})
}

func TestOnlyThePinnedRegionIsTrustedWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	good := a.server(x509.ExtKeyUsageServerAuth)
	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
		host  string
		now   time.Time
		want  error
	}{
		{"right", []*x509.Certificate{good, a.cert}, "region.example", begin.Add(time.Hour), nil},
		{"no battery: 1970", []*x509.Certificate{good, a.cert}, "region.example", time.Unix(0, 0), nil},
		{"after its end", []*x509.Certificate{good, a.cert}, "region.example", begin.Add(366 * 24 * time.Hour), errServerExpired},
		{"another host", []*x509.Certificate{good, a.cert}, "evil.example", begin, errNotRegion},
		{"another authority", []*x509.Certificate{other.server(x509.ExtKeyUsageServerAuth), other.cert}, "region.example", begin, errNotRegion},
		{"the pinned authority shown, another one signed", []*x509.Certificate{other.server(x509.ExtKeyUsageServerAuth), a.cert}, "region.example", begin, errNotRegion},
		{"a box's certificate", []*x509.Certificate{a.server(x509.ExtKeyUsageClientAuth), a.cert}, "region.example", begin, errNotRegion},
		{"the authority not shown", []*x509.Certificate{good}, "region.example", begin, errNotRegion},
		{"nothing", nil, "region.example", begin, errNotRegion},
	} {
		k := &clock{path: filepath.Join(t.TempDir(), clockFile), system: func() time.Time { return tt.now }}
		err := verify(tls.ConnectionState{PeerCertificates: tt.chain, ServerName: tt.host}, spkiSum(a.cert), k)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if tt.want == nil && k.now().Before(begin) {
			t.Errorf("%s: the certificate's begin is not remembered, now is %v", tt.name, k.now())
		}
		if tt.want != nil && !k.floor.IsZero() {
			t.Errorf("%s: the clock believed a certificate that was refused", tt.name)
		}
	}
}

func TestTheFloorOfTheClockOutlivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := openClock(dir)
	future := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
	k.learn(future)
	k.learn(future.Add(-time.Hour)) // no way back
	if got := openClock(dir).now(); !got.Equal(future) {
		t.Errorf("after the restart it is %v, want %v", got, future)
	}
	if err := os.WriteFile(filepath.Join(dir, clockFile), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := openClock(dir).now(); time.Since(got).Abs() > time.Minute {
		t.Errorf("with a damaged file it is %v", got)
	}
}
