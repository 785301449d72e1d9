package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
)

// compared is an edge whose stream goes to a region.
type compared struct {
	t        testing.TB
	edge     *pgtest.DB
	region   *pgtest.DB
	tables   []capture.Table
	ids      atomic.Uint64
	verdicts chan Verdict
	asking   *pgx.Conn
}

var comparedSlots atomic.Int64

// newCompared makes the tables on both sides and lets the stream flow.
func newCompared(t testing.TB, edgeSQL, regionSQL string, tables ...Table) *compared {
	t.Helper()
	c := &compared{t: t, edge: pgtest.New(t), region: pgtest.New(t), verdicts: make(chan Verdict, 1000)}
	c.edge.Exec(t, edgeSQL)
	c.region.Exec(t, coreSQL+regionSQL)
	for _, e := range tables {
		c.tables = append(c.tables, capture.Table{Schema: "public", Name: e.Name, Event: e.Class == Event})
	}
	if err := capture.EnsurePublications(t.Context(), c.edge.Conn(t), c.tables); err != nil {
		t.Fatal(err)
	}
	slot := fmt.Sprintf("holdfast_compared_%d", comparedSlots.Add(1))
	info, err := capture.EnsureSlot(t.Context(), c.edge.Conn(t), slot)
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
	reader, err := capture.New(capture.Config{ConnString: c.edge.ConnString(), Slot: slot, Next: change.Position{Epoch: epoch1, Seq: 1}}, q)
	if err != nil {
		t.Fatal(err)
	}
	r := newRegion(t, c.region.ConnString(), tables...)
	a, err := New(t.Context(), r.pool, Config{Facility: "la", Registry: r.current, OnDigest: func(v Verdict) { c.verdicts <- v }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	part := func(run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); ctx.Err() == nil {
				t.Errorf("a part ended: %v", err)
				cancel()
			}
		})
	}
	part(reader.Run)
	part(a.Run)
	part(func(ctx context.Context) error {
		cursor := q.Cursor(change.Position{})
		for {
			f, err := cursor.Next(ctx)
			if err == nil {
				err = a.Push(ctx, f)
			}
			if err != nil {
				return err
			}
		}
	})
	t.Cleanup(func() { cancel(); parts.Wait() })
	c.asking = c.edge.Conn(t)
	return c
}

// ask asks about a table and waits for the verdict.
func (c *compared) ask(table int, q capture.Question) Verdict {
	c.t.Helper()
	q.ID = c.ids.Add(1)
	if err := capture.DigestTable(c.t.Context(), c.asking, c.tables[table], q); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	select {
	case v := <-c.verdicts:
		if v.Digest.ID != q.ID {
			c.t.Fatalf("verdict on question %d, asked was %d", v.Digest.ID, q.ID)
		}
		return v
	case <-ctx.Done():
		c.t.Fatalf("no verdict on question %d of %s", q.ID, c.tables[table].ID())
		return Verdict{}
	}
}

// walk compares all of a table and returns the verdicts.
func (c *compared) walk(table int, q capture.Question) (list []Verdict) {
	c.t.Helper()
	for {
		v := c.ask(table, q)
		list = append(list, v)
		if v.Digest == nil || v.Err != nil {
			return list
		}
		if q.After = v.Digest.UpTo(); q.After == nil {
			return list
		}
	}
}

func (c *compared) load(table int) {
	c.t.Helper()
	if err := capture.LoadTable(c.t.Context(), c.asking, c.tables[table], nil, nil); err != nil {
		c.t.Fatal(err)
	}
}

const workSQL = `CREATE TABLE orders (facility_id text NOT NULL, id int PRIMARY KEY, v text, qty numeric(8,2));`

func TestAKeyWithTheFacilityIsComparedFromItsBoundOn(t *testing.T) {
	t.Parallel()
	const sql = `CREATE TABLE part (facility_id text NOT NULL, id int NOT NULL, v text, PRIMARY KEY (facility_id, id));`
	c := newCompared(t, sql+`INSERT INTO part SELECT 'la', i, 'v' FROM generate_series(1, 900) i`,
		sql+`INSERT INTO part SELECT f, i, 'v' FROM generate_series(1, 900) i, unnest('{fra,lyon}'::text[]) f`, Table{Name: "part", FacilityColumn: "facility_id"})
	c.load(0)
	if v := c.ask(0, capture.Question{Rows: 1000}); !v.Equal() {
		t.Fatalf("not equal at first: %+v", v)
	}
	c.region.Exec(t, `DELETE FROM part WHERE facility_id = 'la' AND id = 601; INSERT INTO part VALUES ('la', 1000, 'v')`)
	var wrong []int
	for i, v := range c.walk(0, capture.Question{Rows: 300}) {
		if !v.Equal() {
			wrong = append(wrong, i)
		}
	}
	if fmt.Sprint(wrong) != "[2 3]" {
		t.Errorf("chunks %v differ, of rows 601 to 900 and behind", wrong)
	}
	after := change.Row{[]byte("la"), []byte("600")}
	if v := c.ask(0, capture.Question{After: after, Rows: 1000, List: true}); len(v.Different) != 2 || v.Err != nil {
		t.Errorf("different: %+v, %v", v.Different, v.Err)
	}
}

