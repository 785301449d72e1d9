package apply

import (
	"fmt"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// decideShape has the columns id, facility, v, price and big; the cloud owns price.
func decideShape() *shape {
	sh := &shape{key: []int{0}, facilityColumn: 1, cloudColumns: []int{3}}
	for i, name := range []string{"id", "facility", "v", "price", "big"} {
		sh.columns = append(sh.columns, i)
		sh.to = append(sh.to, &targetColumn{name: name, typ: "text"})
	}
	return sh
}

// What cannot be known to be untouched stands, and is sent again so that the
// other side has it too.
func TestWhatMayHaveBeenTouchedIsSentAgain(t *testing.T) {
	t.Parallel()
	sh := decideShape()
	local := row(1, "la", "E", "1", "b")
	put := &entry{state: rowPut, row: row(1, "la", "C", "1", "b")}
	gone := &entry{state: rowGone, row: row(1)}
	for _, c := range []struct {
		e     *entry
		local change.Row
		touch Touch
		want  string
	}{
		{put, local, Touch{Unsure: true}, "update [1 la E 1 b] []"},
		{put, nil, Touch{Unsure: true}, "delete [] []"},
		{&entry{state: rowPatch, row: put.row, absent: []int{4}}, nil, Touch{Unsure: true}, "delete [] []"},
		{gone, local, Touch{Unsure: true}, "update [1 la E 1 b] []"},
		{gone, local, Touch{Unsent: []string{"big"}}, "update [1 la E 1 b] []"},
		// Who made a row just as its removal was applied was not seen by that.
		{&entry{state: rowPut, born: true, row: put.row}, nil, Touch{}, "delete [] []"},
		{&entry{state: rowPut, fresh: true, row: put.row}, nil, Touch{}, "delete [] []"},
		{&entry{state: rowPatch, fresh: true, row: put.row, absent: []int{4}}, nil, Touch{}, "delete [] []"},
		{&entry{state: rowPut, moved: true, row: put.row}, nil, Touch{}, "delete [] []"},
		{&entry{state: rowPut, moved: true, row: put.row, absent: []int{4}}, nil, Touch{}, "delete [] []"},
		{&entry{state: rowPut, born: true, row: put.row}, local, Touch{Unsent: []string{"big"}}, "update [1 la E 1 b] []"},
		{put, local, Touch{Unsent: []string{"big"}}, ""},
		{&entry{state: rowPut, born: true, row: put.row}, local, Touch{}, ""},
		{put, local, Touch{}, ""},
		{put, nil, Touch{}, ""},
		{gone, local, Touch{}, ""},
		{gone, nil, Touch{Unsure: true}, ""},
	} {
		v := decide(sh, c.e, c.local, &c.touch, PolicyEdge)
		got := ""
		if v.assert != nil {
			got = fmt.Sprintf("%s %s %v", v.assert.Op, v.assert.Row, v.assert.Absent)
		}
		if got != c.want || v.do != doNothing {
			t.Errorf("%+v with %+v sends %q, want %q, and does %d", *c.e, c.touch, got, c.want, v.do)
		}
	}
}

// Of a column group only the cloud's columns are sent back: the others are the
// edge's on both sides already.
func TestOnlyTheCloudsColumnsAreSentBack(t *testing.T) {
	t.Parallel()
	sh := decideShape()
	local := row(1, "la", "E", "1", "b")
	for _, c := range []struct {
		cloud change.Row
		want  string
	}{
		{row(1, "la", "C", "3", "b"), "merged [1 la E 3 b] update [1 la E 3 b] [2 4]"},
		{row(1, "la", "C", "1", "b"), "merged [] "},
		{row(1, "la", "E", "1", "b"), " [] "},
	} {
		v := decide(sh, &entry{state: rowPut, row: c.cloud}, local, &Touch{}, PolicyColumns)
		got := fmt.Sprintf("%s %s ", v.decision, v.row)
		if v.assert != nil {
			got += fmt.Sprintf("%s %s %v", v.assert.Op, v.assert.Row, v.assert.Absent)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.cloud, got, c.want)
		}
	}
}

// The region applies what the edge sends, whoever wrote it.
func TestNotesAreNoChangesOnTheWayUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, v text UNIQUE)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	st := r.stream("la")
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text"), col("v", "text")))
	by := note(change.NoteBy, "ann")
	st.push(s.frame([]change.Change{by, ins(0, 1, "la", "a"), ins(0, 2, "la", "b")}, []change.Change{by}))
	// Two rows that change places go one by one.
	st.push(s.frame([]change.Change{by, upd(0, 1, "la", "c"), upd(0, 2, "la", "a"), by, upd(0, 1, "la", "b")}))
	st.untilApplied(3)
	wantLines(t, db, "SELECT id, v FROM t ORDER BY id", "(1,b)", "(2,a)")
	other := newSender(t)
	other.seq = s.seq
	st.push(other.frame([]change.Change{by}))
	st.untilApplied(4)
}
