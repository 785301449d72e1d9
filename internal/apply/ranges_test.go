package apply

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func rangeOf(after, upTo change.Row, rows ...change.Row) []change.Change {
	return []change.Change{{Op: change.Range, Range: &change.KeyRange{After: after, UpTo: upTo, Rows: rows}}}
}

// Keys are ordered by their bytes on the way, whatever the column's collation
// is where they arrive.
func TestRangeGoesByBytesUnderAnICUCollation(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id text COLLATE "und-x-icu" PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "text"), col("facility", "text")))
	st.push(s.frame(rangeOf(nil, row("B"), row("A", "la"), row("B", "la"))),
		s.frame(rangeOf(row("B"), row("b"), row("a", "la"), row("b", "la"))),
		s.frame(rangeOf(row("b"), nil, row("c", "la"))))
	st.untilApplied(3)
	wantLines(t, db, `SELECT id FROM t ORDER BY id COLLATE "C"`, "(A)", "(B)", "(a)", "(b)", "(c)")
}

// Ranges of numbers are not ranges of their text.
func TestKeyOfAnotherOrderIsRefused(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id text PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text")))
	st.push(s.frame(rangeOf(nil, row("10"), row("2", "la"), row("10", "la"))))
	if err := st.untilStuck(); err == nil {
		t.Fatal("an integer key was taken into a text column")
	}
	db.Exec(t, `ALTER TABLE t ALTER id TYPE bigint USING id::bigint`)
	st.untilApplied(1)
	wantLines(t, db, `SELECT id FROM t ORDER BY id`, "(2)", "(10)")
}

// A box that was down for long may have moved a unique value to another row.
func TestRangeDeletesItsOwnStaleRowsThatBlockIt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int, facility text NOT NULL, u text, v text, w text, PRIMARY KEY (facility, id));
		CREATE UNIQUE INDEX ON t (u);
		CREATE UNIQUE INDEX ON t (lower(v)) WHERE w = 'on';
		INSERT INTO t VALUES (1, 'la', 'a', 'a', 'on'), (2, 'la', 'b', 'b', 'on'), (8, 'la', 'c', 'X', 'on'), (9, 'la', 'X', 'c', 'on'),
			(10, 'la', 'd', 'X', 'off'), (9, 'sf', 'S', 's', 'on')`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text"), col("u", "text"), col("v", "text"), col("w", "text")))
	// The values of rows 1 and 2 have changed places, and 3 has those of 8 and 9.
	st.push(s.frame(rangeOf(nil, row(3), row(1, "la", "b", "b", "on"), row(2, "la", "a", "a", "on"), row(3, "la", "X", "x", "on"))))
	st.untilApplied(1)
	wantLines(t, db, `SELECT id, u, v FROM t ORDER BY facility, id`, "(1,b,b)", "(2,a,a)", "(3,X,x)", "(10,d,X)", "(9,S,s)")
	st.push(s.frame(rangeOf(row(3), nil, row(9, "la", "c", "c", "on"), row(10, "la", "d", "X", "off"))))
	st.untilApplied(2)
	wantLines(t, db, `SELECT id, u FROM t ORDER BY facility, id`, "(1,b)", "(2,a)", "(3,X)", "(9,c)", "(10,d)", "(9,S)")
	// Neither another facility's row nor one that was sent before gives way.
	st.push(s.frame(rangeOf(row(10), row(11), row(11, "la", "S", "e", "on"))))
	if err := st.untilStuck(); err == nil {
		t.Fatal("another facility's row gave way")
	}
	db.Exec(t, `UPDATE t SET u = 'T' WHERE facility = 'sf'`)
	st.untilApplied(3)
	st.push(s.frame(rangeOf(row(11), nil, row(12, "la", "X", "f", "on"))))
	st.until("the stream waits", func() bool { return len(st.stuck) > 2 && st.stuck[len(st.stuck)-1] != nil })
	wantLines(t, db, `SELECT u FROM t WHERE id = 3`, "(X)")
}

// A box that took another's place begins with what it has, which may be nothing.
func TestAnEmptyReplacementLeavesTheRegionsRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int, facility text NOT NULL, v text, PRIMARY KEY (facility, id))`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	shape := table("public", "t", key("id", "integer"), col("facility", "text"), col("v", "text"))
	s := newSender(t, shape)
	st.push(s.frame(rangeOf(nil, nil, row(1, "la", "a"), row(2, "la", "b"))))
	st.untilApplied(1)
	next := newSender(t, shape)
	next.epoch = 2 << 32
	st.push(next.frame(rangeOf(nil, nil)), next.frame(rangeOf(nil, nil, row(2, "la", "c"))))
	st.until("the new box's ranges are applied", func() bool {
		at := st.Applied()
		return at.Epoch == next.epoch && at.Seq == 2
	})
	wantLines(t, db, `SELECT id, v FROM t ORDER BY id`, "(1,a)", "(2,c)")
}

