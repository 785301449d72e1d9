package apply

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

var orders = table("public", "orders", key("id", "integer"), col("facility_id", "text"), col("name", "text"), col("notes", "text"))

const ordersSQL = `CREATE TABLE orders (id int PRIMARY KEY, facility_id text NOT NULL, name text UNIQUE, notes text)`

func ordersRegion(t testing.TB) (*pgtest.DB, *region) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+ordersSQL)
	return db, newRegion(t, db.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"})
}

func TestEachChangeIsAppliedOnce(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	one := from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 2, "la", "b", "")}, []change.Change{upd(0, 2, "la", "c", "x")})
	two := from.frame([]change.Change{del(0, 1), ins(0, 3, "la", "a", "y")})
	s.push(one, two)
	s.untilDurable(3)
	wantLines(t, db, "SELECT * FROM orders ORDER BY id", "(2,la,c,x)", "(3,la,a,y)")
	wantLines(t, db, "SELECT epoch, seq, source_lsn FROM holdfast.position", "(4294967296,3,0/12C)")

	db.Exec(t, "DELETE FROM orders")
	s.push(one, two, from.frame([]change.Change{ins(0, 4, "la", "d", nil)}))
	s.untilApplied(4)
	wantLines(t, db, "SELECT * FROM orders", "(4,la,d,)")

	again := r.stream("la") // a new session skips what the old one applied
	again.push(one, from.frame([]change.Change{ins(0, 5, "la", "e", nil)}))
	again.untilApplied(5)
	wantLines(t, db, "SELECT id FROM orders ORDER BY 1", "(4)", "(5)")
}

func TestGapIsRefused(t *testing.T) {
	t.Parallel()
	_, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}))
	from.seq++
	s.push(from.frame([]change.Change{ins(0, 3, "la", "c", nil)}))
	<-s.inbox.ended
	if err := s.end(); !errors.Is(err, ErrGap) {
		t.Fatalf("run ended with %v", err)
	}
	if err := s.Push(context.Background(), from.frame(nil)); !errors.Is(err, ErrGap) {
		t.Fatalf("push after the end: %v", err)
	}
}

func TestEpochsOnlyGrow(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}))
	newer := newSender(t, orders)
	newer.epoch++
	s.push(newer.frame([]change.Change{ins(0, 2, "la", "b", nil)}))
	s.untilApplied(1)
	s.until("new epoch", func() bool { return s.Applied() == change.Position{Epoch: epoch1 + 1, Seq: 1} })
	s.push(seal(t, change.Header{Kind: change.Gap, Epoch: epoch1 + 1, First: 2, Last: 9, Reason: "disk full"}, &change.Body{}))
	s.untilApplied(9)
	wantLines(t, db, "SELECT kind, epoch, seq FROM holdfast.stream_event ORDER BY id",
		"(epoch,4294967296,0)", "(epoch,4294967297,0)", "(gap,4294967297,9)")
	s.push(from.frame([]change.Change{ins(0, 3, "la", "c", nil)}))
	<-s.inbox.ended
	if err := s.end(); !errors.Is(err, ErrOldEpoch) {
		t.Fatalf("run ended with %v", err)
	}
}

func TestUnsentColumnsKeepTheirValue(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	absent := func(c change.Change, cols ...int) change.Change { c.Absent = cols; return c }
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", "long"), ins(0, 2, "la", "b", "tall")}),
		from.frame([]change.Change{absent(upd(0, 1, "la", "aa", nil), 3)}))
	s.untilApplied(2)
	key := absent(upd(0, 9, "la", "bb", nil), 3)
	key.Key = row(2)
	s.push(from.frame([]change.Change{absent(upd(0, 1, "la", nil, "new"), 2), key, absent(upd(0, 77, "la", "x", nil), 3)}))
	s.untilApplied(3)
	wantLines(t, db, "SELECT * FROM orders ORDER BY id", "(1,la,aa,new)", "(9,la,bb,tall)")
	s.until("the missing row is reported", func() bool { return s.missing["public.orders"] == 1 })
}

