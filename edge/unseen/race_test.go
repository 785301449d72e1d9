package unseen_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
)

// meddling is a Local whose box writes at the worst moment: when the rows that
// are there are locked, and what is captured is known.
type meddling struct {
	apply.Local
	skip   int // calls before it
	meddle func()
}

func (m *meddling) Settled(ctx context.Context) error {
	err := m.Local.Settled(ctx)
	if f := m.meddle; f != nil && m.skip == 0 {
		m.meddle = nil
		f()
	}
	m.skip--
	return err
}

func TestRowsThatAreMadeMeanwhileAreMet(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 500} { // by INSERT and by COPY
		for name, c := range map[string]struct {
			sql       string
			conflicts string
			rows      int
		}{
			"made":             {`INSERT INTO t (id, v) VALUES (1, 'E')`, "insert_exists", n},
			"made and removed": {`INSERT INTO t (id, v) VALUES (1, 'E'); COMMIT; BEGIN; DELETE FROM t WHERE id = 1`, "update_deleted", n - 1},
		} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				t.Parallel()
				m := &meddling{}
				r := newRig(t, options{local: func(l apply.Local) apply.Local { m.Local = l; return m }})
				r.edge.tx(`INSERT INTO t (id, v) VALUES (0, 'base')`)
				r.rest()
				m.meddle = func() { r.edge.db.Exec(t, "BEGIN; "+c.sql+"; COMMIT") }
				r.region.tx(fmt.Sprintf(`INSERT INTO t (id, v) SELECT i, 'C' FROM generate_series(1, %d) i`, n))
				r.rest()
				if m.meddle != nil {
					t.Fatal("nobody meddled")
				}
				if !r.equal() {
					t.Error("the sides differ")
				}
				if got := r.region.lines(`SELECT kind, key->>'id' AS id FROM holdfast.conflict`); fmt.Sprint(got) != fmt.Sprintf("[(%s,1)]", c.conflicts) {
					t.Errorf("records %q", got)
				}
				if got := r.edge.lines(`SELECT count(*) FROM t WHERE id > 0`); fmt.Sprint(got) != fmt.Sprintf("[(%d)]", c.rows) {
					t.Errorf("%q rows, want %d", got, c.rows)
				}
			})
		}
	}
}

// The region has made a row again that was removed here, and somebody makes one here just
// as it is decided that it stays gone: that it is gone is not sent behind theirs.
func TestARowThatIsMadeAgainAsItsRemovalIsSentBackStands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, stands string }{
		"made":             {`INSERT INTO t (id, v) VALUES (1, 'E')`, "[(E)]"},
		"made and removed": {`INSERT INTO t (id, v) VALUES (1, 'E'); COMMIT; BEGIN; DELETE FROM t WHERE id = 1`, "[]"},
		"not made":         {`INSERT INTO t (id, v) VALUES (2, 'E')`, "[]"},
		"refused":          {`INSERT INTO t (id, v) VALUES (2, 'E')`, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &meddling{}
			r := newRig(t, options{park: true, local: func(l apply.Local) apply.Local { m.Local = l; return m }})
			r.edge.tx(`INSERT INTO t (id, v) VALUES (0, 'base'), (1, 'base')`)
			r.rest()
			r.edge.tx(`DELETE FROM t WHERE id = 1`)
			if name == "refused" { // which is no reason to park what does not stand
				r.edge.db.Exec(t, `ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'C')`)
			}
			r.region.tx(`DELETE FROM t WHERE id = 1; INSERT INTO t (id, v) VALUES (1, 'C')`)
			m.meddle = func() { r.edge.db.Exec(t, "BEGIN; "+c.sql+"; COMMIT") }
			r.downAll(10)
			r.rest()
			if m.meddle != nil {
				t.Fatal("nobody meddled")
			}
			if !r.equal() {
				t.Error("the sides differ")
			}
			if got := r.region.lines(`SELECT v FROM t WHERE id = 1`); fmt.Sprint(got) != c.stands {
				t.Errorf("it is %q, not %s", got, c.stands)
			}
			if got := r.edge.lines(`SELECT reason FROM holdfast.parked`); len(got) > 0 {
				t.Errorf("parked: %q", got)
			}
		})
	}
}

