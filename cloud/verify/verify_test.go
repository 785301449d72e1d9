package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/proto"
)

const (
	edgeOrders   = `CREATE TABLE orders (facility_id text NOT NULL, id int PRIMARY KEY, v text, qty numeric(8,2));`
	regionOrders = `CREATE TABLE orders (facility_id text NOT NULL, id int, v text, qty numeric(8,2), PRIMARY KEY (facility_id, id));
		INSERT INTO orders SELECT 'fra', i, 'of another facility', i FROM generate_series(1, 2000) i`
)

var orders = proto.SyncedTable{Name: "orders", Class: "fact"}

func fill(n int) string {
	return fmt.Sprintf(`INSERT INTO orders SELECT 'la', i * 2, 'v' || i, i FROM generate_series(1, %d) i;`, n)
}

func TestOneWrongRowIsFoundAndMended(t *testing.T) {
	t.Parallel()
	r := newRig(t, edgeOrders+fill(5000), regionOrders, orders)
	r.start(time.Hour)
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual || run.Tables[0].RowsDone != 5000 {
		t.Fatalf("at first: %+v", run)
	}
	r.region.Exec(t, `UPDATE orders SET v = 'forged' WHERE facility_id = 'la' AND id = 1200;
		DELETE FROM orders WHERE facility_id = 'la' AND id = 4002; INSERT INTO orders VALUES ('la', 4005, 'made up', 1), ('fra', 4005, 'not ours', 1)`)
	run := r.demand(v1.VerifyRequest{Schema: "public", Table: "orders"})
	got := run.Tables[0]
	kinds := map[string]string{}
	for _, d := range got.Rows {
		kinds[d.Key["id"]] = d.Kind
	}
	want := map[string]string{"1200": "differs", "4002": "missing", "4005": "extra"}
	if got.State != v1.VerifyDiffers || got.Differing != 3 || fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Fatalf("found %+v, want %v", got, want)
	}
	if v, _ := r.verified("orders"); v.Open() != 3 || v.EqualAt == nil || v.EqualRows != 5000 {
		t.Errorf("stored: %+v", v)
	}
	if run := r.demand(v1.VerifyRequest{Repair: true, DryRun: true}); run.Tables[0].State != v1.VerifyDiffers || run.Tables[0].Rows[0].Action == "" {
		t.Errorf("the dry run: %+v", run.Tables[0])
	}
	if run := r.demand(v1.VerifyRequest{Repair: true}); run.Tables[0].State != v1.VerifyRepaired || run.Tables[0].Repaired != 3 {
		t.Errorf("the repair: %+v", run.Tables[0])
	}
	if v, _ := r.verified("orders"); v.Open() != 0 {
		t.Errorf("stored after the repair: %+v", v)
	}
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual {
		t.Errorf("after the repair: %+v", run.Tables[0])
	}
	var others int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM orders WHERE facility_id = 'fra'`).Scan(&others); err != nil || others != 2001 {
		t.Errorf("%d rows of the other facility, %v", others, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) < 2 || !strings.Contains(r.events[0], "difference public.orders: 3 rows are not the same") {
		t.Errorf("events: %q", r.events)
	}
}

func TestEqualSidesVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t, edgeOrders+fill(1500), regionOrders, orders)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	var commits atomic.Int64
	for w := range 2 {
		conn := r.edge.Conn(t)
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := rnd.IntN(2000)*2 + w
				_, err := conn.Exec(context.Background(), []string{
					`INSERT INTO orders VALUES ('la', $1, 'new', $2) ON CONFLICT (id) DO UPDATE SET qty = excluded.qty`,
					`UPDATE orders SET v = NULL, qty = $2 WHERE id = $1`,
					`DELETE FROM orders WHERE id = $1 AND qty > $2`,
				}[rnd.IntN(3)], id, rnd.IntN(2000))
				if err != nil {
					t.Error(err)
					return
				}
				commits.Add(1)
			}
		})
	}
	// The region writes too: a row that the facility hears of a little later, as
	// the way down would have it. Nobody else writes to these.
	cloud, box := r.region.Conn(t), r.edge.Conn(t)
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			id := 100_001 + 2*(n%10)
			for conn, key := range map[*pgx.Conn]string{cloud: "(facility_id, id)", box: "(id)"} {
				_, err := conn.Exec(context.Background(), `INSERT INTO orders VALUES ('la', $1, $2, 1) ON CONFLICT `+key+` DO UPDATE SET v = excluded.v`, id, fmt.Sprint(n))
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	r.start(time.Millisecond)
	for commits.Load() < 3000 && !t.Failed() {
		if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual {
			t.Errorf("false alarm: %+v", run)
		}
	}
	close(stop)
	writers.Wait()
	if _, pass := r.verified("orders"); pass < 2 {
		t.Errorf("only %d passes", pass)
	}
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual {
		t.Errorf("at rest: %+v", run)
	}
}

func TestAPassGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, edgeOrders+fill(12_000), regionOrders, orders)
	r.region.Exec(t, `DELETE FROM orders WHERE facility_id = 'la' AND id = 10`)
	r.start(time.Hour)
	r.until("the pass is under way", "orders", func(v v1.Verified, _ int64) bool { return v.RowsDone > 0 && v.Differing == 1 })
	r.stop()
	before, pass := r.verified("orders")
	if before.BeganAt == nil || before.RowsDone >= 12_000 {
		t.Fatalf("the pass ended before it was killed: %+v", before)
	}
	r.mu.Lock()
	asked := r.asked
	r.mu.Unlock()
	r.start(time.Hour)
	r.until("the pass has ended", "orders", func(v v1.Verified, _ int64) bool { return v.EndedAt != nil })
	after, again := r.verified("orders")
	if again != pass || after.Differing != 1 {
		t.Errorf("pass %d became %d, %+v", pass, again, after)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Logf("%d questions before the kill, %d after, from row %d on", asked, r.asked-asked, before.RowsDone)
}

func TestTheFacilityGoesAndComes(t *testing.T) {
	t.Parallel()
	r := newRig(t, edgeOrders+fill(10), regionOrders, orders)
	r.stream.Store(0)
	r.start(time.Hour)
	if _, err := r.v.Start(t.Context(), "la", v1.VerifyRequest{}, "ops"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a pass at a facility that is away: %v", err)
	}
	r.stream.Store(2)
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual {
		t.Errorf("when it is back: %+v", run)
	}
	tick := time.NewTicker(lookEvery / 10)
	defer tick.Stop()
	for looks := r.looks.Load(); r.looks.Load() < looks+2; { // until its walker rests
		<-tick.C
	}
	r.stream.Store(3) // before anybody looked it was away and is back
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual {
		t.Errorf("in its next stream: %+v", run)
	}
	if _, err := r.v.Start(t.Context(), "la", v1.VerifyRequest{Schema: "public", Table: "nothing"}, "ops"); !errors.Is(err, ErrNoTable) {
		t.Errorf("a table that is not synced: %v", err)
	}
	r.mu.Lock()
	r.broken = errors.New("the disk is on fire")
	r.mu.Unlock()
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyFailed || run.Tables[0].Problem != "the disk is on fire" {
		t.Errorf("a box that cannot answer: %+v", run)
	}
	if v, _ := r.verified("orders"); v.Problem != "the disk is on fire" || v.EqualAt == nil {
		t.Errorf("stored: %+v", v)
	}
}

// What somebody waits for goes on when the facility is back, as often as may be
// expected of a bad link, and as long.
func TestAPassThatSomebodyWaitsForGoesOnInTheNextStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, edgeOrders+fill(10), regionOrders, orders)
	r.start(time.Hour)
	r.until("the first pass has ended", "orders", func(v v1.Verified, _ int64) bool { return v.EndedAt != nil })
	breaks := func(n int, away bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.breaks, r.away = n, away
	}
	breaks(2, false)
	if run := r.demand(v1.VerifyRequest{}); run.Tables[0].State != v1.VerifyEqual || run.Tables[0].RowsDone != 10 || run.Problem != "" {
		t.Errorf("after two streams that ended: %+v", run)
	}
	breaks(1000, false)
	if run := r.demand(v1.VerifyRequest{}); run.State != v1.VerifyFailed || run.Problem != errGone.Error() || run.Tables[0].State != v1.VerifyWaiting {
		t.Errorf("where every stream ends: %+v", run)
	}
	// demand begins a pass of which the stream ends, and is back when that is told.
	demand := func(back bool) v1.VerifyRun {
		t.Helper()
		breaks(0, false)
		r.until("no other pass is under way", "orders", func(v v1.Verified, _ int64) bool { return v.BeganAt == nil })
		breaks(1, true)
		run, err := r.v.Start(t.Context(), "la", v1.VerifyRequest{}, "ops")
		if err != nil {
			t.Fatal(err)
		}
		gone := false
		for deadline := time.Now().Add(patience); run.State == v1.VerifyRunning; run, _ = r.v.Latest("la") {
			if time.Now().After(deadline) {
				t.Fatalf("not done in time: %+v", run)
			}
			if run.Problem != "" && back && !gone {
				r.stream.Store(2000)
			}
			gone = gone || run.Problem != ""
			<-time.After(5 * time.Millisecond)
		}
		if back && !gone {
			t.Error("it was never told that the facility is gone")
		}
		return run
	}
	if run := demand(true); run.Tables[0].State != v1.VerifyEqual {
		t.Errorf("of a facility that was away: %+v", run)
	}
	r.v.mu.Lock()
	r.v.backWithin = 0
	r.v.mu.Unlock()
	if run := demand(false); run.State != v1.VerifyFailed || run.Problem != errGone.Error() {
		t.Errorf("of a facility that does not come back: %+v", run)
	}
}

func TestDifferencesCostFewBytes(t *testing.T) {
	t.Parallel()
	const rows, wrong = 20_000, 10
	r := newRig(t, edgeOrders+fill(rows), regionOrders, orders)
	r.start(time.Hour)
	r.demand(v1.VerifyRequest{})
	r.region.Exec(t, `UPDATE orders SET qty = qty + 1 WHERE facility_id = 'la' AND id % $1 = 0`, 2*rows/wrong)
	before := r.bytes()
	run := r.demand(v1.VerifyRequest{})
	took := r.bytes() - before
	if run.Tables[0].Differing != wrong {
		t.Errorf("%d rows differ, made were %d", run.Tables[0].Differing, wrong)
	}
	// 2 MB for 10 M rows with 100 differences, half of it for the tunnel and for what
	// acknowledges: 6 KB for each difference, and 40 bytes for each 1000 rows.
	if limit := uint64(wrong*6000 + rows/1000*40); took > limit {
		t.Errorf("%d bytes, at most %d", took, limit)
	}
	t.Logf("%d bytes for %d differences in %d rows", took, wrong, rows)
}
