package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
)

// wantHeard compares what came table by table: among tables the order within
// what is committed at once is free.
func wantHeard(t *testing.T, b *box, want ...string) {
	t.Helper()
	byTable := func(a, b string) int { return compare(strings.Fields(a)[1], strings.Fields(b)[1]) }
	got := slices.DeleteFunc(slices.Clone(b.heard), func(s string) bool { return strings.HasPrefix(s, "range ") || strings.Contains(s, "mark") })
	slices.SortStableFunc(got, byTable)
	slices.SortStableFunc(want, byTable)
	if !slices.Equal(got, want) {
		t.Errorf("%s heard\n%s\nwant\n%s", b.id, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEachFacilityGetsItsOwnAndTheMaster(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.db.Exec(t, `INSERT INTO product VALUES (1, 'foo', 'early'), (2, 'bar', 'early'), (3, NULL, 'early')`)
	g.start(t)
	la, ny, bonn := g.box("la", "foo"), g.box("ny", "foo"), g.box("bonn", "bar")
	boxes := []*box{la, ny, bonn}
	for _, b := range boxes {
		b.attach(t)
	}
	g.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.author', 'Ann'); INSERT INTO orders VALUES ('la', 1, 'a'), ('ny', 1, 'b'); COMMIT`)
	g.db.Exec(t, `UPDATE orders SET v = 'c' WHERE facility_id = 'la'`)
	g.db.Exec(t, `DELETE FROM orders WHERE facility_id = 'ny'`)
	g.db.Exec(t, `INSERT INTO product VALUES (10, 'bar', 'x'), (11, NULL, 'y')`)
	g.db.Exec(t, `INSERT INTO own_la.note VALUES (1, 'mine'); DELETE FROM own_la.note`)
	g.db.Exec(t, `INSERT INTO loose VALUES (1, 'la', 'x')`)
	g.db.Exec(t, `DELETE FROM loose`)
	g.db.Exec(t, `INSERT INTO orders VALUES ('ny', 7, 'moves')`)
	g.db.Exec(t, `UPDATE orders SET facility_id = 'bonn' WHERE id = 7`)
	g.mark(t, 1)
	for _, b := range boxes {
		b.until(t, 1)
	}
	wantHeard(t, la, "note by|Ann", "insert public.orders la|1|a", "update public.orders la|1|c", "insert public.product 11|NULL|y",
		"insert own.note 1|mine", "delete own.note 1", "insert public.loose 1|la|x", "delete public.loose 1")
	wantHeard(t, ny, "note by|Ann", "insert public.orders ny|1|b", "delete public.orders ny|1", "insert public.product 11|NULL|y",
		"insert public.orders ny|7|moves", "delete public.orders ny|7")
	wantHeard(t, bonn, "insert public.product 10|bar|x", "insert public.product 11|NULL|y", "insert public.orders bonn|7|moves")
	for n := 2; len(la.rows["public.product"]) < 3 || len(bonn.rows["public.product"]) < 4 || len(ny.rows["public.product"]) < 3; n++ {
		g.mark(t, n)
		for _, b := range boxes {
			b.until(t, n)
		}
	}
	for _, b := range boxes {
		b.equal(t)
	}
}

// Where the key does not say whose a row is, the one that has it is told when it
// goes, and nobody else, and the one that gets it gets all of it.
func TestARowThatMovesLeavesItsOldOwner(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.db.Exec(t, `ALTER TABLE loose ADD more text; ALTER TABLE loose ALTER more SET STORAGE EXTERNAL`)
	g.start(t)
	la, ny, bonn := g.box("la", "foo"), g.box("ny", "foo"), g.box("bonn", "bar")
	boxes := []*box{la, ny, bonn}
	for _, b := range boxes {
		b.attach(t)
	}
	g.db.Exec(t, `INSERT INTO loose VALUES (1, 'la', 'a', repeat('x', 5000)), (2, 'la', 'b', NULL), (3, 'ny', 'c', NULL), (4, 'bonn', 'd', NULL)`)
	g.db.Exec(t, `UPDATE loose SET facility_id = 'bonn' WHERE id = 1`)
	g.db.Exec(t, `UPDATE loose SET v = 'e' WHERE id = 1`)
	g.db.Exec(t, `UPDATE loose SET id = 20, facility_id = 'ny' WHERE id = 2`)
	g.db.Exec(t, `UPDATE loose SET id = 30 WHERE id = 3`)
	g.db.Exec(t, `DELETE FROM loose WHERE id = 4`)
	g.db.Exec(t, `INSERT INTO product VALUES (1, 'foo', 'p'), (2, NULL, 'q'), (3, 'bar', 'r')`)
	g.db.Exec(t, `UPDATE product SET tenant = 'bar' WHERE id = 1`)
	g.db.Exec(t, `UPDATE product SET tenant = 'foo' WHERE id = 2`)
	g.db.Exec(t, `DELETE FROM product WHERE id = 3`)
	g.mark(t, 1)
	large := strings.Repeat("x", 5000)
	for _, b := range boxes {
		b.until(t, 1)
	}
	wantHeard(t, la, "insert public.loose 1|la|a|"+large, "insert public.loose 2|la|b|NULL", "delete public.loose 1", "delete public.loose 2",
		"insert public.product 1|foo|p", "insert public.product 2|NULL|q", "delete public.product 1", "delete public.product 2", "insert public.product 2|foo|q")
	wantHeard(t, ny, "insert public.loose 3|ny|c|NULL", "insert public.loose 20|ny|b|NULL", "update public.loose 30|ny|c|NULL",
		"insert public.product 1|foo|p", "insert public.product 2|NULL|q", "delete public.product 1", "delete public.product 2", "insert public.product 2|foo|q")
	wantHeard(t, bonn, "insert public.loose 4|bonn|d|NULL", "insert public.loose 1|bonn|a|"+large, "update public.loose 1|bonn|e|"+large, "delete public.loose 4",
		"insert public.product 2|NULL|q", "insert public.product 3|bar|r", "insert public.product 1|bar|p", "delete public.product 2", "delete public.product 3")
}

// A replica identity that somebody has chosen stays. Then nobody knows whose a
// removed row was, and its key is not told to other tenants' facilities.
func TestKeysDoNotCrossTenants(t *testing.T) {
	t.Parallel()
	for _, tenants := range [][2]string{{"foo", "foo"}, {"foo", "bar"}} {
		g := newRig(t, Facility{"la", tenants[0], 1}, Facility{"bonn", tenants[1], 1})
		g.db.Exec(t, `ALTER TABLE loose REPLICA IDENTITY USING INDEX loose_pkey; ALTER TABLE product REPLICA IDENTITY USING INDEX product_pkey`)
		g.start(t)
		bonn := g.box("bonn", tenants[1])
		bonn.attach(t)
		g.db.Exec(t, `INSERT INTO loose VALUES (1, 'la', 'a'); DELETE FROM loose; INSERT INTO product VALUES (1, 'other', 'p'); DELETE FROM product`)
		g.mark(t, 1)
		bonn.until(t, 1)
		if tenants[0] == tenants[1] {
			wantHeard(t, bonn, "delete public.loose 1", "delete public.product 1")
		} else {
			wantHeard(t, bonn)
		}
	}
}

func TestWhatWaitsForAConnectedBoxIsCounted(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	if _, _, ok := g.r.Waiting("la"); ok {
		t.Error("something waits for a box that is away")
	}
	la.attach(t)
	g.mark(t, 1)
	la.until(t, 1)
	n, before, ok := g.r.Waiting("la")
	if !ok || n != 0 || before != la.at {
		t.Errorf("%d wait behind %s, %v; the box is at %s", n, before, ok, la.at)
	}
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a'), ('ny', 1, 'b')`)
	for n == 0 {
		n, _, _ = g.r.Waiting("la")
	}
	if err := la.next(t); err != nil {
		t.Fatal(err)
	}
	if n, at, _ := g.r.Waiting("la"); n != 0 || !before.Before(at) {
		t.Errorf("%d wait behind %s when the box has all", n, at)
	}
}

func TestATableThatWaitsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.mark(t, 1)
	la.until(t, 1)
	g.db.Exec(t, `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash, op, columns, bytes, reason, message)
		VALUES ('la', 'up', 1, 1, 'public', 'orders', '{}', '', 'delete', '[]', 0, 'other', '')`)
	if err := g.r.Resync(t.Context(), "la", "public.orders", "public.product"); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for n := 2; ; n++ {
		var waiting []string
		list, err := g.r.Loads(t.Context(), "la")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Done.IsZero() {
				waiting = append(waiting, l.Table)
			}
		}
		if slices.Equal(waiting, []string{"orders"}) {
			g.until(t, `SELECT count(*) = 1 FROM holdfast.stream_event WHERE facility = 'la' AND kind = 'load_waits' AND detail LIKE 'public.orders %parked%'`)
			return
		}
		if n > 60 {
			t.Fatalf("%v wait", waiting)
		}
		g.mark(t, n)
		la.until(t, n)
		<-look.C
	}
}

func TestATransactionOverBucketsStaysTogether(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.db.Exec(t, `BEGIN; INSERT INTO product VALUES (1, 'foo', 'p'); INSERT INTO orders VALUES ('la', 1, 'a'), ('ny', 1, 'b'); INSERT INTO holiday VALUES (9, 'h');
		INSERT INTO loose VALUES (1, 'la', 'a'); DELETE FROM loose; INSERT INTO loose VALUES (1, 'la', 'b'); COMMIT`)
	pieces := 0
	for pieces == 0 || la.mid {
		if err := la.next(t); err != nil {
			t.Fatal(err)
		}
		if _, ok := la.rows["public.orders"]; ok {
			pieces++
		}
	}
	la.equal(t)
	if la.rows["public.loose"]["1"] != "1|la|b" || pieces < 3 {
		t.Errorf("%d pieces: %v", pieces, la.heard)
	}
}

func TestSeenNumbersStandBeforeWhatHadSeenThem(t *testing.T) {
	t.Parallel()
	g := newRig(t, Facility{"la", "foo", 1}, Facility{"ny", "foo", 1})
	g.db.Exec(t, `ALTER TABLE loose REPLICA IDENTITY USING INDEX loose_pkey`) // so that nobody knows whose a removed row was
	g.start(t)
	la, ny := g.box("la", "foo"), g.box("ny", "foo")
	la.attach(t)
	ny.attach(t)
	up := func(f string, seq int) {
		g.db.Exec(t, fmt.Sprintf(`BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up %s 4294967296:%d'); INSERT INTO orders VALUES ('%s', %d, 'up'); COMMIT`, f, seq, f, 100+seq))
	}
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'before')`)
	up("la", 5)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 2, 'after 5')`)
	up("la", 6)
	up("ny", 3)
	g.db.Exec(t, `DELETE FROM loose; INSERT INTO loose VALUES (1, 'bonn', 'x')`)
	g.db.Exec(t, `DELETE FROM loose`)
	up("la", 7)
	g.mark(t, 1)
	up("ny", 4)
	la.until(t, 1)
	ny.until(t, 1)
	for ny.seen != "4294967296:4" || la.seen != "4294967296:7" {
		b := ny
		if ny.seen == "4294967296:4" {
			b = la
		}
		if err := b.next(t); err != nil {
			t.Fatal(err)
		}
	}
	seen := func(b *box, what string) string {
		last := ""
		for _, h := range b.heard {
			if s, ok := strings.CutPrefix(h, "note seen|4294967296:"); ok {
				last = s
			}
			if strings.HasPrefix(h, what) {
				return last
			}
		}
		t.Errorf("%s did not hear %s: %v", b.id, what, b.heard)
		return ""
	}
	for _, w := range []struct {
		b          *box
		what, seen string
	}{
		{la, "insert public.orders la|1", ""}, {la, "insert public.orders la|2", "5"}, {la, "delete public.loose", "6"}, {ny, "delete public.loose", "3"},
	} {
		if got := seen(w.b, w.what); got != w.seen {
			t.Errorf("%s heard %s having seen %q, want %q", w.b.id, w.what, got, w.seen)
		}
	}
	if len(la.rows["public.orders"]) != 2 {
		t.Errorf("la gets its own changes back: %v", la.rows)
	}
}