// And who makes it when that was asked about for the last time waits until it is sent,
// also where others of the rows cannot be made here.
func TestARowThatIsMadeAgainBehindTheLastLookStands(t *testing.T) {
	t.Parallel()
	m := &meddling{skip: 1}
	r := newRig(t, options{local: func(l apply.Local) apply.Local { m.Local = l; return m }})
	meddle := func() {}
	m.meddle = func() { meddle() }
	r.edge.tx(`INSERT INTO t (id, v, price) SELECT i, 'base', i FROM generate_series(1, 9) i`)
	r.rest()
	r.edge.tx(`DELETE FROM t; INSERT INTO t (id, v, price) VALUES (14, 'E', '4'), (17, 'E', '7')`)
	r.edge.db.Exec(t, `ALTER TABLE t ADD UNIQUE (price)`)
	r.region.tx(`DELETE FROM t; INSERT INTO t (id, v, price) SELECT i, 'C', i FROM generate_series(1, 9) i`)
	done := make(chan error, 1)
	meddle = func() {
		go func() {
			_, err := r.edge.pool.Exec(t.Context(), `INSERT INTO t (id, v) VALUES (1, 'E')`)
			done <- err
		}()
		waits := func() bool {
			return r.edge.lines(`SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`)[0] != "(0)"
		}
		for len(done) == 0 && !waits() {
			<-time.After(time.Millisecond)
		}
	}
	r.downAll(10)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.rest()
	if got := r.region.lines(`SELECT id, v FROM t ORDER BY id`); !r.equal() || fmt.Sprint(got) != "[(1,E) (14,E) (17,E)]" {
		t.Errorf("equal: %t; the region has %q", r.equal(), got)
	}
}

// A row that is locked waits for the facility's transaction, and not the other
// way round.
func TestTheFacilitysTransactionsAreNotHeldUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{})
	r.edge.tx(`INSERT INTO t (id, v) VALUES (1, 'base'), (2, 'base')`)
	r.rest()
	tx, err := r.edge.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE t SET v = 'E' WHERE id = 2`)
	r.region.tx(`UPDATE t SET v = 'C'`)
	r.downSend(10) // locks row 1 and waits for row 2
	for {
		if got := r.edge.lines(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); got[0] == "(1)" {
			break
		}
	}
	exec(`UPDATE t SET v = 'E' WHERE id = 1`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.downWait()
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	r.wantConflicts(`(update_origin_differs,edge,1,E,C,{v},"","")`, `(update_origin_differs,edge,2,E,C,{v},"","")`)
}

// What the region loads down by key ranges leaves alone what was touched here,
// and mends the rest.
func TestRangesMendWhatWasNotTouched(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{policy: apply.PolicyCloud})
	r.edge.tx(`INSERT INTO t (id, v) SELECT i, 'base' FROM generate_series(1, 12000) i`)
	r.rest()
	// What the box missed: it is changed there without being captured.
	lost := func(s *side, sql string) {
		s.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'down la 1:1'); `+sql+`; COMMIT`)
	}
	lost(r.edge, `DELETE FROM t WHERE id IN (5, 9000); UPDATE t SET v = 'wrong' WHERE id IN (6, 7); INSERT INTO t (id, v) SELECT i, 'stray' FROM generate_series(20001, 26000) i`)
	// What it did by itself, and the region does not know.
	r.edge.tx(`UPDATE t SET v = 'E' WHERE id IN (7, 8); DELETE FROM t WHERE id = 10; INSERT INTO t (id, v) VALUES (30000, 'E')`)
	r.edge.tx(`UPDATE t SET v = 'E' WHERE id = 20005`)
	conn := r.region.db.Conn(t)
	if err := capture.LoadTable(t.Context(), conn, capture.Table{Schema: "public", Name: "t"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	r.downAll(1000)
	// A range removes nothing: what the region lacks it may have lost. So the
	// box's own rows come up behind it.
	if err := capture.LoadTable(t.Context(), r.edge.db.Conn(t), capture.Table{Schema: "public", Name: "t"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	if got := r.edge.lines(`SELECT id, v FROM t WHERE v NOT IN ('base', 'stray') ORDER BY id`); fmt.Sprint(got) != "[(7,E) (8,E) (20005,E) (30000,E)]" {
		t.Errorf("%q", got)
	}
	if got := r.edge.lines(`SELECT count(*) FROM t`); got[0] != "(18000)" {
		t.Errorf("%s rows", got)
	}
	// The edge's version stands whatever the policy is: that the region has another
	// one does not mean that anybody there made it.
	if got := r.region.lines(`SELECT kind, decision, key->>'id' AS id FROM holdfast.conflict ORDER BY (key->>'id')::int`); fmt.Sprint(got) !=
		"[(update_origin_differs,edge,7) (update_origin_differs,edge,8) (update_deleted,edge,10)]" {
		t.Errorf("%q", got)
	}
	// A table that is emptied in the region keeps what was touched here.
	r.edge.tx(`UPDATE t SET v = 'F' WHERE id = 100; INSERT INTO t (id, v) VALUES (30001, 'F')`)
	r.region.tx(`TRUNCATE t`)
	r.downAll(1000)
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	if got := r.edge.lines(`SELECT id, v FROM t ORDER BY id`); fmt.Sprint(got) != "[(100,F) (30001,F)]" {
		t.Errorf("%q", got)
	}
}

// A transaction that comes in parts is decided part by part, and seen whole.
func TestABigTransactionIsDecidedToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{})
	r.edge.tx(`INSERT INTO t (id, v) SELECT i, 'base' FROM generate_series(1, 45000) i`)
	r.rest()
	r.edge.tx(`UPDATE t SET v = 'E' WHERE id IN (7, 44000); DELETE FROM t WHERE id = 25000`)
	r.region.tx(`UPDATE t SET v = 'C'; UPDATE t SET v = 'D' WHERE id > 40000; INSERT INTO t (id, v) VALUES (50000, 'C'); DELETE FROM t WHERE id = 3`)
	r.downAll(1000)
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	r.wantConflicts(`(update_deleted,edge,25000,,C,{},"","")`,
		`(update_origin_differs,edge,44000,E,D,{v},"","")`, `(update_origin_differs,edge,7,E,C,{v},"","")`)
}

// While it is not known what was changed here nothing is overwritten, and no
// row stays locked.
func TestWhatIsNotKnownYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	u := &unsettled{}
	r := newRig(t, options{local: func(l apply.Local) apply.Local { u.Local = l; return u }})
	r.edge.tx(`INSERT INTO t (id, v) VALUES (1, 'base')`)
	r.rest()
	u.failing.Store(true)
	r.region.tx(`UPDATE t SET v = 'C'`)
	r.downSend(10)
	for stuck := false; !stuck; {
		<-r.changed
		r.mu.Lock()
		stuck = errors.Is(r.stuck, apply.ErrUnsettled)
		r.mu.Unlock()
	}
	r.edge.tx(`UPDATE t SET v = 'E'`)
	u.failing.Store(false)
	r.downWait()
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	r.wantConflicts(`(update_origin_differs,edge,1,E,C,{v},"","")`)
}