func TestEqualSidesVerify(t *testing.T) {
	t.Parallel()
	c := newCompared(t, workSQL+`INSERT INTO orders SELECT 'la', i, 'before ' || i, i FROM generate_series(1, 3000) i`,
		`CREATE TABLE orders (facility_id text NOT NULL, id int, v text, qty numeric(8,2), PRIMARY KEY (facility_id, id));
		INSERT INTO orders SELECT 'fra', i, 'of another facility', i FROM generate_series(1, 3000) i;`, Table{Name: "orders", FacilityColumn: "facility_id"})
	c.load(0)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	var commits atomic.Int64
	for w := range 3 {
		conn := c.edge.Conn(t)
		writers.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := r.IntN(2000)*3 + w
				_, err := conn.Exec(context.Background(), []string{
					`INSERT INTO orders VALUES ('la', $1, 'new', $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v || orders.qty, qty = excluded.qty`,
					`UPDATE orders SET v = NULL, qty = $2 WHERE id = $1`,
					`DELETE FROM orders WHERE id = $1 AND qty > $2`,
				}[r.IntN(3)], id, r.IntN(5000))
				if err != nil {
					t.Error(err)
					return
				}
				commits.Add(1)
			}
		})
	}
	asked := 0
	for commits.Load() < 4000 && !t.Failed() {
		for _, q := range []capture.Question{{Rows: 700, Parts: 3}, {Rows: 500, List: true}} {
			for _, v := range c.walk(0, q) {
				asked++
				if !v.Equal() {
					t.Errorf("false alarm at %s: %+v, mine %+v, different %v, %v", v.Position, v.Digest.Parts, v.Mine, v.Different, v.Err)
				}
			}
		}
	}
	close(stop)
	writers.Wait()
	t.Logf("%d digests while %d transactions committed", asked, commits.Load())
}

func TestOneWrongRowIsFound(t *testing.T) {
	t.Parallel()
	c := newCompared(t, workSQL+`INSERT INTO orders SELECT 'la', i * 2, 'v', i FROM generate_series(1, 500) i`,
		workSQL, Table{Name: "orders", FacilityColumn: "facility_id"})
	c.load(0)
	for sql, want := range map[string]Different{
		`UPDATE orders SET qty = qty + 0.01 WHERE id = 40`: {Kind: RowDiffers, Key: change.Row{[]byte("40")}},
		`DELETE FROM orders WHERE id = 40`:                 {Kind: RowMissing, Key: change.Row{[]byte("40")}},
		`INSERT INTO orders VALUES ('la', 41, 'v', 1)`:     {Kind: RowExtra, Key: change.Row{[]byte("41")}},
	} {
		if v := c.ask(0, capture.Question{Rows: 1000}); !v.Equal() {
			t.Fatalf("not equal before: %+v", v)
		}
		c.region.Exec(t, sql)
		if v := c.ask(0, capture.Question{Rows: 1000, Parts: 16}); v.Equal() {
			t.Errorf("%s: not seen", sql)
		} else {
			wrong := 0
			for i := range v.Mine {
				if !v.Mine[i].Same(v.Digest.Parts[i]) {
					wrong++
				}
			}
			if wrong != 1 {
				t.Errorf("%s: in %d parts", sql, wrong)
			}
		}
		v := c.ask(0, capture.Question{Rows: 1000, List: true})
		if len(v.Different) != 1 || v.Different[0].Kind != want.Kind || string(v.Different[0].Key[0]) != string(want.Key[0]) {
			t.Errorf("%s: got %+v", sql, v.Different)
		}
		if err := capture.MendRows(t.Context(), c.asking, c.tables[0], []change.Row{want.Key}); err != nil {
			t.Fatal(err)
		}
	}
	if v := c.ask(0, capture.Question{Rows: 1000}); !v.Equal() {
		t.Errorf("not mended: %+v", v)
	}
}

