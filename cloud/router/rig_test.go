package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

// patience is for machines that do much else.
const patience = 3 * time.Minute

// Tables of the tests. Whose a loose row is, its deletion does not tell.
const ddl = `
	CREATE TABLE orders (facility_id text, id int, v text, PRIMARY KEY (facility_id, id));
	CREATE TABLE loose (id int PRIMARY KEY, facility_id text NOT NULL, v text);
	CREATE TABLE product (id int PRIMARY KEY, tenant text, v text);
	CREATE TABLE holiday (id int PRIMARY KEY, v text);
	CREATE SCHEMA own_la; CREATE TABLE own_la.note (id int PRIMARY KEY, v text);
	CREATE SCHEMA own_ny; CREATE TABLE own_ny.note (id int PRIMARY KEY, v text);`

func tables() []proto.SyncedTable {
	return []proto.SyncedTable{
		{Schema: "public", Name: "orders", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}"},
		{Schema: "public", Name: "loose", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}"},
		{Schema: "own", Name: "note", Class: "fact", RegionSchema: "{schema}_{facility}"},
		{Schema: "public", Name: "product", Class: "master", RegionSchema: "{schema}", TenantColumn: "tenant"},
		{Schema: "public", Name: "holiday", Class: "master", RegionSchema: "{schema}"},
	}
}

// rig is a region's database and a router on it.
type rig struct {
	db   *pgtest.DB
	pool *pgxpool.Pool
	c    Config

	mu         sync.Mutex
	tables     []proto.SyncedTable
	changed    chan struct{}
	facilities []Facility

	r      *Router
	cancel context.CancelFunc
	done   chan error
}

var slots atomic.Int64

func newRig(t *testing.T, facilities ...Facility) *rig {
	t.Helper()
	if len(facilities) == 0 {
		facilities = []Facility{{"la", "foo", 1}, {"ny", "foo", 1}, {"bonn", "bar", 1}}
	}
	g := &rig{db: pgtest.Migrated(t, "region", migrations.Up), changed: make(chan struct{}), facilities: facilities}
	g.pool = g.db.Pool(t)
	g.db.Exec(t, ddl)
	var ids, tenants []string
	for _, f := range facilities {
		ids, tenants = append(ids, f.ID), append(tenants, f.Tenant)
	}
	g.db.Exec(t, `INSERT INTO holdfast.facility (id, tenant, enrolments) SELECT f, t, 1 FROM unnest($1::text[], $2::text[]) u(f, t)`, ids, tenants)
	for _, e := range tables() {
		g.register(t, e)
	}
	g.c = Config{
		ConnString: g.db.ConnString(), DB: g.pool, Dir: t.TempDir(), Slot: fmt.Sprintf("holdfast_down_%d", slots.Add(1)),
		Tables: func() (proto.Tables, <-chan struct{}) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return proto.Tables{Tables: slices.Clone(g.tables)}, g.changed
		},
		Facilities: func(context.Context) ([]Facility, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return slices.Clone(g.facilities), nil
		},
	}
	if testing.Verbose() {
		g.c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return g
}