func TestOneChangeForAThousandFacilitiesIsEncodedOnce(t *testing.T) {
	t.Parallel()
	facilities := []Facility{{"la", "foo", 1}}
	for i := range 1000 {
		facilities = append(facilities, Facility{fmt.Sprint("f", i), "foo", 1})
	}
	g := newRig(t, facilities...)
	g.db.Exec(t, `INSERT INTO holdfast.down_position (facility, epoch, seq) SELECT id, 0, 0 FROM holdfast.facility`)
	g.start(t)
	g.db.Exec(t, `UPDATE holdfast.down_load SET done_at = now()`)
	boxes := make([]*box, 1000)
	for i := range boxes {
		boxes[i] = g.box(fmt.Sprint("f", i), "foo")
		boxes[i].attach(t)
	}
	before := g.r.Stats()
	g.mark(t, 1)
	var first *change.Sealed
	for _, b := range boxes {
		for b.mid || b.rows["public.holiday"]["1"] == "" {
			p, err := b.d.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.Frame.Header.Reason != everybody {
				continue // its first load
			}
			if first == nil {
				first = &p.Frame
			}
			if &p.Frame.Bytes[0] != &first.Bytes[0] {
				t.Fatalf("%s gets bytes of its own", b.id)
			}
			b.rows["public.holiday"] = map[string]string{"1": "mark"}
		}
	}
	after := g.r.Stats()
	if wide := after.Wide - before.Wide; wide != 1 {
		t.Errorf("the change was sealed %d times", wide)
	}
}

