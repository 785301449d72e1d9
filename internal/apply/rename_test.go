package apply

import (
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// A row's new key may still be taken where changes were lost on the way, and
// the range that mends it comes behind: it must not wait for that.
func TestRenamedRowTakesTheKeyOfItsOwnStaleRow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, v text, big text);
		INSERT INTO t VALUES (1, 'la', 'one', 'drawing'), (2, 'la', 'stale', 'old'), (3, 'sf', 'theirs', 'other')`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text"), col("v", "text"), col("big", "text")))
	rename := func(from, to any) change.Change {
		return change.Change{Op: change.Update, Key: row(from), Row: row(to, "la", "renamed", nil), Absent: []int{3}}
	}
	st.push(s.frame([]change.Change{rename(1, 2)}))
	st.untilApplied(1)
	wantLines(t, db, `SELECT id, v, big FROM t ORDER BY id`, "(2,renamed,drawing)", "(3,theirs,other)")
	// Another facility's row does not give way.
	st.push(s.frame([]change.Change{rename(2, 3)}))
	if err := st.untilStuck(); err == nil {
		t.Fatal("another facility's row gave way")
	}
	wantLines(t, db, `SELECT id, v, big FROM t ORDER BY id`, "(2,renamed,drawing)", "(3,theirs,other)")
}