func (g *rig) register(t *testing.T, e proto.SyncedTable) {
	t.Helper()
	g.db.Exec(t, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, region_schema, tenant_column, added_by)
		VALUES ($1, $2, $3, $4, $5, $6, 'test')`, e.Schema, e.Name, e.Class, e.FacilityColumn, e.RegionSchema, e.TenantColumn)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tables = append(g.tables, e)
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *rig) start(t *testing.T) {
	t.Helper()
	r, err := New(g.c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.r, g.cancel, g.done = r, cancel, make(chan error, 1)
	done := g.done
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	wait, cancel2 := context.WithTimeout(t.Context(), patience)
	defer cancel2()
	if err := r.waitOpen(wait); err != nil {
		t.Fatalf("the way down does not open: %v, %+v", err, r.Stats())
	}
}

func (g *rig) stop(t *testing.T) {
	t.Helper()
	g.cancel()
	err := <-g.done
	g.done <- err
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// box is what a facility makes of what it gets.
type box struct {
	id, tenant string
	enrolment  int
	rig        *rig
	d          *Reader
	at         change.Position
	rows       map[string]map[string]string // table, key
	heard      []string                     // what came, in words
	seen       string
	mid        bool // within a group
}

func (g *rig) box(id, tenant string) *box {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.facilities, func(f Facility) bool { return f.ID == id })
	return &box{id: id, tenant: tenant, enrolment: g.facilities[i].Enrolments, rig: g, rows: map[string]map[string]string{}}
}

func (b *box) attach(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		d, err := b.rig.r.Attach(ctx, Facility{b.id, b.tenant, b.enrolment}, b.at)
		if errors.Is(err, ErrAhead) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b.d, b.mid = d, false
		return
	}
}

// next takes one piece, and acknowledges it once its group is whole.
func (b *box) next(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := b.d.Next(ctx)
	if errors.Is(err, ErrBehind) {
		return err
	}
	if err != nil {
		t.Fatalf("%s after %s: %v, %+v", b.id, b.at, err, b.rig.r.Stats())
	}
	if p.Prev != b.at {
		t.Fatalf("%s is at %s, the next piece follows %s", b.id, b.at, p.Prev)
	}
	body, err := p.Frame.Open()
	if err != nil {
		t.Fatal(err)
	}
	for i := range body.Txs {
		for j := range body.Txs[i].Changes {
			b.take(body, &body.Txs[i].Changes[j])
		}
	}
	b.at, b.mid = change.Position{Epoch: p.Frame.Header.Epoch, Seq: p.Frame.Header.Last}, p.More
	if !p.More {
		b.rig.r.Acked(b.id, b.at)
	}
	return nil
}

func (b *box) take(body *change.Body, c *change.Change) {
	if c.Op == change.Note {
		b.heard = append(b.heard, "note "+text(c.Row))
		if string(c.Row[0]) == change.NoteSeen {
			b.seen = string(c.Row[1])
		}
		return
	}
	t := &body.Tables[c.Table]
	rows := b.rows[t.ID()]
	if rows == nil {
		rows = map[string]string{}
		b.rows[t.ID()] = rows
	}
	key := func(row change.Row) string {
		var k change.Row
		for _, i := range t.KeyColumns() {
			k = append(k, row[i])
		}
		return text(k)
	}
	what := c.Op.String() + " " + t.ID() + " " + text(c.Row)
	switch c.Op {
	case change.Insert, change.Update:
		if c.Key != nil {
			delete(rows, text(c.Key))
		}
		rows[key(c.Row)] = text(c.Row)
	case change.Delete:
		what += text(c.Key)
		delete(rows, text(c.Key))
	case change.Truncate:
		clear(rows)
	case change.Range:
		what += fmt.Sprintf("%d rows", len(c.Range.Rows))
		for k := range rows {
			if inRange(c.Range, k) {
				delete(rows, k)
			}
		}
		for _, row := range c.Range.Rows {
			rows[key(row)] = text(row)
		}
	}
	b.heard = append(b.heard, what)
}

// inRange compares keys whose last part is a number, and whose others are equal.
func inRange(r *change.KeyRange, key string) bool {
	n := number(key)
	return (r.After == nil || n > number(text(r.After))) && (r.UpTo == nil || n <= number(text(r.UpTo)))
}

func number(key string) int {
	var n int
	fmt.Sscan(key[strings.LastIndex(key, "|")+1:], &n)
	return n
}

func text(r change.Row) string {
	v := make([]string, len(r))
	for i := range r {
		if v[i] = string(r[i]); r[i] == nil {
			v[i] = "NULL"
		}
	}
	return strings.Join(v, "|")
}

// until takes pieces until a product with this id has come, which tells that
// all before it has.
func (b *box) until(t *testing.T, id int) {
	t.Helper()
	for b.mid || b.rows["public.holiday"][fmt.Sprint(id)] == "" {
		if err := b.next(t); err != nil {
			b.d.Close()
			b.attach(t)
		}
	}
}

// mark writes what until waits for.
func (g *rig) mark(t *testing.T, id int) {
	t.Helper()
	g.db.Exec(t, `INSERT INTO holiday VALUES ($1, 'mark')`, id)
}

// replace puts another box in la's place.
func (g *rig) replace() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.facilities[0].Enrolments++
}

func (g *rig) scan(t *testing.T, v any, sql string, args ...any) {
	t.Helper()
	if err := g.pool.QueryRow(t.Context(), sql, args...).Scan(v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// until waits until a query says true.
func (g *rig) until(t *testing.T, sql string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		var yes bool
		if g.scan(t, &yes, sql); yes {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in %s: %s", patience, sql)
		}
	}
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// all are the rows that a facility should have.
func (b *box) all(t *testing.T, withoutLoose bool) map[string]string {
	t.Helper()
	want := map[string]string{}
	for table, sql := range map[string]string{
		"public.orders":  `SELECT concat_ws('|', facility_id, id, v) FROM orders WHERE facility_id = $1 AND $2 <> ''`,
		"public.loose":   `SELECT concat_ws('|', id, facility_id, v) FROM loose WHERE facility_id = $1 AND $2 <> ''`,
		"public.product": `SELECT concat_ws('|', id, coalesce(tenant, 'NULL'), v) FROM product WHERE $1 <> '' AND (tenant = $2 OR tenant IS NULL)`,
		"public.holiday": `SELECT concat_ws('|', id, v) FROM holiday WHERE $1 <> '' AND $2 <> ''`,
	} {
		if table == "public.loose" && withoutLoose {
			continue
		}
		rows, err := b.rig.pool.Query(t.Context(), sql, b.id, b.tenant)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var row string
			if err := rows.Scan(&row); err != nil {
				t.Fatal(err)
			}
			want[table+" "+row] = ""
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

// equal compares the box with the region.
func (b *box) equal(t *testing.T) {
	t.Helper()
	got, want := map[string]string{}, b.all(t, false)
	for _, table := range []string{"public.orders", "public.loose", "public.product", "public.holiday"} {
		for _, row := range b.rows[table] {
			got[table+" "+row] = ""
		}
	}
	for row := range want {
		if _, ok := got[row]; !ok {
			t.Errorf("%s lacks %s", b.id, row)
		}
	}
	for _, row := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[row]; !ok {
			t.Errorf("%s has %s", b.id, row)
		}
	}
}
