package uplink

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// What people change in a database that was put back without its slot, before the
// region has said that it was, replaces no newer row of the region's unseen: it
// waits, stands, and the region's version is told as a conflict.
func TestWhatIsChangedBeforeTheRegionsWordOnADatabasePutBackIsDecided(t *testing.T) {
	t.Parallel()
	const first = 1 << 32
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u, db := settledAlone(t)
	if err := u.epoch.Set(epoch.Epoch{Number: first}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `ALTER TABLE t ADD v text`)
	settle(t, u)
	markedAtSlot(t, u)
	stop := begin(t, u.Capture)
	if err := u.waitForSlot(ctx); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO t VALUES (1, 'la', 'backup'), (2, 'la', 'backup')`)
	if err := u.drained(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	before, _, _ := u.Queue.Tail()

	// The region has newer rows, and the database no slot any more.
	if err := capture.DropSlot(ctx, db.Conn(t), Slot); err != nil {
		t.Fatal(err)
	}
	c := u.Config
	c.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: func() *apply.Registry { return u.Registry() },
		Local:    unseen.New(u.Queue, func(ctx context.Context) error { return u.Settled(ctx) }),
		Restored: func() (restored, whole bool) { return u.Restored() }, Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	u, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []func(context.Context) error{u.Down.Run, u.Tables, u.Capture} {
		begin(t, part)
	}
	if err := u.waitForSlot(ctx); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `UPDATE t SET v = 'edited' WHERE id = 1`)
	if err := u.drained(ctx); err != nil {
		t.Fatal(err)
	}
	if tail, _, _ := u.Queue.Tail(); tail.Epoch != first+1 {
		t.Fatalf("the edit is in the queue at %s", tail)
	}
	hellos, links := regionThat(t, u, func(h *proto.Hello) proto.Welcome {
		w := proto.Welcome{Version: 2, Epoch: before.Epoch, Seq: before.Seq, WindowBytes: 1 << 20, WentBack: !h.Restored, Restoring: h.Restored, Tables: synced("t")}
		if h.Restored {
			w.DownEpoch = 7
		}
		return w
	})
	begin(t, u.Transfer)
	var link *transfer.Link
	for link == nil {
		h, l := <-hellos, <-links
		if h.Restored {
			link = l
			continue
		}
		if f := nextFrame(l); f != nil {
			t.Fatalf("%d:%d leaves before the region's rows have come", f.Epoch, f.First)
		}
	}
	frames := make(chan *change.Header, 100)
	var reads sync.WaitGroup
	reads.Go(func() {
		defer close(frames)
		for f := nextFrame(link); f != nil; f = nextFrame(link) {
			frames <- f
		}
	})
	defer reads.Wait()
	defer link.Close()
	sendRange(t, link, 40, before.String(), []change.Row{row(1, "newer"), row(2, "newer")})
	for u.Down.State().Position.Seq != 40 {
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("the region's rows are not decided: %+v", u.Down.State())
		}
	}
	if got, want := lines(t, db, `SELECT v FROM t ORDER BY id`), []string{"edited", "newer"}; !slices.Equal(got, want) {
		t.Errorf("the box has %q, want %q", got, want)
	}
	told := []string{"1 update_origin_differs edge edited newer", "2 update_origin_differs cloud backup newer"}
	if got := lines(t, db, `SELECT concat_ws(' ', key->>'id', kind, decision, edge_row->>'v', cloud_row->>'v') FROM holdfast.conflict ORDER BY 1`); !slices.Equal(got, told) {
		t.Errorf("conflicts are %q, want %q", got, told)
	}
	select {
	case f := <-frames:
		t.Fatalf("%d:%d leaves before the region's rows have come", f.Epoch, f.First)
	default:
	}
	if err := link.Send(proto.TypeHeal, &proto.Heal{Restored: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-frames:
		if f == nil || f.Epoch != first+1 || f.First != 1 {
			t.Errorf("the first that leaves is %+v, want the edit", f)
		}
	case <-ctx.Done():
		t.Error("the edit does not leave")
	}
}

// nextFrame returns the header of the next frame that a link brings, nil when it ends.
func nextFrame(l *transfer.Link) *change.Header {
	for {
		_, msg, err := l.Receive()
		if err != nil {
			return nil
		}
		if b, ok := msg.([]byte); ok {
			if f, err := change.Parse(b); err == nil {
				return &f.Header
			}
		}
	}
}
