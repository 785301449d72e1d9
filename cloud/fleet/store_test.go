package fleet

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

func newTestFleet(t *testing.T, pool *pgxpool.Pool) *Fleet {
	t.Helper()
	f, err := New(Config{
		DB: pool, Log: slog.New(slog.DiscardHandler),
		Client: func(c mqttclient.Config) mqttclient.Config { c.URL = "tcp://127.0.0.1:1"; return c }, // never run
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func newTestDB(t *testing.T, facilities ...string) (*pgtest.DB, *pgxpool.Pool) {
	t.Helper()
	db := pgtest.Migrated(t, "region", migrations.Up)
	pool := db.Pool(t)
	for _, id := range facilities {
		db.Exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ($1, 'foo')`, id)
	}
	return db, pool
}

func send(t *testing.T, f *Fleet, facility string, k proto.Kind, m interface{ Encode() ([]byte, error) }) error {
	t.Helper()
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, now := mqttclient.Received{Topic: proto.Topic("foo", facility, k), Payload: raw}, time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch k {
	case proto.KindHeartbeat:
		return f.heartbeatLocked(r, now)
	case proto.KindStatus:
		return f.statusLocked(r, now)
	case proto.KindConn:
		return f.connLocked(r, now)
	case proto.KindEvent:
		return f.eventLocked(r, now)
	}
	t.Fatalf("no handler for %s", k)
	return nil
}

func beat(facility string, session, seq uint64) proto.Heartbeat {
	return proto.Heartbeat{Who: proto.WhoDigest("foo", facility), BootID: proto.BootID{7}, Session: session, Seq: seq, EverySeconds: 5}
}

func TestWhatWasHeardSurvivesARestart(t *testing.T) {
	t.Parallel()
	_, pool := newTestDB(t, "la", "frankfurt")
	f := newTestFleet(t, pool)
	session := proto.SessionEpoch(1, 4)
	if err := send(t, f, "la", proto.KindHeartbeat, beat("la", session, 1)); err != nil {
		t.Fatal(err)
	}
	doc := proto.Status{Tenant: "foo", Facility: "la", Session: session, Database: proto.Database{State: "up"}, Faults: []proto.FaultCode{proto.FaultHot}, Watchdog: &proto.Watchdog{State: proto.WatchdogUnarmed}}
	if err := send(t, f, "la", proto.KindStatus, doc); err != nil {
		t.Fatal(err)
	}
	if err := f.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A heartbeat without a new document must not wipe the stored one.
	if err := send(t, f, "la", proto.KindHeartbeat, beat("la", session, 2)); err != nil {
		t.Fatal(err)
	}
	if err := f.flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	again := newTestFleet(t, pool)
	d, ok := again.Facility("la")
	if !ok || d.LastHeardAt == nil || time.Since(*d.LastHeardAt) > time.Minute || d.BootID != (proto.BootID{7}).String() {
		t.Fatalf("forgotten: %+v", d)
	}
	if d.Status == nil || d.Status.Database.State != "up" || len(d.Status.Faults) != 1 || d.Status.Faults[0] != proto.FaultHot {
		t.Errorf("status document %+v", d.Status)
	}
	if d.Watchdog != "unarmed" {
		t.Errorf("watchdog %q", d.Watchdog)
	}
	if d.State != string(StateUnknown) {
		t.Errorf("a region that has heard nothing yet says %s", d.State)
	}
	// A will of the session before is stale for the new process too.
	will := proto.Conn{Tenant: "foo", Facility: "la", Session: session - 1, Connection: 9, State: proto.ConnWill}
	if err := send(t, again, "la", proto.KindConn, will); err == nil {
		t.Error("a stale will was believed after a restart")
	}
	if d, _ := again.Facility("frankfurt"); d.State != string(StateUnknown) && d.State != string(StateNew) {
		t.Errorf("a facility that was never heard is %s", d.State)
	}
}

func TestTheListOfFacilitiesIsReadWithoutTheirDocuments(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la", "frankfurt")
	f := newTestFleet(t, pool)
	db.Exec(t, `ALTER TABLE holdfast.facility_seen RENAME TO gone`)
	if err := f.Reload(t.Context()); err != nil {
		t.Errorf("all facilities are known, and their documents were read: %v", err)
	}
	db.Exec(t, `INSERT INTO holdfast.facility (id, tenant, name) VALUES ('berlin', 'foo', 'Berlin')`)
	if err := f.Reload(t.Context()); err == nil {
		t.Error("a facility was added, and what was written of it was not read")
	}
	if _, ok := f.Summary("berlin"); ok {
		t.Error("a facility was taken in without what was written of it")
	}
}

func TestRemovedFacilityDoesNotSpoilTheBatch(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la", "frankfurt")
	f := newTestFleet(t, pool)
	for _, id := range []string{"la", "frankfurt"} {
		if err := send(t, f, id, proto.KindHeartbeat, beat(id, 1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec(t, `DELETE FROM holdfast.facility WHERE id = 'frankfurt'`)
	if err := f.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.facility_seen WHERE facility = 'la'`).Scan(&n); err != nil || n != 1 {
		t.Errorf("la was written %d times, %v", n, err)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Summary("frankfurt"); ok {
		t.Error("the removed facility is still shown")
	}
	if err := send(t, f, "frankfurt", proto.KindHeartbeat, beat("frankfurt", 1, 2)); err == nil {
		t.Error("a heartbeat of a removed facility was taken")
	}
}

func TestWhatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la")
	f := newTestFleet(t, pool)
	if err := send(t, f, "la", proto.KindHeartbeat, beat("la", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := send(t, f, "la", proto.KindStatus, proto.Status{Tenant: "foo", Facility: "la", Session: 1}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `ALTER TABLE holdfast.facility_seen RENAME TO gone`)
	if err := f.flush(t.Context()); err == nil {
		t.Fatal("the flush did not fail")
	}
	db.Exec(t, `ALTER TABLE holdfast.gone RENAME TO facility_seen`)
	if err := f.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var status []byte
	if err := pool.QueryRow(t.Context(), `SELECT status FROM holdfast.facility_seen WHERE facility = 'la'`).Scan(&status); err != nil {
		t.Fatal(err)
	}
	var s proto.Status
	if err := json.Unmarshal(status, &s); err != nil || s.Facility != "la" {
		t.Errorf("stored %s, %v", status, err)
	}
}
