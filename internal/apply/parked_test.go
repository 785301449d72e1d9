package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// parkedSQL is what the region's migrations make.
const parkedSQL = `CREATE TABLE holdfast.parked (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, facility text NOT NULL,
  direction text NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  key jsonb NOT NULL, key_hash bytea NOT NULL, op text NOT NULL, row jsonb, old_key jsonb, old_key_hash bytea,
  provides bytea[] NOT NULL DEFAULT '{}', waits_for bytea[] NOT NULL DEFAULT '{}', columns jsonb NOT NULL, bytes integer NOT NULL,
  commit_at timestamptz, reason text NOT NULL, code text NOT NULL DEFAULT '', constraint_name text NOT NULL DEFAULT '',
  message text NOT NULL, remedy text NOT NULL DEFAULT '', parked_at timestamptz NOT NULL DEFAULT now(), attempts integer NOT NULL DEFAULT 0,
  tried_at timestamptz, edited_by text NOT NULL DEFAULT '', state text NOT NULL DEFAULT 'waiting'
  CHECK (state IN ('waiting', 'applied', 'discarded', 'replaced')), ended_by text NOT NULL DEFAULT '', ended_at timestamptz);
CREATE TABLE holdfast.parked_table (facility text NOT NULL, direction text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  reason text NOT NULL, message text NOT NULL, remedy text NOT NULL DEFAULT '', since timestamptz NOT NULL DEFAULT now(),
  passed_over bigint NOT NULL DEFAULT 0, columns jsonb NOT NULL, asked_at timestamptz, keys jsonb NOT NULL DEFAULT '[]', PRIMARY KEY (facility, direction, schema_name, table_name));`

// lot is a region that parks, with its retrying.
type lot struct {
	*region
	db      *pgtest.DB
	heals   chan string
	every   time.Duration
	endWait func()
}

func newLot(t testing.TB, sql string, tables ...Table) *lot {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+parkedSQL+sql)
	l := &lot{region: newRegion(t, db.ConnString(), tables...), db: db, heals: make(chan string, 100), every: 20 * time.Millisecond}
	l.park = true
	l.retry()
	return l
}

// limit opens the pool anew with other limits.
func (l *lot) limit(rows int) {
	l.endWait()
	l.stop()
	l.parkRows = rows
	l.open()
	l.retry()
}

// retry keeps parked rows being tried again until endWait.
func (l *lot) retry() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	pool := l.pool
	wg.Go(func() {
		err := pool.Retry(ctx, ParkConfig{
			Registry: l.current, Every: l.every, Log: slog.New(slog.DiscardHandler),
			Heal: func(facility, table, _ string) bool { l.heals <- facility + " " + table; return true },
		})
		if !errors.Is(err, context.Canceled) {
			l.t.Errorf("retry: %v", err)
		}
	})
	l.endWait = sync.OnceFunc(func() { cancel(); wg.Wait() })
	l.t.Cleanup(func() { l.endWait() })
}

// person does what a person does, again where he and what is being applied waited for
// each other and PostgreSQL chose him to give up.
func (l *lot) person(sql string) {
	l.t.Helper()
	conn, err := pgx.Connect(l.t.Context(), l.db.ConnString())
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(l.t.Context()))
	for {
		_, err := conn.Exec(l.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "40P01" {
			continue
		}
		if err != nil {
			l.t.Fatalf("%s: %v", sql, err)
		}
		return
	}
}

