package verify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

const patience = 5 * time.Minute

// rig is a facility's database and a region's, with the stream between them.
type rig struct {
	t      testing.TB
	edge   *pgtest.DB
	region *pgtest.DB
	pool   *pgxpool.Pool // of the region
	box    *pgxpool.Pool
	tables []proto.SyncedTable

	v       *Verifier
	stop    func() // ends the Verifier
	current atomic.Pointer[Verifier]
	stream  atomic.Uint64
	looks   atomic.Int64 // at who is connected

	mu     sync.Mutex
	asked  int
	events []string
	broken error // what the box answers instead
	breaks int   // questions with which the stream ends
	away   bool  // and then there is none
}

var slots atomic.Int64

const epoch = 1 << 32

func newRig(t testing.TB, edgeSQL, regionSQL string, tables ...proto.SyncedTable) *rig {
	t.Helper()
	r := &rig{t: t, edge: pgtest.New(t), region: pgtest.Migrated(t, "region", migrations.Up), tables: tables}
	r.stream.Store(1)
	r.pool, r.box = r.region.Pool(t), r.edge.Pool(t)
	r.edge.Exec(t, edgeSQL)
	r.region.Exec(t, regionSQL+`; INSERT INTO holdfast.facility (id, tenant) VALUES ('la', 'foo'); DELETE FROM holdfast.synced_table`)
	var published []capture.Table
	for i := range r.tables {
		e := &r.tables[i]
		e.Schema, e.FacilityColumn = "public", "facility_id"
		published = append(published, capture.Table{Schema: e.Schema, Name: e.Name, Event: e.Class == "event"})
		r.region.Exec(t, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', $1, $2, 'facility_id', 'test')`, e.Name, e.Class)
		r.region.Exec(t, `INSERT INTO holdfast.facility_table (facility, schema_name, table_name, state) VALUES ('la', 'public', $1, 'streaming')`, e.Name)
	}
	r.region.Exec(t, `SELECT nextval('holdfast.synced_table_version')`)
	if err := capture.EnsurePublications(t.Context(), r.edge.Conn(t), published); err != nil {
		t.Fatal(err)
	}
	slot := fmt.Sprintf("holdfast_verify_%d", slots.Add(1))
	info, err := capture.EnsureSlot(t.Context(), r.edge.Conn(t), slot)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(queue.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if err := q.Mark(info.ConfirmedFlush); err != nil {
		t.Fatal(err)
	}
	reader, err := capture.New(capture.Config{ConnString: r.edge.ConnString(), Slot: slot, Next: change.Position{Epoch: epoch, Seq: 1}}, q)
	if err != nil {
		t.Fatal(err)
	}
	in, err := ingest.New(t.Context(), ingest.Config{
		DB: r.pool, ApplyConnString: r.region.ConnString(), Log: slog.New(slog.DiscardHandler),
		Verdict: func(facility string, a apply.Verdict) {
			if v := r.current.Load(); v != nil {
				v.Verdict(facility, a)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.run(reader.Run)
	r.run(in.Run)
	session, err := in.Open(t.Context(), "la")
	if err != nil {
		t.Fatal(err)
	}
	r.run(func(ctx context.Context) error {
		cursor := q.Cursor(change.Position{})
		for {
			f, err := cursor.Next(ctx)
			if err == nil {
				err = session.Push(ctx, f)
			}
			if err != nil {
				return err
			}
		}
	})
	r.run(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case _, ok := <-session.Durable():
				if !ok && ctx.Err() == nil {
					return fmt.Errorf("the session ended: %w", session.Err())
				}
			}
		}
	})
	for i := range published {
		conn := r.edge.Conn(t)
		if err := capture.LoadTable(t.Context(), conn, published[i], nil, nil); err != nil {
			t.Fatal(err)
		}
		r.arrived(published[i])
	}
	return r
}

// arrived waits until the region has applied the table's load: what is changed
// there before is overtaken by it.
func (r *rig) arrived(table capture.Table) {
	r.t.Helper()
	count := "SELECT count(*) FROM " + pgx.Identifier{table.Schema, table.Name}.Sanitize()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var here, there int
		if err := r.box.QueryRow(r.t.Context(), count).Scan(&here); err != nil {
			r.t.Fatal(err)
		}
		if err := r.pool.QueryRow(r.t.Context(), count+" WHERE facility_id = 'la'").Scan(&there); err != nil {
			r.t.Fatal(err)
		}
		if here == there {
			return
		}
		select {
		case <-deadline:
			r.t.Fatalf("the region has %d of %d rows of %s", there, here, table.Name)
		case <-tick.C:
		}
	}
}

// run keeps a part running until the test ends.
func (r *rig) run(fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := fn(ctx); ctx.Err() == nil {
			r.t.Errorf("a part ended: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(stop)
	return stop
}

// start begins to compare, with passes as close to each other as every says.
func (r *rig) start(every time.Duration) {
	r.v = New(Config{
		DB: r.pool, Ask: r.ask, SecondLook: 50 * time.Millisecond, PassEvery: every, Patience: patience,
		Stream: func(string) uint64 { return r.stream.Load() },
		Connected: func() []string {
			r.looks.Add(1)
			if r.stream.Load() == 0 {
				return nil
			}
			return []string{"la"}
		},
		Event: func(_ context.Context, facility, kind, detail string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, kind+" "+detail)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	r.current.Store(r.v)
	r.stop = r.run(r.v.Run)
}

// ask is the box: it answers one question after the other.
func (r *rig) ask(_ string, q *proto.Verify) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.stream.Load() == 0 {
		return false, nil
	}
	v := r.current.Load()
	if r.breaks > 0 {
		r.breaks--
		if r.stream.Add(1); r.away {
			r.stream.Store(0)
		}
		return true, nil
	}
	if r.broken != nil {
		v.Unverified("la", &proto.Unverified{ID: q.ID, Problem: proto.Problem{Text: r.broken.Error()}})
		return true, nil
	}
	conn, err := r.box.Acquire(context.Background())
	if err != nil {
		return false, err
	}
	defer conn.Release()
	t := capture.Table{Schema: q.Schema, Name: q.Name}
	if len(q.Mend) > 0 {
		keys := make([]change.Row, len(q.Mend))
		for i := range keys {
			keys[i] = q.Mend[i]
		}
		return true, capture.MendRows(context.Background(), conn.Conn(), t, keys)
	}
	return true, capture.DigestTable(context.Background(), conn.Conn(), t, capture.Question{
		ID: q.ID, After: bound(q.After), UpTo: bound(q.UpTo), Rows: int(q.Rows), Parts: int(q.Parts), List: q.List,
	})
}

func bound(k [][]byte) change.Row {
	if len(k) == 0 {
		return nil
	}
	return k
}

// demand makes a pass and returns what it found.
func (r *rig) demand(in v1.VerifyRequest) v1.VerifyRun {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	run, err := r.v.Start(r.t.Context(), "la", in, "ops")
	for ; err != nil; run, err = r.v.Start(r.t.Context(), "la", in, "ops") {
		if err != ErrNotConnected || time.Now().After(deadline) {
			r.t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
	for run.State == v1.VerifyRunning {
		if time.Now().After(deadline) {
			r.t.Fatalf("not done in time: %+v", run)
		}
		<-time.After(5 * time.Millisecond)
		run, _ = r.v.Latest("la")
	}
	return run
}

// verified is what the region's database says of a table.
func (r *rig) verified(table string) (v v1.Verified, pass int64) {
	r.t.Helper()
	err := r.pool.QueryRow(r.t.Context(), `SELECT pass_no, equal_at, equal_seq, equal_rows, differing, repaired, ended_at, began_at, rows_done, problem
		FROM holdfast.verified WHERE facility = 'la' AND table_name = $1`, table).
		Scan(&pass, &v.EqualAt, &v.EqualSeq, &v.EqualRows, &v.Differing, &v.Repaired, &v.EndedAt, &v.BeganAt, &v.RowsDone, &v.Problem)
	if err != nil && err != pgx.ErrNoRows {
		r.t.Fatal(err)
	}
	return v, pass
}

// until waits for a state of the table in the region's database.
func (r *rig) until(what, table string, ok func(v v1.Verified, pass int64) bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		v, pass := r.verified(table)
		if ok(v, pass) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s; pass %d, %+v", what, pass, v)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (r *rig) bytes() uint64 {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	return r.v.bytes
}