func TestUniqueValuesMaySwap(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 2, "la", "b", nil)}))
	s.untilApplied(1)
	s.push(from.frame([]change.Change{ins(0, 3, "la", "c", nil)},
		[]change.Change{upd(0, 1, "la", "tmp", nil), upd(0, 2, "la", "a", nil), upd(0, 1, "la", "b", nil)},
		[]change.Change{upd(0, 3, "la", "z", nil)}))
	s.untilApplied(4)
	wantLines(t, db, "SELECT id, name FROM orders ORDER BY id", "(1,b)", "(2,a)", "(3,z)")
}

func TestRowsOfOtherFacilitiesAreOutOfReach(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	db.Exec(t, "INSERT INTO orders VALUES (7, 'frankfurt', 'theirs', 'n')")
	for name, c := range map[string]change.Change{
		"foreign row":    ins(0, 8, "frankfurt", "x", nil),
		"foreign key":    ins(0, 7, "la", "x", nil),
		"foreign update": upd(0, 7, "la", "x", nil),
		"no facility":    ins(0, 8, nil, "x", nil),
	} {
		s, from := r.stream("la"), newSender(t, orders)
		from.epoch = s.Applied().Epoch + 1
		s.push(from.frame([]change.Change{ins(0, 1, "la", "ok", nil)}, []change.Change{c}, []change.Change{upd(0, 1, "la", "later", nil)}))
		err := s.untilStuck()
		if re := (*RowError)(nil); !errors.Is(err, ErrForeignRow) && (!errors.As(err, &re) || re.Code != "23505") || s.Applied().Seq != 1 {
			t.Errorf("%s: stuck at %s with %v", name, s.Applied(), err)
		}
		s.end()
	}
	s, from := r.stream("la"), newSender(t, orders)
	from.epoch = s.Applied().Epoch + 1
	s.push(from.frame([]change.Change{del(0, 7)}, []change.Change{{Op: change.Truncate}},
		[]change.Change{{Op: change.Range, Range: &change.KeyRange{}}}))
	s.untilApplied(3)
	wantLines(t, db, "SELECT * FROM orders", "(7,frankfurt,theirs,n)")
}

func TestStreamWaitsForTheCauseToGo(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	lots := orders
	lots.Columns = append(append([]change.Column(nil), orders.Columns...), col("extra", "numeric"))
	s, from := r.stream("la"), newSender(t, orders, lots, table("public", "other", key("id", "integer")))
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}, []change.Change{ins(1, 2, "la", "b", nil, "1.50")}))
	err := s.untilStuck()
	if re := (*RowError)(nil); !errors.As(err, &re) || !errors.Is(err, ErrTable) || re.Position.Seq != 2 || re.Position.Epoch != epoch1 {
		t.Fatalf("stuck with %+v", err)
	}
	if h := hint.Of(err); !strings.Contains(h, `ALTER TABLE "public"."orders" ADD COLUMN "extra" numeric`) {
		t.Errorf("hint %q", h)
	}
	s.untilApplied(1)
	db.Exec(t, "ALTER TABLE orders ADD COLUMN extra numeric")
	s.untilApplied(2)
	// That it goes on is told after the transaction is applied.
	s.until("the stream goes on", func() bool { return len(s.stuck) > 0 && s.stuck[len(s.stuck)-1] == nil })

	s.push(from.frame([]change.Change{ins(2, 1)}))
	if h := hint.Of(s.untilStuck()); !strings.Contains(h, "holdfastctl tables add public.other") {
		t.Errorf("hint %q", h)
	}
	r.setRegistry(NewRegistry(2, []Table{
		{Schema: "public", Name: "orders", Class: Fact, FacilityColumn: "facility_id"},
		{Schema: "public", Name: "other", Class: Fact, TargetSchema: "{schema}_{facility}"},
	}))
	db.Exec(t, "CREATE SCHEMA public_la; CREATE TABLE public_la.other (id int PRIMARY KEY)")
	s.untilApplied(3)

	db.Exec(t, "ALTER TABLE orders ADD CHECK (name <> 'bad')")
	s.push(from.frame([]change.Change{ins(0, 10, "la", "good", nil)}, []change.Change{ins(0, 11, "la", "bad", nil)}, []change.Change{ins(0, 12, "la", "more", nil)}))
	err = s.untilStuck()
	if re := (*RowError)(nil); !errors.As(err, &re) || re.Position.Seq != 5 || re.Constraint != "orders_name_check" || re.Key != `("11")` || re.Table != "public.orders" {
		t.Fatalf("stuck with %+v", err)
	}
	s.untilApplied(4)
	db.Exec(t, "ALTER TABLE orders DROP CONSTRAINT orders_name_check")
	s.untilApplied(6)
	wantLines(t, db, "SELECT * FROM orders ORDER BY id", "(1,la,a,,)", "(2,la,b,,1.50)", "(10,la,good,,)", "(11,la,bad,,)", "(12,la,more,,)")
	wantLines(t, db, "SELECT * FROM public_la.other", "(1)")
}

