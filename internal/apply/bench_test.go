package apply

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// The backlog of docs/bench.md: 480 k inserts and 80 k updates in 160 k
// transactions, UUID keys, two indexes.
const (
	backlogTxs = 160_000
	frameTxs   = 1000
	backlogDDL = `CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text NOT NULL, customer text, quantity int, created_at timestamptz, notes text);
CREATE INDEX ON orders (facility_id, created_at);`
)

var benchOrders = table("public", "orders", key("id", "uuid"), col("facility_id", "text"), col("customer", "text"),
	col("quantity", "integer"), col("created_at", "timestamp with time zone"), col("notes", "text"))

func backlog(b *testing.B, txs int) []change.Sealed {
	rng := rand.New(rand.NewPCG(1, 2))
	from := newSender(b, benchOrders)
	var ids [][]byte
	made := func(id []byte, n int) change.Row {
		return change.Row{
			id, []byte("la"), fmt.Appendf(nil, "customer %d", n%977), fmt.Append(nil, n%50),
			fmt.Appendf(nil, "2026-11-23 02:%02d:%02d.%06d+00", n/60000%60, n/1000%60, n%1000*1000), []byte("two pallets of corrugated boxes, ring before noon"),
		}
	}
	var frames []change.Sealed
	n := 0
	for len(frames)*frameTxs < txs {
		var list [][]change.Change
		for i := range frameTxs {
			var c []change.Change
			for range 3 {
				var u [16]byte
				binary.BigEndian.PutUint64(u[:], rng.Uint64())
				binary.BigEndian.PutUint64(u[8:], rng.Uint64())
				id := fmt.Appendf(nil, "%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
				ids = append(ids, id)
				n++
				c = append(c, change.Change{Op: change.Insert, Row: made(id, n)})
			}
			if i%2 == 0 {
				n++
				c = append(c, change.Change{Op: change.Update, Row: made(ids[rng.IntN(len(ids))], n)})
			}
			list = append(list, c)
		}
		frames = append(frames, from.frame(list...))
	}
	return frames
}

// cpuSeconds is what the server's processes and this one have used so far: it
// says more than the time where the machine does other things as well.
func cpuSeconds(b *testing.B, postmaster int) (server, self float64) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		var ppid int
		var user, system float64
		fmt.Sscan(f[1], &ppid)
		fmt.Sscan(f[11]+" "+f[12], &user, &system)
		switch {
		case ppid == postmaster:
			server += (user + system) / 100
		case strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", os.Getpid())):
			self = (user + system) / 100
		}
	}
	return server, self
}

// drain applies frames and reports the rate.
func drain(b *testing.B, db *pgtest.Server, r *region, frames []change.Sealed, changes int) {
	patience = 10 * time.Minute
	b.ResetTimer()
	server0, self0 := cpuSeconds(b, db.PID())
	s := r.stream("la")
	began := time.Now()
	for _, f := range frames {
		if err := s.Push(context.Background(), f); err != nil {
			b.Fatal(err)
		}
	}
	s.untilApplied(frames[len(frames)-1].Header.Last)
	took := time.Since(began)
	b.StopTimer()
	server, self := cpuSeconds(b, db.PID())
	b.ReportMetric(server-server0, "server-cpu-s")
	b.ReportMetric(self-self0, "own-cpu-s")
	s.untilDurable(frames[len(frames)-1].Header.Last)
	b.ReportMetric(float64(changes)/took.Seconds(), "changes/s")
	b.ReportMetric(took.Seconds(), "s")
	b.ReportMetric(float64(s.commits), "commits")
	if len(s.stuck) > 0 {
		b.Fatal(s.stuck)
	}
}

func benchServer(b *testing.B) *pgtest.Server {
	return pgtest.Cluster(b, pgtest.Options{Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "4GB",
		"checkpoint_timeout": "30min", "wal_level": "replica", "max_wal_senders": "0",
	}})
}