// A box that took another's place removes rows by a range once it says so, because it has
// all of them, and the region knows that too. Until then it adds and corrects.
func TestOnlyARangeOfAWholeReplacementRemovesRows(t *testing.T) {
	t.Parallel()
	for _, park := range []bool{false, true} {
		t.Run(fmt.Sprintf("park=%t", park), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, coreSQL+parkedSQL+`CREATE TABLE t (id int, facility text NOT NULL, v text UNIQUE CHECK (v <> 'bad'), PRIMARY KEY (facility, id))`)
			r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
			r.park = park
			var known atomic.Bool
			st := r.start(Config{Facility: "la", Whole: func(_ context.Context, enrolment uint32, schema, table string) (bool, error) {
				if enrolment != 2 || schema != "public" || table != "t" {
					return false, fmt.Errorf("asked of %d %s.%s", enrolment, schema, table)
				}
				return known.Load(), nil
			}})
			shape := table("public", "t", key("id", "integer"), col("facility", "text"), col("v", "text"))
			first, next := newSender(t, shape), newSender(t, shape)
			next.epoch = 2 << 32
			if park { // what waits of the box before is in no range of this one
				st.push(first.frame([]change.Change{ins(0, 9, "la", "bad")}))
			}
			st.push(first.frame(rangeOf(nil, nil, row(1, "la", "a"), row(2, "la", "b"), row(3, "la", "c"))))
			if park {
				st.push(first.frame([]change.Change{ins(0, 9, "la", "bad")}))
			}
			whole := change.Change{Op: change.Note, Row: row(change.NoteWhole, "public.t")}
			sends := func(note bool, rows ...change.Row) {
				t.Helper()
				c := rangeOf(nil, nil, rows...)
				if note {
					c = append([]change.Change{whole}, c...)
				}
				st.push(next.frame(c))
				st.until("the range is applied", func() bool { return st.Applied() == change.Position{Epoch: next.epoch, Seq: next.seq} })
			}
			waits := func(n int) {
				t.Helper()
				if park {
					wantLines(t, db, `SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'`, fmt.Sprintf("(%d)", n))
				}
			}
			all := `SELECT id, v FROM t ORDER BY id`
			known.Store(true)
			sends(false, row(2, "la", "B"))
			wantLines(t, db, all, "(1,a)", "(2,B)", "(3,c)")
			waits(1)
			known.Store(false)
			sends(true)
			wantLines(t, db, all, "(1,a)", "(2,B)", "(3,c)")
			waits(1)
			known.Store(true)
			sends(true, row(2, "la", "a"), row(4, "la", "c"))
			wantLines(t, db, all, "(2,a)", "(4,c)")
			waits(0)
		})
	}
}

