package apply

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// partial is an update that leaves a large value out because it did not change.
func partial(table int, absent int, v ...any) change.Change {
	c := upd(table, v...)
	c.Absent = []int{absent}
	return c
}

// looker looks at what waits with a patience of a test, and hands on what is asked for.
func looker(t *testing.T, r *region, d Direction, loading func() bool) <-chan string {
	t.Helper()
	heals := make(chan string, 100)
	c := ParkConfig{
		Direction: d, Registry: r.current, Every: 20 * time.Millisecond, Patience: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Heal:    func(facility, table, _ string) bool { heals <- facility + " " + table; return true },
		Loading: func(context.Context, string, string) bool { return loading() },
	}
	if d == Down {
		c.Local = quietLocal{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.pool.Retry(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("retry: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return heals
}

func newLacking(t *testing.T, d Direction, loading func() bool) (*pgtest.DB, *stream, *sender, <-chan string) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+parkedSQL+ordersSQL)
	entry := Table{Name: "orders", FacilityColumn: "facility_id"}
	c := Config{Facility: "la"}
	if d == Down {
		db.Exec(t, boxSQL)
		c.Direction, c.Local = Down, quietLocal{}
	}
	r := newRegion(t, db.ConnString(), entry)
	r.park = true
	heals := looker(t, r, d, loading)
	return db, r.start(c), newSender(t, orders), heals
}

// pushOne sends one transaction in either direction.
func pushOne(st *stream, s *sender, c ...change.Change) {
	if st.cfg.Direction != Down {
		st.push(s.frame(c))
	} else {
		before := s.seq
		st.pushSparse(s.frame(c), before, false)
	}
	st.untilApplied(s.seq)
}

func never() bool { return false }

// What an update of some columns said of a row that is not there must not be
// lost without a word.
func TestATableWhoseRowWasNotFoundIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			db, st, s, heals := newLacking(t, d, never)
			pushOne(st, s, ins(0, 1, "la", "a", "x"))
			pushOne(st, s, partial(0, 3, 1, "la", "b", nil), partial(0, 3, 2, "la", "c", nil))
			wantLines(t, db, "SELECT id, name FROM orders", "(1,b)")
			if got := <-heals; got != "la public.orders" {
				t.Errorf("asked for %s", got)
			}
			untilLines(t, db, "SELECT direction, table_name, reason, passed_over, asked_at IS NOT NULL AS asked FROM holdfast.parked_table", "("+string(d)+",orders,row_missing,1,t)")
			untilLines(t, db, "SELECT kind FROM holdfast.stream_event WHERE kind = 'row_missing'", "(row_missing)")
			pushOne(st, s, rangeOf(nil, nil, row(1, "la", "b", "x"), row(2, "la", "c", "y"))...)
			wantLines(t, db, "SELECT * FROM orders ORDER BY id", "(1,la,b,x)", "(2,la,c,y)")
			wantLines(t, db, "SELECT * FROM holdfast.parked_table")
			// A row that never stays does not have the table sent for ever.
			pushOne(st, s, del(0, 2), partial(0, 3, 3, "la", "d", nil))
			untilLines(t, db, "SELECT now() - since > interval '1 second' AS old, asked_at FROM holdfast.parked_table", "(t,)")
			if len(heals) > 0 {
				t.Error("it was asked for again at once")
			}
		})
	}
}

// A row may be on its way: its table is being loaded, or the sender takes back a
// delete that crossed the update.
func TestARowThatComesLaterIsNotAskedFor(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			loading := true
			db, st, s, heals := newLacking(t, d, func() bool { mu.Lock(); defer mu.Unlock(); return loading })
			pushOne(st, s, partial(0, 3, 1, "la", "b", nil), partial(0, 3, 2, "la", "c", nil))
			untilLines(t, db, "SELECT now() - since > interval '1 second' AS old, asked_at FROM holdfast.parked_table", "(t,)")
			pushOne(st, s, ins(0, 1, "la", "b", "x"), ins(0, 2, "la", "c", "y"))
			mu.Lock()
			loading = false
			mu.Unlock()
			untilLines(t, db, "SELECT * FROM holdfast.parked_table")
			if len(heals) > 0 {
				t.Error("it was asked for")
			}
		})
	}
}

