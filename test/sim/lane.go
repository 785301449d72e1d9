package sim

import (
	"cmp"
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
// plan is doc with the policy cloud, and job has columns of each side, of which it is
// each transaction's to write all.
// tick has no key, so that nothing can mend what is lost of it or comes twice.
// memo has a large column that most changes do not send, and keys that change.
const tables = `
CREATE TABLE doc (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, PRIMARY KEY (facility_id, id));
CREATE TABLE plan (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, PRIMARY KEY (facility_id, id));
CREATE TABLE job (facility_id text NOT NULL, id int NOT NULL, done text NOT NULL, due text NOT NULL, PRIMARY KEY (facility_id, id));
` + growTable + `
CREATE TABLE edge_count (facility_id text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE cloud_count (facility_id text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE pair (facility_id text NOT NULL, id int NOT NULL, n bigint NOT NULL, PRIMARY KEY (facility_id, id));
CREATE TABLE tick (facility_id text NOT NULL, n bigint NOT NULL);
CREATE TABLE memo (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, big text, PRIMARY KEY (facility_id, id));
ALTER TABLE memo ALTER big SET STORAGE EXTERNAL;
CREATE TABLE happened (facility_id text NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n bigint NOT NULL);
CREATE TABLE price (id int PRIMARY KEY, val text NOT NULL)`

// growTable has columns added to it while rows are on their way.
const growTable = `CREATE TABLE grow (facility_id text NOT NULL, id int NOT NULL, val text NOT NULL, PRIMARY KEY (facility_id, id));`

// regionDisk makes the region refuse, as a full disk does, what the facilities
// send: each of their transactions writes edge_count. hits is how often it did,
// which no rollback takes back.
const regionDisk = `
CREATE TABLE disk (is_full boolean NOT NULL);
INSERT INTO disk VALUES (false);
CREATE SEQUENCE disk_hits;
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF (SELECT is_full FROM public.disk) THEN
		PERFORM pg_catalog.nextval('public.disk_hits');
		RAISE EXCEPTION 'could not extend file "base/5/16384": No space left on device' USING ERRCODE = '53100';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON edge_count FOR EACH ROW EXECUTE FUNCTION disk_full();
ALTER TABLE edge_count ENABLE ALWAYS TRIGGER disk_full`

// newLane starts a lane's servers. Tables may be left out of what is synced.
func newLane(t *testing.T, unsynced ...string) *lane {
	t.Helper()
	l := &lane{region: newDatabase(t), edges: map[string]*database{}}
	l.region.exec(t, regionDisk)
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
		l.region.exec(t, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, policy, cloud_columns, added_by)
			VALUES ('public', $1, $2, $3, $4, $5, 'sim')`, table.name, table.class, table.column, cmp.Or(table.policy, "edge"), append([]string{}, table.clouds...))
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
	e := &edge{id: facility, enrolment: 1, database: d, dir: t.TempDir(), cable: c, log: slog.New(slog.DiscardHandler)}
	if err := e.start(t.Context()); err != nil {
		return err
	}
	err := until(t.Context(), time.Minute, func() (made bool, err error) {
		err = d.pool.QueryRow(t.Context(), `SELECT to_regclass('holdfast.synced_table') IS NOT NULL AND to_regclass('holdfast.parked') IS NOT NULL`).Scan(&made)
		return made && e.up.CaptureState().Running, err
	})
	return errors.Join(err, e.crash())
}

var syncedTables = []struct {
	name, class, column string
	policy              string   // "" is edge
	clouds              []string // its columns, where each side has some
}{
	{name: "doc", class: "fact", column: "facility_id"},
	{name: "plan", class: "fact", column: "facility_id", policy: "cloud"},
	{name: "job", class: "fact", column: "facility_id", policy: "columns", clouds: []string{"due"}},
	{name: "grow", class: "fact", column: "facility_id"},
	{name: "edge_count", class: "fact", column: "facility_id"},
	{name: "cloud_count", class: "fact", column: "facility_id"},
	{name: "memo", class: "fact", column: "facility_id"},
	{name: "tick", class: "event", column: "facility_id"},
	{name: "pair", class: "fact", column: "facility_id"},
	{name: "happened", class: "event", column: "facility_id"},
	{name: "price", class: "master"},
}