func TestBigTransactionIsOneTransaction(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	s, from := r.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil), ins(0, 2, "la", "b", nil)}))
	parts := []change.Sealed{
		from.part(0, true, []change.Change{upd(0, 1, "la", "tmp", nil)}),
		from.part(1, true, []change.Change{upd(0, 2, "la", "a", nil), upd(0, 1, "la", "b", nil)}),
		from.part(2, false, []change.Change{ins(0, 3, "la", "c", nil)}),
	}
	s.push(parts[:2]...)
	s.untilApplied(1)
	wantLines(t, db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(2,b)")
	if err := s.end(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantLines(t, db, "SELECT id, name FROM orders ORDER BY id", "(1,a)", "(2,b)")
	s = r.stream("la")
	s.push(parts...)
	s.push(from.frame([]change.Change{ins(0, 4, "la", "d", nil)}))
	s.untilApplied(3)
	wantLines(t, db, "SELECT id, name FROM orders ORDER BY id", "(1,b)", "(2,a)", "(3,c)", "(4,d)")
}

func TestSecondSessionIsFencedOff(t *testing.T) {
	t.Parallel()
	db, r := ordersRegion(t)
	a, b, from := r.stream("la"), r.stream("la"), newSender(t, orders)
	one := from.frame([]change.Change{ins(0, 1, "la", "a", nil)})
	a.push(one)
	a.untilApplied(1)
	b.push(one)
	<-b.inbox.ended
	if err := b.end(); !errors.Is(err, ErrFenced) {
		t.Fatalf("second session ended with %v", err)
	}
	wantLines(t, db, "SELECT count(*) FROM orders", "(1)")
}

// TestKeysOfExtensionTypes: their operators are in the extension's schema.
func TestKeysOfExtensionTypes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION ltree;
		CREATE TABLE codes (code ext.citext, path public.ltree, facility_id text, v text, PRIMARY KEY (code, path))`)
	r := newRegion(t, db.ConnString(), Table{Name: "codes", FacilityColumn: "facility_id"})
	s := r.stream("la")
	from := newSender(t, table("public", "codes", key("code", "ext.citext"), key("path", "public.ltree"), col("facility_id", "text"), col("v", "text")))
	s.push(from.frame([]change.Change{ins(0, "Ab", "x.y", "la", "1"), ins(0, "c", "x", "la", "1"), ins(0, "d", "x", "la", "1")}))
	s.push(from.frame([]change.Change{upd(0, "aB", "x.y", "la", "2"), del(0, "C", "x")}))
	s.push(from.frame([]change.Change{{Op: change.Range, Range: &change.KeyRange{After: row("b", "x"), Rows: []change.Row{row("e", "x", "la", "3")}}}}))
	s.untilApplied(3)
	wantLines(t, db, "SELECT code, path, v FROM codes ORDER BY 1", "(Ab,x.y,2)", "(e,x,3)")
}