func BenchmarkDrainBacklog(b *testing.B) {
	txs := backlogTxs
	if testing.Short() {
		txs /= 8
	}
	frames := backlog(b, txs)
	for range b.N {
		db := benchServer(b)
		db.Exec(b, coreSQL+backlogDDL)
		r := newRegion(b, db.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"})
		drain(b, db, r, frames, txs*7/2)
		var n int
		if err := db.Conn(b).QueryRow(context.Background(), "SELECT count(*) FROM orders").Scan(&n); err != nil || n != txs*3 {
			b.Fatal(n, err)
		}
	}
}

var benchPgbench = []change.Table{
	table("public", "pgbench_accounts", key("aid", "integer"), col("bid", "integer"), col("abalance", "integer"), col("filler", "character")),
	table("public", "pgbench_tellers", key("tid", "integer"), col("bid", "integer"), col("tbalance", "integer"), col("filler", "character")),
	table("public", "pgbench_branches", key("bid", "integer"), col("bbalance", "integer"), col("filler", "character")),
	table("public", "pgbench_history", col("tid", "integer"), col("bid", "integer"), col("aid", "integer"), col("delta", "integer"),
		col("mtime", "timestamp without time zone"), col("filler", "character")),
}

func BenchmarkDrainPgbench(b *testing.B) {
	txs, scale := 100_000, 100
	if testing.Short() {
		txs, scale = 20_000, 20
	}
	rng := rand.New(rand.NewPCG(1, 2))
	from := newSender(b, benchPgbench...)
	var frames []change.Sealed
	filler := fmt.Sprintf("%-84s", "")
	for range txs / frameTxs {
		var list [][]change.Change
		for range frameTxs {
			aid, tid, delta := rng.IntN(scale*100_000)+1, rng.IntN(scale*10)+1, rng.IntN(10000)-5000
			bid := (tid-1)/10 + 1
			list = append(list, []change.Change{
				upd(0, aid, (aid-1)/100_000+1, delta, filler), upd(1, tid, bid, delta, nil),
				upd(2, bid, delta, nil), ins(3, tid, bid, aid, delta, "2026-11-23 02:14:05.123456", nil),
			})
		}
		frames = append(frames, from.frame(list...))
	}
	for range b.N {
		db := benchServer(b)
		db.Exec(b, coreSQL+`CREATE SCHEMA la;
CREATE UNLOGGED TABLE la.pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
CREATE TABLE la.pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE la.pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE la.pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
INSERT INTO la.pgbench_accounts SELECT i, (i - 1) / 100000 + 1, 0, '' FROM generate_series(1, 100000 * `+fmt.Sprint(scale)+`) i;
INSERT INTO la.pgbench_tellers SELECT i, (i - 1) / 10 + 1, 0 FROM generate_series(1, 10 * `+fmt.Sprint(scale)+`) i;
INSERT INTO la.pgbench_branches SELECT i, 0 FROM generate_series(1, `+fmt.Sprint(scale)+`) i;
ALTER TABLE la.pgbench_accounts ADD PRIMARY KEY (aid);
ALTER TABLE la.pgbench_accounts SET LOGGED;
`)
		db.Exec(b, "VACUUM ANALYZE")
		db.Exec(b, "CHECKPOINT")
		var tables []Table
		for _, t := range benchPgbench {
			tables = append(tables, Table{Name: t.Name, TargetSchema: "{facility}"})
		}
		tables[3].Class = Event
		drain(b, db, newRegion(b, db.ConnString(), tables...), frames, txs*4)
	}
}

// BenchmarkOneChange is the time from Push to visible for one small frame.
func BenchmarkOneChange(b *testing.B) {
	db := benchServer(b)
	db.Exec(b, coreSQL+backlogDDL)
	frames := backlog(b, frameTxs)
	_ = frames
	r := newRegion(b, db.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"})
	from := newSender(b, benchOrders)
	s := r.stream("la")
	n := 0
	for b.Loop() {
		n++
		id := fmt.Appendf(nil, "00000000-0000-0000-0000-%012d", n)
		s.push(from.frame([]change.Change{{Op: change.Insert, Row: change.Row{id, []byte("la"), []byte("c"), []byte("1"), nil, nil}}}))
		s.untilApplied(from.seq)
	}
}

// BenchmarkFold is the work beside the database: unpack, fold, encode.
func BenchmarkFold(b *testing.B) {
	frames := backlog(b, 20*frameTxs)
	db := benchServer(b)
	db.Exec(b, coreSQL+backlogDDL)
	r := newRegion(b, db.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"})
	a, err := New(context.Background(), r.pool, Config{Facility: "la", Registry: r.current})
	if err != nil {
		b.Fatal(err)
	}
	s, err := r.pool.session(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	defer s.release()
	changes := 0
	for b.Loop() {
		f := newFolded("la")
		res := resolver{applier: a}
		for i := range frames[:5] {
			body, err := frames[i].Open()
			if err != nil {
				b.Fatal(err)
			}
			for j := range body.Txs {
				if err := res.fold(context.Background(), s, f, &txRef{tx: &body.Txs[j], body: body}); err != nil {
					b.Fatal(err)
				}
				changes += len(body.Txs[j].Changes)
			}
		}
		f.prepare()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(changes), "ns/change")
}

// BenchmarkSmallFrames is what one frame after the other costs: two of the
// workers' transactions each, in four tables.
func BenchmarkSmallFrames(b *testing.B) {
	const frames, items = 3000, 500
	tables := []change.Table{
		table("public", "orders", key("id", "uuid"), col("facility_id", "text"), col("customer", "text"), col("quantity", "integer")),
		table("public", "lines", key("id", "uuid"), col("facility_id", "text"), col("order_id", "uuid"), col("what", "text")),
		table("public", "items", key("id", "integer"), col("facility_id", "text"), col("quantity", "integer"), col("updated_at", "timestamp with time zone")),
		table("public", "moves", key("id", "uuid"), col("facility_id", "text"), col("item", "integer"), col("delta", "integer")),
	}
	uuid := func(n int) string { return fmt.Sprintf("%08x-9c0b-4ef8-bb6d-%012x", n*2654435761%(1<<32), n) }
	for range b.N {
		db := benchServer(b)
		db.Exec(b, coreSQL+`CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text NOT NULL, customer text, quantity int);
CREATE TABLE lines (id uuid PRIMARY KEY, facility_id text NOT NULL, order_id uuid, what text);
CREATE INDEX ON lines (order_id);
CREATE TABLE items (id int PRIMARY KEY, facility_id text NOT NULL, quantity int, updated_at timestamptz);
CREATE TABLE moves (id uuid PRIMARY KEY, facility_id text NOT NULL, item int, delta int);`+
			fmt.Sprintf(`INSERT INTO items SELECT i, 'la', 1000, now() FROM generate_series(0, %d) i; ANALYZE items`, items-1))
		var list []Table
		for _, t := range tables {
			list = append(list, Table{Name: t.Name, FacilityColumn: "facility_id"})
		}
		r := newRegion(b, db.ConnString(), list...)
		from, s := newSender(b, tables...), r.stream("la")
		b.ResetTimer()
		server0, self0 := cpuSeconds(b, db.PID())
		n := 0
		for range frames {
			var txs [][]change.Change
			for range 2 {
				n += 4
				txs = append(txs, []change.Change{
					ins(0, uuid(n), "la", "Bluebird Coffee Roasters", 40), ins(1, uuid(n+1), "la", uuid(n), "B flute board"), ins(1, uuid(n+2), "la", uuid(n), "two-colour print"),
					upd(2, n/4*7%items, "la", 900, "2026-11-23 02:14:05.123456+00"), ins(3, uuid(n+3), "la", n%items, -40),
				})
			}
			s.push(from.frame(txs...))
			s.untilApplied(from.seq)
		}
		server, self := cpuSeconds(b, db.PID())
		b.ReportMetric((server-server0)/frames*1e6, "server-cpu-µs/frame")
		b.ReportMetric((self-self0)/frames*1e6, "own-cpu-µs/frame")
	}
}
