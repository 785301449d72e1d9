package router

import (
	"maps"
	"testing"
)

// rounds gives a box what comes until something is told, and begins with mark n.
func (b *box) rounds(t *testing.T, n int, told <-chan string) (what string) {
	t.Helper()
	for last := n + 100; n < last; n++ {
		b.rig.mark(t, n)
		b.until(t, n)
		select {
		case what = <-told:
			return what
		default:
		}
	}
	t.Fatal("the box is not told that it has all")
	return ""
}

func TestABoxThatWentBackIsSentAllAndThenTold(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	told := make(chan string, 8)
	g.c.Restored = func(facility string) { told <- facility }
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a'), ('la', 2, 'b')`)
	g.mark(t, 1)
	la.until(t, 1)
	at, rows := la.at, map[string]map[string]string{}
	for table, list := range la.rows {
		rows[table] = maps.Clone(list)
	}
	g.db.Exec(t, `UPDATE orders SET v = 'c' WHERE id = 1; DELETE FROM orders WHERE id = 2; INSERT INTO orders VALUES ('la', 3, 'd')`)
	g.mark(t, 2)
	la.until(t, 2)
	wentBack := func(want bool) {
		t.Helper()
		if back, err := g.r.WentBack(t.Context(), "la", la.at); err != nil || back != want {
			t.Fatalf("a box at %s went back: %v, %v", la.at, back, err)
		}
	}
	wentBack(false)
	la.d.Close()

	la.at, la.rows = at, rows
	wentBack(true)
	restore := func() {
		t.Helper()
		if lacking, err := g.r.Restore(t.Context(), "la", 7, la.at); err != nil || lacking {
			t.Fatal(lacking, err)
		}
		la.attach(t)
	}
	restore()
	if la.d.Position() == at {
		t.Error("what the box had is sent to it again, change by change")
	}
	if err := la.next(t); err != nil {
		t.Fatal(err)
	}
	la.d.Close()
	g.stop(t)
	g.start(t)
	restore() // it goes on
	la.rounds(t, 3, told)
	la.equal(t)
	wentBack(false)
	la.d.Close()

	restore() // what it was told has not reached it
	la.rounds(t, 200, told)
	var begun int
	if err := g.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.stream_event WHERE kind = 'box_restored'`).Scan(&begun); err != nil || begun != 1 {
		t.Errorf("it was begun %d times, %v", begun, err)
	}
}
