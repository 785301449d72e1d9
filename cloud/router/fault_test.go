package router

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
)

// work makes n random transactions over all tables and facilities.
func (g *rig) work(t *testing.T, rnd *rand.Rand, n int) {
	t.Helper()
	conn := g.db.Conn(t)
	defer conn.Close(t.Context())
	f := func() string { return g.facilities[rnd.IntN(len(g.facilities))].ID }
	for range n {
		if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		exec := func(sql string, args ...any) {
			if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		tagged := rnd.IntN(4) == 0
		if tagged {
			exec(fmt.Sprintf(`SELECT pg_logical_emit_message(true, 'holdfast', 'up %s 4294967296:%d')`, f(), rnd.IntN(1000)+1))
		}
		for range 1 + rnd.IntN(6) {
			id := rnd.IntN(40)
			if tagged {
				exec(`INSERT INTO own_la.note VALUES ($1, 'x') ON CONFLICT DO NOTHING`, id)
				continue
			}
			switch rnd.IntN(7) {
			case 0, 1:
				exec(`INSERT INTO orders VALUES ($1, $2, $3) ON CONFLICT (facility_id, id) DO UPDATE SET v = EXCLUDED.v`, f(), id, fmt.Sprint(rnd.Uint32()))
			case 2:
				exec(`INSERT INTO loose VALUES ($2, $1, $3) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, facility_id = EXCLUDED.facility_id`, f(), id, fmt.Sprint(rnd.Uint32()))
			case 3:
				exec(`DELETE FROM loose WHERE id = $1`, id)
			case 4:
				exec(`DELETE FROM orders WHERE id = $1 AND facility_id = $2`, id, f())
			case 5:
				exec(`INSERT INTO product VALUES ($1, CASE $1 % 3 WHEN 0 THEN 'foo' WHEN 1 THEN 'bar' END, $2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`, id, fmt.Sprint(rnd.Uint32()))
			case 6:
				exec(`DELETE FROM product WHERE id = $1`, id)
			}
		}
		if rnd.IntN(20) == 0 && !tagged { // more than a frame holds
			exec(`INSERT INTO orders SELECT 'la', n, $1 FROM generate_series(100, 180) n ON CONFLICT (facility_id, id) DO UPDATE SET v = EXCLUDED.v`, fmt.Sprint(rnd.Uint32()))
			exec(`DELETE FROM loose WHERE id < $1`, id40(rnd))
			exec(`INSERT INTO orders SELECT 'ny', n, $1 FROM generate_series(100, 180) n ON CONFLICT (facility_id, id) DO UPDATE SET v = EXCLUDED.v`, fmt.Sprint(rnd.Uint32()))
		}
		end := "COMMIT"
		if rnd.IntN(10) == 0 {
			end = "ROLLBACK"
		}
		exec(end)
	}
}

func id40(rnd *rand.Rand) int { return rnd.IntN(40) }

func TestWhateverFailsEachFacilityEndsAsTheRegionIs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(7, seed))
			g := newRig(t)
			g.c.frameChanges = 50
			g.c.AppendFault = new(fault.Point)
			g.work(t, rnd, 20)
			g.start(t)
			boxes := []*box{g.box("la", "foo"), g.box("ny", "foo"), g.box("bonn", "bar")}
			for _, b := range boxes {
				b.attach(t)
			}
			for _, b := range boxes { // also their facts, of which the region has some
				if err := g.r.Resync(t.Context(), b.id); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 8 {
				switch rnd.IntN(4) {
				case 0:
					g.c.AppendFault.FailBefore(1 + rnd.IntN(5))
				case 1:
					g.c.AppendFault.FailAfter(1 + rnd.IntN(5))
				case 2:
					g.db.Exec(t, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, g.c.Slot)
				}
				g.work(t, rnd, 15)
				if rnd.IntN(2) == 0 {
					g.stop(t)
					g.work(t, rnd, 5)
					g.start(t)
					for _, b := range boxes {
						b.attach(t)
					}
				}
				if round%3 == 2 {
					g.c.AppendFault.Heal()
					g.mark(t, 1000+round)
					for _, b := range boxes {
						b.until(t, 1000+round)
					}
				}
			}
			g.c.AppendFault.Heal()
			g.loaded(t, boxes...)
			g.mark(t, 2000)
			for _, b := range boxes {
				b.until(t, 2000)
				b.equal(t)
			}
		})
	}
}

