package unseen_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
)

const (
	patience = 2 * time.Minute
	epoch    = 1 << 32
	facility = "la"
)

const schemaSQL = `CREATE SCHEMA holdfast;
CREATE TABLE holdfast.position (facility text PRIMARY KEY, epoch bigint NOT NULL, seq bigint NOT NULL,
  source_lsn pg_lsn NOT NULL DEFAULT '0/0', source_commit_at timestamptz, applied_at timestamptz NOT NULL DEFAULT now(),
  seen_epoch bigint NOT NULL DEFAULT 0, seen_seq bigint NOT NULL DEFAULT 0);
CREATE TABLE holdfast.stream_event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, facility text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL, epoch bigint NOT NULL DEFAULT 0, seq bigint NOT NULL DEFAULT 0, detail text NOT NULL);
CREATE TABLE holdfast.conflict (id uuid PRIMARY KEY, facility_id text NOT NULL, at timestamptz NOT NULL, schema_name text NOT NULL,
  table_name text NOT NULL, key jsonb NOT NULL, kind text NOT NULL, policy text NOT NULL, decision text NOT NULL, edge_row jsonb, cloud_row jsonb,
  fields text[] NOT NULL, edge_seq text NOT NULL, cloud_seq text NOT NULL, edge_at timestamptz, cloud_at timestamptz,
  edge_by text NOT NULL DEFAULT '', cloud_by text NOT NULL DEFAULT '');
CREATE TABLE holdfast.parked (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, facility text NOT NULL,
  direction text NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  key jsonb NOT NULL, key_hash bytea NOT NULL, op text NOT NULL, row jsonb, old_key jsonb, old_key_hash bytea,
  provides bytea[] NOT NULL DEFAULT '{}', waits_for bytea[] NOT NULL DEFAULT '{}', columns jsonb NOT NULL, bytes integer NOT NULL,
  commit_at timestamptz, reason text NOT NULL, code text NOT NULL DEFAULT '', constraint_name text NOT NULL DEFAULT '',
  message text NOT NULL, remedy text NOT NULL DEFAULT '', parked_at timestamptz NOT NULL DEFAULT now(), attempts integer NOT NULL DEFAULT 0,
  tried_at timestamptz, edited_by text NOT NULL DEFAULT '', state text NOT NULL DEFAULT 'waiting', ended_by text NOT NULL DEFAULT '', ended_at timestamptz,
  seen_epoch bigint NOT NULL DEFAULT 0, seen_seq bigint NOT NULL DEFAULT 0, made_by text NOT NULL DEFAULT '', of_range boolean NOT NULL DEFAULT false);
CREATE TABLE holdfast.parked_table (facility text NOT NULL, direction text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  reason text NOT NULL, message text NOT NULL, remedy text NOT NULL DEFAULT '', since timestamptz NOT NULL DEFAULT now(),
  passed_over bigint NOT NULL DEFAULT 0, columns jsonb NOT NULL, asked_at timestamptz, keys jsonb NOT NULL DEFAULT '[]', PRIMARY KEY (facility, direction, schema_name, table_name));
CREATE TABLE m (id int PRIMARY KEY, v text);
CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL DEFAULT 'la', v text, price text, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;`

// side is a database with what captures its changes.
type side struct {
	t       *testing.T
	db      *pgtest.DB
	pool    *pgxpool.Pool
	q       *queue.Queue
	capture *capture.Capture
	cursor  *queue.Cursor
}

