package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

const epoch = 1 << 32

var orders = proto.SyncedTable{Schema: "public", Name: "orders", Class: "fact", FacilityColumn: "facility_id"}

type bundle struct {
	*Ingest
	db   *pgxpool.Pool
	told chan error // what Stuck was called with
}

func setup(t *testing.T) *bundle {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pg := pgtest.Migrated(t, "region", migrations.Up)
	db := pg.Pool(t)
	pg.Exec(t, `CREATE TABLE public.orders (id int PRIMARY KEY, facility_id text NOT NULL, name text CHECK (name <> 'bad'));
		INSERT INTO holdfast.facility (id, tenant) SELECT 'f' || i, 'foo' FROM generate_series(1, 50) i`)
	b := &bundle{db: db, told: make(chan error, 100)}
	in, err := New(ctx, Config{
		DB: db, ApplyConnString: pg.ConnString(), MaxConns: 4, Patience: 300 * time.Millisecond,
		Stuck: func(_ string, err error) { b.told <- err }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Ingest = in
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := in.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("ingest ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return b
}

func (b *bundle) open(t *testing.T, facility string) *Session {
	t.Helper()
	s, err := b.Open(context.Background(), facility)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// frame seals transactions of one insert each.
func frame(t *testing.T, first uint64, facility string, names ...string) change.Sealed {
	t.Helper()
	body := &change.Body{Tables: []change.Table{{Schema: "public", Name: "orders", Columns: []change.Column{
		{Name: "id", Type: "integer", Key: true}, {Name: "facility_id", Type: "text"}, {Name: "name", Type: "text"},
	}}}}
	for i, name := range names {
		seq := first + uint64(i)
		var number int
		fmt.Sscanf(facility, "f%d", &number)
		body.Txs = append(body.Txs, change.Tx{Seq: seq, LSN: seq, CommitMicros: 1, Changes: []change.Change{{
			Op:  change.Insert,
			Row: change.Row{fmt.Append(nil, uint64(number)*10000+seq), []byte(facility), []byte(name)},
		}}})
	}
	f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: epoch, First: first, Last: first + uint64(len(names)) - 1}, body)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// untilDurable waits for a position, and returns false when the session ends.
func untilDurable(t *testing.T, s *Session, seq uint64) bool {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case p, ok := <-s.Durable():
			if !ok || p.Seq >= seq {
				return ok
			}
		case <-deadline:
			t.Fatalf("transaction %d is not durable within two minutes", seq)
		}
	}
}

func (b *bundle) untilCount(t *testing.T, sql string, want int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var n int
		if err := b.db.QueryRow(context.Background(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d instead of %d", sql, n, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestManyFacilitiesShareFewConnections(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Add(context.Background(), orders, "ops"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		facility := fmt.Sprintf("f%d", i+1)
		s := b.open(t, facility)
		wg.Go(func() {
			for n := range uint64(10) {
				if err := s.Push(context.Background(), frame(t, n+1, facility, "x")); err != nil {
					t.Errorf("push: %v", err)
				}
			}
			if !untilDurable(t, s, 10) {
				t.Errorf("%s ended: %v", facility, s.Err())
			}
		})
	}
	wg.Wait()
	b.untilCount(t, "SELECT count(*) FROM public.orders", 500)
	b.untilCount(t, "SELECT coalesce(sum(changes), 0) FROM holdfast.facility_table WHERE last_seq = 10 OR changes < 10", 500)
	var conns int
	if err := b.db.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'holdfast apply' AND datname = current_database()`).Scan(&conns); err != nil || conns > 5 {
		t.Errorf("%d connections, %v", conns, err)
	}
}

func TestNewerSessionEndsTheOlder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Add(context.Background(), orders, "ops"); err != nil {
		t.Fatal(err)
	}
	one := b.open(t, "f1")
	if err := one.Push(context.Background(), frame(t, 1, "f1", "a")); err != nil || !untilDurable(t, one, 1) {
		t.Fatal(err, one.Err())
	}
	two := b.open(t, "f1")
	if p := two.Position(); p != (change.Position{Epoch: epoch, Seq: 1}) {
		t.Errorf("the newer begins at %s", p)
	}
	if _, ok := <-one.Durable(); ok || !errors.Is(one.Err(), ErrReplaced) {
		t.Errorf("the older goes on, or ended with %v", one.Err())
	}
	if err := one.Push(context.Background(), frame(t, 2, "f1", "b")); !errors.Is(err, ErrReplaced) {
		t.Errorf("push into the older: %v", err)
	}
	if err := two.Push(context.Background(), frame(t, 2, "f1", "b")); err != nil || !untilDurable(t, two, 2) {
		t.Error(err, two.Err())
	}
	two.Close(context.Background())
	two.Close(context.Background())
}

// TestWhatHasComeNeedNotComeAgain: the link breaks, or the box comes back, while
// much of what it had sent waits to be applied.
func TestWhatHasComeNeedNotComeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Add(context.Background(), orders, "ops"); err != nil {
		t.Fatal(err)
	}
	const rows, frames = 200, 20
	names := slices.Repeat([]string{"x"}, rows)
	send := func(s *Session, from uint64) (to uint64) {
		t.Helper()
		for i := range uint64(frames) {
			if err := s.Push(context.Background(), frame(t, from+i*rows, "f5", names...)); err != nil {
				t.Fatal(err)
			}
		}
		return from + frames*rows - 1
	}
	one := b.open(t, "f5")
	sent := send(one, 1)
	two := b.open(t, "f5")
	if at := two.Position().Seq; at != sent {
		t.Errorf("%d transactions had come, and the newer session begins behind %d", sent, at)
	}
	sent = send(two, two.Position().Seq+1)
	two.Close(context.Background())
	if at := b.open(t, "f5").Position().Seq; at != sent {
		t.Errorf("%d transactions had come before the link broke, and the next session begins behind %d", sent, at)
	}
	if err := two.Push(context.Background(), frame(t, sent+1, "f5", "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("push into what is closed: %v", err)
	}
	b.untilCount(t, "SELECT count(*) FROM public.orders", int(sent))
}

// TestRefusedTransactionIsExplainedAndGoesOnLater: a region that cannot even
// keep what is refused holds the stream.
func TestRefusedTransactionIsExplainedAndGoesOnLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := b.db.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	s := b.open(t, "f2")
	exec(`ALTER TABLE holdfast.parked RENAME TO away`)
	if err := s.Push(context.Background(), frame(t, 1, "f2", "a")); err != nil {
		t.Fatal(err)
	}
	if untilDurable(t, s, 1) {
		t.Fatal("a table that is not registered was taken")
	}
	if p := Explain(s.Err()); p == nil || !strings.Contains(p.Text, "holdfast.parked") {
		t.Errorf("explained as %+v", p)
	}
	if b.Stuck("f2") == nil || <-b.told == nil {
		t.Error("not stuck")
	}
	exec(`ALTER TABLE holdfast.away RENAME TO parked`)
	s = b.open(t, "f2")
	if err := s.Push(context.Background(), frame(t, 1, "f2", "a", "b")); err != nil || !untilDurable(t, s, 2) {
		t.Fatal(err, s.Err())
	}
	if err := b.Stuck("f2"); err != nil || <-b.told != nil {
		t.Errorf("still stuck on %v", err)
	}
	b.untilCount(t, `SELECT count(*) FROM holdfast.parked WHERE state = 'waiting' AND reason = 'missing_table'
		AND remedy = 'Register it with: holdfastctl tables add public.orders --class fact'`, 2)
	_, changed := b.Tables()
	if err := b.Add(context.Background(), orders, "ops"); err != nil {
		t.Fatal(err)
	}
	<-changed
	b.untilCount(t, "SELECT count(*) FROM public.orders", 2)
	b.untilCount(t, "SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'", 0)
	// Another process changes the list: the notice is enough.
	before, changed := b.Tables()
	if _, err := b.db.Exec(context.Background(), `DELETE FROM holdfast.synced_table`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Exec(context.Background(), `SELECT pg_notify('holdfast_synced_table', nextval('holdfast.synced_table_version')::text)`); err != nil {
		t.Fatal(err)
	}
	<-changed
	if list, _ := b.Tables(); len(list.Tables) != 0 || list.Version != before.Version+1 {
		t.Errorf("the list is %+v", list)
	}
	if err := b.Remove(context.Background(), "public", "orders"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := b.Remove(context.Background(), "holdfast", "conflict"); !errors.Is(err, ErrSystem) {
		t.Errorf("removing what is Holdfast's own: %v", err)
	}
}

func TestChangesOfARemovedTableArePassedOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	if err := b.Add(ctx, orders, "ops"); err != nil {
		t.Fatal(err)
	}
	s := b.open(t, "f4")
	if err := s.Push(ctx, frame(t, 1, "f4", "a")); err != nil || !untilDurable(t, s, 1) {
		t.Fatal(err, s.Err())
	}
	if err := b.Remove(ctx, "public", "orders"); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(ctx, frame(t, 2, "f4", "b")); err != nil || !untilDurable(t, s, 2) {
		t.Fatal(err, s.Err())
	}
	if err := b.Add(ctx, orders, "ops"); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(ctx, frame(t, 3, "f4", "c")); err != nil || !untilDurable(t, s, 3) {
		t.Fatal(err, s.Err())
	}
	b.untilCount(t, "SELECT count(*) FROM public.orders WHERE name IN ('a', 'c')", 2)
	b.untilCount(t, "SELECT count(*) FROM public.orders", 2)
}

func TestTableStatesAreKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	states := []proto.TableState{
		{Schema: "public", Name: "orders", State: "refused", Problems: []proto.Problem{{Text: "no key", Remedy: "add one"}}},
		{Schema: "public", Name: "other", State: "loading", RowsLoaded: 7, Fingerprint: 1 << 63},
	}
	for _, list := range [][]proto.TableState{states, states[:1], states[:1]} {
		if err := b.TableStates(ctx, "f3", list); err != nil {
			t.Fatal(err)
		}
		b.untilCount(t, "SELECT count(*) FROM holdfast.facility_table", len(list))
	}
	b.untilCount(t, "SELECT count(*) FROM holdfast.facility_table WHERE problem = 'no key' AND remedy = 'add one'", 1)
	if p, _, err := b.Check(ctx, proto.SyncedTable{Schema: "a", Name: "b", Class: "fact"}); err != nil || len(p) != 1 || p[0].Remedy == "" {
		t.Errorf("a table without a facility column: %+v, %v", p, err)
	}
}
