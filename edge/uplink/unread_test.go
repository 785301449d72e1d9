package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// markedAtSlot has the queue begin where the slot does, as after a stream was opened.
func markedAtSlot(t *testing.T, u *Uplink) {
	t.Helper()
	slot, err := u.ensureSlot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Queue.Remark(slot.ConfirmedFlush); err != nil {
		t.Fatal(err)
	}
}

// What a box's people changed and nobody had read when the slot was lost, or what
// gave way, is not undone by older rows that the region sends meanwhile, also when
// the tables cannot be read for a while, and when the agent is started again.
func TestWhatNobodyHasReadStandsAgainstTheRegionsRows(t *testing.T) {
	t.Parallel()
	t.Run("the slot was lost", func(t *testing.T) {
		t.Parallel()
		u, db := settledAlone(t)
		unreadStands(t, u, db, epoch.Epoch{Number: 1 << 32}, nil)
	})
	t.Run("the agent was started again", func(t *testing.T) {
		t.Parallel()
		u, db := settledAlone(t)
		markedAtSlot(t, u)
		if err := u.store.reload(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}
		unreadStands(t, u, db, epoch.Epoch{Number: 1 << 32, Reason: "lost", Unread: true}, nil)
	})
	t.Run("the box is a new one", func(t *testing.T) {
		t.Parallel()
		u, db := settledAlone(t)
		unreadStands(t, u, db, epoch.Epoch{Number: 1 << 32, Opening: true}, nil)
	})
	t.Run("the queue gave way", func(t *testing.T) {
		t.Parallel()
		u, db := settledAlone(t)
		markedAtSlot(t, u)
		unreadStands(t, u, db, epoch.Epoch{Number: 1 << 32}, func() {
			if _, err := u.gap(t.Context(), &queue.LostError{Epoch: 1 << 32, First: 1, Last: 1}); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func unreadStands(t *testing.T, u *Uplink, db *pgtest.DB, now epoch.Epoch, lose func()) {
	if err := u.epoch.Set(now); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `ALTER TABLE t ADD v text`)
	settle(t, u)
	// Unread: row 1 was changed, row 2 was deleted, row 4 was made.
	db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'down la 1:1');
		INSERT INTO t VALUES (1, 'la', 'new'), (3, 'la', 'same'), (4, 'la', 'made'); COMMIT`)
	// Nobody reads the table whole while this goes on.
	work, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = work.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := work.Exec(t.Context(), `LOCK TABLE t IN ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if lose != nil {
		lose()
	}
	u.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: u.Registry, Local: unseen.New(u.Queue, u.Settled), Restored: u.Restored,
		Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	_, list, _, err := u.store.tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, links := region(t, u, proto.Welcome{
		Version: 2, Epoch: 1 << 32, WindowBytes: 1 << 20, DownEpoch: 7,
		Tables: proto.Tables{Version: 2, Tables: []proto.SyncedTable{list[0].SyncedTable}},
	})
	begin(t, u.Capture)
	if err := u.waitForSlot(t.Context()); err != nil { // a new epoch ends the session
		t.Fatal(err)
	}
	for _, part := range []func(context.Context) error{u.Down.Run, u.Tables, u.Transfer} {
		begin(t, part)
	}
	link := <-links
	rows := func(values ...string) (list []change.Row) {
		for i, v := range values {
			list = append(list, change.Row{fmt.Append(nil, i+1), []byte("la"), []byte(v)})
		}
		return list
	}
	sendRange(t, link, 40, "4294967296:0", rows("old", "deleted", "same"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				t.Fatalf("%s: %v; %+v", what, err, u.Down.State())
			}
		}
	}
	wait("nothing comes of the region's rows", func() bool {
		s := u.Down.State()
		return s.Problem != nil || s.Position.Seq == 40
	})
	want := []string{"1 new", "3 same", "4 made"}
	if got := lines(t, db, `SELECT concat_ws(' ', id, v) FROM t ORDER BY id`); !slices.Equal(got, want) {
		t.Fatalf("the box has %q, want %q", got, want)
	}
	if p := u.Down.State().Problem; p == nil || p.Remedy == "" {
		t.Errorf("the way down does not say why it waits: %+v", p)
	}
	if err := work.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	wait("the region's rows are not decided", func() bool { return u.Down.State().Position.Seq == 40 })
	if got := lines(t, db, `SELECT concat_ws(' ', id, v) FROM t ORDER BY id`); !slices.Equal(got, want) {
		t.Errorf("the box has %q, want %q", got, want)
	}
	told := []string{"1 update_origin_differs edge old", "2 update_deleted edge deleted"}
	if got := lines(t, db, `SELECT concat_ws(' ', key->>'id', kind, decision, cloud_row->>'v') FROM holdfast.conflict ORDER BY 1`); !slices.Equal(got, told) {
		t.Errorf("conflicts are %q, want %q", got, told)
	}
	// What has seen all that is followed as ever.
	tail, _, _ := u.Queue.Tail()
	sendRange(t, link, 41, tail.String(), rows("later"))
	wait("the region's rows are not followed", func() bool { return u.Down.State().Position.Seq == 41 })
	if got := lines(t, db, `SELECT v FROM t WHERE id = 1`); !slices.Equal(got, []string{"later"}) {
		t.Errorf("row 1 is %q", got)
	}
	if err := u.Settled(ctx); err != nil || u.epoch.Get().Unread {
		t.Errorf("%v, %+v", err, u.epoch.Get())
	}
}

// sendRange sends a key range of t down.
func sendRange(t *testing.T, link *transfer.Link, seq uint64, seen string, rows []change.Row) {
	t.Helper()
	var b change.Builder
	table := b.AddTable(change.Table{Schema: "public", Name: "t", Columns: []change.Column{
		{Name: "id", Type: "integer", Key: true}, {Name: "facility", Type: "text"}, {Name: "v", Type: "text"},
	}})
	b.Begin(seq, 1)
	b.AddNote(change.NoteSeen, seen)
	b.AddRange(table, &change.KeyRange{Rows: rows})
	b.Commit(seq)
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: 7, Reason: "f:la"}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	prev := seq - 1
	if seq == 40 {
		prev = 0
	}
	if err := link.Send(proto.TypeDown, &proto.Down{PrevEpoch: 7, PrevSeq: prev, Frame: f.Bytes}); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, db *pgtest.DB, sql string) []string {
	t.Helper()
	pool := db.Pool(t)
	defer pool.Close() // whoever waits for something asks often
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}
