package apply

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// quietLocal is a receiver where nobody else writes.
type quietLocal struct{}

func (quietLocal) Settled(context.Context) error { return nil }

func (quietLocal) Touched(context.Context, change.Position, Keys) (map[int]Touch, error) {
	return nil, nil
}

// backLocal is a receiver that has sent everything back, and where nobody else writes.
type backLocal struct{ quietLocal }

func (backLocal) Touched(_ context.Context, seen change.Position, keys Keys) (map[int]Touch, error) {
	all := map[int]Touch{}
	for i := range keys.Rows {
		all[i] = Touch{Position: change.Position{Epoch: seen.Epoch, Seq: seen.Seq + 1}, SentBack: true}
	}
	return all, nil
}

const sparseSQL = coreSQL + `CREATE TABLE m (id int PRIMARY KEY, v text)`

var sparseTable = table("public", "m", key("id", "integer"), col("v", "text"))

func note(words ...any) change.Change { return change.Change{Op: change.Note, Row: row(words...)} }

// at makes the next frame begin with the number.
func (s *sender) at(seq uint64) *sender { s.seq = seq - 1; return s }

func (s *stream) pushSparse(f change.Sealed, prev uint64, more bool) {
	s.t.Helper()
	if err := s.PushSparse(context.Background(), f, change.Position{Epoch: epoch1, Seq: prev}, more); err != nil {
		s.t.Fatal(err)
	}
}

func master(t *testing.T, c Config) (*pgtest.DB, *region, *stream, *sender) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, sparseSQL)
	r := newRegion(t, db.ConnString(), Table{Name: "m", Class: Master})
	c.Facility, c.Direction, c.Local = "la", Down, quietLocal{}
	return db, r, r.start(c), newSender(t, sparseTable)
}

func TestNumbersWithGapsFollowWhatTheyName(t *testing.T) {
	t.Parallel()
	db, r, st, s := master(t, Config{})
	st.pushSparse(s.at(7).frame([]change.Change{ins(0, 1, "a")}, []change.Change{ins(0, 2, "b")}), 0, false)
	st.pushSparse(s.at(20).frame([]change.Change{ins(0, 3, "c")}), 8, false)
	st.untilApplied(20)
	// Again, as after a lost acknowledgement, and from its middle.
	st.pushSparse(s.at(20).frame([]change.Change{ins(0, 3, "c")}), 8, false)
	st.pushSparse(s.at(19).frame(nil, nil, []change.Change{ins(0, 4, "d")}), 8, false)
	st.untilApplied(21)
	wantLines(t, db, "SELECT * FROM m ORDER BY id", "(1,a)", "(2,b)", "(3,c)", "(4,d)")
	for _, prev := range []uint64{20, 22} {
		st.pushSparse(s.at(30).frame([]change.Change{ins(0, 9, "x")}), prev, false)
		<-st.inbox.ended
		if err := st.end(); !errors.Is(err, ErrGap) {
			t.Fatalf("a frame after %d at 21: %v", prev, err)
		}
		st = r.start(st.cfg)
	}
	wantLines(t, db, "SELECT epoch = 1::bigint << 32, seq FROM holdfast.position", "(t,21)")
}

func TestFramesOfOneTransactionAreCommittedTogether(t *testing.T) {
	t.Parallel()
	db, _, st, s := master(t, Config{})
	st.pushSparse(s.at(3).frame([]change.Change{ins(0, 1, "a")}), 0, true)
	st.pushSparse(s.at(5).frame([]change.Change{ins(0, 2, "a")}), 3, true)
	wantLines(t, db, "SELECT count(*) FROM m", "(0)")
	// One that cannot be applied with the others goes with the others none the less.
	st.pushSparse(s.at(9).frame([]change.Change{upd(0, 1, "b")}, []change.Change{del(0, 2)}), 5, false)
	st.untilApplied(10)
	wantLines(t, db, "SELECT * FROM m", "(1,b)")
	if st.commits != 2 { // the epoch, and these
		t.Errorf("%d commits", st.commits)
	}
	// What is larger than a batch is still one transaction.
	var many, more []change.Change
	for i := range batchMaxChanges - 1 {
		many = append(many, ins(0, 10+i, "m"))
		more = append(more, upd(0, 10+i, "n"))
	}
	st.pushSparse(s.at(12).frame(many), 10, true)
	st.pushSparse(s.at(14).frame(more), 12, true)
	st.pushSparse(s.at(17).frame([]change.Change{del(0, 1)}, []change.Change{ins(0, 5, "e")}), 14, false)
	st.untilApplied(18)
	wantLines(t, db, "SELECT v, count(*) FROM m GROUP BY v ORDER BY v", "(e,1)", "(n,19999)")
	if st.commits != 3 {
		t.Errorf("%d commits", st.commits)
	}
	// The parts of a transaction, and what belongs to it behind them.
	part := func(n uint32, more bool, c ...change.Change) change.Sealed { s.seq = 19; return s.part(n, more, c) }
	st.pushSparse(part(0, true, ins(0, 1, "p")), 18, true)
	st.pushSparse(part(1, false, upd(0, 1, "q")), 18, true)
	st.pushSparse(s.at(23).frame([]change.Change{ins(0, 2, "r")}), 20, false)
	st.untilApplied(23)
	wantLines(t, db, "SELECT * FROM m WHERE id < 5 ORDER BY 1", "(1,q)", "(2,r)")
	if st.commits != 4 {
		t.Errorf("%d commits", st.commits)
	}
}

func TestNotesAloneWaitForCompany(t *testing.T) {
	t.Parallel()
	db, r, st, s := master(t, Config{NotesEvery: time.Hour})
	seen := func(n int) change.Change {
		return note(change.NoteSeen, change.Position{Epoch: epoch1, Seq: uint64(n)})
	}
	st.pushSparse(s.at(1).frame([]change.Change{ins(0, 9, "z")}), 0, false)
	st.untilApplied(1)
	for i := range 5 {
		st.pushSparse(s.at(uint64(3+2*i)).frame([]change.Change{seen(10 + i)}), uint64(1+2*i), false)
	}
	st.pushSparse(s.at(20).frame([]change.Change{seen(20), note(change.NoteBy, "ann"), ins(0, 1, "a")}), 11, false)
	st.untilApplied(20)
	want := change.Position{Epoch: epoch1, Seq: 20}
	st.until("it is told", func() bool { return slices.Contains(st.seenTold, want) })
	if st.commits != 3 || len(st.seenTold) != 1 {
		t.Errorf("%d commits, told %v", st.commits, st.seenTold)
	}
	wantLines(t, db, "SELECT seen_epoch = 1::bigint << 32, seen_seq FROM holdfast.position", "(t,20)")
	if err := st.end(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c := st.cfg
	c.NotesEvery = time.Millisecond
	st = r.start(c)
	if st.Seen() != want {
		t.Errorf("seen %s after a restart", st.Seen())
	}
	st.pushSparse(s.at(22).frame([]change.Change{seen(30)}), 20, false)
	st.untilApplied(22)
	wantLines(t, db, "SELECT seen_seq FROM holdfast.position", "(30)")
}
