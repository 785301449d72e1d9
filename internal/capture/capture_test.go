package capture

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestChangesArriveInCommitOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE orders (id int PRIMARY KEY, customer text, note text)`, Table{Schema: "public", Name: "orders"})
	r.db.Exec(t, `INSERT INTO orders VALUES (1, 'Foo', NULL), (2, '', 'x')`)
	r.db.Exec(t, `BEGIN; UPDATE orders SET note = 'é' WHERE id = 1; DELETE FROM orders WHERE id = 2; COMMIT`)
	r.db.Exec(t, `BEGIN; INSERT INTO orders VALUES (3); ROLLBACK`)
	r.db.Exec(t, `UPDATE orders SET id = 10 WHERE id = 1`)
	r.db.Exec(t, `TRUNCATE orders`)
	r.expect(t,
		"insert public.orders (1|Foo|NULL)", "insert public.orders (2||x)",
		"update public.orders (1|Foo|é)", "delete public.orders [2]",
		"update public.orders [1] (10|Foo|é)",
		"truncate public.orders")
	if pos, lsn, _ := r.queue.Tail(); pos.Seq != 4 || lsn == 0 {
		t.Errorf("tail %s %d", pos, lsn)
	}
	eventually(t, "the slot is acknowledged up to the queue's end", func() bool {
		_, lsn, _ := r.queue.Tail()
		return r.slotInfo(t, r.db.Conn(t)).ConfirmedFlush >= lsn
	})
}

func TestUnchangedLargeValuesAreAbsent(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `
		CREATE TABLE doc (id int PRIMARY KEY, big text, n int);
		ALTER TABLE doc ALTER big SET STORAGE EXTERNAL;
		CREATE TABLE docf (id int PRIMARY KEY, big text, n int);
		ALTER TABLE docf ALTER big SET STORAGE EXTERNAL;
		ALTER TABLE docf REPLICA IDENTITY FULL`,
		Table{Schema: "public", Name: "doc"}, Table{Schema: "public", Name: "docf"})
	big := strings.Repeat("0123456789", 1000)
	for _, table := range []string{"doc", "docf"} {
		r.db.Exec(t, `INSERT INTO `+table+` VALUES (1, repeat('0123456789', 1000), 1)`)
		r.db.Exec(t, `UPDATE `+table+` SET n = 2`)
		r.db.Exec(t, `UPDATE `+table+` SET id = 5`)
		r.db.Exec(t, `DELETE FROM `+table)
	}
	r.expect(t,
		"insert public.doc (1|"+big+"|1)", "update public.doc (1|NULL|2) -big", "update public.doc [1] (5|NULL|2) -big", "delete public.doc [5]",
		// The old row has it all: nothing is absent, and the key is the real one.
		"insert public.docf (1|"+big+"|1)", "update public.docf (1|"+big+"|2)", "update public.docf [1] (5|"+big+"|2)", "delete public.docf [5]")
}

func TestReplicaIdentityByIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `
		CREATE TABLE t (a int NOT NULL, b text NOT NULL, c int, d text NOT NULL);
		CREATE UNIQUE INDEX t_key ON t (d, b);
		ALTER TABLE t REPLICA IDENTITY USING INDEX t_key`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t VALUES (1, 'b', 2, 'd'); UPDATE t SET c = 3; UPDATE t SET b = 'bb'; DELETE FROM t`)
	r.expect(t, "insert public.t (1|b|2|d)", "update public.t (1|b|3|d)", "update public.t [b|d] (1|bb|3|d)", "delete public.t [bb|d]")
}

