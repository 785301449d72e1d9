package uplink

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// region answers each stream with welcome, and gives its link to the test.
func region(t *testing.T, u *Uplink, welcome proto.Welcome) (hellos <-chan *proto.Hello, links <-chan *transfer.Link) {
	t.Helper()
	return regionThat(t, u, func(*proto.Hello) proto.Welcome { return welcome })
}

// regionThat answers each stream with what greets says.
func regionThat(t *testing.T, u *Uplink, greets func(*proto.Hello) proto.Welcome) (hellos <-chan *proto.Hello, links <-chan *transfer.Link) {
	t.Helper()
	h, l := make(chan *proto.Hello, 8), make(chan *transfer.Link, 8)
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link, err := transfer.Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer link.Close()
		_, msg, err := link.ReceiveHello()
		hello, ok := msg.(*proto.Hello)
		if err != nil || !ok {
			t.Errorf("%T, %v", msg, err)
			return
		}
		welcome := greets(hello)
		if err := link.Send(proto.TypeWelcome, &welcome); err != nil {
			t.Error(err)
			return
		}
		h <- hello
		l <- link
		<-done
	}))
	t.Cleanup(func() { close(done); srv.Close() })
	u.Hub = strings.TrimPrefix(srv.URL, "http://")
	u.Dial = (&net.Dialer{}).DialContext
	return h, l
}

// begin runs a part until the test ends, or end is called.
func begin(t *testing.T, part func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = part(ctx) }) // it ends with ctx
	end = func() { cancel(); running.Wait() }
	t.Cleanup(end)
	return end
}

func TestWhatComesDownIsAppliedAndAcknowledged(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	db.Exec(t, `CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)`)
	list := []proto.SyncedTable{{Schema: "public", Name: "customers", Class: "master", RegionSchema: "{schema}"}}
	if err := u.store.replace(t.Context(), proto.Tables{Version: 2, Tables: list}); err != nil {
		t.Fatal(err)
	}
	if err := u.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: u.Registry, Local: unseen.New(u.Queue, u.Settled),
		Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	begin(t, u.Down.Run)
	if err := u.Down.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	hellos, links := region(t, u, proto.Welcome{
		Version: 2, Epoch: 1 << 32, WindowBytes: 1 << 20, DownEpoch: 7, Tables: proto.Tables{Version: 2, Tables: list},
	})
	begin(t, u.Tables) // the way down begins once these are settled
	begin(t, u.Transfer)
	if h := <-hellos; h.Version != 2 || h.DownEpoch != 0 || h.DownSeq != 0 {
		t.Errorf("a new box says %+v", h)
	}
	link := <-links
	var b change.Builder
	table := b.AddTable(change.Table{Schema: "public", Name: "customers", Columns: []change.Column{
		{Name: "id", Type: "integer", Key: true}, {Name: "name", Type: "text"},
	}})
	b.Begin(40, 1)
	b.AddNote(change.NoteSeen, "4294967296:0")
	b.Add(change.Insert, table, nil, change.Row{[]byte("1"), []byte("Bluebird")}, nil)
	b.Commit(9)
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: 7, Reason: "*"}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Send(proto.TypeDown, &proto.Down{PrevEpoch: 7, Frame: f.Bytes}); err != nil {
		t.Fatal(err)
	}
	for {
		_, msg, err := link.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := msg.(*proto.Ack); ok && a.Seq == 40 {
			break
		}
	}
	var name string
	if err := db.Conn(t).QueryRow(t.Context(), `SELECT name FROM customers`).Scan(&name); err != nil || name != "Bluebird" {
		t.Errorf("%q, %v", name, err)
	}
	link.Close() // the next stream goes on from there
	if h := <-hellos; h.DownEpoch != 7 || h.DownSeq != 40 {
		t.Errorf("the next stream begins with %+v", h)
	}
	if s := u.Down.State(); s.Position.Seq != 40 || s.AppliedAt.IsZero() || s.Problem != nil {
		t.Errorf("%+v", s)
	}
}

// The release before this one sends nothing down, and says so by its version.
func TestARegionWithoutTheWayDownIsServedAsEver(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	u.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: u.Registry, Local: unseen.New(u.Queue, u.Settled),
		Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	begin(t, u.Down.Run)
	if err := u.Down.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	hellos, links := region(t, u, proto.Welcome{Version: 1, Epoch: 1 << 32, WindowBytes: 1 << 20})
	begin(t, u.Transfer)
	if h := <-hellos; h.VersionMin != 1 {
		t.Errorf("an older region cannot answer %+v", h)
	}
	link := <-links
	if _, msg, err := link.Receive(); err != nil {
		t.Fatal(err)
	} else if _, ok := msg.(*proto.TableStates); !ok {
		t.Errorf("%+v", msg)
	}
	if s := u.Down.State(); s.Running || !u.LinkState().Up {
		t.Errorf("%+v", s)
	}
}

// A box whose database is down sends what is safe in its queue; once the
// database is back the stream begins anew, with the way down.
func TestStreamWithoutALocalDatabaseIsOnlyTheWayUp(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	u.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: u.Registry, Local: unseen.New(u.Queue, u.Settled),
		Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	hellos, _ := region(t, u, proto.Welcome{Version: 2, Epoch: 1 << 32, WindowBytes: 1 << 20, DownEpoch: 7})
	begin(t, u.Transfer)
	if h := <-hellos; h.Version != 1 {
		t.Errorf("a box that cannot take anything in says %+v", h)
	}
	began := time.Now()
	begin(t, u.Down.Run)
	if h := <-hellos; h.Version != 2 {
		t.Errorf("after %s: %+v", time.Since(began), h)
	}
}