func TestPrunedEventsAreNoDifference(t *testing.T) {
	t.Parallel()
	const sql = `CREATE TABLE log (facility_id text NOT NULL, id int PRIMARY KEY, v text);`
	c := newCompared(t, sql+`INSERT INTO log SELECT 'la', i, 'v' FROM generate_series(1, 500) i`, sql, Table{Name: "log", Class: Event, FacilityColumn: "facility_id"})
	c.load(0)
	c.edge.Exec(t, `DELETE FROM log WHERE id <= 100 OR id % 7 = 0`)
	if v := c.ask(0, capture.Question{Rows: 1000}); v.Equal() || v.Mine[0].Count != v.Digest.Parts[0].Count+1 {
		t.Errorf("the region has more: %+v of %+v", v.Mine, v.Digest.Parts)
	}
	if v := c.ask(0, capture.Question{Rows: 1000, List: true}); !v.Equal() || len(v.Digest.Keys) == 0 {
		t.Errorf("different: %+v, %v", v.Different, v.Err)
	}
	c.region.Exec(t, `UPDATE log SET v = 'forged' WHERE id = 200; DELETE FROM log WHERE id = 201`)
	if v := c.ask(0, capture.Question{Rows: 1000, List: true}); len(v.Different) != 2 {
		t.Errorf("different: %+v, %v", v.Different, v.Err)
	}
	// Mending adds and corrects; it takes nothing from the region's history.
	keys := []change.Row{{[]byte("50")}, {[]byte("200")}, {[]byte("201")}}
	if err := capture.MendRows(t.Context(), c.asking, c.tables[0], keys); err != nil {
		t.Fatal(err)
	}
	if v := c.ask(0, capture.Question{Rows: 1000, List: true}); !v.Equal() {
		t.Errorf("not mended: %+v, %v", v.Different, v.Err)
	}
	var n int
	if err := c.region.Conn(t).QueryRow(t.Context(), `SELECT count(*) FROM log`).Scan(&n); err != nil || n != 500 {
		t.Errorf("%d events in the region, %v", n, err)
	}
}

func TestTypesThatDifferAreComparedAsTheSenderHasThem(t *testing.T) {
	t.Parallel()
	c := newCompared(t, `CREATE TYPE grade AS ENUM ('a', 'b'); CREATE DOMAIN code AS text;
		CREATE TABLE mixed (facility_id text, id smallint PRIMARY KEY, yes bool, word varchar(9), fixed char(5), r real, d date, n int, g grade, c code, at timestamp);
		INSERT INTO mixed VALUES ('la', 1, true, 'w ', 'ab', 0.1, '2026-01-02', 5, 'b', 'x', '2026-01-02 03:04'), ('la', 2, NULL, '', '', 1e9, NULL, -3, NULL, '', NULL)`,
		`CREATE TABLE mixed (id bigint PRIMARY KEY, yes text, word text, fixed text, r float8, d timestamptz, n numeric(10,2), g text, c text, at timestamptz, facility_id text, own int DEFAULT 4)`,
		Table{Name: "mixed", FacilityColumn: "facility_id"})
	c.load(0)
	if v := c.ask(0, capture.Question{List: true}); !v.Equal() {
		t.Fatalf("different: %+v, %v", v.Different, v.Err)
	}
	c.region.Exec(t, `UPDATE mixed SET n = 5.4 WHERE id = 1`)
	if v := c.ask(0, capture.Question{List: true}); len(v.Different) != 1 {
		t.Errorf("different: %+v, %v", v.Different, v.Err)
	}
	// A value that the sender cannot have had is no reason to stop.
	c.region.Exec(t, `UPDATE mixed SET n = 5, yes = 'perhaps' WHERE id = 1`)
	if v := c.ask(0, capture.Question{List: true}); v.Err == nil {
		t.Error("a value that is no boolean was compared")
	}
	c.region.Exec(t, `UPDATE mixed SET yes = 't' WHERE id = 1`)
	if v := c.ask(0, capture.Question{}); !v.Equal() {
		t.Errorf("%+v of %+v, %v", v.Mine, v.Digest.Parts, v.Err)
	}
}

func TestTypesWhoseTextIsLostAreSaid(t *testing.T) {
	t.Parallel()
	c := newCompared(t, `CREATE TABLE docs (facility_id text, id int PRIMARY KEY, doc json); INSERT INTO docs VALUES ('la', 1, '{"b": 1,  "a": 2}')`,
		`CREATE TABLE docs (facility_id text, id int PRIMARY KEY, doc jsonb)`, Table{Name: "docs", FacilityColumn: "facility_id"})
	c.load(0)
	v := c.ask(0, capture.Question{})
	if v.Equal() || !errors.Is(v.Err, ErrTable) {
		t.Errorf("equal %t, %v", v.Equal(), v.Err)
	}
	c.edge.Exec(t, `INSERT INTO docs VALUES ('la', 2, '{}')`)
	if v := c.ask(0, capture.Question{}); v.Err == nil || v.Position.Seq < 3 {
		t.Errorf("the stream stood still: %+v", v)
	}
}
