package enrol

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/version"
	"github.com/agogsaas/holdfast/proto"
)

// checkEvery is how often the Keeper looks whether the certificate is due. It
// asks no more often than that either, until the region gives the next.
const checkEvery = time.Hour

// Keeper holds the box's identity while the agent runs, and renews its
// certificate after two thirds of its life, or as soon as it can after that:
// an expired certificate still renews. Its methods may be called from several
// goroutines.
type Keeper struct {
	dir   string
	log   *slog.Logger
	clock *clock

	mu      sync.Mutex
	id      *Identity
	problem error
}

// NewKeeper holds id, which Load or Enrol returned for the same directory.
func NewKeeper(stateDir string, id *Identity, log *slog.Logger) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{dir: stateDir, log: log, clock: openClock(stateDir), id: id}
}

// Identity is the present one. A renewal can change its certificate and the
// region's addresses, and nothing else.
func (k *Keeper) Identity() *Identity {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id
}

// Problem is why the last renewal failed; nil when none is due or it worked.
func (k *Keeper) Problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}

// TLS is the configuration for connections to the region's broker: it presents
// the present certificate at each new connection, and trusts the region's
// authority only. A clock that is behind does no harm.
func (k *Keeper) TLS() *tls.Config {
	id := k.Identity()
	c := pinned(spkiSum(id.CA), k.clock)
	ca := id.CA
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		// A broker need not send the authority's certificate; the box has it.
		cs.PeerCertificates = append(cs.PeerCertificates[:len(cs.PeerCertificates):len(cs.PeerCertificates)], ca)
		return verify(cs, spkiSum(ca), k.clock)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert := k.Identity().Certificate
		return &cert, nil
	}
	return c
}

// ForeignTLS is the configuration for a broker that others run: it trusts the
// authorities in caFile, and shows the box's certificate only to a broker that
// asks for one of the region's. A clock that is behind does no harm.
func (k *Keeper) ForeignTLS(caFile string) (*tls.Config, error) {
	c, err := mqttclient.TLSFiles(caFile, "", "")()
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = true // VerifyConnection knows the clock
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := chain(cs, c.RootCAs, k.clock); err != nil {
			return fmt.Errorf("the broker's certificate, by %s: %w", caFile, err)
		}
		return nil
	}
	c.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert := k.Identity().Certificate
		if asked.SupportsCertificate(&cert) != nil {
			return &tls.Certificate{}, nil
		}
		return &cert, nil
	}
	return c, nil
}

// Run renews until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if k.due() {
			k.note(k.renew(ctx))
		}
		t.Reset(checkEvery)
	}
}

func (k *Keeper) due() bool {
	leaf := k.Identity().Certificate.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return !k.clock.now().Before(leaf.NotBefore.Add(life * 2 / 3))
}

// note logs what has changed.
func (k *Keeper) note(err error) {
	k.mu.Lock()
	was := k.problem
	k.problem = err
	id := k.id
	k.mu.Unlock()
	switch {
	case err == nil:
		k.log.Info("certificate renewed", "facility", id.Facility, "until", id.Certificate.Leaf.NotAfter)
	case was == nil && !errors.Is(err, context.Canceled):
		k.log.Warn("certificate not renewed, will try again", "facility", id.Facility, "until", id.Certificate.Leaf.NotAfter, "err", err)
	}
}

// renew asks once.
func (k *Keeper) renew(ctx context.Context) error {
	id := k.Identity()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.key)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	body, err := proto.RenewRequest{CSR: csr, WallMs: k.clock.now().UnixMilli(), Agent: version.String()}.Encode()
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	c := newClient(k.clock, spkiSum(id.CA))
	defer c.close()
	a, err := c.post(ctx, id.EnrolURL, proto.RenewPath, body)
	if err != nil {
		return advise(fmt.Errorf("renew the certificate at %s: %w", id.EnrolURL, err), id.EnrolURL)
	}
	next, err := fromAnswer(a, &keys{device: id.key, tunnel: id.TunnelKey}, spkiSum(id.CA), id.tokenSum)
	if err != nil {
		return fmt.Errorf("renew the certificate: the answer does not fit: %w", err)
	}
	if next.ClientID() != id.ClientID() || next.Region != id.Region {
		return fmt.Errorf("renew the certificate: the region took the box for %s", next.ClientID())
	}
	k.clock.learn(time.UnixMilli(a.WallMs))
	if err := next.save(k.dir); err != nil {
		return fmt.Errorf("keep the renewed certificate: %w", err)
	}
	k.mu.Lock()
	k.id = next
	k.mu.Unlock()
	return nil
}