// untilLines waits until the query gives the lines.
func untilLines(t testing.TB, db *pgtest.DB, sql string, want ...string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		got := lines(t, db, sql)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s:\n got %q\nwant %q", sql, got, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// What waits, and what has become of everything that was parked.
const (
	waitingLines = "SELECT key->>'id' AS id, op, reason FROM holdfast.parked p WHERE state = 'waiting' ORDER BY p.id"
	stateLines   = "SELECT key->>'id' AS id, op, state FROM holdfast.parked p ORDER BY p.id"
)

func ordersLot(t testing.TB) *lot {
	return newLot(t, ordersSQL, Table{Name: "orders", FacilityColumn: "facility_id"})
}

func TestOneBadRowStopsNobody(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	l.db.Exec(t, `ALTER TABLE orders ADD CHECK (name <> 'bad'); INSERT INTO orders VALUES (7, 'frankfurt', 'theirs', 'n')`)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame(
		[]change.Change{ins(0, 1, "la", "a", nil)},
		[]change.Change{ins(0, 2, "la", "b", nil), ins(0, 3, "la", "bad", "x"), ins(0, 4, "la", "c", nil)},
		[]change.Change{ins(0, 5, "la", "a", nil)},
		[]change.Change{ins(0, 6, "frankfurt", "f", nil)},
		[]change.Change{ins(0, 7, "la", "mine", nil), ins(0, 8, "la", "d", nil)},
		[]change.Change{ins(0, 9, nil, "e", nil)},
		[]change.Change{ins(0, "x", "la", "g", nil)},
		[]change.Change{upd(0, 1, "la", "a", "more")},
	))
	s.untilApplied(8)
	wantLines(t, l.db, "SELECT id, facility_id, name FROM orders ORDER BY id", "(1,la,a)", "(2,la,b)", "(4,la,c)", "(7,frankfurt,theirs)", "(8,la,d)")
	untilLines(t, l.db, waitingLines, "(3,insert,check)", "(5,insert,unique)", "(6,insert,foreign)", "(7,insert,foreign)", "(9,insert,foreign)", "(x,insert,type)")
	wantLines(t, l.db, "SELECT notes FROM orders WHERE id = 1", "(more)")
	wantLines(t, l.db, "SELECT constraint_name, row->>'notes' FROM holdfast.parked WHERE key->>'id' = '3'", "(orders_name_check,x)")
	if len(s.stuck) > 0 {
		t.Errorf("the stream was stuck: %v", s.stuck)
	}
	wantLines(t, l.db, "SELECT kind FROM holdfast.stream_event WHERE kind = 'parked'", "(parked)")
}

func TestBigTransactionParksItsBadRows(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.part(0, true, []change.Change{ins(0, 1, "la", "a", nil), ins(0, 2, "la", "a", nil)}),
		from.part(1, true, []change.Change{upd(0, 2, "la", "a", "later"), ins(0, 3, "la", "c", nil)}),
		from.part(2, false, []change.Change{ins(0, 4, "la", "c", nil)}),
		from.frame([]change.Change{upd(0, 4, "la", "c", "behind")}))
	s.untilApplied(2)
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(3,c)")
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(2,update,behind)", "(4,insert,unique)", "(4,update,behind)")
	// A big transaction that the sender lost leaves nothing parked either.
	s.push(from.part(0, true, []change.Change{ins(0, 5, "la", "a", nil)}),
		seal(t, change.Header{Kind: change.Gap, Epoch: from.epoch, First: 3, Last: 3, Reason: "damaged"}, &change.Body{}))
	from.seq = 3
	s.push(from.frame([]change.Change{ins(0, 5, "la", "e", nil)}))
	s.untilApplied(4)
	wantLines(t, l.db, "SELECT name FROM orders WHERE id = 5", "(e)")
}

