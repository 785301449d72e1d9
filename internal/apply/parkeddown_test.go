package apply

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// boxSQL is what the box's migrations add to the region's tables.
const boxSQL = `ALTER TABLE holdfast.parked ADD seen_epoch bigint NOT NULL DEFAULT 0, ADD seen_seq bigint NOT NULL DEFAULT 0,
  ADD made_by text NOT NULL DEFAULT '', ADD of_range boolean NOT NULL DEFAULT false;`

// newBox is a facility's database that parks what comes down, with its retrying
// and a running stream.
func newBox(t *testing.T, sql string, tables ...Table) (*pgtest.DB, *region, *stream) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+parkedSQL+boxSQL+sql)
	r := newRegion(t, db.ConnString(), tables...)
	r.park = true
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := r.pool.Retry(ctx, ParkConfig{Direction: Down, Local: quietLocal{}, Registry: r.current, Every: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("retry: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return db, r, r.start(Config{Facility: "la", Direction: Down, Local: quietLocal{}})
}

const boxTablesSQL = `CREATE TABLE m (id int PRIMARY KEY, v text CHECK (v <> 'bad')); CREATE TABLE f (id int PRIMARY KEY, v text CHECK (v NOT LIKE 'bad%') UNIQUE);`

var boxTables = []change.Table{
	table("public", "m", key("id", "integer"), col("v", "text")),
	table("public", "f", key("id", "integer"), col("v", "text")),
}

func newTwoTables(t *testing.T) (*pgtest.DB, *stream, *sender) {
	t.Helper()
	db, _, st := newBox(t, boxTablesSQL, Table{Name: "m", Class: Master}, Table{Name: "f", TargetSchema: "{schema}_{facility}"})
	return db, st, newSender(t, boxTables...)
}

func free(t *testing.T, db *pgtest.DB) {
	db.Exec(t, `ALTER TABLE m DROP CONSTRAINT m_v_check; ALTER TABLE f DROP CONSTRAINT f_v_check`)
}

// Transactions that belong together are still committed together when something
// in them must wait, and when one is larger than a frame.
func TestWhatBelongsTogetherIsParkedTogether(t *testing.T) {
	t.Parallel()
	db, st, s := newTwoTables(t)
	st.pushSparse(s.at(3).frame([]change.Change{ins(0, 1, "a"), ins(1, 1, "bad")}), 0, true)
	st.pushSparse(s.at(5).frame([]change.Change{ins(0, 2, "bad"), upd(1, 1, "b")}, []change.Change{ins(1, 2, "bad2"), ins(1, 3, "c")}), 3, true)
	wantLines(t, db, "SELECT count(*) FROM m", "(0)")
	st.pushSparse(s.at(9).frame([]change.Change{ins(0, 3, "d")}), 6, false)
	st.untilApplied(9)
	untilLines(t, db, "SELECT table_name, key->>'id' AS id FROM holdfast.parked p WHERE state = 'waiting' ORDER BY p.id", "(m,2)", "(f,2)")
	wantLines(t, db, "SELECT * FROM m ORDER BY id", "(1,a)", "(3,d)")
	untilLines(t, db, "SELECT * FROM f ORDER BY id", "(1,b)", "(3,c)")
	part := func(n uint32, more bool, c ...change.Change) change.Sealed { s.seq = 19; return s.part(n, more, c) }
	st.pushSparse(part(0, true, ins(1, 4, "p"), ins(1, 5, "bad5")), 9, true)
	st.pushSparse(part(1, false, upd(1, 2, "bad22"), ins(1, 6, "bad6")), 9, true)
	st.pushSparse(s.at(23).frame([]change.Change{del(1, 4), del(1, 6)}), 20, false)
	st.untilApplied(23)
	wantLines(t, db, "SELECT * FROM f WHERE id > 3")
	free(t, db)
	untilLines(t, db, "SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'", "(0)")
	wantLines(t, db, "SELECT id FROM f ORDER BY id", "(1)", "(2)", "(3)", "(5)")
	wantLines(t, db, "SELECT * FROM m ORDER BY id", "(1,a)", "(2,bad)", "(3,d)")
	if len(st.stuck) > 0 {
		t.Errorf("stuck %v", st.stuck)
	}
}

// A range replaces what is parked of its rows. Rows of a fact table that it does
// not have stay, and what waits of those goes on waiting.
func TestARangeFromTheRegionReplacesWhatIsParkedOfItsRows(t *testing.T) {
	t.Parallel()
	db, st, s := newTwoTables(t)
	db.Exec(t, `INSERT INTO f VALUES (8, 'taken'), (9, 'mine')`)
	st.pushSparse(s.at(1).frame([]change.Change{ins(0, 1, "bad"), ins(0, 2, "bad"), ins(1, 1, "bad"), ins(1, 2, "bad"), ins(1, 3, "bad")}), 0, false)
	st.untilApplied(1)
	of := func(table int, rows ...change.Row) change.Change {
		return change.Change{Op: change.Range, Table: table, Range: &change.KeyRange{Rows: rows}}
	}
	st.pushSparse(s.at(2).frame([]change.Change{of(0, row(1, "good"), row(3, "bad")), of(1, row(1, "good"), row(2, "bad"), row(4, "taken"), row(8, "other"))}), 1, false)
	st.untilApplied(2)
	wantLines(t, db, "SELECT * FROM m", "(1,good)")
	wantLines(t, db, "SELECT table_name, key->>'id' AS id, of_range FROM holdfast.parked p WHERE state = 'waiting' ORDER BY 1, 2", "(f,2,t)", "(f,3,f)", "(m,3,t)")
	wantLines(t, db, "SELECT * FROM f ORDER BY id", "(1,good)", "(4,taken)", "(8,other)", "(9,mine)")
	db.Exec(t, `DELETE FROM holdfast.parked WHERE table_name = 'f' AND key->>'id' = '3'`)
	free(t, db)
	untilLines(t, db, "SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'", "(0)")
	wantLines(t, db, "SELECT * FROM f ORDER BY id", "(1,good)", "(2,bad)", "(4,taken)", "(8,other)", "(9,mine)")
	wantLines(t, db, "SELECT * FROM m ORDER BY id", "(1,good)", "(3,bad)")
}

// The advice names the side whose database must be changed.
func TestTheRemedyNamesTheRightSide(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down} {
		db := pgtest.New(t)
		db.Exec(t, coreSQL+`CREATE TABLE n (id int PRIMARY KEY, v int)`)
		r := newRegion(t, db.ConnString(), Table{Name: "n", FacilityColumn: "v"}, Table{Name: "away", FacilityColumn: "v"})
		s, err := r.pool.session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tab := range []change.Table{
			table("public", "n", key("id", "integer"), col("v", "integer"), col("more", "text")),
			table("public", "n", key("id", "integer"), col("v", "uuid")),
			table("public", "n", key("v", "integer"), col("id", "integer")),
			table("public", "away", key("id", "integer"), col("v", "integer")),
		} {
			_, err := r.pool.catalog.shape(t.Context(), s, r.current(), place{"la", d}, &tab)
			says := hint.Of(err)
			if d == Up && !strings.Contains(says, "in the region") || d == Down && !strings.Contains(says, "at the facility") {
				t.Errorf("%s: %v: %s", d, err, says)
			}
		}
		s.release()
	}
}

// The region's people change a row while what a facility decided about their last change
// of it is on its way to them: nobody changed it at the facility, so that theirs stands.
// It is sent back, for what is on its way replaces it there.
func TestWhatTheCloudChangesBehindADecisionStands(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+parkedSQL+boxSQL+boxTablesSQL+`INSERT INTO f VALUES (1, 'here'), (2, 'here too')`)
	r := newRegion(t, db.ConnString(), Table{Name: "f", TargetSchema: "{schema}_{facility}"})
	s := r.start(Config{Facility: "la", Direction: Down, Local: backLocal{}})
	db.Exec(t, `SELECT pg_create_logical_replication_slot('back', 'test_decoding')`)
	from := newSender(t, boxTables...)
	s.push(from.frame([]change.Change{upd(1, 1, "theirs"), del(1, 2), ins(1, 3, "made")}))
	s.untilDurable(1)
	wantLines(t, db, "SELECT id, v FROM f ORDER BY id", "(1,theirs)", "(3,made)")
	db.Exec(t, `SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', '')`)
	if got := lines(t, db, `SELECT data FROM pg_logical_slot_get_changes('back', NULL, NULL) WHERE data LIKE '%prefix: `+RowPrefix+`,%'`); len(got) != 3 {
		t.Errorf("sent back: %q", got)
	}
}

