package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// box is a facility whose box is simulated: it has the right certificate and
// tunnel key, and no database. Each is of a tenant of its own.
type box struct {
	no               int
	tenant, facility string
	number           uint32 // the region's, for its tunnel address
	key              tunnel.PrivateKey
	cert             tls.Certificate
}

func numbered(i int) *box {
	return &box{no: i, tenant: fmt.Sprintf("tenant-%05d", i), facility: fmt.Sprintf("plant-%05d", i)}
}

func (b *box) clientID() string { return proto.ClientID(b.tenant, b.facility, 1) }

// addBoxes makes facilities with boxes that have enrolled, straight in the
// region's database, as enrolling thousands would measure something else. The
// region is restarted: it reads who may come in at its start.
func (l *lab) addBoxes(ctx context.Context, n int) ([]*box, error) {
	sign, err := l.signer()
	if err != nil {
		return nil, err
	}
	boxes := make([]*box, n)
	ids, tenants, sums, keys := make([]string, n), make([]string, n), make([][]byte, n), make([][]byte, n)
	for i := range boxes {
		b := numbered(i)
		if b.key, err = tunnel.GenerateKey(); err != nil {
			return nil, err
		}
		if b.cert, err = sign(b.clientID()); err != nil {
			return nil, err
		}
		public, sum := b.key.Public(), sha256.Sum256([]byte(b.facility))
		boxes[i], ids[i], tenants[i], sums[i], keys[i] = b, b.facility, b.tenant, sum[:], public[:]
	}
	rows, err := l.region.Query(ctx, `
		WITH new AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) AS n (id, tenant, sum, key)),
		     f AS (INSERT INTO holdfast.facility (id, tenant, name, enrolments) SELECT id, tenant, 'Plant ' || id, 1 FROM new RETURNING id, number),
		     d AS (INSERT INTO holdfast.device (facility, enrolment, identity_key_sha256, identity_key, wireguard_key, certificate_serial, certificate_not_after)
		           SELECT f.id, 1, n.sum, n.sum, n.key, n.id, now() + interval '90 days' FROM f JOIN new n ON n.id = f.id)
		SELECT id, number::bigint FROM f`, ids, tenants, sums, keys)
	if err != nil {
		return nil, fmt.Errorf("make the facilities: %w", err)
	}
	numbers := make(map[string]uint32, n)
	for rows.Next() {
		var id string
		var number int64
		if err := rows.Scan(&id, &number); err != nil {
			return nil, fmt.Errorf("make the facilities: %w", err)
		}
		numbers[id] = uint32(number)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("make the facilities: %w", err)
	}
	for _, b := range boxes {
		b.number = numbers[b.facility]
	}
	if _, err := l.region.Exec(ctx, `ANALYZE`); err != nil {
		return nil, fmt.Errorf("analyse the region's tables: %w", err)
	}
	if err := l.site.Cloud.Stop(); err != nil {
		return nil, err
	}
	return boxes, l.site.Restart(ctx)
}

// signer signs certificates as the region does. The boxes share one key: that
// costs the broker as much as many.
func (l *lab) signer() (func(name string) (tls.Certificate, error), error) {
	authority, err := tls.LoadX509KeyPair(l.caFile("ca.crt"), l.caFile("ca.key"))
	if err != nil {
		return nil, fmt.Errorf("read the region's authority: %w", err)
	}
	parent, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read the region's authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the boxes' key: %w", err)
	}
	serial := big.NewInt(time.Now().UnixNano())
	return func(name string) (tls.Certificate, error) {
		serial = new(big.Int).Add(serial, big.NewInt(1))
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, parent, &key.PublicKey, authority.PrivateKey)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("sign a box's certificate: %w", err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}, nil
}

func (l *lab) caFile(name string) string {
	return filepath.Join(l.dir, "region", "state", "ca", name)
}

// roots are those that boxes trust the broker by.
func (l *lab) roots() (*x509.CertPool, error) {
	raw, err := os.ReadFile(l.caFile("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the region's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate", l.caFile("ca.crt"))
	}
	return pool, nil
}

// hubKey is the public key of the region's tunnel.
func (l *lab) hubKey() (tunnel.PublicKey, error) {
	raw, err := os.ReadFile(filepath.Join(l.dir, "region", "state", "wireguard.key"))
	if err != nil {
		return tunnel.PublicKey{}, fmt.Errorf("read the hub's key: %w", err)
	}
	key, err := tunnel.ParsePrivateKey(strings.TrimSpace(string(raw)))
	if err != nil {
		return tunnel.PublicKey{}, fmt.Errorf("read the hub's key: %w", err)
	}
	return key.Public(), nil
}

// startRegion starts a region without any facility. More is added to its
// configuration, lines to its section mqtt.
func (l *lab) startRegion(ctx context.Context, ports site.Ports, more string, mqtt ...string) error {
	s, err := site.Start(ctx, site.Options{Dir: l.dir, Bin: l.bin, LogLevel: "info", Log: l.log, Ports: ports, Extra: more, MQTTLines: mqtt})
	if err != nil {
		return err
	}
	l.site = s
	l.region, err = connect(ctx, s.RegionDSN(pgcluster.Superuser, pgcluster.Database))
	return err
}