func TestLaterVersionsWaitBehindAParkedRow(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	l.endWait() // what they come to together would be tried in between
	s, from := l.stream("la"), newSender(t, orders)
	rename := func(from, to int, name string) change.Change {
		c := upd(0, to, "la", name, nil)
		c.Key, c.Absent = row(from), []int{3}
		return c
	}
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 5, "la", "five", "5")}),
		from.frame([]change.Change{ins(0, 2, "la", "a", "one")}),
		from.frame([]change.Change{upd(0, 2, "la", "a", "two")}, []change.Change{ins(0, 3, "la", "c", nil)}),
		from.frame([]change.Change{rename(2, 4, "a")}),
		from.frame([]change.Change{upd(0, 4, "la", "a", "three")}),
		// A new row with the key that was given up, and a row that takes a key that waits.
		from.frame([]change.Change{ins(0, 2, "la", "new", nil)}),
		from.frame([]change.Change{del(0, 4)}),
		from.frame([]change.Change{rename(5, 4, "a")}))
	s.untilApplied(9)
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(3,c)", "(5,five)")
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(2,update,behind)", "(4,update,behind)", "(4,update,behind)", "(2,insert,behind)", "(4,delete,behind)", "(4,update,behind)")
	l.retry()
	untilLines(t, l.db, "SELECT bool_and(tried_at IS NOT NULL) FROM holdfast.parked", "(t)")
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(3,c)", "(5,five)")
	l.db.Exec(t, "DELETE FROM orders WHERE id = 1")
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT * FROM orders ORDER BY id", "(2,la,new,)", "(3,la,c,)", "(4,la,a,5)")
	// Nothing is held back any more.
	s.push(from.frame([]change.Change{upd(0, 2, "la", "newer", nil)}))
	s.untilApplied(10)
	untilLines(t, l.db, "SELECT name FROM orders WHERE id = 2", "(newer)")
}

// Of two changes that were parked the first may go alone. The facility has the second,
// which must not be undone there.
func TestAFacilityIsNotToldOfAVersionThatItHasALaterOneOf(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 3, "la", "c", nil)}),
		from.frame([]change.Change{ins(0, 2, "la", "a", nil)}), from.frame([]change.Change{upd(0, 2, "la", "c", nil)}))
	s.untilApplied(3)
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(2,update,behind)")
	l.db.Exec(t, `SELECT pg_create_logical_replication_slot('look', 'test_decoding')`)
	told := func() []string {
		l.db.Exec(t, `SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', '')`) // only what is on the disk is decoded
		return lines(t, l.db, `SELECT data FROM pg_logical_slot_get_changes('look', NULL, NULL) WHERE data LIKE '%prefix: `+RowPrefix+`,%'`)
	}
	l.db.Exec(t, `DELETE FROM orders WHERE id = 1`)
	untilLines(t, l.db, waitingLines, "(2,update,unique)")
	wantLines(t, l.db, "SELECT name FROM orders WHERE id = 2", "(a)")
	if got := told(); len(got) > 0 {
		t.Errorf("the facility is told of a version that it has a later one of: %q", got)
	}
	l.db.Exec(t, `DELETE FROM orders WHERE id = 3`)
	untilLines(t, l.db, waitingLines)
	if got := told(); len(got) != 1 {
		t.Errorf("the facility is told %q of what the row came to", got)
	}
}

// TestFacilityCorrectsTheRowItself: a later version that fits makes way for
// all of them, as it would have in one batch.
func TestFacilityCorrectsTheRowItself(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}, []change.Change{ins(0, 2, "la", "a", nil), ins(0, 3, "la", "a", nil)}))
	s.untilApplied(2)
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(3,insert,unique)")
	s.push(from.frame([]change.Change{upd(0, 2, "la", "b", nil), del(0, 3)}))
	s.untilApplied(3)
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(2,b)")
	wantLines(t, l.db, stateLines, "(2,insert,applied)", "(3,insert,applied)", "(2,update,applied)", "(3,delete,applied)")
	// What has ended goes after a month.
	l.endWait()
	l.db.Exec(t, "UPDATE holdfast.parked SET ended_at = now() - interval '31 days' WHERE op = 'insert'")
	l.retry()
	untilLines(t, l.db, stateLines, "(2,update,applied)", "(3,delete,applied)")
}

const familySQL = ordersSQL + `; ALTER TABLE orders ADD UNIQUE (facility_id, id);
CREATE TABLE lines (id int PRIMARY KEY, facility_id text NOT NULL, order_id int, FOREIGN KEY (facility_id, order_id) REFERENCES orders (facility_id, id));
CREATE TABLE notes (id int PRIMARY KEY, facility_id text NOT NULL, line_id int REFERENCES lines (id))`

