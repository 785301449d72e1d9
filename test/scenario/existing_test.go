package scenario

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// rights are what docs/operations.md says that Holdfast's role needs on a server
// of the customer's.
var rights = []string{
	`CREATE ROLE app LOGIN`,
	`CREATE ROLE holdfast LOGIN REPLICATION`,
	`GRANT app TO holdfast`,
	`GRANT SET ON PARAMETER session_replication_role TO holdfast`,
	`CREATE DATABASE plant OWNER holdfast`,
}

// customersServer is a PostgreSQL server with a database in which an
// application has its table, and Holdfast no more rights than it needs.
func customersServer(t *testing.T) (dsn string, app *pgxpool.Pool) {
	t.Helper()
	s := pgtest.Cluster(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
	for _, sql := range rights {
		s.Exec(t, sql)
	}
	cfg := s.DB
	as := func(role string) string {
		return fmt.Sprintf("postgres://%s@%s:%d/plant?sslmode=disable", role, cfg.Host(), cfg.Port())
	}
	owner := pool(t, as("holdfast"))
	if _, err := owner.Exec(t.Context(), `GRANT CREATE ON SCHEMA public TO app`); err != nil {
		t.Fatal(err)
	}
	app = pool(t, as("app"))
	if _, err := app.Exec(t.Context(), `CREATE TABLE work (facility_id text NOT NULL, id int, what text, PRIMARY KEY (facility_id, id));
		CREATE TABLE price (id int PRIMARY KEY, cents int NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return as("holdfast"), app
}

// TestBothSidesMayUseTheCustomersServers: nothing of Holdfast's needs a
// superuser there.
func TestBothSidesMayUseTheCustomersServers(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(procs.Build(t, procs.Edge))
	procs.Build(t, procs.Cloud)
	regionDSN, region := customersServer(t)
	boxDSN, box := customersServer(t)
	s := startSiteWith(t, site.Options{Dir: folder(t), Bin: bin, Existing: regionDSN, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if _, err := region.Exec(t.Context(), `INSERT INTO price VALUES (1, 495)`); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Exec(t.Context(), `INSERT INTO work VALUES ('la', 1, 'from before')`); err != nil {
		t.Fatal(err)
	}
	addEdgeWith(t, s, site.EdgeOptions{ID: "la", Existing: boxDSN})
	none := ""
	for _, add := range []v1.TableAdd{{Schema: "public", Table: "work", Class: "fact"}, {Schema: "public", Table: "price", Class: "master", FacilityColumn: &none}} {
		if _, err := s.API.AddTable(t.Context(), add); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(at *pgxpool.Pool, sql, want string) {
		t.Helper()
		eventually(t, func(ctx context.Context) error {
			var got string
			if err := at.QueryRow(ctx, sql).Scan(&got); err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s: %q, want %q", sql, got, want)
			}
			return nil
		})
	}
	const work, price = `SELECT string_agg(id || ' ' || what, ', ' ORDER BY id) FROM work`, `SELECT string_agg(id || ' ' || cents, ', ' ORDER BY id) FROM price`
	arrives(region, work, "1 from before")
	arrives(box, price, "1 495")
	for _, step := range []struct {
		at   *pgxpool.Pool
		sql  string
		seen *pgxpool.Pool
		look string
		want string
	}{
		{box, `INSERT INTO work VALUES ('la', 2, 'new')`, region, work, "1 from before, 2 new"},
		{region, `UPDATE work SET what = 'edited' WHERE id = 2`, box, work, "1 from before, 2 edited"},
		{region, `INSERT INTO price VALUES (2, 120)`, box, price, "1 495, 2 120"},
	} {
		if _, err := step.at.Exec(t.Context(), step.sql); err != nil {
			t.Fatal(err)
		}
		arrives(step.seen, step.look, step.want)
	}
}