func TestTableWithoutKeySendsInsertsAndIsNotDisturbed(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE history (tid int, delta int); CREATE TABLE keyed (id int PRIMARY KEY)`,
		Table{Schema: "public", Name: "history", Event: true}, Table{Schema: "public", Name: "keyed", Event: true})
	r.db.Exec(t, `INSERT INTO history VALUES (1, 2)`)
	r.db.Exec(t, `UPDATE history SET delta = 3`)
	r.db.Exec(t, `DELETE FROM history`)
	r.db.Exec(t, `INSERT INTO keyed VALUES (7); DELETE FROM keyed`)
	r.expect(t, "insert public.history (1|2)", "insert public.keyed (7)", "delete public.keyed [7]")
}

func TestTablesComeAndGoWhileRunning(t *testing.T) {
	t.Parallel()
	a, b := Table{Schema: "public", Name: "a"}, Table{Schema: `Odd "schema"`, Name: `Mixed.Case`}
	r := newRig(t, pgtest.New(t), `
		CREATE TABLE a (id int PRIMARY KEY);
		CREATE SCHEMA "Odd ""schema""";
		CREATE TABLE "Odd ""schema"""."Mixed.Case" ("Id" int PRIMARY KEY, "spalte ä" text)`, a)
	r.db.Exec(t, `INSERT INTO a VALUES (1); INSERT INTO "Odd ""schema"""."Mixed.Case" VALUES (1, 'lost')`)
	r.publish(t, a, b)
	r.db.Exec(t, `INSERT INTO "Odd ""schema"""."Mixed.Case" VALUES (2, 'ü')`)
	r.db.Exec(t, `ALTER TABLE a ADD v text DEFAULT 'd'; INSERT INTO a VALUES (2)`)
	r.publish(t, b)
	r.db.Exec(t, `INSERT INTO a VALUES (3); INSERT INTO "Odd ""schema"""."Mixed.Case" VALUES (3, NULL)`)
	r.expect(t, "insert public.a (1)", `insert Odd "schema".Mixed.Case (2|ü)`, "insert public.a (2|d)", `insert Odd "schema".Mixed.Case (3|NULL)`)
}

func TestPartitionedTableIsSentAsItsRoot(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `
		CREATE TABLE log (at date, id int, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
		CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
		CREATE TABLE log_2026 (v text, at date NOT NULL, id int NOT NULL);
		ALTER TABLE log ATTACH PARTITION log_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`, Table{Schema: "public", Name: "log"})
	r.db.Exec(t, `INSERT INTO log VALUES ('2025-05-05', 1, 'a'), ('2026-05-05', 2, 'b')`)
	r.db.Exec(t, `UPDATE log SET v = 'c' WHERE id = 2`)
	r.db.Exec(t, `UPDATE log SET at = '2026-06-06' WHERE id = 1`)
	r.db.Exec(t, `DELETE FROM log WHERE id = 2; TRUNCATE log`)
	r.expect(t, "insert public.log (2025-05-05|1|a)", "insert public.log (2026-05-05|2|b)",
		"update public.log (2026-05-05|2|c)",
		"delete public.log [2025-05-05|1]", "insert public.log (2026-06-06|1|a)",
		"delete public.log [2026-05-05|2]", "truncate public.log")
}

func TestWhatCameFromTheOtherSideIsNotSentBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t VALUES (1)`)
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up 1'); INSERT INTO t VALUES (2); COMMIT`)
	r.db.Exec(t, `BEGIN; INSERT INTO t VALUES (3); SELECT pg_logical_emit_message(true, 'holdfast', 'up 1'); INSERT INTO t VALUES (4); COMMIT`)
	r.db.Exec(t, `SELECT pg_logical_emit_message(true, 'other', 'x'); SELECT pg_logical_emit_message(false, 'holdfast', 'x')`)
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(false, 'holdfast', 'x'); INSERT INTO t VALUES (5); COMMIT`)
	r.expect(t, "insert public.t (1)", "insert public.t (5)")
	if pos, _, _ := r.queue.Tail(); pos.Seq != 2 {
		t.Errorf("tail %s: numbers must be dense", pos)
	}
}

func TestGeneratedAndIdentityColumns(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int)`,
		Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t (a, c) VALUES (1, 9); UPDATE t SET a = 4`)
	r.expect(t, "insert public.t (1|1|9)", "update public.t (1|4|9)")
}

func TestIdleSlotAdvancesPastOtherPeoplesWAL(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (v text)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t VALUES (1)`)
	r.expect(t, "insert public.t (1)")
	var end string
	conn := r.db.Conn(t)
	r.db.Exec(t, `INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 1000)`)
	if err := conn.QueryRow(t.Context(), `SELECT pg_current_wal_lsn()::text`).Scan(&end); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot passes "+end, func() bool {
		var past bool
		err := conn.QueryRow(t.Context(), `SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, end, r.slot).Scan(&past)
		return err == nil && past
	})
	if _, lsn, _ := r.queue.Tail(); r.queue.Marked() <= lsn {
		t.Errorf("the queue is not marked: %d, tail %d", r.queue.Marked(), lsn)
	}
	// The mark stands for the gap between the tail and the slot after a restart.
	if err := r.stop(); err == nil {
		t.Fatal("stopped without an error")
	}
	r.start(t)
	r.db.Exec(t, `INSERT INTO t VALUES (2)`)
	r.expect(t, "insert public.t (2)")
}

func TestSlotThatIsAheadOrGoneIsAGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t VALUES (1)`)
	r.expect(t, "insert public.t (1)")
	r.stop()
	conn := r.db.Conn(t)
	r.db.Exec(t, `SET synchronous_commit = on; INSERT INTO t VALUES (2)`) // the slot cannot advance past what is written
	eventually(t, "the slot is free", func() bool { return !r.slotInfo(t, conn).Active })
	r.db.Exec(t, `SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, r.slot)
	r.start(t)
	if gap := wantGap(t, <-r.done); !strings.Contains(gap.Reason, "lost its end") {
		t.Error(gap)
	}
	r.done <- nil
	if err := DropSlot(t.Context(), conn, r.slot); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	if gap := wantGap(t, <-r.done); !strings.Contains(gap.Reason, "gone") {
		t.Error(gap)
	}
	r.done <- nil
	info, err := EnsureSlot(t.Context(), conn, r.slot)
	if err != nil || !info.Created {
		t.Fatalf("%+v, %v", info, err)
	}
	if again, err := EnsureSlot(t.Context(), conn, r.slot); err != nil || again.Created {
		t.Fatalf("%+v, %v", again, err)
	}
	// A database that is older than the queue would give transactions that the
	// queue seems to have.
	if err := r.queue.Mark(info.WAL + 1<<40); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	if gap := wantGap(t, <-r.done); !strings.Contains(gap.Reason, "older") {
		t.Error(gap)
	}
	r.done <- nil
}

func TestIdentifiersAreQuoted(t *testing.T) {
	if got := (Table{Schema: `a"b`, Name: "c.d"}).quoted(); got != (pgx.Identifier{`a"b`, "c.d"}).Sanitize() || got != `"a""b"."c.d"` {
		t.Error(got)
	}
}