func familyLot(t *testing.T) (*lot, *sender) {
	l := newLot(t, familySQL, Table{Name: "orders", FacilityColumn: "facility_id"},
		Table{Name: "lines", FacilityColumn: "facility_id"}, Table{Name: "notes", FacilityColumn: "facility_id"})
	return l, newSender(t, orders,
		table("public", "lines", key("id", "integer"), col("facility_id", "text"), col("order_id", "integer")),
		table("public", "notes", key("id", "integer"), col("facility_id", "text"), col("line_id", "integer")))
}

func TestDependantsWaitForTheirParent(t *testing.T) {
	t.Parallel()
	l, from := familyLot(t)
	s := l.stream("la")
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(1, 10, "la", 1)}),
		from.frame([]change.Change{ins(0, 2, "la", "a", nil), ins(1, 20, "la", 2), ins(1, 11, "la", 1)}),
		from.frame([]change.Change{ins(2, 200, "la", 20)}, []change.Change{ins(1, 12, "la", nil), upd(1, 10, "la", 2)}),
		from.frame([]change.Change{del(1, 20)}))
	s.untilApplied(5)
	wantLines(t, l.db, "SELECT id, order_id FROM lines ORDER BY id", "(10,1)", "(11,1)", "(12,)")
	wantLines(t, l.db, "SELECT id FROM notes")
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(20,insert,parent)", "(200,insert,parent)", "(10,update,parent)", "(20,delete,behind)")
	l.db.Exec(t, "UPDATE orders SET name = 'other' WHERE id = 1")
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT id, order_id FROM lines ORDER BY id", "(10,2)", "(11,1)", "(12,)")
	wantLines(t, l.db, "SELECT id FROM orders ORDER BY id", "(1)", "(2)")
}

// A digest has no row of its table: it must neither be read as one nor parked.
func TestDigestsPassParkedRows(t *testing.T) {
	t.Parallel()
	l, from := familyLot(t)
	s := l.stream("la")
	digest := func(table int) []change.Change {
		return []change.Change{{Op: change.Digest, Table: table, Row: change.Row{[]byte("what the rows come to")}}}
	}
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(1, 10, "la", 1)}),
		from.frame([]change.Change{ins(0, 2, "la", "a", nil)}), from.frame(digest(1), digest(0)),
		from.frame([]change.Change{ins(1, 11, "la", 1)}))
	s.untilApplied(5)
	untilLines(t, l.db, waitingLines, "(2,insert,unique)")
	wantLines(t, l.db, "SELECT id, order_id FROM lines ORDER BY id", "(10,1)", "(11,1)")
}

func TestParkedRowGoesWhenTheBlockerGoes(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	l.db.Exec(t, `INSERT INTO orders VALUES (100, 'sf', 'a', NULL)`)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}))
	s.untilApplied(1)
	untilLines(t, l.db, "SELECT attempts > 1 FROM holdfast.parked", "(t)")
	b, err := l.pool.Blocker(t.Context(), l.current(), 1)
	if err != nil || b == nil || *b.Values[0] != "100" || *b.Values[1] != "sf" || b.Values[3] != nil || b.Columns[2] != "name" {
		t.Errorf("in the way is %+v, %v", b, err)
	}
	if err := s.end(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// Also while the facility is away.
	l.db.Exec(t, "DELETE FROM orders WHERE id = 100")
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT id, facility_id FROM orders", "(1,la)")
	wantLines(t, l.db, "SELECT epoch, seq FROM holdfast.position", "(4294967296,1)")
}

func TestTheBlockerStays(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", "first"), ins(0, 3, "la", "c", nil)}), from.frame([]change.Change{ins(0, 2, "la", "a", "second")}),
		from.frame(rangeOf(row(1), row(2), row(2, "la", "a", "again"))), from.frame([]change.Change{upd(0, 3, "la", "a", nil)}))
	s.untilApplied(4)
	wantLines(t, l.db, "SELECT * FROM orders ORDER BY id", "(1,la,a,first)", "(3,la,c,)")
	untilLines(t, l.db, waitingLines, "(2,insert,unique)", "(3,update,unique)")
	wantLines(t, l.db, "SELECT row->>'notes', state FROM holdfast.parked ORDER BY id", "(second,replaced)", "(again,waiting)", "(,waiting)")
	untilLines(t, l.db, "SELECT bool_and(attempts > 1) FROM holdfast.parked WHERE state = 'waiting'", "(t)")
	wantLines(t, l.db, "SELECT * FROM orders ORDER BY id", "(1,la,a,first)", "(3,la,c,)")
}