type unsettled struct {
	apply.Local
	failing atomic.Bool
}

func (u *unsettled) Settled(ctx context.Context) error {
	if u.failing.Load() {
		return errors.New("nobody reads the WAL")
	}
	return u.Local.Settled(ctx)
}

// Reading a long queue takes long: it is done before rows are locked.
func TestTheQueueIsReadBeforeRowsAreLocked(t *testing.T) {
	t.Parallel()
	f := &first{}
	r := newRig(t, options{local: func(l apply.Local) apply.Local { f.Local = l; return f }})
	r.edge.tx(`INSERT INTO t (id, v) VALUES (1, 'base')`)
	r.rest()
	f.locked = func() bool {
		return r.edge.lines(`SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode IN ('RowShareLock', 'RowExclusiveLock')`)[0] != "(0)"
	}
	r.edge.tx(`UPDATE t SET v = 'E' WHERE id = 1`)
	r.region.tx(`UPDATE t SET v = 'C' WHERE id = 1`)
	r.downAll(10)
	if len(f.calls) == 0 || f.calls[0] != "touched 0 keys, locked false" {
		t.Errorf("it was asked %q", f.calls)
	}
}

// first notes what is asked, and whether the table is locked then.
type first struct {
	apply.Local
	locked func() bool
	calls  []string
}

func (f *first) Touched(ctx context.Context, seen change.Position, keys apply.Keys) (map[int]apply.Touch, error) {
	if f.locked != nil {
		f.calls = append(f.calls, fmt.Sprintf("touched %d keys, locked %v", len(keys.Rows), f.locked()))
	}
	return f.Local.Touched(ctx, seen, keys)
}
