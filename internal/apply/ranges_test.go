package apply

import (
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
