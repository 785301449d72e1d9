package enrol

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// askTimeout is how long one request may take, connecting included.
const askTimeout = 20 * time.Second

// errNotRegion means that something answered that is not the pinned region.
var errNotRegion = errors.New("the server is not the region that the box knows")

// errServerExpired means that the region's certificate is over by our clock.
var errServerExpired = errors.New("the region's certificate has expired by the box's clock")

// client asks the enrolment service of one region.
type client struct {
	http  *http.Client
	clock *clock
}

func newClient(k *clock, pin proto.Bytes32) *client {
	return &client{clock: k, http: &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     pinned(pin, k),
			TLSHandshakeTimeout: askTimeout,
			DisableKeepAlives:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// pinned is a TLS configuration that trusts the authority with this key and
// nothing else. A box without a battery for its clock wakes up in the past: the
// region's certificate, once its signature is checked, proves that the time it
// begins with has come.
func pinned(pin proto.Bytes32, k *clock) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The usual check needs a right clock and the system's authorities.
		// VerifyConnection below is stricter.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verify(cs, pin, k)
		},
	}
}

func verify(cs tls.ConnectionState, pin proto.Bytes32, k *clock) error {
	if len(cs.PeerCertificates) == 0 {
		return errNotRegion
	}
	roots := x509.NewCertPool()
	found := false
	for _, c := range cs.PeerCertificates[1:] {
		if c.IsCA && pin.Equal(spkiSum(c)) {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return errNotRegion
	}
	leaf := cs.PeerCertificates[0]
	err := chain(cs, roots, k)
	if err == nil {
		k.learn(leaf.NotBefore)
		return nil
	}
	if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok && inv.Reason == x509.Expired {
		return fmt.Errorf("%w: it ended on %s, and the clock says %s", errServerExpired,
			leaf.NotAfter.UTC().Format(time.DateOnly), k.now().UTC().Format(time.DateTime))
	}
	return fmt.Errorf("%w: %w", errNotRegion, err)
}

// chain checks the server's certificate for its name and its time, and that one
// of roots stands behind it. A clock that is before the certificate's time is
// taken to be wrong.
func chain(cs tls.ConnectionState, roots *x509.CertPool, k *clock) error {
	inter := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		inter.AddCert(c)
	}
	leaf := cs.PeerCertificates[0]
	now := k.now()
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: now, DNSName: cs.ServerName,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func spkiSum(c *x509.Certificate) proto.Bytes32 { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// post asks once. A refusal is a *proto.EnrolProblem.
func (c *client) post(ctx context.Context, base, path string, body []byte) (proto.EnrolAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return proto.EnrolAnswer{}, run.Permanent(err)
	}
	req.Header.Set("Content-Type", proto.EnrolMediaType)
	resp, err := c.http.Do(req)
	if err != nil {
		return proto.EnrolAnswer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, proto.EnrolAnswerMaxBytes+1))
	if err != nil {
		return proto.EnrolAnswer{}, fmt.Errorf("read the region's answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		a, err := proto.DecodeEnrolAnswer(data)
		if err != nil {
			return proto.EnrolAnswer{}, run.Permanent(err)
		}
		return a, nil
	}
	p, err := proto.DecodeEnrolProblem(data)
	if err != nil {
		return proto.EnrolAnswer{}, fmt.Errorf("the region answered with status %s", resp.Status)
	}
	return proto.EnrolAnswer{}, &p
}

// permanent marks the errors that asking again does not cure.
func permanent(err error) error {
	p, refused := errors.AsType[*proto.EnrolProblem](err)
	if refused && !p.Code.Retry() || errors.Is(err, errNotRegion) || errors.Is(err, errServerExpired) {
		return run.Permanent(err)
	}
	return err
}

// advise says what to do about an error of enrolment or renewal.
func advise(err error, url string) error {
	if p, ok := errors.AsType[*proto.EnrolProblem](err); ok {
		if p.Remedy == "" {
			return err
		}
		return hint.Wrap(err, "%s", p.Remedy)
	}
	if errors.Is(err, errServerExpired) {
		return hint.Wrap(err, "Set the box's clock (timedatectl set-ntp true). If it is right, restart the region: it renews its certificate at each start.")
	}
	if errors.Is(err, errNotRegion) {
		return hint.Wrap(err, "Something between the box and %s answers in the region's place, such as a filtering proxy or a login page; or the region has lost its certificate authority, and then a new token helps.", url)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return hint.Wrap(err, "Check that the box can reach %s: its cable, its name servers, and the firewall.", url)
	}
	return err
}
