package apply

import (
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// What is known of the tables may be forgotten between two frames of a batch,
// as the retrying of parked rows does.
func TestATableThatIsReadAnewKeepsItsOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, big text)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	s, err := r.pool.session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	sent := table("public", "t", key("id", "integer"), col("facility", "text"), col("big", "text"))
	read := func() *shape {
		r.pool.catalog.forget()
		sh, err := r.pool.catalog.shape(t.Context(), s, r.current(), place{"la", Up}, &sent)
		if err != nil {
			t.Fatal(err)
		}
		return sh
	}
	f := newFolded("la")
	before, after := read(), read()
	for _, c := range []struct {
		shape  *shape
		change change.Change
	}{
		{before, del(0, 24)},
		{before, change.Change{Op: change.Range, Range: &change.KeyRange{Rows: []change.Row{row(24, "la", "drawing")}}}},
		{before, change.Change{Op: change.Update, Key: row(24), Row: row(23, "la", nil), Absent: []int{2}}},
		{after, del(0, 23)},
		{after, ins(0, 7, "la", "label")},
	} {
		f.change(c.shape, &c.change)
	}
	if err := s.exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	x := &execution{facility: "la", session: s, careful: alwaysCareful}
	if err := x.run(t.Context(), f, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	wantLines(t, db, `SELECT id, big FROM t`, "(7,label)")
}
