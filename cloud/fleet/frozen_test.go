package fleet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

// Somebody's transaction holds the table: the rows that have arrived wait for a
// lock, without an error. Ingest has nothing to say; the counters have.
func TestApplyThatHangsIsFoundWhileIngestHasNoComplaint(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la")
	db.Exec(t, `CREATE TABLE orders (id int PRIMARY KEY, facility_id text NOT NULL)`)
	in, err := ingest.New(t.Context(), ingest.Config{DB: pool, ApplyConnString: db.ConnString(), MaxConns: 2, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := in.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("ingest ended with %v", err)
		}
	})
	defer wg.Wait()
	defer cancel()
	if err := in.Add(ctx, proto.SyncedTable{Schema: "public", Name: "orders", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}"}, "test"); err != nil {
		t.Fatal(err)
	}
	session, err := in.Open(ctx, "la")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(ctx)

	f := newTestFleet(t, pool)
	f.cfg.StalledAfter = time.Second
	got := Received{Position: session.Position()}
	f.cfg.Received = func(string) (Received, bool) { return got, true }
	until := func(what string, ok func() bool) {
		t.Helper()
		deadline, tick := time.After(2*time.Minute), time.NewTicker(100*time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
				list, err := f.store.counted(ctx)
				if err != nil {
					t.Fatal(err)
				}
				f.look(time.Now(), list)
			case <-deadline:
				t.Fatalf("%s: not within two minutes; %+v, ingest says %v", what, f.facilities["la"].stalls, in.Stuck("la"))
			}
		}
	}
	push := func(seq uint64) {
		t.Helper()
		frame, err := change.Seal(change.Header{Kind: change.Changes, Epoch: testEpoch, First: seq, Last: seq}, &change.Body{
			Tables: []change.Table{{Schema: "public", Name: "orders", Columns: []change.Column{
				{Name: "id", Type: "integer", Key: true}, {Name: "facility_id", Type: "text"},
			}}},
			Txs: []change.Tx{{Seq: seq, LSN: seq, CommitMicros: 1, Changes: []change.Change{{Op: change.Insert, Row: change.Row{[]byte{'0' + byte(seq)}, []byte("la")}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got = Received{Position: change.Position{Epoch: testEpoch, Seq: seq}, Frames: seq}
		if err := session.Push(ctx, frame); err != nil {
			t.Fatal(err)
		}
	}
	applied := func(seq int64) func() bool {
		return func() bool {
			list, err := f.store.counted(ctx)
			return err == nil && list[0].Seq == seq
		}
	}
	push(1)
	until("a row is applied", applied(1))
	other := db.Conn(t)
	if _, err := other.Exec(ctx, `BEGIN; LOCK TABLE orders`); err != nil {
		t.Fatal(err)
	}
	push(2)
	until("the stall is found", func() bool { return stalled(f.facilities["la"].stalls, progress.Apply) })
	if err := errors.Join(in.Stuck("la"), session.Err()); err != nil {
		t.Errorf("ingest finds it itself: %v; this test is to be about a part that does not", err)
	}
	if _, err := other.Exec(ctx, `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	until("it goes on", func() bool { return applied(2)() && !stalled(f.facilities["la"].stalls, progress.Apply) })
}
