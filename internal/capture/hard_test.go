package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
)

func TestHugeTransactionNeedsBoundedMemory(t *testing.T) {
	db := pgtest.New(t)
	r := newRig(t, db, `CREATE TABLE big (id int PRIMARY KEY, a text, b text)`, Table{Schema: "public", Name: "big"})
	const rows = 300_000
	debug.FreeOSMemory()
	var most atomic.Uint64
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	db.Exec(t, fmt.Sprintf(`INSERT INTO big SELECT i, 'customer ' || i, md5(i::text) FROM generate_series(1, %d) i`, rows))
	db.Exec(t, `INSERT INTO big VALUES (0, 'after', '')`)
	var got, parts uint32
	for {
		f, b := r.frame(t)
		if f.Header.First == 2 {
			if text(b.Txs[0].Changes[0].Row) != "0|after|" {
				t.Errorf("after it: %+v", b.Txs[0].Changes[0])
			}
			break
		}
		h := f.Header
		if h.First != 1 || h.Last != 1 || h.Part != parts || h.Changes > DefaultFrameChanges || len(b.Txs) != 1 || h.More != (h.LSN == 0) {
			t.Fatalf("part %d: %+v", parts, h)
		}
		for i := range b.Txs[0].Changes {
			got++
			if id := string(b.Txs[0].Changes[i].Row[0]); id != fmt.Sprint(got) {
				t.Fatalf("row %s where %d belongs", id, got)
			}
		}
		parts++
	}
	close(done)
	watch.Wait()
	if got != rows || parts < rows/DefaultFrameChanges {
		t.Errorf("%d rows in %d parts", got, parts)
	}
	if mb := most.Load() >> 20; mb > 100 {
		t.Errorf("%d MB of heap in use", mb)
	}
}

// TestTagAtTheEndOfAHugeTransaction: parts of it are in the queue before it
// shows that it came from the other side.
func TestTagAtTheEndOfAHugeTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `INSERT INTO t VALUES (-1)`)
	r.expect(t, "insert public.t (-1)")
	r.db.Exec(t, `BEGIN; INSERT INTO t SELECT generate_series(1, 50000); SELECT pg_logical_emit_message(true, 'holdfast', ''); COMMIT`)
	r.db.Exec(t, `INSERT INTO t VALUES (0)`)
	r.db.Exec(t, `BEGIN; INSERT INTO t SELECT generate_series(100001, 130000); COMMIT; INSERT INTO t VALUES (-2)`)
	r.expect(t, "insert public.t (0)")
	got := r.changes(t, 30001)
	if got[0] != "insert public.t (100001)" || got[30000] != "insert public.t (-2)" {
		t.Errorf("%s … %s", got[0], got[30000])
	}
	if tail, _, _ := r.queue.Tail(); tail.Seq != 4 {
		t.Errorf("tail %s", tail)
	}
}

// Whoever looks a row up in the queue opens one part of its transaction, and must learn
// there who made it, and whether it was only sent back.
func TestEachPartOfAHugeTransactionSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	table := change.Table{Schema: "public", Name: "t", Columns: []change.Column{{Name: "id", Type: "integer", Key: true}}}
	sent, err := change.EncodeRow(&table, &change.Change{Op: change.Delete, Key: change.Row{[]byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ said, rows, want string }{
		{`('holdfast.author', 'bob'), ('holdfast.author', 'ann')`, `INSERT INTO t SELECT generate_series(1, 50000)`, "by ann"},
		{`('holdfast', ''), ('holdfast.author', 'ann')`, fmt.Sprintf(`SELECT pg_logical_emit_message(true, 'holdfast.row', '\x%x'::bytea) FROM generate_series(1, 50000)`, sent), "back 1, by ann"},
	} {
		r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
		r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, p, w) FROM (VALUES `+c.said+`) AS v (p, w); `+c.rows+`; COMMIT`)
		for part, more := uint32(0), true; more; part++ {
			f, b := r.frame(t)
			said := map[string]string{}
			for i := range b.Txs[0].Changes {
				if n := b.Txs[0].Changes[i]; n.Op == change.Note {
					said[string(n.Row[0])] = string(n.Row[1])
				}
			}
			var words []string
			for _, word := range slices.Sorted(maps.Keys(said)) {
				words = append(words, word+" "+said[word])
			}
			if got := strings.Join(words, ", "); got != c.want || f.Header.Part != part {
				t.Errorf("part %d (%d) says %q, want %q", f.Header.Part, part, got, c.want)
			}
			if more = f.Header.More; !more && part == 0 {
				t.Error("it has one part")
			}
		}
	}
}

func TestForeignRangeMessageHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.range', 'junk'); INSERT INTO t VALUES (1); COMMIT`)
	r.expect(t, "insert public.t (1)")
}