func TestMissingColumnArrivesAndRowsFollow(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	lots := orders
	lots.Columns = append(slices.Clone(orders.Columns), col("extra", "numeric"))
	s, from := l.stream("la"), newSender(t, orders, lots, table("public", "other", key("id", "integer"), col("facility_id", "text")))
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}), from.frame([]change.Change{ins(1, 2, "la", "b", nil, "1.50")}),
		from.frame([]change.Change{ins(0, 3, "la", "c", nil), upd(1, 1, "la", "aa", nil, "2")}),
		from.frame([]change.Change{ins(2, 1, "la"), ins(2, 2, "la")}, []change.Change{del(2, 1)}))
	s.untilApplied(5)
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(3,c)")
	wantLines(t, l.db, waitingLines, "(2,insert,missing_column)", "(1,update,missing_column)", "(1,insert,missing_table)", "(2,insert,missing_table)", "(1,delete,missing_table)")
	l.db.Exec(t, "ALTER TABLE orders ADD COLUMN extra numeric")
	untilLines(t, l.db, waitingLines, "(1,insert,missing_table)", "(2,insert,missing_table)", "(1,delete,missing_table)")
	wantLines(t, l.db, "SELECT id, name, extra FROM orders ORDER BY id", "(1,aa,2)", "(2,b,1.50)", "(3,c,)")
	l.db.Exec(t, "CREATE TABLE other (id int PRIMARY KEY, facility_id text NOT NULL)")
	l.setRegistry(NewRegistry(2, []Table{
		{Schema: "public", Name: "orders", Class: Fact, FacilityColumn: "facility_id"},
		{Schema: "public", Name: "other", Class: Fact, FacilityColumn: "facility_id"},
	}))
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT id FROM other", "(2)")
	s.push(from.frame([]change.Change{upd(1, 2, "la", "b", nil, "3")}))
	s.untilApplied(6)
	untilLines(t, l.db, "SELECT extra FROM orders WHERE id = 2", "(3)")
	if len(s.stuck) > 0 {
		t.Errorf("the stream was stuck: %v", s.stuck)
	}
}

// TestMoreThanIsKeptIsSentAgain: what comes past the bound is passed over, and
// the table is asked for when it fits.
func TestMoreThanIsKeptIsSentAgain(t *testing.T) {
	t.Parallel()
	l := newLot(t, ordersSQL+`; CREATE TABLE log (facility_id text, n int CHECK (n < 0))`,
		Table{Name: "orders", FacilityColumn: "facility_id"}, Table{Name: "other", FacilityColumn: "facility_id"}, Table{Name: "log", Class: Event, FacilityColumn: "facility_id"})
	l.limit(4)
	def := table("public", "other", key("id", "integer"), col("facility_id", "text"))
	s, from := l.stream("la"), newSender(t, def, orders, table("public", "log", col("facility_id", "text"), col("n", "integer")))
	var many []change.Change
	for i := range 10 {
		many = append(many, ins(0, i, "la"))
	}
	s.push(from.frame(many), from.frame([]change.Change{ins(0, 10, "la"), ins(1, 1, "la", "a", nil)}))
	s.untilApplied(2)
	wantLines(t, l.db, "SELECT count(*) FROM holdfast.parked", "(4)")
	wantLines(t, l.db, "SELECT table_name, reason, passed_over, asked_at FROM holdfast.parked_table", "(other,missing_table,7,)")
	wantLines(t, l.db, "SELECT kind FROM holdfast.stream_event WHERE kind = 'passed_over'", "(passed_over)")
	wantLines(t, l.db, "SELECT id FROM orders", "(1)")
	// History is never passed over: with no room left the stream waits.
	s.push(from.frame([]change.Change{ins(2, "la", 1)}))
	if err := s.untilStuck(); !errors.Is(err, errFull) {
		t.Fatalf("stuck with %v", err)
	}
	l.db.Exec(t, `ALTER TABLE log DROP CONSTRAINT log_n_check`)
	s.untilApplied(3)
	l.db.Exec(t, "CREATE TABLE other (id int PRIMARY KEY, facility_id text NOT NULL)")
	if got := <-l.heals; got != "la public.other" {
		t.Errorf("asked for %s", got)
	}
	untilLines(t, l.db, "SELECT id FROM other ORDER BY id", "(0)", "(1)", "(2)", "(3)")
	var all []change.Row
	for i := range 11 {
		all = append(all, row(i, "la"))
	}
	s.push(from.frame(rangeOf(nil, nil, all...)))
	s.untilApplied(4)
	wantLines(t, l.db, "SELECT count(*) FROM other", "(11)")
	wantLines(t, l.db, "SELECT * FROM holdfast.parked_table")
	if len(l.heals) > 0 {
		t.Error("asked for it twice")
	}
}

