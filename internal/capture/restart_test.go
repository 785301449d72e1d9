package capture

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

// TestTheSlotHoldsLittleWALBackWhileMuchIsWritten writes eighty times what may
// pass before the server is nudged. Without that it moves the slot on every 15 s.
//
// The server is its own: what other tests keep open holds a nudge up, and their WAL
// is held back as well.
func TestTheSlotHoldsLittleWALBackWhileMuchIsWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.Cluster(t, pgtest.Options{NoFsync: true}).DB, `CREATE TABLE t (id int PRIMARY KEY, v text)`, Table{Schema: "public", Name: "t"})
	r.stop()
	r.nudge = 1 << 20
	r.start(t)
	conn := r.db.Conn(t)
	began, most := time.Now(), int64(0)
	for i := range 80 {
		if _, err := conn.Exec(t.Context(), `INSERT INTO t SELECT $1::int * 1000 + g, repeat(md5(g::text), 30) FROM generate_series(1, 800) g`, i); err != nil {
			t.Fatal(err)
		}
		var end uint64
		eventually(t, "most of what was written is in the queue and acknowledged", func() bool {
			info := r.slotInfo(t, conn)
			if end == 0 {
				end = info.WAL
			}
			most = max(most, info.RetainedBytes)
			return info.ConfirmedFlush+2*statusBytes >= end
		})
	}
	if took := time.Since(began); most > 48<<20 {
		t.Errorf("the slot held back %d bytes at most, in %s", most, took)
	}
}

// TestALongTransactionDoesNotHoldANudgeUp: it must keep what the transaction
// began with, so there is nothing to be won, and nothing may stay behind.
func TestALongTransactionDoesNotHoldANudgeUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY, v text)`, Table{Schema: "public", Name: "t"})
	conn, long := r.db.Conn(t), r.db.Conn(t)
	if _, err := long.Exec(t.Context(), `BEGIN; INSERT INTO t VALUES (-1, 'open')`); err != nil {
		t.Fatal(err)
	}
	n := newNudger(t, r)
	n.may = false // as before PostgreSQL 16
	if err := n.nudge(t.Context(), 0); err == nil {
		t.Error("the nudge waited for nobody")
	}
	if n.conn != nil {
		t.Error("the connection stays after an error")
	}
	r.db.Exec(t, `INSERT INTO t VALUES (1, 'beside')`)
	r.expect(t, "insert public.t (1|beside)")
	if _, err := long.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	n.at = 0
	if err := n.nudge(t.Context(), 0); err != nil {
		t.Errorf("after it: %v", err)
	}
	eventually(t, "no slot is left", func() bool {
		var left int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'holdfast_nudge%' AND database = current_database()`).Scan(&left)
		return err == nil && left == 0
	})
}

// TestOneNudgeIsEnoughForTheWALThatThereIs also when it is asked for again.
func TestOneNudgeIsEnoughForTheWALThatThereIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	n := newNudger(t, r)
	if err := n.nudge(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	at := n.at
	if err := n.nudge(t.Context(), 1<<40); err != nil || n.at != at || at == 0 {
		t.Errorf("nudged at %s, then at %s: %v", LSN(at), LSN(n.at), err)
	}
}

func newNudger(t testing.TB, r *rig) *nudger {
	t.Helper()
	config, err := pgx.ParseConfig(r.db.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	n := &nudger{config: config, slot: r.slot}
	t.Cleanup(n.close)
	if err := n.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n
}
