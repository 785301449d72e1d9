package enrol_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// region is a region as far as boxes that enrol see it.
type region struct {
	*provision.Provision
	t      *testing.T
	db     *pgtest.DB
	pool   *pgxpool.Pool
	ca     *provision.CA
	tunnel proto.TunnelSettings
	answer fault.Point

	mu    sync.Mutex
	now   time.Time // zero is the real time
	heard []string  // what the hooks were told
}

func newRegion(t *testing.T) *region {
	t.Helper()
	hub, err := tunnel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return newRegionWithHub(t, hub.Public(), "127.0.0.1:51820")
}

func newRegionWithHub(t *testing.T, key tunnel.PublicKey, endpoint string) *region {
	t.Helper()
	db := pgtest.Migrated(t, "region", migrations.Up)
	r := &region{
		t: t, db: db, pool: db.Pool(t),
		tunnel: proto.TunnelSettings{HubKey: proto.Bytes32(key), Endpoint: endpoint, MTU: 1420, KeepaliveSeconds: 25},
	}
	var err error
	if r.ca, err = provision.LoadCA(t.TempDir(), "us-east"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ('la', 'foo'), ('frankfurt', 'foo')`)
	r.Provision = r.start("us-east", "127.0.0.1:0")
	return r
}

// start runs the service until the test ends.
func (r *region) start(name, listen string) *provision.Provision {
	r.t.Helper()
	p, err := provision.New(provision.Config{
		Region: name, Listen: listen, MQTT: []string{"tls://127.0.0.1:8883"}, CA: r.ca, DB: r.pool,
		Tunnel: r.tunnel,
		Hooks: provision.Hooks{
			Enrolled: func(_ context.Context, b provision.Box) error { r.hear("enrolled " + b.ID()); return nil },
			Revoked:  func(_ context.Context, b provision.Box) error { r.hear("revoked " + b.ID()); return nil },
		},
		Log: slog.New(slog.NewTextHandler(r.t.Output(), nil)),
		Now: r.clock, Answer: &r.answer,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			r.t.Errorf("enrolment service: %v", err)
		}
	})
	r.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return p
}

func (r *region) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.IsZero() {
		return time.Now()
	}
	return r.now
}

func (r *region) setClock(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

func (r *region) hear(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, what)
}

func (r *region) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.heard...)
}

func (r *region) token(facility string, life time.Duration) string {
	r.t.Helper()
	text, _, err := r.NewToken(r.t.Context(), facility, "tester", life)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// post sends any bytes to the service, as whoever is out there might.
func (r *region) post(path string, body []byte) (status int, answer []byte) {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.ca.Certificate())
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true}}
	resp, err := c.Post("https://"+r.Addr().String()+path, proto.EnrolMediaType, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func (r *region) count(sql string, args ...any) (n int) {
	r.t.Helper()
	if err := r.pool.QueryRow(r.t.Context(), sql, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *region) devices() int { return r.count(`SELECT count(*) FROM holdfast.device`) }

// box enrols from a directory; ctx ends its patience.
func box(t *testing.T, dir string) enrol.Enroller {
	return enrol.Enroller{
		StateDir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Agent: "v1.2.3",
		Backoff: run.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond},
	}
}

func patience(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func mustEnrol(t *testing.T, dir, token string) *enrol.Identity {
	t.Helper()
	id, err := box(t, dir).Enrol(patience(t, 2*time.Minute), token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// refused is the code of the refusal that err is.
func refused(t *testing.T, err error) proto.EnrolCode {
	t.Helper()
	p, ok := errors.AsType[*proto.EnrolProblem](err)
	if !ok {
		t.Fatalf("got %v, want a refusal", err)
	}
	return p.Code
}
