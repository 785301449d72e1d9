package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

const coreSQL = `CREATE SCHEMA holdfast;
CREATE TABLE holdfast.position (facility text PRIMARY KEY, epoch bigint NOT NULL, seq bigint NOT NULL,
  source_lsn pg_lsn NOT NULL DEFAULT '0/0', source_commit_at timestamptz, applied_at timestamptz NOT NULL DEFAULT now(),
  seen_epoch bigint NOT NULL DEFAULT 0, seen_seq bigint NOT NULL DEFAULT 0)
  WITH (fillfactor = 50);
CREATE TABLE holdfast.stream_event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, facility text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL, epoch bigint NOT NULL DEFAULT 0, seq bigint NOT NULL DEFAULT 0, detail text NOT NULL);`

// patience bounds each wait of a test.
var patience = 2 * time.Minute

// epoch1 is the epoch of the tests' streams.
const epoch1 = 1 << 32

// region is a target database with one pool.
type region struct {
	t        testing.TB
	conn     string
	pool     *Pool
	mu       sync.Mutex
	registry *Registry
	maxConns int
	maxBig   int
	stop     func()
	park     bool
	parkRows int
}

func newRegion(t testing.TB, connString string, tables ...Table) *region {
	t.Helper()
	for i := range tables {
		tables[i].Schema = or(tables[i].Schema, "public")
		tables[i].Class = Class(or(string(tables[i].Class), string(Fact)))
	}
	r := &region{t: t, conn: connString, registry: NewRegistry(1, tables)}
	r.open()
	t.Cleanup(func() { r.stop() })
	return r
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// open opens the pool and keeps its flusher running until stop.
func (r *region) open() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pool, err := OpenPool(ctx, PoolConfig{ConnString: r.conn, MaxConns: r.maxConns, MaxBig: r.maxBig, ParkRows: r.parkRows, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.pool = pool
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := pool.Run(ctx); !errors.Is(err, context.Canceled) {
			r.t.Errorf("pool: %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		pool.Close()
	})
}

func (r *region) setRegistry(g *Registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registry = g
}

func (r *region) current() *Registry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registry
}

// stream is one facility's applier, running.
type stream struct {
	*Applier
	t       testing.TB
	end     func() error // stops it and returns Run's error
	changed chan struct{}

	mu      sync.Mutex
	stuck   []error
	missing map[string]int64
	durable []change.Position
	commits int
	// seenTold are the positions that OnSeen was called with.
	seenTold []change.Position
}

func (r *region) stream(facility string) *stream {
	r.t.Helper()
	return r.start(Config{Facility: facility})
}

// start runs an applier as configured.
func (r *region) start(c Config) *stream {
	r.t.Helper()
	s := &stream{t: r.t, changed: make(chan struct{}, 1), missing: map[string]int64{}}
	note := func(fn func()) {
		s.mu.Lock()
		fn()
		s.mu.Unlock()
		signal(s.changed)
	}
	c.Registry, c.Park = r.current, r.park
	c.OnApplied = func(p Progress) {
		note(func() {
			s.commits++
			for k, v := range p.Missing {
				s.missing[k] += v
			}
		})
	}
	c.OnDurable = func(p change.Position) { note(func() { s.durable = append(s.durable, p) }) }
	c.OnSeen = func(p change.Position) { note(func() { s.seenTold = append(s.seenTold, p) }) }
	c.OnStuck = func(err error) { note(func() { s.stuck = append(s.stuck, err) }) }
	a, err := New(context.Background(), r.pool, c)
	if err != nil {
		r.t.Fatal(err)
	}
	s.Applier = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- a.Run(ctx); signal(s.changed) })
	s.end = sync.OnceValue(func() error { cancel(); wg.Wait(); return <-done })
	r.t.Cleanup(func() { s.end() })
	return s
}

// until waits for a condition that the stream's callbacks bring about.
func (s *stream) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.changed:
		case <-s.inbox.ended:
			s.mu.Lock()
			ok := cond()
			s.mu.Unlock()
			if !ok {
				s.t.Fatalf("stream ended before %s: %v", what, s.inbox.err)
			}
			return
		case <-deadline:
			s.t.Fatalf("not in time: %s; applied %s, stuck %v", what, s.Applied(), s.stuck)
		}
	}
}

