// Package apitest serves the region's API on a real database, for the tests of
// the API and of its callers.
//
// In:  the tests of cloud/api, cloud/dashboard and cloud/cmd/holdfastctl.
// Out: cloud/api, cloud/ingest, cloud/provision, PostgreSQL.
package apitest

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/api"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/limits"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

// Password is that of the account "root", an admin.
const Password = "correct horse battery"

// Server is the API of a region that has nothing yet.
type Server struct {
	URL string
	DB  *pgxpool.Pool
	// A client for each role, and one for nobody.
	Admin, Operator, Viewer, Nobody *v1.Client
	// Below says what the rooms below answer.
	Below *Below
	// Limits is the real one.
	Limits *limits.Keeper
	// Parked is the real one, and so is the list of tables.
	Parked *parked.Room
	tables *ingest.Ingest
	// Provision is the real one.
	Provision *provision.Provision
	// OnCall is the real one.
	OnCall *oncall.Room
	// Provider takes what is sent by every channel.
	Provider *Provider
	// Alerter is the real one; Alert starts it.
	Alerter *alert.Alerter
	parts   *run.Stack
}

// Alert has the alerter do its work until the test ends.
func (s *Server) Alert() { s.parts.Go("alerts", s.Alerter.Run) }

// Start serves until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	ctx := t.Context()
	pool := pgtest.Migrated(t, "region", migrations.Up).Pool(t)
	store := web.PGStore{Pool: pool}
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: store, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := &Below{}
	boxes := newProvision(t, pool)
	tables, err := ingest.New(ctx, ingest.Config{
		DB: pool, ApplyConnString: pool.Config().ConnString(), Log: slog.New(slog.DiscardHandler),
		CheckRegion: b.checkRegion, CheckFacilities: b.checkFacilities,
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := run.New(slog.New(slog.DiscardHandler))
	parts.Go("ingest", tables.Run)
	t.Cleanup(func() {
		if err := parts.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	room := parked.New(pool, tables, nil)
	paces, err := limits.New(ctx, pool, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	provider := &Provider{}
	people := oncall.New(pool, provider.senders(), slog.New(slog.DiscardHandler))
	alerter, err := alert.New(alert.Config{
		DB: pool, Roster: people, Senders: provider.senders(), Word: b.word, Region: "us-east", Log: slog.New(slog.DiscardHandler),
		Problems: map[channel.Kind]string{channel.MQTT: "the region under test has no broker"},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api.New(api.Deps{
		Log: slog.New(slog.DiscardHandler), DB: pool, Region: "us-east", Version: "v0-test", Tenant: "foo",
		Auth: auth, Boxes: boxes, Tables: tables, Fleet: b, Resync: b, Parked: room, Verify: b, Limits: paces, OnCall: people, Alerts: alerter,
	}))
	t.Cleanup(server.Close)
	if err := store.PutAccount(ctx, "root", Password, web.Admin); err != nil {
		t.Fatal(err)
	}
	client := func(role web.Role) *v1.Client {
		secret, sum := web.NewToken()
		if err := store.PutToken(ctx, "test "+role.String(), sum, role, time.Time{}); err != nil {
			t.Fatal(err)
		}
		return &v1.Client{URL: server.URL, Token: secret}
	}
	return &Server{
		URL: server.URL, DB: pool, Below: b, Provision: boxes, Parked: room, tables: tables, Limits: paces, OnCall: people, Provider: provider, Alerter: alerter, parts: parts,
		Admin: client(web.Admin), Operator: client(web.Operator), Viewer: client(web.Viewer), Nobody: &v1.Client{URL: server.URL},
	}
}

func newProvision(t testing.TB, pool *pgxpool.Pool) *provision.Provision {
	t.Helper()
	ca, err := provision.LoadCA(filepath.Join(t.TempDir(), "ca"), "us-east")
	if err != nil {
		t.Fatal(err)
	}
	p, err := provision.New(provision.Config{
		Region: "us-east", Listen: "127.0.0.1:0", CA: ca, DB: pool, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Below stands for the facilities and the tables: what is wrong with one, and
// how they are.
type Below struct {
	mu       sync.Mutex
	problems []proto.Problem
	silent   []string
	fleet    []v1.FacilityStatus
	run      *v1.VerifyRun
	refusal  error
	starting atomic.Bool

	up, down []string
	findings []detect.Finding
}

// Hold is what is wrong from now on.
func (b *Below) Hold(f ...detect.Finding) { b.mu.Lock(); b.findings = f; b.mu.Unlock() }

func (b *Below) word() detect.Word {
	b.mu.Lock()
	defer b.mu.Unlock()
	return detect.Word{At: time.Now(), Findings: b.findings}
}

// Refuse makes every table unsuitable for these reasons.
func (b *Below) Refuse(p ...proto.Problem) { b.mu.Lock(); b.problems = p; b.mu.Unlock() }

// Silence makes facilities that are connected not answer.
func (b *Below) Silence(facilities ...string) { b.mu.Lock(); b.silent = facilities; b.mu.Unlock() }

// Show is the fleet from now on, ordered by id.
func (b *Below) Show(f ...v1.FacilityStatus) { b.mu.Lock(); b.fleet = f; b.mu.Unlock() }

// Find is what a comparison finds from now on; a refusal begins none.
func (b *Below) Find(r v1.VerifyRun, refusal error) {
	b.mu.Lock()
	b.run, b.refusal = &r, refusal
	b.mu.Unlock()
}

// Start implements api.Verify.
func (b *Below) Start(_ context.Context, facility string, in v1.VerifyRequest, by string) (v1.VerifyRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusal != nil {
		return v1.VerifyRun{}, b.refusal
	}
	b.run.Facility, b.run.Repair, b.run.DryRun, b.run.StartedBy = facility, in.Repair, in.DryRun, by
	return v1.VerifyRun{Facility: facility, State: v1.VerifyRunning, Repair: in.Repair, DryRun: in.DryRun, StartedBy: by}, nil
}

// Latest implements api.Verify.
func (b *Below) Latest(string) (v1.VerifyRun, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.run == nil {
		return v1.VerifyRun{}, false
	}
	return *b.run, true
}

func (b *Below) checkRegion(context.Context, proto.SyncedTable) ([]proto.Problem, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems, nil
}

func (b *Below) checkFacilities(context.Context, proto.SyncedTable) (problems map[string][]proto.Problem, silent []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return nil, b.silent
}

// Up implements api.Resync.
func (b *Below) Up(facility, _ string, tables ...string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = append([]string{facility}, tables...)
	return true, nil
}

// Down implements api.Resync.
func (b *Below) Down(ctx context.Context, facility string, tables ...string) error {
	if b.starting.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = append([]string{facility}, tables...)
	return nil
}

// SetStarting has the region not know yet what it sends down.
func (b *Below) SetStarting() { b.starting.Store(true) }

// Resynced is what was asked for last: the facility and its tables.
func (b *Below) Resynced() (up, down []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up, b.down
}

// Snapshot implements api.Fleet.
func (b *Below) Snapshot() []v1.FacilityStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fleet
}

// Summary implements api.Fleet.
func (b *Below) Summary(id string) (v1.FacilityStatus, bool) {
	for _, s := range b.Snapshot() {
		if s.ID == id {
			return s, true
		}
	}
	return v1.FacilityStatus{}, false
}

// Reload implements api.Fleet.
func (b *Below) Reload(context.Context) error { return nil }

// Throughput implements api.Fleet.
func (b *Below) Throughput(string) v1.Throughput { return v1.Throughput{Changes: 7} }