// loaded takes pieces until no load waits.
func (g *rig) loaded(t *testing.T, boxes ...*box) {
	t.Helper()
	for n := 1500; ; n++ {
		waiting := 0
		list, err := g.r.Loads(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Done.IsZero() {
				waiting++
			}
		}
		g.mark(t, n)
		for _, b := range boxes {
			b.until(t, n)
		}
		if waiting == 0 {
			return
		}
	}
}

func TestAVoidTransactionIsNeverSeen(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.c.frameChanges = 10
	g.c.AppendFault = new(fault.Point)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.mark(t, 1)
	g.loaded(t, la)
	before := g.r.Stats().Sealed
	g.c.AppendFault.FailAfter(3) // a part that is there although it seemed to fail
	g.db.Exec(t, `INSERT INTO orders SELECT 'la', n, 'x' FROM generate_series(1, 5000) n`)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for g.r.Stats().Sealed < before+5 {
		<-look.C
	}
	g.c.AppendFault.Break(nil)
	g.stop(t)
	g.c.AppendFault.Heal()
	if len(g.r.index.waiting) == 0 {
		t.Fatal("the transaction is not in the middle")
	}
	g.start(t)
	la.attach(t)
	g.mark(t, 2)
	la.until(t, 2)
	rows := 0
	for _, h := range la.heard {
		if strings.HasPrefix(h, "insert public.orders") {
			rows++
		}
	}
	la.equal(t)
	if rows != 5000 {
		t.Errorf("%d rows came, want each once", rows)
	}
}