func TestRangeReplacesWhatIsParkedOfIt(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	l.db.Exec(t, `INSERT INTO orders VALUES (100, 'sf', 'a', NULL), (101, 'sf', 'b', NULL)`)
	s, from := l.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 2, "la", "a", nil), ins(0, 30, "la", "a", nil), ins(0, "zz", "la", "a", nil)}))
	s.untilApplied(1)
	l.db.Exec(t, "DELETE FROM holdfast.parked WHERE key->>'id' = 'zz'") // its key is in no range
	// Row 1 has another name by now, and 2 was deleted without a word.
	s.push(from.frame(rangeOf(nil, row(9), row(1, "la", "x", nil), row(3, "la", "b", nil), row(4, "la", "c", nil), row(5, "frankfurt", "d", nil))),
		from.frame([]change.Change{upd(0, 3, "la", "b", "behind")}))
	s.untilApplied(3)
	untilLines(t, l.db, stateLines, "(1,insert,replaced)", "(2,insert,replaced)", "(30,insert,waiting)", "(5,insert,waiting)", "(3,insert,waiting)", "(3,update,waiting)")
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(1,x)", "(4,c)", "(100,a)", "(101,b)")
	s.push(from.frame([]change.Change{{Op: change.Truncate}, ins(0, 6, "la", "six", nil)}))
	s.untilApplied(4)
	untilLines(t, l.db, waitingLines)
	wantLines(t, l.db, "SELECT id, name FROM orders ORDER BY id", "(6,six)", "(100,a)", "(101,b)")
}

// TestParkedOnceWhateverFails breaks the commits that park and that retry, on
// both sides of their effect.
func TestParkedOnceWhateverFails(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	from := newSender(t, orders)
	seed := from.frame([]change.Change{ins(0, 1, "la", "a", nil)})
	bad := from.frame([]change.Change{ins(0, 2, "la", "a", nil), upd(0, 2, "la", "a", "later"), ins(0, 3, "la", "c", nil)})
	s := l.stream("la")
	s.push(seed)
	s.untilApplied(1)
	for name, arm := range map[string]func(s *stream){
		"before": func(s *stream) { s.Faults.Commit.FailBefore(1) },
		"after":  func(s *stream) { s.Faults.Commit.FailAfter(1) },
	} {
		s.end()
		l.person("TRUNCATE holdfast.parked; UPDATE holdfast.position SET seq = 1; DELETE FROM orders WHERE id > 1")
		s = l.stream("la")
		// Folded first: that is undone by itself, and the commit is the second step.
		arm(s)
		s.push(bad)
		<-s.inbox.ended
		s.end()
		s = l.stream("la") // begins at the position
		s.push(bad)
		s.untilApplied(2)
		wantLines(t, l.db, "SELECT key->>'id', op, state FROM holdfast.parked ORDER BY id", "(2,insert,waiting)", "(2,update,waiting)")
		wantLines(t, l.db, "SELECT id FROM orders ORDER BY id", "(1)", "(3)")
		t.Log(name)
	}
	for _, arm := range []func(){func() { l.pool.Faults.Retry.FailBefore(1) }, func() { l.pool.Faults.Retry.FailAfter(1) }} {
		arm()
		l.person("DELETE FROM orders WHERE id = 1")
		untilLines(t, l.db, waitingLines)
		wantLines(t, l.db, "SELECT id, notes FROM orders ORDER BY id", "(2,later)", "(3,)")
		l.person(`UPDATE holdfast.parked SET state = 'waiting', tried_at = NULL; UPDATE orders SET id = 1 WHERE id = 2`)
		l.pool.RetryNow("la")
		untilLines(t, l.db, "SELECT bool_and(tried_at IS NOT NULL) FROM holdfast.parked", "(t)")
	}
	s.push(from.frame([]change.Change{ins(0, 4, "la", "d", nil)}))
	s.untilApplied(3)
}