func TestRowThatNoFrameHoldsIsLeftOutAndTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TABLE t (id int PRIMARY KEY, v bytea)`, table)
	r.stop()
	r.limit = 1 << 20
	told := make(chan string, 10)
	r.cfg.OnLeftOut = func(l LeftOut) { told <- l.Reason.Text(l.Table.ID(), 1, []string{l.KeyText()}) }
	noise := make([]byte, 2<<20)
	source := rand.NewChaCha8([32]byte{1})
	if _, err := source.Read(noise); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO t VALUES (1, '')`)
	db.Exec(t, `INSERT INTO t VALUES (2, $1)`, noise)
	db.Exec(t, `INSERT INTO t VALUES (3, ''); INSERT INTO t VALUES (4, repeat('x', 4 << 20)::bytea)`)
	r.start(t)
	got := r.changes(t, 3)
	for i, want := range []string{"insert public.t (1|", "insert public.t (3|", `insert public.t (4|\x7878`} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("change %d: %.60s", i, got[i])
		}
	}
	if err := LoadTable(t.Context(), db.Conn(t), table, nil, nil); err != nil {
		t.Fatal(err)
	}
	loaded := map[string]bool{}
	for r.capture.Stats().LeftOut < 2 || len(loaded) < 3 {
		_, b := r.frame(t)
		for _, tx := range b.Txs {
			for i := range tx.Changes {
				for _, row := range tx.Changes[i].Range.Rows {
					loaded[string(row[0])] = true
				}
			}
		}
	}
	if loaded["2"] || !loaded["1"] || !loaded["3"] || !loaded["4"] {
		t.Errorf("loaded %v", loaded)
	}
	for range 2 { // once as a change, once in the load
		if got := <-told; got != "a row of public.t is too large to be sent and was left out: (2)" {
			t.Errorf("told: %s", got)
		}
	}
}

func TestFullDiskBlocksNobodyAndRecovers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	write := &fault.Point{Name: "queue.write"}
	r := &rig{db: db, slot: fmt.Sprintf("holdfast_%d", slots.Add(1)), opts: queue.Options{Dir: t.TempDir(), WriteFault: write}}
	r.publish(t, Table{Schema: "public", Name: "t"})
	r.open(t)
	conn := db.Conn(t)
	info, err := EnsureSlot(t.Context(), conn, r.slot)
	if err == nil {
		err = r.queue.Mark(info.ConfirmedFlush)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The server drops a client that it does not hear from.
	db.Exec(t, `ALTER ROLE postgres IN DATABASE `+db.Name+` SET wal_sender_timeout = '10s'`)
	r.start(t)
	r.cursor = r.queue.Cursor(change.Position{})
	db.Exec(t, `INSERT INTO t VALUES (1, 'x')`)
	r.expect(t, "insert public.t (1|x)")
	eventually(t, "the server knows that it is durable", func() bool {
		_, lsn, _ := r.queue.Tail()
		return r.slotInfo(t, conn).ConfirmedFlush >= lsn
	})
	write.Break(syscall.ENOSPC)
	db.Exec(t, `INSERT INTO t SELECT i, repeat('y', 100) FROM generate_series(2, 100000) i`)
	eventually(t, "capture says that it is blocked", func() bool {
		s := r.capture.Stats()
		return s.State == Blocked && errors.Is(s.Err, syscall.ENOSPC)
	})
	before := r.slotInfo(t, conn)
	began := time.Now()
	eventually(t, "the server's patience is over", func() bool { return time.Since(began) > 15*time.Second })
	if n := r.capture.Stats().Connects; n != 1 {
		t.Errorf("the server dropped the connection: %d connects", n)
	}
	if now := r.slotInfo(t, conn); !now.Active || now.ConfirmedFlush != before.ConfirmedFlush {
		t.Errorf("slot %+v, was %+v", now, before)
	}
	write.Heal()
	if got := r.changes(t, 99_999); !strings.HasPrefix(got[99_998], "insert public.t (100000|") {
		t.Error(got[99_998])
	}
	eventually(t, "capture streams again", func() bool { return r.capture.Stats().State == Streaming })
}

