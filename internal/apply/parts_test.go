package apply

import (
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// The queue may find a middle part damaged after it handed out the ones before.
func TestLostPartsOfABigTransactionLeaveNothing(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text")))
	st.push(s.frame([]change.Change{ins(0, 1, "la")}), s.part(0, true, []change.Change{ins(0, 2, "la")}),
		seal(t, change.Header{Kind: change.Gap, Epoch: s.epoch, First: 2, Last: 2, Reason: "damaged"}, &change.Body{}))
	s.seq = 2
	st.push(s.frame([]change.Change{ins(0, 3, "la")}))
	st.untilApplied(3)
	wantLines(t, db, `SELECT id FROM t ORDER BY id`, "(1)", "(3)")
	wantLines(t, db, `SELECT kind, seq FROM holdfast.stream_event WHERE kind = 'gap'`, "(gap,2)")
}

// A statement that PostgreSQL refuses takes the ones behind it in the pipeline
// along, which are then not prepared.
func TestPartThatMeetsRowsGoesOnWithItsOtherTables(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE a (id int PRIMARY KEY, facility text NOT NULL, v text);
		CREATE TABLE b (id int PRIMARY KEY, facility text NOT NULL, v text);
		INSERT INTO a VALUES (1, 'la', 'old'); INSERT INTO b VALUES (1, 'la', 'old')`)
	r := newRegion(t, db.ConnString(), Table{Name: "a", FacilityColumn: "facility"}, Table{Name: "b", FacilityColumn: "facility"})
	st := r.stream("la")
	columns := []change.Column{key("id", "integer"), col("facility", "text"), col("v", "text")}
	s := newSender(t, table("public", "a", columns...), table("public", "b", columns...))
	st.push(s.part(0, true, []change.Change{ins(0, 1, "la", "new"), upd(1, 1, "la", "new")}),
		s.part(1, false, []change.Change{ins(0, 2, "la", "new")}))
	st.untilApplied(1)
	wantLines(t, db, `SELECT id, v FROM a ORDER BY id`, "(1,new)", "(2,new)")
	wantLines(t, db, `SELECT id, v FROM b`, "(1,new)")
}

// A transaction may be folded again, on its own: it must still be what it was.
func TestFoldingLeavesTheFrameAlone(t *testing.T) {
	sh := &shape{target: &target{}, class: Fact, columns: []int{0, 1, 2}, key: []int{0}, facilityColumn: -1}
	renamed := change.Change{Op: change.Update, Key: row(1), Row: row(2, "la", "one")}
	patched := change.Change{Op: change.Update, Row: row(2, nil, "two"), Absent: []int{1}}
	f := newFolded("la")
	f.change(sh, &renamed)
	f.change(sh, &patched)
	if got := string(renamed.Row[2]); got != "one" {
		t.Fatalf("a later change turned the value of an earlier one into %q", got)
	}
}

// TestOneConnectionIsEnough: the tables of a later part must not wait for a
// connection while the transaction that is open holds the only one.
func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE a (id int PRIMARY KEY, facility text NOT NULL); CREATE TABLE b (id int PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "a", FacilityColumn: "facility"}, Table{Name: "b", FacilityColumn: "facility"})
	r.stop()
	r.maxConns, r.maxBig = 1, 1
	r.open()
	columns := []change.Column{key("id", "integer"), col("facility", "text")}
	st, s := r.stream("la"), newSender(t, table("public", "a", columns...), table("public", "b", columns...))
	st.push(s.part(0, true, []change.Change{ins(0, 1, "la")}), s.part(1, false, []change.Change{ins(1, 2, "la")}))
	st.untilApplied(1)
}

// TestSlowFacilityHoldsNobodyUp: neither a big transaction whose parts are slow
// to come nor a row that cannot be applied keeps a connection that others need.
func TestSlowFacilityHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL CHECK (id < 100))`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	r.stop()
	r.maxConns, r.maxBig = 1, 1
	r.open()
	def := table("public", "t", key("id", "integer"), col("facility", "text"))
	la, fromLA := r.stream("la"), newSender(t, def)
	la.push(fromLA.part(0, true, []change.Change{ins(0, 1, "la")}))
	look, deadline := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer look.Stop()
	for r.pool.big.Stat().AcquiredConns() == 0 {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("the first part takes no connection")
		}
	}
	sf, fromSF := r.stream("sf"), newSender(t, def)
	sf.push(fromSF.frame([]change.Change{ins(0, 100, "sf")}))
	sf.untilStuck()
	ny, fromNY := r.stream("ny"), newSender(t, def)
	ny.push(fromNY.frame([]change.Change{ins(0, 2, "ny")}), fromNY.part(0, true, []change.Change{ins(0, 3, "ny")}), fromNY.part(1, false, []change.Change{ins(0, 4, "ny")}))
	ny.untilApplied(1)
	la.push(fromLA.part(1, false, []change.Change{ins(0, 5, "la")}))
	ny.untilApplied(2)
	la.untilApplied(1)
}