// Whoever begins at the end of the log has not heard what was said before.
func TestABoxThatJoinsHearsWhatWasSeenOfIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	ny := g.box("ny", "foo")
	ny.attach(t)
	g.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up la 4294967296:5');
		INSERT INTO holdfast.position (facility, epoch, seq) VALUES ('la', 4294967296, 5); INSERT INTO orders VALUES ('la', 1, 'up'); COMMIT`)
	g.mark(t, 1)
	ny.until(t, 1)
	la := g.box("la", "foo")
	la.attach(t)
	g.db.Exec(t, `UPDATE orders SET v = 'edited' WHERE id = 1`)
	g.mark(t, 2)
	la.until(t, 2)
	if la.seen != "4294967296:5" {
		t.Errorf("la has heard that %q was seen of it: %v", la.seen, la.heard)
	}
}

// The box before may have been there for minutes only, and have had nothing to
// acknowledge.
func TestABoxInThePlaceOfASilentOneGetsItsRows(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	old := g.box("la", "foo")
	old.attach(t)
	old.d.Close()
	g.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up la 4294967296:5'); INSERT INTO orders VALUES ('la', 1, 'up'); COMMIT`)
	g.replace()
	la := g.box("la", "foo")
	la.attach(t)
	la.d.Close()
	la.attach(t) // it comes again before it had anything
	for len(la.rows["public.orders"]) == 0 {
		if err := la.next(t); err != nil {
			t.Fatal(err)
		}
	}
	g.mark(t, 1)
	la.until(t, 1)
	la.equal(t)
}