func TestWhoIsAwayForTooLongGetsItsTablesAgain(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.c.LogMaxBytes, g.c.SegmentBytes = 64<<10, 16<<10
	g.start(t)
	la, ny := g.box("la", "foo"), g.box("ny", "foo")
	la.attach(t)
	ny.attach(t)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a'), ('la', 2, 'b'), ('ny', 1, 'c')`)
	g.db.Exec(t, `INSERT INTO product VALUES (1, 'foo', 'a')`)
	g.mark(t, 1)
	la.until(t, 1)
	ny.until(t, 1)
	la.d.Close()
	g.db.Exec(t, `DELETE FROM orders WHERE facility_id = 'la' AND id = 2`)
	for n := 2; ; n++ {
		for i := range 10 {
			g.db.Exec(t, `INSERT INTO product SELECT 1000 * $1 + $2, 'foo', string_agg(md5(n::text || $1), '') FROM generate_series(1, 200) n`, n, i)
		}
		g.mark(t, n)
		ny.until(t, n)
		var resyncs int
		if err := g.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.stream_event WHERE facility = 'la' AND kind = 'resync'`).Scan(&resyncs); err != nil {
			t.Fatal(err)
		}
		if _, err := g.r.queue.Entry(1); resyncs > 0 && err != nil {
			break
		}
		if n > 500 {
			t.Fatal("the log is not bounded")
		}
	}
	la.attach(t)
	g.loaded(t, la, ny)
	la.equal(t)
	ny.equal(t)
}

func TestAnIdleFacilityDoesNotHoldTheLog(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.c.SegmentBytes = 16 << 10
	g.start(t)
	la, bonn := g.box("la", "foo"), g.box("bonn", "bar")
	la.attach(t)
	bonn.attach(t)
	g.mark(t, 1)
	g.loaded(t, la, bonn)
	bonn.d.Close()
	for n := 2; ; n++ {
		for i := range 20 {
			g.db.Exec(t, `INSERT INTO orders SELECT 'la', 1000 * $1 + $2, string_agg(md5(n::text || $1), '') FROM generate_series(1, 200) n`, n, i)
		}
		g.db.Exec(t, `INSERT INTO orders VALUES ('la', $1, 'last')`, n)
		for la.rows["public.orders"][fmt.Sprintf("la|%d", n)] == "" {
			if err := la.next(t); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.r.queue.Entry(1); err != nil {
			break
		}
		if n > 200 {
			t.Fatal("the log keeps what nobody lacks")
		}
	}
	g.stop(t)
	g.start(t)
	bonn.attach(t)
	la.attach(t)
	if at := bonn.d.Position(); at != bonn.at {
		t.Errorf("bonn begins at %s, it has %s", at, bonn.at)
	}
	g.mark(t, 9000)
	bonn.until(t, 9000)
	bonn.equal(t)
}

func TestALostSlotBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.db.Exec(t, `INSERT INTO orders VALUES ('la', 1, 'a'), ('la', 2, 'b'); INSERT INTO product VALUES (1, 'foo', 'x')`)
	g.mark(t, 1)
	la.until(t, 1)
	before := g.r.Epoch()
	g.stop(t)
	g.db.Exec(t, `SELECT pg_drop_replication_slot($1)`, g.c.Slot)
	g.db.Exec(t, `DELETE FROM orders WHERE id = 1; DELETE FROM product; INSERT INTO product VALUES (2, 'foo', 'y')`)
	g.start(t)
	if now := g.r.Epoch(); now <= before {
		t.Fatalf("epoch %d after %d", now, before)
	}
	la.attach(t)
	g.loaded(t, la)
	la.equal(t)
}

func TestABoxThatIsAheadBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	if _, err := g.r.Attach(t.Context(), Facility{"la", "foo", 1}, change.Position{Epoch: 40, Seq: 7}); !errors.Is(err, ErrAhead) {
		t.Fatal(err)
	}
	// Whoever asks again and again holds nothing up, and gets one epoch for it all.
	la.at = change.Position{Epoch: 40, Seq: 7}
	la.attach(t)
	g.mark(t, 1)
	la.until(t, 1)
	if now := g.r.Epoch(); now != 41 {
		t.Errorf("epoch %d, want 41", now)
	}
}

func TestLoadsAndChangesTakeTurns(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.c.LoadAheadBytes = 64 << 10
	g.db.Exec(t, `INSERT INTO orders SELECT f, n, md5(n::text) FROM generate_series(1, 9000) n, unnest('{la,ny}'::text[]) f; INSERT INTO product SELECT n, 'foo', md5(n::text) FROM generate_series(1, 5000) n`)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	if err := g.r.Resync(t.Context(), "la", "public.orders", "public.product"); err != nil {
		t.Fatal(err)
	}
	if err := g.r.Resync(t.Context(), "la", "public.other"); !errors.Is(err, ErrNotSent) {
		t.Errorf("resync of a table that is not sent: %v", err)
	}
	for n := range 30 {
		g.db.Exec(t, `UPDATE orders SET v = 'new ' || $1 WHERE id % 97 = $1`, n)
		g.db.Exec(t, `DELETE FROM product WHERE id % 89 = $1`, n)
		g.mark(t, 3000+n)
		la.until(t, 3000+n)
		if n == 10 { // a kill in the middle
			g.stop(t)
			g.start(t)
			la.attach(t)
		}
	}
	g.loaded(t, la)
	delete(la.rows, "public.loose")
	la.equal(t)
	list, err := g.r.Loads(t.Context(), "la")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Table == "orders" && (l.Rows != 9000 || l.Done.IsZero()) {
			t.Errorf("load %+v", l)
		}
	}
}

func TestANewMasterTableJoinsWithoutStoppingAnything(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	la := g.box("la", "foo")
	la.attach(t)
	g.mark(t, 1)
	la.until(t, 1)
	g.db.Exec(t, `CREATE TABLE price (id int PRIMARY KEY, v text); INSERT INTO price VALUES (1, 'early')`)
	e := tables()[4]
	e.Name = "price"
	g.register(t, e)
	g.db.Exec(t, `INSERT INTO price VALUES (2, 'late')`)
	for len(la.rows["public.price"]) < 2 {
		if err := la.next(t); err != nil {
			t.Fatal(err)
		}
	}
}
