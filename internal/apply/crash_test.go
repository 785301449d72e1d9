package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// burst is a transaction with enough new rows for a COPY.
func (w *world) burst() (changes []change.Change) {
	t := w.tables[2]
	for range 2 * copyMinRows {
		r := w.fresh(t)
		t.rows[rowKeyText(&t.table, r)] = r
		changes = append(changes, change.Change{Op: change.Insert, Table: t.n, Row: r})
	}
	return changes
}

// TestCrashesLoseAndDoubleNothing kills the target's PostgreSQL at random
// moments under load. After each crash the sender goes on from the position.
func TestCrashesLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	srv := pgtest.Cluster(t, pgtest.Options{Settings: map[string]string{"wal_writer_delay": "10000ms", "max_wal_size": "64MB"}})
	srv.Exec(t, coreSQL+worldSQL+`INSERT INTO lines (facility_id, order_no, line) VALUES ('frankfurt', 'o1', 1)`)
	r := newRegion(t, srv.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"},
		Table{Name: "lines", FacilityColumn: "facility_id"}, Table{Name: "log", Class: Event, FacilityColumn: "facility_id"})
	w, from := newWorld(seed), newSender(t, worldTables...)
	var frames []change.Sealed // all, as a queue that is never cut
	var durable change.Position
	for round := range 11 {
		s := r.stream("la")
		if at := s.Durable(); at.Before(durable) {
			t.Fatalf("round %d: the position is %s, and %s was acknowledged", round, at, durable)
		}
		next := 0
		for next < len(frames) && frames[next].Header.Last <= s.Durable().Seq {
			next++
		}
		want := from.seq + 200
		killAt := s.Durable().Seq + 1 + w.rng.Uint64N(want-s.Durable().Seq)
		last := round == 10
		var wg sync.WaitGroup
		if !last {
			wg.Go(func() {
				s.until("it is time to crash", func() bool { return s.Applied().Seq >= killAt })
				srv.Kill9(t)
			})
		}
		for from.seq < want || next < len(frames) {
			if next == len(frames) {
				var txs [][]change.Change
				for range 1 + w.rng.IntN(20) {
					txs = append(txs, w.transaction())
				}
				if w.rng.IntN(3) == 0 {
					txs = append(txs, w.burst())
				}
				frames = append(frames, from.frame(txs...))
			}
			if s.Push(context.Background(), frames[next]) != nil {
				break // crashed
			}
			next++
		}
		if last {
			s.untilDurable(from.seq)
		} else {
			wg.Wait()
		}
		s.end()
		for i, p := range s.durable {
			if i > 0 && !s.durable[i-1].Before(p) {
				t.Fatalf("round %d: acknowledged %s after %s", round, p, s.durable[i-1])
			}
			durable = p
		}
		srv.Start(t)
	}
	checkWorld(t, srv.DB, w)
	wantLines(t, srv.DB, "SELECT epoch, seq FROM holdfast.position", fmt.Sprintf("(%d,%d)", uint64(epoch1), from.seq))
}

// TestLostCommitsAreSentAgain crashes the server between a commit and its
// flush, while nobody sends: the stream must end by itself, because nothing
// else would tell the sender.
func TestLostCommitsAreSentAgain(t *testing.T) {
	t.Parallel()
	srv := pgtest.Cluster(t, pgtest.Options{Settings: map[string]string{"wal_writer_delay": "10000ms"}})
	srv.Exec(t, coreSQL+ordersSQL)
	r := newRegion(t, srv.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"})
	s, from := r.stream("la"), newSender(t, orders)
	s.push(from.frame([]change.Change{ins(0, 1, "la", "a", nil)}))
	s.untilDurable(1)
	frame := from.frame([]change.Change{ins(0, 2, "la", "b", nil)})
	for range 20 { // until the crash beats the flush
		s.push(frame)
		s.untilApplied(2)
		srv.Kill9(t)
		srv.Start(t)
		if fmt.Sprint(lines(t, srv.DB, "SELECT seq FROM holdfast.position")) == "[(1)]" {
			<-s.inbox.ended
			if err := s.end(); !errors.Is(err, ErrFenced) || s.Durable().Seq != 1 {
				t.Fatalf("ended at %s with %v", s.Durable(), err)
			}
			return
		}
		s.end()
		srv.Exec(t, "UPDATE holdfast.position SET seq = 1; DELETE FROM orders WHERE id = 2")
		s = r.stream("la")
	}
	t.Log("the flush was always first")
}
