// Package brokertest starts a real broker with certificates of its own, for tests.
//
// In:  tests.
// Out: cloud/broker.
package brokertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
)

// CA is a small certificate authority. Its methods may be called from several
// goroutines.
type CA struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu      sync.Mutex
	serial  int64
	revoked []x509.RevocationListEntry
}

// NewCA makes an authority whose files live as long as the test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ca := &CA{t: t, dir: t.TempDir(), cert: cert, key: key, serial: 1}
	if err := os.WriteFile(ca.File(), encode("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// File is the authority's own certificate.
func (ca *CA) File() string { return filepath.Join(ca.dir, "ca.crt") }

// Issue makes a certificate for a name and for 127.0.0.1.
func (ca *CA) Issue(name string) (certFile, keyFile string, serial *big.Int) {
	ca.t.Helper()
	certFile, keyFile = filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")
	return certFile, keyFile, ca.issue(name, certFile, keyFile, time.Now().Add(24*time.Hour))
}

func (ca *CA) issue(name, certFile, keyFile string, until time.Time) (serial *big.Int) {
	ca.t.Helper()
	cert, key, serial := ca.sign(name, until)
	for file, content := range map[string][]byte{certFile: cert, keyFile: key} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			ca.t.Fatal(err)
		}
	}
	return serial
}

// sign makes a certificate and its key, as PEM.
func (ca *CA) sign(name string, until time.Time) (cert, keyPEM []byte, serial *big.Int) {
	ca.t.Helper()
	ca.mu.Lock()
	ca.serial++
	serial = big.NewInt(ca.serial)
	ca.mu.Unlock()
	key := newKey(ca.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER), serial
}

// ClientTLS is what a client with that name connects with.
func (ca *CA) ClientTLS(name string) (conf *tls.Config, serial *big.Int) {
	ca.t.Helper()
	certPEM, keyPEM, serial := ca.sign(name, time.Now().Add(24*time.Hour)) // no files: others ask for the same name
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		ca.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{cert}}, serial
}

// Revoke adds a certificate to the next CRL.
func (ca *CA) Revoke(serial *big.Int) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.revoked = append(ca.revoked, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
}

// CRL is what broker.Config.CRL wants.
func (ca *CA) CRL(context.Context) ([]byte, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Hour),
		NextUpdate: time.Now().Add(365 * 24 * time.Hour), RevokedCertificateEntries: ca.revoked,
	}, ca.cert, ca.key)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), err
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// FreeAddr is a loopback address that no other test uses.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(pgtest.Port(t)))
}

// Devices is a list of boxes that a test changes.
type Devices struct {
	mu   sync.Mutex
	list []broker.Device
}

// Set replaces the list.
func (d *Devices) Set(list ...broker.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = list
}

// List is what broker.Config.Devices wants.
func (d *Devices) List(context.Context) ([]broker.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]broker.Device(nil), d.list...), nil
}

// Broker is a running broker.
type Broker struct {
	*broker.Broker
	CA      *CA
	Devices *Devices
	TLSURL  string
	Local   string // host:port

	certFile, keyFile string
}

// New starts a broker that knows devices, and stops it when the test ends.
func New(t testing.TB, devices ...broker.Device) *Broker {
	t.Helper()
	return NewWith(t, nil, devices...)
}

// NewWith is New with accounts for other programs.
func NewWith(t testing.TB, integrations []broker.Account, devices ...broker.Device) *Broker {
	t.Helper()
	ca, list := NewCA(t), &Devices{}
	list.Set(devices...)
	cert, key, _ := ca.Issue("broker")
	local, secure := FreeAddr(t), FreeAddr(t)
	b, err := broker.New(broker.Config{
		Dir: filepath.Join(t.TempDir(), "broker"), LocalAddr: local, TLSAddr: secure,
		CertFile: cert, KeyFile: key, ClientCAFile: ca.File(), CRL: ca.CRL, Devices: list.List,
		TLSName: "127.0.0.1", Issue: func(name string) (tls.Certificate, error) {
			conf, _ := ca.ClientTLS(name)
			return conf.Certificates[0], nil
		},
		Integrations: integrations, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Errorf("stop the broker: %v", err)
		}
	})
	s.Go("broker", b.Run)
	Eventually(t, "the broker runs", func() bool { return b.State().Running })
	return &Broker{Broker: b, CA: ca, Devices: list, TLSURL: "mqtts://" + secure, Local: local, certFile: cert, keyFile: key}
}

// Certify gives the broker another certificate, by an authority and until a moment,
// and starts it again with it.
func (b *Broker) Certify(t testing.TB, by *CA, until time.Time) {
	t.Helper()
	by.issue("broker", b.certFile, b.keyFile, until)
	b.Kill(t)
}

// Kill ends the broker's process at once, and waits until it has been started
// again.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	was := b.State()
	if err := syscall.Kill(was.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "the broker runs again", func() bool {
		s := b.State()
		return s.Running && s.Starts > was.Starts
	})
}

// Eventually waits until ok, for at most two minutes: a box that was cut off for a while
// waits for up to 30 before it tries again, and a busy machine for as long again.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited two minutes, and still not so: %s", what)
		}
	}
}
