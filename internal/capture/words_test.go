package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

const tagged = `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'up la 4294967296:%d'); %s; COMMIT`

// words returns the next n changes as lines, notes as their words.
func (r *rig) words(t *testing.T, n int) string {
	t.Helper()
	var lines []string
	for len(lines) < n {
		_, b := r.frame(t)
		for _, tx := range b.Txs {
			for i := range tx.Changes {
				if c := &tx.Changes[i]; c.Op == change.Note {
					lines = append(lines, fmt.Sprintf("%d note %s", tx.Seq, text(c.Row)))
				} else {
					lines = append(lines, fmt.Sprintf("%d %s", tx.Seq, line(b, c)))
				}
			}
		}
	}
	return strings.Join(lines, "\n")
}

func wantWords(t *testing.T, got string, want ...string) {
	t.Helper()
	if got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestTransactionsOfTheOtherSideLeaveTheirOrigin(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, pgtest.New(t), Config{Origins: true}, `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	r.db.Exec(t, fmt.Sprintf(tagged, 1, "INSERT INTO t SELECT generate_series(1, 1000)"))
	r.db.Exec(t, fmt.Sprintf(tagged, 2, "UPDATE t SET id = -id; DELETE FROM t WHERE id < -5; TRUNCATE t"))
	r.db.Exec(t, `INSERT INTO t VALUES (7)`)
	r.db.Exec(t, fmt.Sprintf(tagged, 3, "DELETE FROM t"))
	wantWords(t, r.words(t, 4), "1 note origin|up la 4294967296:1", "2 note origin|up la 4294967296:2", "3 insert public.t (7)", "4 note origin|up la 4294967296:3")
}

func TestOriginsAloneGatherAndARealChangeDoesNotWait(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, pgtest.New(t), Config{Origins: true}, `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	for n := range 20 {
		r.db.Exec(t, fmt.Sprintf(tagged, n+1, "SELECT 1"))
	}
	began := time.Now()
	r.db.Exec(t, `INSERT INTO t VALUES (1)`)
	frames := 0
	for seen := false; !seen; frames++ {
		_, b := r.frame(t)
		last := b.Txs[len(b.Txs)-1]
		seen = last.Changes[0].Op == change.Insert
	}
	// Twenty would be one for each; how many depends on how slow this machine is.
	if took := time.Since(began); frames > 12 && took < time.Second {
		t.Errorf("%d frames in %s", frames, took)
	}
}

func TestKeptTablesAndMessagesStayIn(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, pgtest.New(t), Config{Keep: []string{"public.kept"}}, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE kept (id int PRIMARY KEY)`,
		Table{Schema: "public", Name: "t"}, Table{Schema: "public", Name: "kept"})
	table := change.Table{Schema: "public", Name: "other", Columns: []change.Column{{Name: "id", Type: "integer", Key: true}, {Name: "v", Type: "text"}}}
	emit := func(c *change.Change) string {
		b, err := change.EncodeRow(&table, c)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`SELECT pg_logical_emit_message(true, 'holdfast.row', '\x%x'::bytea);`, b)
	}
	one, two := change.Row{[]byte("1"), []byte("a")}, change.Row{[]byte("2"), nil}
	r.db.Exec(t, fmt.Sprintf(tagged, 1, "INSERT INTO t VALUES (1); INSERT INTO kept VALUES (1); "+
		emit(&change.Change{Op: change.Insert, Row: one})+emit(&change.Change{Op: change.Update, Row: two, Absent: []int{1}})+emit(&change.Change{Op: change.Delete, Key: one[:1]})+
		"UPDATE kept SET id = 2; DELETE FROM t"))
	r.db.Exec(t, fmt.Sprintf(tagged, 2, "INSERT INTO t VALUES (2); DELETE FROM t; SELECT pg_logical_emit_message(true, 'holdfast.row', 'nonsense')"))
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.author', 'nobody'); COMMIT`)
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.author', 'Ann'); SELECT pg_logical_emit_message(true, 'holdfast.to', 'la'); INSERT INTO t VALUES (3);
		SELECT pg_logical_emit_message(true, 'holdfast.author', 'Bob'); COMMIT`)
	wantWords(t, r.words(t, 10),
		"1 note back|1", "1 insert public.kept (1)", "1 insert public.other (1|a)", "1 update public.other (2|NULL) -v", "1 delete public.other [1]", "1 update public.kept [1] (2)",
		"2 note by|Ann", "2 note to|la", "2 insert public.t (3)", "2 note by|Bob")
}

func TestSettledWaitsForAllThatCommittedBefore(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, pgtest.New(t), Config{Linger: func() time.Duration { return time.Hour }}, `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	conn := r.db.Conn(t)
	for n := range uint64(50) {
		r.db.Exec(t, `INSERT INTO t VALUES ($1)`, n)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := r.capture.Settled(ctx, conn)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if tail, _, _ := r.queue.Tail(); tail.Seq != n+1 {
			t.Fatalf("after %d: the queue ends at %s", n+1, tail)
		}
	}
	if err := r.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := r.capture.Settled(t.Context(), conn); !errors.Is(err, errEnded) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSettledOutlivesAConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	conn := r.db.Conn(t)
	for n := range 5 {
		r.db.Exec(t, `INSERT INTO t VALUES ($1)`, n)
		r.db.Exec(t, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, r.slot)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := r.capture.Settled(ctx, conn)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if tail, _, _ := r.queue.Tail(); tail.Seq != uint64(n+1) {
			t.Fatalf("after %d: the queue ends at %s", n+1, tail)
		}
	}
}

// What a connection had read when it broke may be in the sink, barriers and all: the
// next one begins behind them.
func TestSettledOutlivesAConnectionThatHadReadItsBarrier(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, Table{Schema: "public", Name: "t"})
	if err := r.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c, err := New(Config{ConnString: r.db.ConnString(), Slot: r.slot, Next: change.Position{Epoch: testEpoch, Seq: 1}}, r.queue)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, look, settled := r.db.Conn(t), r.db.Conn(t), make(chan error, 1)
	go func() { settled <- c.Settled(ctx, conn) }()
	eventually(t, "the barrier is in the WAL", func() bool {
		var there bool
		err := look.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'holdfast', 'messages', 'true')
			WHERE position($2::bytea IN data) > 0)`, r.slot, []byte(BarrierPrefix)).Scan(&there)
		return err == nil && there
	})
	if err := r.queue.Mark(r.slotInfo(t, look).WAL); err != nil {
		t.Fatal(err)
	}
	run, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(run) }()
	defer func() { end(); <-ended }()
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
}
