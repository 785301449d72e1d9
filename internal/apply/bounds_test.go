package apply

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// buffers runs a statement, undoes it, and returns how many pages it looked at.
func buffers(t *testing.T, conn *pgx.Conn, sql string, args []arg) int {
	t.Helper()
	var pages int
	undone := errors.New("undone")
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		values, formats := make([][]byte, len(args)), make([]int16, len(args))
		for i, a := range args {
			values[i] = a.value
			if a.binary {
				formats[i] = 1
			}
		}
		var err error
		if pages, err = pgtest.Pages(t.Context(), conn.PgConn(), sql, values, formats); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	return pages
}

// Where the facility is part of the key, the last chunk of a table costs what
// the first does.
func TestTheWorkForAChunkDoesNotGrow(t *testing.T) {
	t.Parallel()
	const rows, step = 60_000, 500
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE part (facility_id text, id int, v text, PRIMARY KEY (facility_id, id))`)
	db.Exec(t, `INSERT INTO part SELECT f, i, 'v' FROM unnest('{fra,la}'::text[]) f, generate_series(1, $1::int) i`, rows)
	db.Exec(t, `VACUUM ANALYZE part`)
	conn := db.Conn(t)
	text, integer := &targetColumn{name: "facility_id", typ: "text"}, &targetColumn{name: "id", typ: "integer"}
	sh := &shape{
		target: &target{schema: "public", name: "part"}, to: []*targetColumn{text, integer}, columns: []int{0, 1},
		key: []int{0, 1}, facilityColumn: 0, sql: map[string]string{},
	}
	h := &hashed{sh: sh, expr: "t.id"}
	for name, chunk := range map[string]func(after, upTo change.Row) (sql string, args []arg){
		"range": func(after, upTo change.Row) (string, []arg) {
			x := &execution{facility: "la"}
			c := x.rangeCalls(nil, sh, &change.KeyRange{After: after, UpTo: upTo})[0]
			return c.sql, c.args
		},
		"sweep": func(after, upTo change.Row) (string, []arg) {
			args, asText := sh.packColumns(nil, sh.key)
			l := sh.limits("la", after, upTo)
			return sh.beyondSQL(l, asText), sh.facilityArg(l.args(sh, args, after, upTo), "la")
		},
		"digest": func(after, upTo change.Row) (string, []arg) {
			l := sh.limits("la", after, upTo)
			return h.partSQL(l, step+1), l.args(sh, sh.facilityArg(nil, "la"), after, upTo)
		},
	} {
		sql, args := chunk(row("la", step), row("la", 2*step))
		first := buffers(t, conn, sql, args)
		sql, args = chunk(row("la", rows-2*step), row("la", rows-step))
		if last := buffers(t, conn, sql, args); last > first+first/2+20 {
			t.Errorf("%s: the second chunk looks at %d pages, one near the end at %d", name, first, last)
		} else {
			t.Logf("%s: %d pages, near the end %d", name, first, last)
		}
	}
}

// A box may have rows of another facility, which the region does not take: what
// their range says of the box's own rows is nothing.
func TestBoundsOfAnotherFacilitysRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE part (facility_id text, id int, v text, PRIMARY KEY (facility_id, id))`)
	r := newRegion(t, db.ConnString(), Table{Name: "part", FacilityColumn: "facility_id"})
	st := r.stream("la")
	s := newSender(t, table("public", "part", key("facility_id", "text"), key("id", "integer"), col("v", "text")))
	st.push(s.frame(rangeOf(nil, nil, row("la", 1, "a"), row("la", 5, "a"), row("la", 9, "a"))))
	st.untilApplied(1)
	st.push(s.frame(rangeOf(row("aa", 2), row("aa", 7))), s.frame(rangeOf(row("fra", 7), row("la", 2), row("la", 2, "b"))))
	st.untilApplied(3)
	wantLines(t, db, `SELECT id, v FROM part ORDER BY id`, "(2,b)", "(5,a)", "(9,a)")
	st.push(s.frame(rangeOf(row("la", 2), row("la", 7))), s.frame(rangeOf(row("la", 7), row("sf", 3))))
	st.untilApplied(5)
	wantLines(t, db, `SELECT id, v FROM part ORDER BY id`, "(2,b)")
}