func newSide(t *testing.T, region bool, linger time.Duration) *side {
	t.Helper()
	s := &side{t: t, db: pgtest.New(t)}
	s.db.Exec(t, schemaSQL)
	key := "id"
	if region {
		key = "facility, id"
	}
	s.db.Exec(t, `CREATE TABLE u (id int NOT NULL, facility text NOT NULL DEFAULT 'la', code text UNIQUE, v text, PRIMARY KEY (`+key+`))`)
	s.pool = s.db.Pool(t)
	conn := s.db.Conn(t)
	tables := []capture.Table{{Schema: "public", Name: "t"}, {Schema: "public", Name: "u"}}
	if region {
		tables = append(tables, capture.Table{Schema: "public", Name: "m"})
	}
	cfg := capture.Config{ConnString: s.db.ConnString(), Slot: s.db.Name + "_slot", Next: change.Position{Epoch: epoch, Seq: 1}, Origins: region, Linger: func() time.Duration { return linger }}
	if !region {
		tables = append(tables, capture.Table{Schema: "holdfast", Name: "conflict", Event: true})
		cfg.Keep = []string{"holdfast.conflict"}
	}
	if err := capture.EnsurePublications(t.Context(), conn, tables); err != nil {
		t.Fatal(err)
	}
	slot, err := capture.EnsureSlot(t.Context(), conn, cfg.Slot)
	if err != nil {
		t.Fatal(err)
	}
	if s.q, err = queue.Open(queue.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if err := s.q.Mark(slot.ConfirmedFlush); err != nil {
		t.Fatal(err)
	}
	if s.capture, err = capture.New(cfg, s.q); err != nil {
		t.Fatal(err)
	}
	s.cursor = s.q.Cursor(change.Position{Epoch: epoch})
	t.Cleanup(func() { s.q.Close() })
	background(t, s.capture.Run)
	return s
}

// background runs a part until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a part ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// settled waits until what is committed is in the queue.
func (s *side) settled(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return s.capture.Settled(ctx, conn.Conn())
}

func (s *side) settle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.settled(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// tx commits statements as one transaction, and returns the number of it.
func (s *side) tx(sql ...string) uint64 {
	s.t.Helper()
	s.db.Exec(s.t, strings.Join(sql, ";"))
	s.settle()
	return s.tail().Seq
}

func (s *side) tail() change.Position {
	p, _, _ := s.q.Tail()
	return p
}

func (s *side) lines(sql string) []string {
	s.t.Helper()
	rows, err := s.pool.Query(context.Background(), "SELECT q::text FROM ("+sql+") q")
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// rig is a box and its region. Nothing moves between them unless up or down
// are called.
type rig struct {
	t            *testing.T
	edge, region *side
	index        *unseen.Index
	upward, down *apply.Applier
	changed      chan struct{}

	mu      sync.Mutex
	missing map[string]int64
	stuck   error

	seen, told change.Position // by the region, and of that told to the box
	prev       change.Position
	dropSeen   bool // the seen numbers are forgotten on the way
}

type options struct {
	policy   apply.Policy
	columns  []string
	dropSeen bool
	linger   time.Duration // of the box's capture
	park     bool          // what either side refuses
	// restored and whole are what the box knows of its database.
	restored, whole bool
	// local stands before the index.
	local func(apply.Local) apply.Local
}

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	r := &rig{t: t, edge: newSide(t, false, o.linger), region: newSide(t, true, 0), changed: make(chan struct{}, 1), missing: map[string]int64{}, dropSeen: o.dropSeen}
	r.index = unseen.New(r.edge.q, r.edge.settled)
	var local apply.Local = r.index
	if o.local != nil {
		local = o.local(local)
	}
	reg := apply.NewRegistry(1, []apply.Table{
		{Schema: "public", Name: "t", Class: apply.Fact, FacilityColumn: "facility", Policy: o.policy, CloudColumns: o.columns},
		{Schema: "public", Name: "u", Class: apply.Fact, FacilityColumn: "facility", Policy: o.policy},
		{Schema: "holdfast", Name: "conflict", Class: apply.Event, FacilityColumn: "facility_id"},
		{Schema: "public", Name: "m", Class: apply.Master},
	})
	r.upward = r.applier(r.region, apply.Config{Park: o.park, Registry: func() *apply.Registry { return reg }})
	r.down = r.applier(r.edge, apply.Config{
		Park: o.park, Direction: apply.Down, Local: local, OnSeen: r.index.Seen, Registry: func() *apply.Registry { return reg },
		Restored: func() (restored, whole bool) { return o.restored, o.whole },
	})
	return r
}

func (r *rig) applier(s *side, c apply.Config) *apply.Applier {
	r.t.Helper()
	pool, err := apply.OpenPool(context.Background(), apply.PoolConfig{ConnString: s.db.ConnString(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(pool.Close)
	background(r.t, pool.Run)
	if c.Park {
		background(r.t, func(ctx context.Context) error {
			return pool.Retry(ctx, apply.ParkConfig{
				Direction: c.Direction, Registry: c.Registry, Local: c.Local, Every: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
			})
		})
	}
	signal := func() {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
	c.Facility, c.NotesEvery = facility, time.Millisecond
	c.OnApplied = func(p apply.Progress) {
		r.mu.Lock()
		for k, n := range p.Missing {
			r.missing[string(c.Direction)+k] += n
		}
		r.mu.Unlock()
		signal()
	}
	c.OnStuck = func(err error) {
		r.mu.Lock()
		r.stuck = err
		r.mu.Unlock()
		signal()
	}
	a, err := apply.New(context.Background(), pool, c)
	if err != nil {
		r.t.Fatal(err)
	}
	background(r.t, a.Run)
	return a
}

func (r *rig) until(a *apply.Applier, p change.Position) {
	r.t.Helper()
	if p.Seq == 0 {
		return
	}
	deadline := time.After(patience)
	for a.Applied().Before(p) {
		select {
		case <-r.changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s is not applied in time, at %s, stuck: %v", p, a.Applied(), r.stuck)
		}
	}
}

// up applies the next n frames of the box in the region, and reports how many
// there were.
func (r *rig) up(n int) (frames int) {
	r.t.Helper()
	r.edge.settle()
	for frames < n && r.edge.cursor.Position().Before(r.edge.tail()) {
		f, err := r.edge.cursor.Next(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.upward.Push(context.Background(), f); err != nil {
			r.t.Fatal(err)
		}
		frames++
	}
	r.until(r.upward, r.edge.cursor.Position())
	return frames
}

// downSend pushes the next n frames of the region to the box, as the router
// would, without waiting until they are applied.
func (r *rig) downSend(n int) (frames int) {
	r.t.Helper()
	r.region.settle()
	for frames < n && r.region.cursor.Position().Before(r.region.tail()) {
		f, err := r.region.cursor.Next(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := f.Open()
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range body.Txs {
			r.route(&f.Header, body, &body.Txs[i])
		}
		frames++
	}
	return frames
}

func (r *rig) route(h *change.Header, body *change.Body, tx *change.Tx) {
	r.t.Helper()
	if c := &tx.Changes[0]; c.Op == change.Note && string(c.Row[0]) == change.NoteOrigin {
		o, err := apply.ParseOrigin(string(c.Row[1]))
		if err != nil {
			r.t.Fatal(err)
		}
		r.seen = o.Position
		if len(tx.Changes) == 1 {
			return
		}
	}
	out := *tx
	if o := out.Changes; o[0].Op == change.Note && string(o[0].Row[0]) == change.NoteOrigin {
		// What is in it is to this box (the second note), as an echo.
		out.Changes = append([]change.Change{{Op: change.Note, Row: change.Row{[]byte(change.NoteEcho), o[1].Row[1]}}}, o[2:]...)
	}
	if r.seen != r.told && !r.dropSeen {
		note := change.Change{Op: change.Note, Row: change.Row{[]byte(change.NoteSeen), []byte(r.seen.String())}}
		out.Changes = append([]change.Change{note}, out.Changes...)
		r.told = r.seen
	}
	f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: epoch, First: tx.Seq, Last: tx.Seq, Part: h.Part, More: h.More}, &change.Body{Tables: body.Tables, Txs: []change.Tx{out}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.down.PushSparse(context.Background(), f, r.prev, false); err != nil {
		r.t.Fatal(err)
	}
	if !h.More {
		r.prev = change.Position{Epoch: epoch, Seq: tx.Seq}
	}
}

func (r *rig) downWait() { r.t.Helper(); r.until(r.down, r.prev) }

func (r *rig) downAll(n int) int {
	r.t.Helper()
	n = r.downSend(n)
	r.downWait()
	return n
}

// rest moves everything until nothing moves any more.
func (r *rig) rest() {
	r.t.Helper()
	for r.up(1000)+r.downAll(1000) > 0 {
	}
}

const tableSQL = `SELECT id, v, price, md5(big) AS big FROM t ORDER BY id`

// equal compares the sides.
func (r *rig) equal() bool {
	r.t.Helper()
	e, c := fmt.Sprint(r.edge.lines(tableSQL)), fmt.Sprint(r.region.lines(tableSQL))
	if e != c {
		r.t.Logf("edge   %s\nregion %s", e, c)
	}
	const audit = `SELECT * FROM holdfast.conflict ORDER BY id`
	return e == c && fmt.Sprint(r.edge.lines(audit)) == fmt.Sprint(r.region.lines(audit))
}

// wantConflicts compares the records, as the region has them.
func (r *rig) wantConflicts(want ...string) {
	r.t.Helper()
	got := r.region.lines(`SELECT kind, decision, key->>'id' AS id, edge_row->>'v' AS edge, cloud_row->>'v' AS cloud, fields, edge_by, cloud_by
		FROM holdfast.conflict ORDER BY 3, 5, 1`)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("conflicts:\n got %q\nwant %q", got, want)
	}
}