func (s *stream) untilApplied(seq uint64) {
	s.t.Helper()
	s.until(fmt.Sprintf("transaction %d is applied", seq), func() bool { return s.Applied().Seq >= seq })
}

func (s *stream) untilDurable(seq uint64) {
	s.t.Helper()
	s.until(fmt.Sprintf("transaction %d is durable", seq), func() bool { return s.Durable().Seq >= seq })
}

// untilStuck returns the error that holds the stream up.
func (s *stream) untilStuck() (err error) {
	s.t.Helper()
	s.until("the stream waits", func() bool {
		if n := len(s.stuck); n > 0 {
			err = s.stuck[n-1]
		}
		return err != nil
	})
	return err
}

func (s *stream) push(frames ...change.Sealed) {
	s.t.Helper()
	for _, f := range frames {
		if err := s.Push(context.Background(), f); err != nil {
			s.t.Fatal(err)
		}
	}
}

// sender makes frames.
type sender struct {
	t      testing.TB
	epoch  uint64
	seq    uint64
	tables []change.Table
}

func newSender(t testing.TB, tables ...change.Table) *sender {
	return &sender{t: t, epoch: epoch1, tables: tables}
}

// frame seals one transaction for each of the lists of changes.
func (s *sender) frame(txs ...[]change.Change) change.Sealed {
	s.t.Helper()
	h := change.Header{Kind: change.Changes, Epoch: s.epoch, First: s.seq + 1, CommitMicros: 1_700_000_000_000_000}
	b := &change.Body{Tables: s.tables}
	for _, c := range txs {
		s.seq++
		b.Txs = append(b.Txs, change.Tx{Seq: s.seq, LSN: s.seq * 100, CommitMicros: h.CommitMicros + int64(s.seq), Changes: c})
	}
	h.Last, h.LSN = s.seq, s.seq*100
	return seal(s.t, h, b)
}

// part seals one part of a big transaction.
func (s *sender) part(n uint32, more bool, c []change.Change) change.Sealed {
	s.t.Helper()
	seq := s.seq + 1
	if !more {
		s.seq++
	}
	h := change.Header{Kind: change.Changes, Epoch: s.epoch, First: seq, Last: seq, Part: n, More: more, CommitMicros: 1}
	return seal(s.t, h, &change.Body{Tables: s.tables, Txs: []change.Tx{{Seq: seq, LSN: seq * 100, CommitMicros: 1, Changes: c}}})
}

func seal(t testing.TB, h change.Header, b *change.Body) change.Sealed {
	t.Helper()
	f, err := change.Seal(h, b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// row makes values: nil is NULL, everything else as it prints.
func row(v ...any) change.Row {
	r := make(change.Row, len(v))
	for i, x := range v {
		if x != nil {
			r[i] = []byte(fmt.Sprint(x))
		}
	}
	return r
}

func ins(table int, v ...any) change.Change {
	return change.Change{Op: change.Insert, Table: table, Row: row(v...)}
}

func upd(table int, v ...any) change.Change {
	return change.Change{Op: change.Update, Table: table, Row: row(v...)}
}

func del(table int, key ...any) change.Change {
	return change.Change{Op: change.Delete, Table: table, Key: row(key...)}
}

// cols makes columns from "name type" or "name type key".
func table(schema, name string, columns ...change.Column) change.Table {
	return change.Table{Schema: schema, Name: name, Columns: columns}
}

func key(name, typ string) change.Column { return change.Column{Name: name, Type: typ, Key: true} }
func col(name, typ string) change.Column { return change.Column{Name: name, Type: typ} }

// lines returns the rows of a query as text, in its order.
func lines(t testing.TB, db *pgtest.DB, sql string) []string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, db.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT q::text FROM ("+sql+") q")
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func wantLines(t testing.TB, db *pgtest.DB, sql string, want ...string) {
	t.Helper()
	got := lines(t, db, sql)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\n got %q\nwant %q", sql, got, want)
	}
}
