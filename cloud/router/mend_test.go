package router

import (
	"testing"
	"time"
)

// A facility's own rows come up behind what it was sent again also when the region's
// process was killed in between, or the facility's line broke as it was asked.
func TestAFacilitysOwnRowsAreAskedForAcrossARestart(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	told, other := make(chan string, 100), make(chan string, 100)
	g.c.Mended = func(facility, table, occasion string) bool {
		if facility == "la" {
			told <- table + " " + occasion
		} else {
			other <- table
		}
		return true
	}
	g.c.mendHeard, g.c.mendSettle = time.Hour, time.Nanosecond
	waits := func() (done bool, waits int) {
		t.Helper()
		err := g.pool.QueryRow(t.Context(), `SELECT bool_and(done_at IS NOT NULL), count(mend_epoch) FROM holdfast.down_load
			WHERE facility = 'la' AND table_name = 'orders'`).Scan(&done, &waits)
		if err != nil {
			t.Fatal(err)
		}
		return done, waits
	}
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a')`)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.mark(t, 1)
	la.until(t, 1)
	if err := g.r.Resync(t.Context(), "la", "public.orders"); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C { // it takes nothing meanwhile
		if done, n := waits(); done && n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the table is not sent")
		}
	}
	again := func() {
		t.Helper()
		g.stop(t)
		g.start(t)
		la.attach(t)
	}
	again()
	// Another that has come later, and has all, is asked in a look that finds this one, too.
	ny := g.box("ny", "foo")
	ny.attach(t)
	if err := g.r.Resync(t.Context(), "ny", "public.orders"); err != nil {
		t.Fatal(err)
	}
	ny.rounds(t, 1000, other)
	ny.d.Close()
	select {
	case what := <-told:
		t.Fatalf("%s is asked for before the facility has what it was sent", what)
	default:
	}
	occasion := la.rounds(t, 2, told)
	hears := func(mark int) {
		t.Helper()
		if got := la.rounds(t, mark, told); got != occasion {
			t.Errorf("it is asked for as %q, and was as %q: it begins anew", got, occasion)
		}
	}
	again() // the process that asked is gone, and what it said perhaps with it
	hears(200)
	la.d.Close()
	la.attach(t) // so may a word be that the line took with it
	hears(400)
	g.stop(t)
	g.c.mendHeard = time.Nanosecond
	g.start(t)
	la.attach(t)
	hears(600)
	for n := 800; ; n++ {
		if _, n := waits(); n == 0 {
			break
		}
		if n > 900 {
			t.Fatal("a facility that has heard it is asked again and again")
		}
		g.mark(t, n)
		la.until(t, n)
	}
	again()
	g.mark(t, 2000)
	la.until(t, 2000)
	if n := len(told); n > 0 {
		t.Errorf("it is asked for %d times more", n)
	}
	if err := g.r.Resync(t.Context(), "la", "public.orders"); err != nil {
		t.Fatal(err)
	}
	if got := la.rounds(t, 2001, told); got == occasion {
		t.Errorf("what was lost anew is asked for as %q, like what has come", got)
	}
}