// A correction at a box is told to the region at once, also where the region's next
// change of the row waits still: that has no author, and tells nothing.
func TestACorrectionAtABoxIsToldWhateverWaitsBehindIt(t *testing.T) {
	t.Parallel()
	db, st, from := newTwoTables(t)
	st.push(from.frame([]change.Change{ins(1, 1, "bad")}), from.frame([]change.Change{upd(1, 1, "bad too")}))
	untilLines(t, db, "SELECT op FROM holdfast.parked WHERE state = 'waiting' ORDER BY id", "(insert)", "(update)")
	db.Exec(t, `SELECT pg_create_logical_replication_slot('told', 'test_decoding')`)
	db.Exec(t, `UPDATE holdfast.parked SET row = row || '{"v": "good"}', edited_by = 'ann', tried_at = NULL WHERE op = 'insert'`)
	untilLines(t, db, "SELECT v FROM f", "(good)")
	db.Exec(t, `SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', '')`)
	if got := lines(t, db, `SELECT data FROM pg_logical_slot_get_changes('told', NULL, NULL) WHERE data LIKE '%prefix: `+RowPrefix+`,%'`); len(got) != 1 {
		t.Errorf("the region is told %q", got)
	}
}

// What has become of a change of the facility's own, which was parked for a while, does
// not undo what was decided about the row since.
func TestWhatWasParkedUndoesNoLaterDecision(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+parkedSQL+boxSQL+boxTablesSQL+`INSERT INTO f VALUES (1, 'decided')`)
	r := newRegion(t, db.ConnString(), Table{Name: "f", TargetSchema: "{schema}_{facility}"})
	s := r.start(Config{Facility: "la", Direction: Down, Local: backLocal{}})
	from := newSender(t, boxTables...)
	s.push(from.frame([]change.Change{note(change.NoteEcho, "la"), upd(1, 1, "parked")}))
	s.untilDurable(1)
	wantLines(t, db, "SELECT v FROM f", "(decided)")
}