// Labels that were added one by one may have another order at each end.
func TestRangeOfEnumsGoesByTheirText(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TYPE e AS ENUM ('c', 'b', 'a'); CREATE TABLE t (id e PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "public.e"), col("facility", "text")))
	st.push(s.frame(rangeOf(nil, row("a"), row("a", "la"))), s.frame(rangeOf(row("a"), nil, row("b", "la"), row("c", "la"))))
	st.untilApplied(2)
	wantLines(t, db, `SELECT id FROM t ORDER BY id`, "(c)", "(b)", "(a)")
}

func TestColumnWhoseTypeIsGoneTakesTheTargets(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, e e)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text"), col("e", change.UnknownType)))
	st.push(s.frame([]change.Change{ins(0, 1, "la", "a")}))
	st.untilApplied(1)
	wantLines(t, db, `SELECT id, e FROM t`, "(1,a)")
}

func TestRangesThatFollowEachOtherAreAppliedAsOne(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (facility text, id int, v text, PRIMARY KEY (facility, id))`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	s, err := r.pool.session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	sent := table("public", "t", key("facility", "text"), key("id", "integer"), col("v", "text"))
	sh, err := r.pool.catalog.shape(t.Context(), s, r.current(), place{"la", Up}, &sent)
	if err != nil {
		t.Fatal(err)
	}
	const each = copyMinRows
	between := func(from, to int) []change.Change {
		c := rangeOf(row("la", from), row("la", to))
		for id := from + 1; id <= to; id++ {
			c[0].Range.Rows = append(c[0].Range.Rows, row("la", id, "new"))
		}
		return c
	}
	first := between(0, each)
	for _, c := range []struct {
		name   string
		before string
		// second comes behind the first range; two more follow.
		second []change.Change
		ops    int
		want   string // how many rows were made, are old and new
	}{
		{"nothing is there", ``, between(each, 2*each), 1, "(0,0,400)"},
		{"something is in the place of one", `INSERT INTO t VALUES ('la', 150, 'old'), ('la', 1000, 'old'), ('sf', 250, 'old')`, between(each, 2*each), 1, "(0,2,400)"},
		{"a row is behind all of them", `DELETE FROM t; INSERT INTO t VALUES ('la', 401, 'old'), ('la', 400, 'old')`, between(each, 2*each), 1, "(0,1,400)"},
		{"a row is made in between", `DELETE FROM t`, append(between(each, 2*each), ins(0, "la", 350, "made")), 3, "(0,0,400)"},
		{"one does not follow", `DELETE FROM t; INSERT INTO t VALUES ('la', 150, 'old')`, nil, 2, "(0,1,300)"},
		{"it begins anew", `DELETE FROM t`, append(between(each, 2*each), rangeOf(nil, nil, row("la", -1, "made"))...), 3, "(1,0,200)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.Exec(t, c.before)
			f := newFolded("la")
			for _, list := range [][]change.Change{first, c.second, between(2*each, 3*each), between(3*each, 4*each)} {
				for i := range list {
					f.change(sh, &list[i])
				}
			}
			if got := len(f.tables[0].ops); got != c.ops {
				t.Errorf("%d operations, want %d", got, c.ops)
			}
			if err := s.exec(t.Context(), "BEGIN"); err != nil {
				t.Fatal(err)
			}
			x := &execution{facility: "la", session: s, careful: func(*target) bool { return false }}
			if err := x.run(t.Context(), f, nil, nil); err != nil {
				t.Fatal(err)
			}
			if err := s.exec(t.Context(), "COMMIT"); err != nil {
				t.Fatal(err)
			}
			wantLines(t, db, `SELECT count(*) FILTER (WHERE v = 'made') AS made, count(*) FILTER (WHERE v = 'old') AS old, count(*) FILTER (WHERE v = 'new') AS new FROM t`, c.want)
			db.Exec(t, `DELETE FROM t WHERE v = 'new'`)
		})
	}
	if k := first[0].Range; len(k.Rows) != each || string(k.UpTo[1]) != "100" {
		t.Error("the frame's own range was changed")
	}
}