// TestOnceAndInOrderAcrossCrashes kills the server and the reader at random
// moments while workers commit.
func TestOnceAndInOrderAcrossCrashes(t *testing.T) {
	t.Parallel()
	server := pgtest.Cluster(t, pgtest.Options{})
	dir := t.TempDir()
	r := &rig{db: server.DB, slot: "holdfast_crash", opts: queue.Options{Dir: dir, SegmentBytes: 256 << 10, KeepBytes: 1 << 30}}
	server.Exec(t, `CREATE TABLE t (w int, n int, part int, v text, PRIMARY KEY (w, n, part))`)
	r.publish(t, Table{Schema: "public", Name: "t"})
	r.open(t)
	info, err := EnsureSlot(t.Context(), server.Conn(t), r.slot)
	if err == nil {
		err = r.queue.Mark(info.ConfirmedFlush)
	}
	if err == nil {
		err = r.queue.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	const writers = 3
	var committed [writers]atomic.Int64
	for w := range writers {
		workers.Go(func() { work(server.ConnString(), w, stop, &committed[w]) })
	}
	random := rand.New(rand.NewPCG(20261123, 2))
	for round := range 14 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+dir, "CAPTURE_TEST_CONN="+server.ConnString(), "CAPTURE_TEST_SLOT="+r.slot)
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(100+random.IntN(500)) * time.Millisecond) // the random moment
		if round%2 == 1 {
			server.Kill9(t)
			server.Start(t)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
	}
	close(stop)
	workers.Wait()
	r.open(t)
	if d := r.queue.Opened().Damaged; d != "" {
		t.Fatal(d)
	}
	r.start(t)
	r.cursor = r.queue.Cursor(change.Position{})
	server.Exec(t, `INSERT INTO t VALUES (-1, 0, 0, '')`)
	got := map[string]int{} // rows
	var last [writers]int
	seq := uint64(0)
	for done := false; !done; {
		f, b := r.frame(t)
		if f.Header.Part == 0 && f.Header.First != seq+1 {
			t.Fatalf("frame %+v after %d", f.Header, seq)
		}
		seq = f.Header.Last
		for _, tx := range b.Txs {
			for i := range tx.Changes {
				row := tx.Changes[i].Row
				var w, n int
				if _, err := fmt.Sscan(string(row[0])+" "+string(row[1]), &w, &n); err != nil {
					t.Fatal(err)
				}
				if done = w == -1; done {
					continue
				}
				if n < last[w] {
					t.Fatalf("writer %d's %d comes after %d", w, n, last[w])
				}
				last[w] = n
				got[text(row)]++
			}
		}
	}
	for row, n := range got {
		if n != 1 {
			t.Errorf("row %s arrived %d times", row, n)
		}
	}
	result := server.Conn(t).PgConn().ExecParams(t.Context(), `SELECT * FROM t WHERE w >= 0`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	for _, v := range result.Rows {
		if got[text(change.Row(v))] != 1 {
			t.Errorf("row %s is committed and did not arrive", text(change.Row(v)))
		}
	}
	if len(result.Rows) != len(got) || len(got) < 100 {
		t.Errorf("%d rows in the table, %d arrived", len(result.Rows), len(got))
	}
	t.Logf("%d transactions, %d rows", seq, len(got))
}

// work commits transactions of one to some thousand rows until stop.
func work(connString string, w int, stop chan struct{}, committed *atomic.Int64) {
	r := rand.New(rand.NewPCG(3, uint64(w)))
	ctx := context.Background()
	var conn *pgx.Conn
	for n := 1; ; n++ {
		select {
		case <-stop:
			if conn != nil {
				_ = conn.Close(ctx)
			}
			return
		default:
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, connString); err != nil {
				conn = nil
				continue // the server is down
			}
		}
		rows := 1
		switch r.IntN(20) {
		case 0:
			rows = 3000
		case 1:
			rows = 50
		}
		// Whether it committed when the server died, the table tells in the end.
		if _, err := conn.Exec(ctx, `INSERT INTO t SELECT $1, $2, i, 'v' || i FROM generate_series(1, $3) i`, w, n, rows); err == nil {
			committed.Add(1)
		}
	}
}

const childEnv = "CAPTURE_TEST_CHILD"

// TestMain lets the test binary be the reader that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	q, err := queue.Open(queue.Options{Dir: dir, SegmentBytes: 256 << 10, KeepBytes: 1 << 30})
	if err == nil && q.Opened().Damaged != "" {
		err = errors.New(q.Opened().Damaged)
	}
	if err == nil {
		// Small frames, so that transactions are in parts when the end comes.
		var c *Capture
		c, err = New(Config{
			ConnString: os.Getenv("CAPTURE_TEST_CONN"), Slot: os.Getenv("CAPTURE_TEST_SLOT"),
			Next: change.Position{Epoch: testEpoch, Seq: 1}, MaxFrameChanges: 500,
		}, q)
		if err == nil {
			err = c.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, "reader:", err)
	os.Exit(1)
}