// TestSessionsKnowWhatWaits: what a session before parked holds later changes
// back too, and bytes that are no text come back as they were.
func TestSessionsKnowWhatWaits(t *testing.T) {
	t.Parallel()
	l := newLot(t, `CREATE TABLE raw (id text PRIMARY KEY, facility_id text NOT NULL, v bytea, CHECK (id <> 'no'))`, Table{Name: "raw", FacilityColumn: "facility_id"})
	def := table("public", "raw", key("id", "text"), col("facility_id", "text"), col("v", "bytea"))
	s, from := l.stream("la"), newSender(t, def)
	s.push(from.frame([]change.Change{ins(0, "no", "la", `\x00ff`), ins(0, "a\x00\xff", "la", nil)}))
	s.untilApplied(1)
	s.end()
	s = l.stream("la")
	s.push(from.frame([]change.Change{upd(0, "no", "la", `\x01`), del(0, "a\x00\xff")}))
	s.untilApplied(2)
	untilLines(t, l.db, "SELECT key, op, reason FROM holdfast.parked WHERE state = 'waiting' ORDER BY id",
		`("{""id"": ""no""}",insert,check)`, `("{""id"": {""hex"": ""6100ff""}}",insert,type)`,
		`("{""id"": ""no""}",update,behind)`, `("{""id"": {""hex"": ""6100ff""}}",delete,behind)`)
	l.db.Exec(t, "ALTER TABLE raw DROP CONSTRAINT raw_id_check")
	untilLines(t, l.db, "SELECT * FROM raw", `(no,la,"\\x01")`)
	fmt.Fprint(t.Output(), lines(t, l.db, "SELECT message FROM holdfast.parked"))
}

// TestTableThatIsMendedBeforeAnybodyLooks: what the stream knows of it is then
// older than what the retrying finds unchanged.
func TestTableThatIsMendedBeforeAnybodyLooks(t *testing.T) {
	t.Parallel()
	l := ordersLot(t)
	l.endWait()
	l.every = time.Hour // it looks when it is told to
	l.retry()
	s, from := l.stream("la"), newSender(t, orders)
	for i := range 3 {
		s.push(from.frame([]change.Change{ins(0, i, "la", fmt.Sprint("n", i), nil)}))
		s.untilApplied(from.seq)
		l.db.Exec(t, "ALTER TABLE orders RENAME notes TO away")
		s.push(from.frame([]change.Change{ins(0, 10+i, "la", fmt.Sprint("m", i), "x"), upd(0, i, "la", fmt.Sprint("n", i), "y")}))
		s.untilApplied(from.seq)
		l.db.Exec(t, "ALTER TABLE orders RENAME away TO notes")
		l.pool.RetryNow("la")
		untilLines(t, l.db, waitingLines)
	}
	wantLines(t, l.db, "SELECT id, notes FROM orders ORDER BY id", "(0,y)", "(1,y)", "(2,y)", "(10,x)", "(11,x)", "(12,x)")
}

