package apply

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// 1: lost part in the middle of a big transaction
func TestZZGapInParts(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, f text not null, v text)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "f"})
	st := r.stream("la")
	tb := table("public", "t", key("id", "integer"), col("f", "text"), col("v", "text"))
	s := newSender(t, tb)
	st.push(s.frame([]change.Change{ins(0, 1, "la", "a")}))
	st.untilApplied(1)
	st.push(s.part(0, true, []change.Change{ins(0, 2, "la", "a")}))
	st.push(seal(t, change.Header{Kind: change.Gap, Epoch: s.epoch, First: 2, Last: 2, Reason: "x"}, &change.Body{}))
	deadline := time.After(20 * time.Second)
	for st.Applied().Seq < 2 {
		select {
		case <-st.inbox.ended:
			t.Fatalf("ENDED: %v", st.inbox.err)
		case <-st.changed:
		case <-deadline:
			t.Fatal("timeout")
		}
	}
}

// 2: prepared statements after a failed pipeline in a part
func TestZZPartDirty(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE a (id int PRIMARY KEY, f text not null, v text); CREATE TABLE b (id int PRIMARY KEY, f text not null, v text);
	 INSERT INTO a VALUES (1,'la','old'); INSERT INTO b VALUES (1,'la','old')`)
	r := newRegion(t, db.ConnString(), Table{Name: "a", FacilityColumn: "f"}, Table{Name: "b", FacilityColumn: "f"})
	st := r.stream("la")
	ta := table("public", "a", key("id", "integer"), col("f", "text"), col("v", "text"))
	tb := table("public", "b", key("id", "integer"), col("f", "text"), col("v", "text"))
	s := newSender(t, ta, tb)
	st.push(s.part(0, true, []change.Change{ins(0, 1, "la", "new"), upd(1, 1, "la", "new")}))
	st.push(s.part(1, false, []change.Change{ins(0, 2, "la", "x")}))
	deadline := time.After(20 * time.Second)
	for st.Applied().Seq < 1 {
		select {
		case <-st.inbox.ended:
			t.Fatalf("ENDED: %v", st.inbox.err)
		case <-st.changed:
		case <-deadline:
			t.Fatal("timeout")
		}
	}
}

// 3: frames of a table that was removed
func TestZZRemovedTable(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, f text not null, v text)`)
	r := newRegion(t, db.ConnString())
	st := r.stream("la")
	tb := table("public", "t", key("id", "integer"), col("f", "text"), col("v", "text"))
	s := newSender(t, tb)
	st.push(s.frame([]change.Change{ins(0, 1, "la", "a")}))
	t.Logf("STUCK: %v", st.untilStuck())
}

// 4: stale row of the facility has the secondary unique value
func TestZZHealUnique(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, f text not null, v text UNIQUE); INSERT INTO t VALUES (9,'la','X')`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "f"})
	st := r.stream("la")
	tb := table("public", "t", key("id", "integer"), col("f", "text"), col("v", "text"))
	s := newSender(t, tb)
	rg := func(after, upto change.Row, rows ...change.Row) change.Change {
		return change.Change{Op: change.Range, Range: &change.KeyRange{After: after, UpTo: upto, Rows: rows}}
	}
	st.push(s.frame([]change.Change{rg(nil, row(5), row(1, "la", "X"))}), s.frame([]change.Change{rg(row(5), nil, row(9, "la", "Y"))}))
	t.Logf("STUCK: %v", st.untilStuck())
}

// 5: extension type as key
func TestZZExtKey(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE EXTENSION ltree; CREATE TABLE t (id ltree PRIMARY KEY, f text not null, v text)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "f"})
	st := r.stream("la")
	tb := table("public", "t", key("id", "public.ltree"), col("f", "text"), col("v", "text"))
	s := newSender(t, tb)
	st.push(s.frame([]change.Change{ins(0, "a.b", "la", "a")}))
	st.untilApplied(1)
	st.push(s.frame([]change.Change{upd(0, "a.b", "la", "b")}))
	t.Logf("STUCK: %v", st.untilStuck())
}

// 6: pool deadlock, one connection
func TestZZPoolDeadlock(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE a (id int PRIMARY KEY, f text not null, v text); CREATE TABLE b (id int PRIMARY KEY, f text not null, v text);`)
	r := newRegion(t, db.ConnString(), Table{Name: "a", FacilityColumn: "f"}, Table{Name: "b", FacilityColumn: "f"})
	r.stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := OpenPool(ctx, PoolConfig{ConnString: db.ConnString(), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.pool = p
	st := r.stream("la")
	ta := table("public", "a", key("id", "integer"), col("f", "text"), col("v", "text"))
	tb := table("public", "b", key("id", "integer"), col("f", "text"), col("v", "text"))
	s := newSender(t, ta, tb)
	st.push(s.part(0, true, []change.Change{ins(0, 1, "la", "new")}))
	st.push(s.part(1, false, []change.Change{ins(1, 2, "la", "x")}))
	deadline := time.After(15 * time.Second)
	for st.Applied().Seq < 1 {
		select {
		case <-st.changed:
		case <-deadline:
			t.Fatal("DEADLOCK")
		}
	}
}

// 7: merge writes into the frame
func TestZZAlias(t *testing.T) {
	f := newFolded("la")
	tgt := &target{}
	sh := &shape{target: tgt, class: Fact, columns: []int{0, 1, 2}, key: []int{0}, facilityColumn: -1}
	c1 := change.Change{Op: change.Update, Key: row(1), Row: row(2, "la", "one")}
	c2 := change.Change{Op: change.Update, Row: change.Row{[]byte("2"), nil, []byte("two")}, Absent: []int{1}}
	f.change(sh, &c1)
	f.change(sh, &c2)
	if string(c1.Row[2]) != "one" {
		t.Fatalf("CHANGED: %s", strings.Trim(string(c1.Row[2]), " "))
	}
}
