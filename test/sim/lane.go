package sim

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/cloud/migrations"
)

// facilities are who takes part in a seed.
var facilities = []string{"la", "frankfurt"}

// lane is the databases that one seed after the other uses. Each side has a
// server of its own, because a replication slot's name is the whole server's.
type lane struct {
	region *database
	edges  map[string]*database
	// queueMax bounds the queues of the edges; 0 is no limit.
	queueMax int64
}

func (l *lane) all() []*database {
	list := []*database{l.region}
	for _, f := range facilities {
		list = append(list, l.edges[f])
	}
	return list
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

// newLane starts a lane's servers. Tables may be left out of what is synced.
func newLane(t *testing.T, unsynced ...string) *lane {
	t.Helper()
	l := &lane{region: newDatabase(t), edges: map[string]*database{}}
	std := stdlib.OpenDBFromPool(l.region.pool)
	if err := migrations.Up(t.Context(), std); err != nil {
		t.Fatal(err)
	}
	if err := std.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range facilities {
		l.region.exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ($1, 'foo')`, f)
	}
	for _, table := range syncedTables {
		if slices.Contains(unsynced, table.name) {
			continue
		}
		l.region.exec(t, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', $1, $2, $3, 'sim')`,
			table.name, table.class, table.column)
	}
	l.region.exec(t, `SELECT nextval('holdfast.synced_table_version')`)
	if err := l.region.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range facilities {
		d := newDatabase(t)
		d.exec(t, `INSERT INTO edge_count VALUES ($1, 0)`, f)
		d.exec(t, `INSERT INTO cloud_count VALUES ($1, 0)`, f)
		d.exec(t, `INSERT INTO pair VALUES ($1, 1, 0), ($1, 2, 0)`, f)
		if err := d.install(t, f); err != nil {
			t.Fatal(err)
		}
		if err := d.keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.edges[f] = d
	}
	return l
}

// install lets an agent that cannot reach the region make its tables.
func (d *database) install(t *testing.T, facility string) error {
	c := newCable(netip.IPv6Unspecified(), nil)
	c.cut()
	e := &edge{id: facility, database: d, dir: t.TempDir(), cable: c, log: slog.New(slog.DiscardHandler)}
	if err := e.start(t.Context()); err != nil {
		return err
	}
	err := until(t.Context(), time.Minute, func() (bool, error) { return e.up.Settled(t.Context()) == nil, nil })
	return errors.Join(err, e.crash())
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