// What the box before it sent is not sent down: a row that the region had, and that
// box removed, must not come to the next one by the log, however late that is read.
func TestANewBoxHasNoRowThatTheOneBeforeRemoved(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	old := g.box("la", "foo")
	old.attach(t)
	g.mark(t, 1)
	old.until(t, 1)
	old.d.Close()
	var walsender int
	g.scan(t, &walsender, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, g.c.Slot)
	signal(t, walsender, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(walsender, syscall.SIGCONT) })
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'cloud')`)
	g.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up la 4294967296:5'); DELETE FROM orders; COMMIT`)
	g.replace()
	late := g.box("la", "foo")
	late.enrolment = 1 // the old one comes once more
	late.attach(t)
	late.d.Close()
	la := g.box("la", "foo")
	attached := make(chan error, 1)
	go func() {
		var err error
		la.d, err = g.r.Attach(t.Context(), Facility{la.id, la.tenant, la.enrolment}, la.at)
		attached <- err
	}()
	// It waits for what is not read yet, or is let in too early.
	g.until(t, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pg_logical_emit_message(true, $1, $2::text)%' AND datname = current_database())
		OR EXISTS (SELECT FROM holdfast.down_load WHERE reason = 'replaced')`)
	signal(t, walsender, syscall.SIGCONT)
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	// It has written down that the epoch began, and comes again.
	la.d.Close()
	la.at = change.Position{Epoch: g.r.Epoch()}
	la.attach(t)
	g.until(t, `SELECT bool_and(done_at IS NOT NULL) FROM holdfast.down_load`)
	g.mark(t, 2)
	la.until(t, 2)
	// A box takes no row away for what a range lacks.
	if slices.Contains(la.heard, "insert public.orders la|1|cloud") {
		t.Errorf("the new box is sent what the old one had removed: %v", la.heard)
	}
	la.equal(t)
}

// A box comes again every few seconds until it is let in: what it waits for does not
// grow meanwhile, or it would never be while the WAL is read late.
func TestANewBoxWaitsForWhatWasThereWhenItFirstCame(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.c.AppendFault = new(fault.Point)
	g.start(t)
	g.replace()
	g.c.AppendFault.Hold()
	t.Cleanup(g.c.AppendFault.Heal)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'cloud')`)
	ctx, giveUp := context.WithCancel(t.Context())
	refused := make(chan error, 1)
	go func() {
		_, err := g.r.Attach(ctx, Facility{"la", "foo", 2}, change.Position{})
		refused <- err
	}()
	g.until(t, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pg_logical_emit_message(true, $1, $2::text)%' AND datname = current_database())`)
	giveUp()
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Fatalf("it was let in before anything was read: %v", err)
	}
	g.r.mu.Lock()
	end := g.r.replacing["la"].lsn // other tests write to the same WAL
	g.r.mu.Unlock()
	if end == 0 {
		t.Fatal("it waits for nothing")
	}
	g.c.AppendFault.Heal()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); g.r.Stats().LSN < end; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the WAL is not read: %+v", g.r.Stats())
		}
	}
	g.c.AppendFault.Hold()
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 2, 'cloud')`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := g.r.Attach(ctx, Facility{"la", "foo", 2}, change.Position{})
	if err != nil {
		t.Fatalf("it waits for what came later: %v", err)
	}
	d.Close()
}

// A box may be replaced before it has said that it had anything.
func TestABoxInThePlaceOfOneThatHadBegunGetsWhatThatSent(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'first'), ('la', 2, 'first')`)
	g.replace()
	second := g.box("la", "foo")
	second.attach(t)
	g.until(t, `SELECT bool_and(done_at IS NOT NULL) FROM holdfast.down_load`)
	second.d.Close()
	g.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up la 8589934592:5');
		UPDATE orders SET v = 'second' WHERE id = 1; DELETE FROM orders WHERE id = 2; COMMIT`)
	g.replace()
	third := g.box("la", "foo")
	third.attach(t)
	g.until(t, `SELECT bool_and(done_at IS NOT NULL) FROM holdfast.down_load`)
	g.mark(t, 1)
	third.until(t, 1)
	third.equal(t)
}
