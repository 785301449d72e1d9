package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// nowhere takes frames and forgets them.
type nowhere struct {
	tail change.Position
	lsn  uint64
}

func (n *nowhere) Append(f ...change.Sealed) error {
	h := f[len(f)-1].Header
	n.tail, n.lsn = change.Position{Epoch: h.Epoch, Seq: h.Last}, h.LSN
	return nil
}
func (n *nowhere) Mark(uint64) error                     { return nil }
func (n *nowhere) Marked() uint64                        { return 0 }
func (n *nowhere) Tail() (change.Position, uint64, bool) { return n.tail, n.lsn, n.tail.Seq > 0 }

// benchRelation is a table of six columns, announced.
func benchRelation(s *stream) {
	cols := []change.Column{
		{Name: "id", Type: "uuid", Key: true},
		{Name: "facility_id", Type: "text"},
		{Name: "customer", Type: "text"},
		{Name: "quantity", Type: "integer"},
		{Name: "created_at", Type: "timestamp with time zone"},
		{Name: "notes", Type: "text"},
	}
	s.relations[7] = &relation{table: change.Table{Schema: "public", Name: "orders", Columns: cols}, key: []int{0}}
}

func walData(p []byte) []byte {
	return append(make([]byte, 0, 25+len(p)), append(append([]byte{'w'}, make([]byte, 24)...), p...)...)
}

func insertMessage(id int) []byte {
	p := binary.BigEndian.AppendUint32([]byte{'I'}, 7)
	p = append(p, 'N', 0, 6)
	for _, v := range []string{fmt.Sprintf("%08x-9c0b-4ef8-bb6d-%012x", id*2654435761%(1<<32), id*40503), "la", fmt.Sprint("customer ", id%977), fmt.Sprint(id % 500), "2026-11-23 02:14:05.123456+00"} {
		p = append(p, 't')
		p = binary.BigEndian.AppendUint32(p, uint32(len(v)))
		p = append(p, v...)
	}
	return walData(append(p, 'n'))
}

// BenchmarkDecodeAndSeal is what one core does to changes that are there:
// transactions of three rows.
func BenchmarkDecodeAndSeal(b *testing.B) {
	s := benchStream(b)
	begin, commit := beginMessage(), commitMessage()
	messages := make([][]byte, 3000)
	for i := range messages {
		messages[i] = insertMessage(i)
	}
	b.ReportAllocs()
	n, bytes := 0, 0
	for b.Loop() {
		for i := 0; i < len(messages); i += 3 {
			for _, m := range [][]byte{begin, messages[i], messages[i+1], messages[i+2], commit} {
				s.mu.Lock()
				err := s.message(context.Background(), m)
				s.mu.Unlock()
				if err != nil {
					b.Fatal(err)
				}
			}
			n += 3
		}
		if !s.full() {
			continue
		}
		t, _ := s.take(time.Now())
		frames, err := s.seal(t)
		if err != nil {
			b.Fatal(err)
		}
		bytes += len(frames[0].Bytes)
		s.recycle(t.b)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(float64(bytes)/float64(n), "bytes/change")
}

// BenchmarkDrain reads a backlog from a real slot into a real queue.
func BenchmarkDrain(b *testing.B) {
	db := pgtest.New(b)
	r := newRig(b, db, `CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text, customer text, quantity int, created_at timestamptz, notes text)`,
		Table{Schema: "public", Name: "orders"})
	const txs, rows = 40_000, 3
	for b.Loop() {
		b.StopTimer()
		r.stop()
		db.Exec(b, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
			INSERT INTO orders SELECT gen_random_uuid(), 'la', 'customer ' || (i %% 977), i %% 500, now(), NULL FROM generate_series(1, %d); COMMIT; END LOOP; END $$`, txs, rows))
		eventually(b, "the slot is free", func() bool { return !r.slotInfo(b, db.Conn(b)).Active })
		before, cpu := r.queue.Stats(), cpuTime(b)
		b.StartTimer()
		r.start(b)
		eventually(b, "all is in the queue", func() bool { return r.queue.Stats().Last == before.Last+txs })
		s := r.queue.Stats()
		b.ReportMetric(float64(s.Bytes-before.Bytes)/(txs*rows), "bytes/change")
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/(txs*rows), "cpu_ns/change")
	}
	b.ReportMetric(float64(txs*rows*b.N)/b.Elapsed().Seconds(), "changes/s")
}

// cpuTime is what this process has used, without the server.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOnlineLatency is the time from a worker's commit to the durable
// queue, at 200 transactions a second.
func BenchmarkOnlineLatency(b *testing.B) {
	db := pgtest.New(b)
	r := newRig(b, db, `CREATE TABLE t (id int PRIMARY KEY, v text)`, Table{Schema: "public", Name: "t"})
	conn := db.Conn(b)
	if _, err := conn.Exec(b.Context(), `SET synchronous_commit = on`); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	n := 0
	for b.Loop() {
		<-pace.C
		n++
		if _, err := conn.Exec(b.Context(), `INSERT INTO t VALUES ($1, 'x')`, n); err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		if _, err := r.cursor.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50_µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99_µs")
}

// BenchmarkPassOver reads a backlog that the other side wrote: what the
// region's own reader does while facilities send.
func BenchmarkPassOver(b *testing.B) {
	db := pgtest.New(b)
	r := newRigWith(b, db, Config{Origins: true}, `CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text, customer text, quantity int, created_at timestamptz, notes text)`,
		Table{Schema: "public", Name: "orders"})
	const txs, rows = 100, 3000
	for b.Loop() {
		b.StopTimer()
		r.stop()
		db.Exec(b, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP PERFORM pg_logical_emit_message(true, 'holdfast', 'up la 4294967296:' || i);
			INSERT INTO orders SELECT gen_random_uuid(), 'la', 'customer ' || (i %% 977), i %% 500, now(), NULL FROM generate_series(1, %d); COMMIT; END LOOP; END $$`, txs, rows))
		eventually(b, "the slot is free", func() bool { return !r.slotInfo(b, db.Conn(b)).Active })
		before, cpu := r.queue.Stats(), cpuTime(b)
		b.StartTimer()
		r.start(b)
		eventually(b, "all is read", func() bool { return r.queue.Stats().Last == before.Last+txs })
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/(txs*rows), "cpu_ns/change")
	}
	b.ReportMetric(float64(txs*rows*b.N)/b.Elapsed().Seconds(), "changes/s")
}
