package edge

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

const testEpoch = uint64(1) << 32

func at(seq uint64) change.Position { return change.Position{Epoch: testEpoch, Seq: seq} }

// busy is a box in the middle of its work.
func busy() counted {
	return counted{
		pg:    postgres.Facts{State: pgcluster.Up, Slots: []postgres.Slot{{Name: uplink.Slot, UnconfirmedBytes: 4096, ConfirmedLSN: 77}}},
		queue: queue.Stats{Epoch: testEpoch, Last: 20, Transactions: 12, DiskBytes: 1 << 20},
		acked: at(8), sent: uplink.Sent{Position: at(15), Furthest: at(15)}, tunnel: true,
		tables: []proto.TableState{{State: proto.TableLoading, RowsLoaded: 5}, {State: proto.TableStreaming, RowsLoaded: 9}},
	}
}

func TestStageStallsWhenItsCountersStandStill(t *testing.T) {
	t.Parallel()
	all := []progress.Stage{progress.Acknowledge, progress.Capture, progress.Load}
	for _, c := range []struct {
		name string
		move func(c *counted, n int)
		want []progress.Stage
	}{
		{"nothing moves", func(*counted, int) {}, all},
		{"the slot moves", func(c *counted, n int) { c.pg.Slots[0].ConfirmedLSN += int64(n) }, []progress.Stage{progress.Acknowledge, progress.Load}},
		{"a big transaction grows the queue", func(c *counted, n int) { c.queue.DiskBytes += int64(n) }, []progress.Stage{progress.Acknowledge, progress.Load}},
		{"everything is read", func(c *counted, _ int) { c.pg.Slots[0].UnconfirmedBytes = 0 }, []progress.Stage{progress.Acknowledge, progress.Load}},
		{"the database is down", func(c *counted, _ int) { c.pg.State = pgcluster.Down }, []progress.Stage{progress.Acknowledge, progress.Load}},
		{"another's slot", func(c *counted, _ int) { c.pg.Slots[0].Name = "other" }, []progress.Stage{progress.Acknowledge, progress.Load}},
		{"acknowledgements come", func(c *counted, n int) { c.acked = at(8 + uint64(n)) }, []progress.Stage{progress.Capture, progress.Load}},
		{"more of it is sent", func(c *counted, n int) { c.sent.Furthest = at(15 + uint64(n)) }, []progress.Stage{progress.Capture, progress.Load}},
		{"the parts of one transaction are sent", func(c *counted, n int) { c.sent.Part = uint32(n) }, []progress.Stage{progress.Capture, progress.Load}},
		{"the same is sent again and again", func(c *counted, n int) { c.sent.Position = at(8 + uint64(n%7)) }, all},
		{"none is on its way", func(c *counted, _ int) { c.sent.Position = at(8) }, []progress.Stage{progress.Acknowledge, progress.Capture, progress.Load, progress.Transfer}},
		{"an outage", func(c *counted, _ int) { c.tunnel = false }, []progress.Stage{progress.Capture, progress.Load}},
		{"all is sent", func(c *counted, _ int) { c.queue.Transactions = 0 }, []progress.Stage{progress.Capture, progress.Load}},
		{"rows are loaded", func(c *counted, n int) { c.tables[0].RowsLoaded += uint64(n) }, []progress.Stage{progress.Acknowledge, progress.Capture}},
		{"all is loaded", func(c *counted, _ int) { c.tables[0].State = proto.TableStreaming }, []progress.Stage{progress.Acknowledge, progress.Capture}},
	} {
		l := liveness{log: slog.New(slog.DiscardHandler)}
		now := time.Now()
		for n := range 14 {
			b := busy()
			c.move(&b, n)
			l.look(now.Add(time.Duration(n)*5*time.Second), b)
		}
		var got []progress.Stage
		for _, s := range l.now() {
			got = append(got, s.Stage)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
}

// The queue's disk hangs: no error, no answer. Capture believes that it is
// streaming; the counters tell otherwise.
func TestACutCableIsNoStall(t *testing.T) {
	t.Parallel()
	l, now := liveness{log: slog.New(slog.DiscardHandler)}, time.Now()
	look := func(received uint64) bool {
		now = now.Add(5 * time.Second)
		c := busy()
		c.tunnel = l.carries(now, received)
		l.look(now, c)
		return stalled(l.now(), progress.Acknowledge)
	}
	for i := range uint64(3) {
		look(i)
	}
	for range 20 { // the handshake is of three minutes ago at most all the while
		if look(2) {
			t.Fatal("what waits behind a cut cable is called a stall")
		}
	}
	found := false
	for i := range uint64(20) { // it is back, and the region takes nothing
		found = look(10 + i)
	}
	if !found {
		t.Error("a region that takes nothing is not found")
	}
}

func TestCaptureThatHangsIsFoundWhileItCallsItselfWell(t *testing.T) {
	t.Parallel()
	server := pgtest.Cluster(t, pgtest.Options{})
	server.Exec(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	db, err := postgres.New(postgres.Config{Existing: true, DSN: server.ConnString()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	}()
	disk := &fault.Point{Name: "queue.write"}
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "queue"), WriteFault: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	conn := server.Conn(t)
	if err := capture.EnsurePublications(t.Context(), conn, []capture.Table{{Schema: "public", Name: "t"}}); err != nil {
		t.Fatal(err)
	}
	info, err := capture.EnsureSlot(t.Context(), conn, uplink.Slot)
	if err == nil {
		err = q.Mark(info.ConfirmedFlush)
	}
	if err != nil {
		t.Fatal(err)
	}
	reader, err := capture.New(capture.Config{ConnString: server.ConnString(), Slot: uplink.Slot, Next: at(1)}, q)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = reader.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	defer disk.Heal()

	l := liveness{log: slog.New(slog.DiscardHandler), watch: progress.Watch{After: 2 * time.Second}}
	until := func(what string, ok func() bool) {
		t.Helper()
		deadline, tick := time.After(2*time.Minute), time.NewTicker(100*time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
				l.look(time.Now(), counted{pg: db.Facts(t.Context()), queue: q.Stats()})
			case <-deadline:
				t.Fatalf("%s: not within two minutes; %+v, capture %+v", what, l.now(), reader.Stats())
			}
		}
	}
	server.Exec(t, `INSERT INTO t VALUES (1)`)
	until("a row arrives in the queue", func() bool { return q.Stats().Transactions == 1 })
	disk.Hold()
	server.Exec(t, `INSERT INTO t SELECT generate_series(2, 1000)`)
	until("the stall is found", func() bool { return stalled(l.now(), progress.Capture) })
	if s := reader.Stats(); s.State != capture.Streaming || s.Err != nil {
		t.Errorf("capture finds it itself: %+v; this test is to be about a part that does not", s)
	}
	disk.Heal()
	until("it goes on", func() bool { return q.Stats().Transactions == 2 && !stalled(l.now(), progress.Capture) })
}

func TestForecastIsOfTheQuota(t *testing.T) {
	t.Parallel()
	l := liveness{log: slog.New(slog.DiscardHandler)}
	now := time.Now()
	for s := range 240 {
		l.look(now.Add(time.Duration(s)*5*time.Second), counted{queue: queue.Stats{Bytes: int64(s) * 5 << 20}})
	}
	got, ok := l.forecast(36 << 30)
	if !ok || got.In.Round(time.Hour) != 10*time.Hour || int64(got.PerSecond) != 1<<20 {
		t.Errorf("got %+v, %t", got, ok)
	}
}