// The comparison goes on beside rows that wait, whatever the table's key is.
func TestADigestIsComparedBesideRowsThatWait(t *testing.T) {
	t.Parallel()
	tab := change.Table{Schema: "public", Name: "bins", Columns: []change.Column{
		{Name: "facility_id", Type: "text"}, {Name: "v", Type: "text"}, {Name: "id", Type: "integer", Key: true},
	}}
	digest := func(count uint64) change.Change {
		d := &change.DigestRecord{ID: 7, Parts: []change.DigestPart{{Count: count}}}
		m, err := change.EncodeDigest(&tab, d)
		if err != nil {
			t.Fatal(err)
		}
		_, value, err := change.DecodeDigest(m)
		if err != nil {
			t.Fatal(err)
		}
		return change.Change{Op: change.Digest, Row: change.Row{value}}
	}
	row := func(id int, v string) change.Change {
		return change.Change{Op: change.Insert, Row: change.Row{[]byte("la"), []byte(v), fmt.Append(nil, id)}}
	}
	l := newLot(t, `CREATE TABLE bins (facility_id text NOT NULL, v text CHECK (v <> 'bad'), id int PRIMARY KEY);`,
		Table{Name: "bins", FacilityColumn: "facility_id"})
	verdicts := make(chan Verdict, 10)
	s := l.start(Config{Facility: "la", OnDigest: func(v Verdict) { verdicts <- v }})
	from := newSender(t, tab)
	s.push(from.frame([]change.Change{row(1, "good")}, []change.Change{row(2, "bad")}))
	s.untilApplied(2)
	s.push(from.frame([]change.Change{digest(2)}))
	s.untilApplied(3)
	if v := <-verdicts; v.Err != nil || v.Digest.ID != 7 || v.Equal() || v.Mine[0].Count != 1 {
		t.Errorf("beside a row that waits: %+v", v)
	}
	// A table that does not fit any more, of which something waits.
	l.db.Exec(t, `ALTER TABLE bins DROP COLUMN v`)
	s.push(from.frame([]change.Change{row(3, "good")}, []change.Change{digest(3)}))
	s.untilApplied(5)
	if v := <-verdicts; v.Err == nil {
		t.Errorf("of a table that does not fit: %+v", v)
	}
	wantLines(t, l.db, "SELECT key->>'id' AS id, op FROM holdfast.parked p WHERE state = 'waiting' ORDER BY p.id", "(2,insert)", "(3,insert)")
}

// What was on its way when a table was asked for again is not all of it: changes were
// passed over until it begins with its first row.
func TestATableComesAgainFromItsFirstRowOn(t *testing.T) {
	t.Parallel()
	l := newLot(t, `CREATE TABLE t (id int, facility text NOT NULL, PRIMARY KEY (facility, id));`, Table{Name: "t", FacilityColumn: "facility"})
	s, from := l.stream("la"), newSender(t, table("public", "t", key("id", "integer"), col("facility", "text"), col("v", "text")))
	s.push(from.frame(rangeOf(nil, row(5), row(1, "la", "a"))))
	s.untilApplied(1)
	passedOver := func(n string) {
		t.Helper()
		wantLines(t, l.db, `SELECT count(*) FROM holdfast.parked_table`, n)
	}
	passedOver("(1)")
	l.db.Exec(t, `ALTER TABLE t ADD v text`)
	select {
	case <-l.heals:
	case <-time.After(patience):
		t.Fatal("the table is not asked for")
	}
	untilLines(t, l.db, `SELECT asked_at IS NOT NULL FROM holdfast.parked_table`, "(t)")
	s.push(from.frame(rangeOf(row(5), nil, row(6, "la", "b"))))
	s.untilApplied(2)
	passedOver("(1)")
	s.push(from.frame(rangeOf(nil, row(5), row(1, "la", "a"))))
	s.untilApplied(3)
	passedOver("(0)")
}
