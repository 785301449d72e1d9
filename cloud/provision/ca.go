package provision

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// How long certificates last.
const (
	caLife     = 20 * 365 * 24 * time.Hour
	serverLife = 3 * 365 * 24 * time.Hour
	// serverRenew is how long before its end a server certificate is replaced,
	// at the next start.
	serverRenew = 365 * 24 * time.Hour
	// DeviceLife is how long a box's certificate lasts; it asks for the next
	// after two thirds.
	DeviceLife = 90 * 24 * time.Hour
	// skew is how far before now certificates begin, for clocks that are behind.
	skew = time.Hour
)

// CA is the region's certificate authority. Its key is the region's most
// precious file: whoever has it can pose as any box and as the region.
type CA struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// LoadCA reads the authority from a directory (files ca.key, mode 0600, and
// ca.crt), and makes it when the directory has none. The directory is made,
// with mode 0700.
func LoadCA(dir, region string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the certificate directory: %w", err)
	}
	ca := &CA{dir: dir}
	var err error
	if ca.key, err = loadKey(filepath.Join(dir, "ca.key")); err != nil {
		return nil, hint.Wrap(fmt.Errorf("load the certificate authority: %w", err),
			"Restore %s from a backup. With a new authority every box must be enrolled again.", dir)
	}
	ca.cert, err = readCert(ca.CertFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// First start, or it ended between the two files. The boxes know the
		// key, so another certificate for it is as good.
		if ca.cert, err = ca.selfSign(region, time.Now()); err != nil {
			return nil, fmt.Errorf("make the certificate authority: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("load the certificate authority: %w", err)
	case !ca.key.PublicKey.Equal(ca.cert.PublicKey):
		return nil, hint.Wrap(fmt.Errorf("load the certificate authority: %s is not the certificate of ca.key", ca.CertFile()),
			"Restore both files from the same backup.")
	}
	return ca, nil
}

// CertFile is the authority's certificate, PEM. It is public.
func (ca *CA) CertFile() string { return filepath.Join(ca.dir, "ca.crt") }

// Certificate is the authority's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Pin is the SHA-256 of the authority's public key, as tokens carry it.
func (ca *CA) Pin() proto.Bytes32 { return sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo) }

func (ca *CA) selfSign(region string, now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Holdfast region " + region},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := ca.sign(t, t, &ca.key.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(ca.CertFile(), pemOf("CERTIFICATE", der), 0o644); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (ca *CA) sign(t, parent *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, t, parent, pub, ca.key)
}

// Server makes sure that there is a certificate for a server of the region
// that answers under these host names and IP addresses, and returns its PEM
// files: the chain with the authority's certificate, and the key, mode 0600.
// An old one is kept until its last year.
func (ca *CA) Server(name string, hosts []string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")
	key, err := loadKey(keyFile)
	if err != nil {
		return "", "", fmt.Errorf("load the key of server %s: %w", name, err)
	}
	now := time.Now()
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	if old, err := readCert(certFile); err == nil && ca.serves(old, key, hosts, now) {
		return certFile, keyFile, nil
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Holdfast " + name},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := ca.sign(t, ca.cert, &key.PublicKey)
	if err != nil {
		return "", "", fmt.Errorf("sign the certificate of server %s: %w", name, err)
	}
	chain := append(pemOf("CERTIFICATE", der), pemOf("CERTIFICATE", ca.cert.Raw)...)
	if err := durable.WriteFile(certFile, chain, 0o644); err != nil {
		return "", "", fmt.Errorf("keep the certificate of server %s: %w", name, err)
	}
	return certFile, keyFile, nil
}

// serves reports whether an existing server certificate still does.
func (ca *CA) serves(c *x509.Certificate, key *ecdsa.PrivateKey, hosts []string, now time.Time) bool {
	if !key.PublicKey.Equal(c.PublicKey) || c.CheckSignatureFrom(ca.cert) != nil || now.Add(serverRenew).After(c.NotAfter) || now.Before(c.NotBefore) {
		return false
	}
	for _, h := range hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

// device signs a box's certificate. Its common name is the box's name at the
// broker.
func (ca *CA) device(pub *ecdsa.PublicKey, name string, now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(DeviceLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := ca.sign(t, ca.cert, pub)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of box %s: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

// Client makes a key and a client certificate for a program of the region's own that
// connects with them now. Nothing is kept.
func (ca *CA) Client(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the key of %s: %w", name, err)
	}
	cert, err := ca.device(&key.PublicKey, name, time.Now())
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// crl signs a list of revoked certificates, PEM. It does not run out before
// the authority does: a list that is late must not lock every box out, and the
// region hands out a new one with every change.
func (ca *CA) crl(revoked []x509.RevocationListEntry, now time.Time) ([]byte, error) {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:                    big.NewInt(now.UnixMilli()),
		ThisUpdate:                now.Add(-skew),
		NextUpdate:                ca.cert.NotAfter,
		RevokedCertificateEntries: revoked,
	}, ca.cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the list of revoked certificates: %w", err)
	}
	return pemOf("X509 CRL", der), nil
}

// loadKey reads a P-256 key, and makes it when the file is not there.
func loadKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := config.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s holds a key of another kind than P-256", path)
	}
	return key, nil
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.WriteFile(path, pemOf("PRIVATE KEY", der), 0o600)
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
