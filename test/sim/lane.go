package sim

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// facilities are who takes part in a seed.
var facilities = []string{"la", "frankfurt"}

// lane is the servers that one seed after the other uses. Each side has its
// own, because a replication slot's name is the whole server's.
type lane struct {
	region *pgtest.Server
	edges  map[string]*pgtest.Server
	// queueMax bounds the queues of the edges; 0 is no limit.
	queueMax int64
}

// The tables of a seed. doc is what both sides change; its rows are whole in
// every change. The counters are what the books go by: edge_count is written by
// each of the facility's transactions and cloud_count by each of the cloud's.
// pair holds two rows that every transaction of the facility changes together.
// tick has no key, so that nothing can mend what is lost of it or comes twice.
// memo has a large column that most changes do not send, and keys that change.
const tables = `
CREATE TABLE doc (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, PRIMARY KEY (facility_id, id));
CREATE TABLE edge_count (facility_id text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE cloud_count (facility_id text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE pair (facility_id text NOT NULL, id int NOT NULL, n bigint NOT NULL, PRIMARY KEY (facility_id, id));
CREATE TABLE tick (facility_id text NOT NULL, n bigint NOT NULL);
CREATE TABLE memo (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, big text, PRIMARY KEY (facility_id, id));
ALTER TABLE memo ALTER big SET STORAGE EXTERNAL;
CREATE TABLE happened (facility_id text NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n bigint NOT NULL);
CREATE TABLE price (id int PRIMARY KEY, val text NOT NULL)`

// regionTemplate and edgeTemplate are the databases that each seed's are made from.
const (
	regionTemplate = "region_template"
	edgeTemplate   = "edge_template"
)

// newLane starts a lane's servers. Tables may be left out of what is synced.
func newLane(t *testing.T, unsynced ...string) *lane {
	t.Helper()
	o := pgtest.Options{NoFsync: true, Settings: map[string]string{
		"max_connections": "60", "deadlock_timeout": "50ms", "shared_buffers": "32MB", "autovacuum": "off",
		"max_wal_size": "256MB", "synchronous_commit": "on", "wal_writer_delay": "10s", "wal_level": "logical", "max_replication_slots": "8", "max_wal_senders": "8",
	}}
	l := &lane{region: pgtest.Cluster(t, o), edges: map[string]*pgtest.Server{}}
	region := l.region.Database(t, regionTemplate)
	region.Exec(t, tables)
	pool := region.Pool(t)
	std := stdlib.OpenDBFromPool(pool)
	if err := migrations.Up(t.Context(), std); err != nil {
		t.Fatal(err)
	}
	if err := std.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range facilities {
		region.Exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ($1, 'foo')`, f)
		l.edges[f] = pgtest.Cluster(t, o)
		edge := l.edges[f].Database(t, edgeTemplate)
		edge.Exec(t, tables)
		edge.Exec(t, `INSERT INTO edge_count VALUES ($1, 0)`, f)
		edge.Exec(t, `INSERT INTO cloud_count VALUES ($1, 0)`, f)
		edge.Exec(t, `INSERT INTO pair VALUES ($1, 1, 0), ($1, 2, 0)`, f)
	}
	for _, table := range syncedTables {
		if slices.Contains(unsynced, table.name) {
			continue
		}
		region.Exec(t, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', $1, $2, $3, 'sim')`,
			table.name, table.class, table.column)
	}
	region.Exec(t, `SELECT nextval('holdfast.synced_table_version')`)
	pool.Close()
	return l
}

var syncedTables = []struct{ name, class, column string }{
	{"doc", "fact", "facility_id"},
	{"edge_count", "fact", "facility_id"},
	{"cloud_count", "fact", "facility_id"},
	{"memo", "fact", "facility_id"},
	{"tick", "event", "facility_id"},
	{"pair", "fact", "facility_id"},
	{"happened", "event", "facility_id"},
	{"price", "master", ""},
}

// fresh makes a database of a seed from a template, and returns what to call
// when the seed is over.
func fresh(ctx context.Context, s *pgtest.Server, template, name string) (*pgxpool.Pool, string, func() error, error) {
	admin, err := pgx.Connect(ctx, s.ConnString())
	if err != nil {
		return nil, "", nil, err
	}
	id := pgx.Identifier{name}.Sanitize()
	_, err = admin.Exec(ctx, "CREATE DATABASE "+id+" TEMPLATE "+template+" STRATEGY file_copy")
	if err != nil {
		return nil, "", nil, fmt.Errorf("make database %s: %w", name, err)
	}
	cfg, err := pgx.ParseConfig(s.ConnString())
	if err != nil {
		return nil, "", nil, err
	}
	conn := fmt.Sprintf("postgres://%s@%s:%d/%s?sslmode=disable", cfg.User, cfg.Host, cfg.Port, name)
	pool, err := pgxpool.New(ctx, conn)
	if err != nil {
		return nil, "", nil, err
	}
	drop := func() error {
		ctx := context.WithoutCancel(ctx)
		pool.Close()
		_ = admin.Close(ctx) // the server may have been killed since
		admin, err := pgx.Connect(ctx, s.ConnString())
		if err != nil {
			return err
		}
		defer admin.Close(ctx)
		for range 100 {
			if _, err := admin.Exec(ctx, `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`, name); err != nil {
				return err
			}
			if _, err := admin.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NULL`, name); err != nil {
				continue
			}
			var left int
			if err := admin.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE database = $1`, name).Scan(&left); err != nil || left == 0 {
				break
			}
		}
		_, err = admin.Exec(ctx, "DROP DATABASE "+id+" WITH (FORCE)")
		if err == nil {
			_, err = admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name + "_backup"}.Sanitize())
		}
		return err
	}
	return pool, conn, drop, nil
}
