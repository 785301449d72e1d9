package router

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// A box that took another's place is told of each table once it has all of it that the
// region has, and that it was told is noted before. It is not where something of the box
// before may come late, where rows may have been left out, or while rows are parked at
// the box.
func TestANewBoxIsToldWhatItHasAllOf(t *testing.T) {
	t.Parallel()
	g := newRig(t, Facility{"la", "foo", 2})
	told := make(chan string, 100)
	la := g.box("la", "foo")
	rounds := make(chan string, 100)
	g.c.Whole = func(facility string) (uint32, func(string, change.Position) error) {
		return 2, func(table string, at change.Position) error {
			var noted int
			err := g.pool.QueryRow(context.Background(), `SELECT whole_enrolment FROM holdfast.down_load WHERE facility = $1 AND schema_name || '.' || table_name = $2`, facility, table).Scan(&noted)
			what := table
			if err != nil || noted != 2 {
				what = fmt.Sprintf("%s before it is noted (%d, %v)", table, noted, err)
			}
			told <- what
			rounds <- what
			return nil
		}
	}
	g.c.Mended = func(_, table, _ string) bool { told <- "asked for " + table; return true }
	g.c.mendHeard, g.c.mendSettle = time.Hour, time.Nanosecond
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a'); INSERT INTO own_la.note VALUES (1, 'a'); INSERT INTO loose VALUES (1, 'la', 'a')`)
	g.db.Exec(t, `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash, op, columns, bytes, reason, message)
		VALUES ('la', 'up', 1::bigint << 32, 1, 'public', 'loose', '{}', '', 'insert', '[]', 0, 'check', '')`)
	g.start(t)
	la.attach(t)
	g.sent(t, "la", 3)
	if len(told) > 0 {
		t.Fatalf("it is told of %s before it has anything", <-told)
	}
	heard := func(mark int, want ...string) {
		t.Helper()
		var got []string
		for n := 0; len(got) < len(want); n++ {
			la.rounds(t, mark+100*n, rounds)
			for len(told) > 0 {
				got = append(got, <-told)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("told %q, want %q", got, want)
		}
	}
	heard(1, "own.note", "public.orders")

	// The load begins anew as the box is to be told.
	list := g.mends(t)
	if n := len(list); n != 2 {
		t.Fatalf("%d tables wait to be heard of, not 2", n)
	}
	la.d.Close()
	if err := g.r.Resync(t.Context(), "la"); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if yes, err := g.r.tellWhole(t.Context(), m); yes || err != nil || len(told) > 0 {
			t.Fatalf("it is told of %s, of which the load begins anew: %v", m.Table, err)
		}
	}

	// Whatever made it be sent again, it is told, and asked for its rows as ever.
	g.db.Exec(t, `UPDATE holdfast.parked SET state = 'discarded'`)
	g.db.Exec(t, `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash, op, columns, bytes, reason, message, box_id)
		VALUES ('la', 'down', 1, 1, 'public', 'orders', '{}', '', 'insert', '[]', 0, 'check', '', 1)`)
	la.attach(t)
	heard(1000, "asked for own.note", "asked for public.loose", "asked for public.orders", "own.note", "public.loose", "public.orders")
	g.db.Exec(t, `UPDATE holdfast.down_load SET reason = 'replaced' WHERE facility = 'la'`)
	if slices.ContainsFunc(g.mends(t), func(m mend) bool { return m.Table == "public.orders" }) {
		t.Error("a box that parked rows of a table is told that it has all of it")
	}

	// What does not fit a frame may be left out.
	if err := g.r.Resync(t.Context(), "la", "public.loose"); err != nil {
		t.Fatal(err)
	}
	loads, err := g.r.store.loads(t.Context(), []string{"la"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loads {
		if err := pgx.BeginFunc(t.Context(), g.pool, func(tx pgx.Tx) error { return g.r.store.incomplete(t.Context(), tx, l) }); err != nil {
			t.Fatal(err)
		}
	}
	if list := g.mends(t); slices.ContainsFunc(list, func(m mend) bool { return m.whole }) {
		t.Errorf("it is told that it has all of what may be left out: %+v", list)
	}
}

// mends are those that wait.
func (g *rig) mends(t *testing.T) []mend {
	t.Helper()
	list, err := g.r.store.mends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sent waits until so many fact tables were sent to a facility, whether it has them or not.
func (g *rig) sent(t *testing.T, facility string, want int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var n int
		if err := g.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.down_load JOIN holdfast.synced_table USING (schema_name, table_name)
			WHERE facility = $1 AND class = 'fact' AND done_at IS NOT NULL`, facility).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tables are sent, not %d", n, want)
		}
	}
}
