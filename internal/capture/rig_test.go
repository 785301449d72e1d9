package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
)

const testEpoch = uint64(1) << 32

// patience is for machines that do much else.
const patience = 3 * time.Minute

// rig is a database, a queue and a capture between them.
type rig struct {
	db    *pgtest.DB
	queue *queue.Queue
	opts  queue.Options
	slot  string
	cfg   Config
	limit int // Capture.maxChangePacked

	capture *Capture
	cancel  context.CancelFunc
	done    chan error
	cursor  *queue.Cursor
}

var slots atomic.Int64

// newRig makes the tables, publishes the named ones, and starts capture.
func newRig(t testing.TB, db *pgtest.DB, ddl string, tables ...Table) *rig {
	t.Helper()
	return newRigWith(t, db, Config{}, ddl, tables...)
}

func newRigWith(t testing.TB, db *pgtest.DB, cfg Config, ddl string, tables ...Table) *rig {
	t.Helper()
	if ddl != "" {
		db.Exec(t, ddl)
	}
	r := &rig{db: db, slot: fmt.Sprintf("holdfast_%d", slots.Add(1)), cfg: cfg, opts: queue.Options{Dir: t.TempDir()}}
	r.publish(t, tables...)
	r.open(t)
	info, err := EnsureSlot(t.Context(), db.Conn(t), r.slot)
	if err != nil || !info.Created {
		t.Fatalf("ensure slot: %+v, %v", info, err)
	}
	if err := r.queue.Mark(info.ConfirmedFlush); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.cursor = r.queue.Cursor(change.Position{})
	return r
}

func (r *rig) open(t testing.TB) {
	t.Helper()
	q, err := queue.Open(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	r.queue = q
	t.Cleanup(func() { q.Close() })
}

func (r *rig) publish(t testing.TB, tables ...Table) {
	t.Helper()
	if err := EnsurePublications(t.Context(), r.db.Conn(t), tables); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) start(t testing.TB) {
	t.Helper()
	cfg := r.cfg
	cfg.ConnString, cfg.Slot, cfg.Next = r.db.ConnString(), r.slot, change.Position{Epoch: testEpoch, Seq: 1}
	if tail, _, ok := r.queue.Tail(); ok {
		cfg.Next = change.Position{Epoch: tail.Epoch, Seq: tail.Seq + 1}
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c, err := New(cfg, r.queue)
	if err != nil {
		t.Fatal(err)
	}
	if r.limit > 0 {
		c.maxChangePacked = r.limit
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.capture, r.cancel, r.done = c, cancel, make(chan error, 1)
	done := r.done
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// stop ends capture and returns what Run returned.
func (r *rig) stop() error {
	r.cancel()
	err := <-r.done
	r.done <- err
	return err
}

// frame returns the next frame and its body.
func (r *rig) frame(t testing.TB) (change.Sealed, *change.Body) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f, err := r.cursor.Next(ctx)
	if err != nil {
		t.Fatalf("next frame after %s: %v (capture: %+v)", r.cursor.Position(), err, r.capture.Stats())
	}
	b, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	return f, b
}

// changes returns the next n changes, one line each.
func (r *rig) changes(t testing.TB, n int) []string {
	t.Helper()
	var lines []string
	for len(lines) < n {
		_, b := r.frame(t)
		for _, tx := range b.Txs {
			for i := range tx.Changes {
				lines = append(lines, line(b, &tx.Changes[i]))
			}
		}
	}
	return lines
}

// expect fails unless exactly these changes come next.
func (r *rig) expect(t testing.TB, want ...string) {
	t.Helper()
	got := r.changes(t, len(want))
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing %s", want[i])
		case i >= len(want):
			t.Errorf("too many: %s", got[i])
		case got[i] != want[i]:
			t.Errorf("change %d is\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
}

// line is a change for people: op table key→ name=value ….
func line(b *change.Body, c *change.Change) string {
	table := &b.Tables[c.Table]
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", c.Op, table.ID())
	if c.Key != nil {
		fmt.Fprintf(&s, " [%s]", text(c.Key))
	}
	if c.Row != nil {
		fmt.Fprintf(&s, " (%s)", text(c.Row))
	}
	for _, a := range c.Absent {
		fmt.Fprintf(&s, " -%s", table.Columns[a].Name)
	}
	if g := c.Range; g != nil {
		fmt.Fprintf(&s, " after [%s] up to [%s] %d rows", text(g.After), text(g.UpTo), len(g.Rows))
	}
	return s.String()
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

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	look, deadline := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-look.C:
		}
	}
}

func (r *rig) slotInfo(t testing.TB, conn *pgx.Conn) SlotInfo {
	t.Helper()
	info, ok, err := ReadSlot(t.Context(), conn, r.slot)
	if err != nil || !ok {
		t.Fatalf("slot: %t, %v", ok, err)
	}
	return info
}

func wantGap(t testing.TB, err error) *GapError {
	t.Helper()
	var gap *GapError
	if !errors.As(err, &gap) {
		t.Fatalf("run: %v, want a gap", err)
	}
	return gap
}