// A load may end at the very moment at which its rows are looked for.
func TestARowThatComesAsTheLoadEndsIsNotAskedFor(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			asks, ended := make(chan bool), make(chan bool)
			var once sync.Once
			db, st, s, heals := newLacking(t, d, func() bool {
				once.Do(func() { close(asks); <-ended })
				return false
			})
			pushOne(st, s, partial(0, 3, 1, "la", "b", nil))
			<-asks
			pushOne(st, s, ins(0, 1, "la", "b", "x"))
			close(ended)
			untilLines(t, db, "SELECT * FROM holdfast.parked_table")
			if len(heals) > 0 {
				t.Error("it was asked for")
			}
		})
	}
}

// A parked update that is tried again may find no row either.
func TestAParkedUpdateThatFindsNoRowIsNotForgotten(t *testing.T) {
	t.Parallel()
	db, st, s, heals := newLacking(t, Up, never)
	db.Exec(t, `ALTER TABLE orders ADD CHECK (name <> 'bad')`)
	pushOne(st, s, ins(0, 1, "la", "a", "x"))
	pushOne(st, s, partial(0, 3, 1, "la", "bad", nil))
	wantLines(t, db, waitingLines, "(1,update,check)")
	db.Exec(t, `DELETE FROM orders; ALTER TABLE orders DROP CONSTRAINT orders_name_check`)
	if got := <-heals; got != "la public.orders" {
		t.Errorf("asked for %s", got)
	}
	wantLines(t, db, stateLines, "(1,update,applied)")
}

// A database's clock was put back by a day: what was written down before is not
// to wait until it is that late again.
func TestAClockThatWasPutBackHoldsNoTableUp(t *testing.T) {
	t.Parallel()
	db, st, s, heals := newLacking(t, Up, never)
	db.Exec(t, `ALTER TABLE holdfast.parked_table ALTER since SET DEFAULT now() + interval '1 day', ALTER asked_at SET DEFAULT now() + interval '1 day'`)
	pushOne(st, s, partial(0, 3, 1, "la", "b", nil))
	select {
	case got := <-heals:
		if got != "la public.orders" {
			t.Errorf("asked for %s", got)
		}
	case <-time.After(patience):
		t.Error("the table is not asked for")
	}
}

// A row of another facility becomes this one's, and takes the key of a row that was
// removed just before; its large value is not sent. The removed row must not stay,
// and the one that came must not be forgotten.
func TestARowThatTakesTheKeyOfARemovedOneIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			db, st, s, heals := newLacking(t, d, never)
			pushOne(st, s, ins(0, 1, "la", "a", "x"), ins(0, 2, "la", "b", "y"))
			pushOne(st, s, del(0, 1), partial(0, 3, 1, "la", "came", nil), partial(0, 3, 1, "la", "changed", nil), partial(0, 3, 2, "la", "c", nil))
			wantLines(t, db, "SELECT id, name, notes FROM orders", "(2,c,y)")
			if got := <-heals; got != "la public.orders" {
				t.Errorf("asked for %s", got)
			}
			untilLines(t, db, "SELECT passed_over, asked_at IS NOT NULL AS asked FROM holdfast.parked_table", "(1,t)") // both updates are one
			// One that comes whole behind it lacks nothing.
			pushOne(st, s, del(0, 2), partial(0, 3, 2, "la", "came", nil), upd(0, 2, "la", "whole", "z"), partial(0, 3, 2, "la", "d", nil))
			wantLines(t, db, "SELECT id, name, notes FROM orders", "(2,d,z)")
			wantLines(t, db, "SELECT passed_over FROM holdfast.parked_table", "(1)")
		})
	}
}
