package scenario

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// The broker's scenarios are outside of the package, and use these too.
var (
	StartSiteWith   = startSiteWith
	AddEdgeWith     = addEdgeWith
	Eventually      = eventually
	CustomersServer = customersServer
	Metric          = metric
)

// startSite starts a region; its logs are shown when the test fails.
func startSite(t *testing.T) *site.Site {
	t.Helper()
	return startSiteWith(t, site.Options{})
}

func startSiteWith(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	o.Cluster = cluster(t)
	return startBareSite(t, o)
}

// startBareSite starts a region that makes its PostgreSQL cluster itself, and so do its boxes.
func startBareSite(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	if o.Bin == "" {
		o.Bin = filepath.Dir(procs.Build(t, procs.Edge))
		procs.Build(t, procs.Cloud)
	}
	if o.Dir == "" {
		o.Dir = folder(t)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	o.Tied = true
	o.Ports = site.Ports{
		HTTP: cmp.Or(o.Ports.HTTP, pgtest.Port(t)), Postgres: pgtest.Port(t), Enrol: pgtest.Port(t), WireGuard: pgtest.Port(t),
		MQTT: cmp.Or(o.Ports.MQTT, pgtest.Port(t)), MQTTPlain: pgtest.Port(t),
	}
	s, err := site.Start(within(t), o)
	t.Cleanup(func() {
		if s != nil {
			if t.Failed() {
				t.Logf("region:\n%s", s.Cloud.Tail(60))
				for _, e := range s.Edges() {
					t.Logf("%s:\n%s", e.ID, e.Agent.Tail(60))
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("stop the site: %v", err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var made struct {
	sync.Mutex
	dir string
}

// cluster is a PostgreSQL cluster that was made as the programs make theirs, once for
// all scenarios: to make one takes longer than many of them do.
func cluster(t *testing.T) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.dir != "" {
		return made.dir
	}
	dir := pgtest.SharedDir(t)
	c, err := pgcluster.New(pgcluster.Config{Dir: dir, Port: pgtest.Port(t)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start(within(t))
	if err = errors.Join(err, c.Stop()); err != nil {
		t.Fatalf("make a cluster: %v", err)
	}
	made.dir = dir
	return dir
}

// folder is where a site lives. With HOLDFAST_KEEP set it stays behind.
func folder(t *testing.T) string {
	t.Helper()
	if os.Getenv("HOLDFAST_KEEP") == "" {
		return pgtest.Dir(t)
	}
	// Not t.TempDir: PostgreSQL's user must be able to reach it.
	dir, err := os.MkdirTemp("", "holdfast-site-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("kept: %s", dir)
	return dir
}

func addEdge(t *testing.T, s *site.Site, id string) *site.Edge {
	t.Helper()
	return addEdgeWith(t, s, site.EdgeOptions{ID: id})
}

func addEdgeWith(t *testing.T, s *site.Site, o site.EdgeOptions) *site.Edge {
	t.Helper()
	o.HTTP, o.Postgres = pgtest.Port(t), pgtest.Port(t)
	e, err := s.AddEdge(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// addWorkspace registers the workspace's tables.
func addWorkspace(t *testing.T, s *site.Site) {
	t.Helper()
	for table, class := range map[string]string{"orders": "fact", "order_lines": "fact", "inventory_items": "fact", "inventory_transactions": "event"} {
		if _, err := s.API.AddTable(t.Context(), v1.TableAdd{Schema: "public", Table: table, Class: class}); err != nil {
			t.Fatal(err)
		}
	}
}

func pool(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func edgeDB(t *testing.T, e *site.Edge) *pgxpool.Pool {
	return pool(t, e.DSN(pgcluster.App, pgcluster.Database))
}

func regionDB(t *testing.T, s *site.Site) *pgxpool.Pool {
	return pool(t, s.RegionDSN(pgcluster.Owner, pgcluster.Database))
}

// patience is how long anything may take here on a machine that does much else; what is
// promised is measured in the bench.
const patience = 10 * time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok returns nil.
func eventually(t *testing.T, ok func(ctx context.Context) error) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err // what was in the way, rather than that time was up
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", patience, last)
		case <-tick.C:
		}
	}
}
