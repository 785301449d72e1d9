package uplink

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

// settled is an uplink whose table public.t has been sent to its last row.
func settled(t *testing.T) (*Uplink, *pgtest.DB) {
	t.Helper()
	return settledIn(t, pgtest.New(t))
}

// settledAlone has a server of its own: slots are the whole server's.
func settledAlone(t *testing.T) (*Uplink, *pgtest.DB) {
	t.Helper()
	return settledIn(t, pgtest.Cluster(t, pgtest.Options{NoFsync: true}).DB)
}

func settledIn(t *testing.T, db *pgtest.DB) (*Uplink, *pgtest.DB) {
	t.Helper()
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL)`)
	pool, err := pgxpool.New(t.Context(), db.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "queue")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	u, err := New(Config{
		Facility: "la", EpochBase: 1 << 32, EpochFile: filepath.Join(t.TempDir(), "epoch"), DB: pool,
		CaptureConn: db.ConnString(), Queue: q, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.store.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tables := proto.Tables{Version: 1, Tables: []proto.SyncedTable{{Schema: "public", Name: "t", Class: "fact", RegionSchema: "{schema}_{facility}"}}}
	if err := u.store.replace(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
	settle(t, u)
	db.Exec(t, `UPDATE holdfast.synced_table SET state = 'streaming', unread = false, load_after = '["900"]', rows_loaded = 900`)
	if e := settle(t, u); e.State != proto.TableStreaming || e.LoadAfter == nil {
		t.Fatalf("a table that streams is sent again without need: %+v", e)
	}
	return u, db
}

func settle(t *testing.T, u *Uplink) entry {
	t.Helper()
	if err := u.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, list, _, err := u.store.tables(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d tables, %v", len(list), err)
	}
	if told := u.TableStates(); told[0].State != list[0].State {
		t.Fatalf("the region is told %s, the table is %s", told[0].State, list[0].State)
	}
	return list[0]
}

func wantLoad(t *testing.T, e entry) {
	t.Helper()
	if e.State != proto.TableLoading || len(e.LoadAfter) != 0 || e.RowsLoaded != 0 {
		t.Fatalf("the table is not sent from its first row: %+v", e)
	}
}

func TestTableThatWasRefusedIsSentFromItsFirstRow(t *testing.T) {
	u, db := settled(t)
	db.Exec(t, `ALTER TABLE t DROP CONSTRAINT t_pkey`)
	if e := settle(t, u); e.State != proto.TableRefused {
		t.Fatalf("a fact table without a key: %+v", e)
	}
	db.Exec(t, `INSERT INTO t VALUES (5, 'la'); ALTER TABLE t ADD PRIMARY KEY (id)`)
	wantLoad(t, settle(t, u))
}

func TestTableInThePlaceOfAnotherIsSentFromItsFirstRow(t *testing.T) {
	u, db := settled(t)
	db.Exec(t, `CREATE TABLE t2 (LIKE t INCLUDING ALL); INSERT INTO t2 VALUES (5, 'la');
		ALTER TABLE t RENAME TO old; ALTER TABLE t2 RENAME TO t`)
	wantLoad(t, settle(t, u))
}

func TestGapMakesTheSlotAnewBehindItsPublications(t *testing.T) {
	t.Parallel()
	u, db := settledAlone(t)
	for range 2 { // the second time there is a slot
		db.Exec(t, `DROP PUBLICATION IF EXISTS holdfast`)
		u.pendingGap, u.slotSpoilt = "a publication was dropped", true
		slot, err := u.ensureSlot(t.Context())
		if err != nil || !slot.Created {
			t.Fatalf("slot %+v, %v", slot, err)
		}
	}
	wantLoad(t, settle(t, u))
}

func TestADamagedQueueLeavesTheSlotWhatNobodyHasRead(t *testing.T) {
	t.Parallel()
	u, _ := settledAlone(t)
	if slot, err := u.ensureSlot(t.Context()); err != nil || !slot.Created {
		t.Fatalf("slot %+v, %v", slot, err)
	}
	u.pendingGap = "the queue was damaged on disk"
	if slot, err := u.ensureSlot(t.Context()); err != nil || slot.Created {
		t.Fatalf("slot %+v, %v: the WAL that it held is lost", slot, err)
	}
}

// The region asks for a table until it knows that it was heard, which on a bad line
// is often. Its load is not begun anew each time, or it might never end.
func TestATableThatIsAskedForOnceMoreGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	ask := func(occasion string) entry {
		t.Helper()
		if err := u.heal(t.Context(), &proto.Heal{Tables: []string{"public.t"}, Reason: "mended", Mend: occasion}); err != nil {
			t.Fatal(err)
		}
		o := u.orders.take()
		u.orders.giveBack(o) // the database was away for a moment
		if err := u.obey(t.Context(), u.orders.take()); err != nil {
			t.Fatal(err)
		}
		return settle(t, u)
	}
	wantLoad(t, ask("1@7"))
	db.Exec(t, `UPDATE holdfast.synced_table SET load_after = '["400"]', rows_loaded = 400`)
	for range 2 {
		if e := ask("1@7"); e.State != proto.TableLoading || e.RowsLoaded != 400 || len(e.LoadAfter) != 1 {
			t.Fatalf("the load does not go on where it was: %+v", e)
		}
	}
	db.Exec(t, `UPDATE holdfast.synced_table SET state = 'streaming'`)
	if e := ask("1@7"); e.State != proto.TableStreaming {
		t.Errorf("a table that was sent is sent once more: %+v", e)
	}
	wantLoad(t, ask("2@7"))
	db.Exec(t, `UPDATE holdfast.synced_table SET load_after = '["400"]', rows_loaded = 400`)
	wantLoad(t, ask("")) // a region of the build before
}
