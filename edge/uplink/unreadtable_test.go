package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// What people changed in a table before it was captured is in the database alone.
// The region's older rows do not undo it, whatever else comes down goes on, and
// what is decided is told, also when the table cannot be read for a while.
func TestWhatIsNotCapturedYetOfATableStandsAgainstTheRegionsRows(t *testing.T) {
	t.Parallel()
	t.Run("the table is new", func(t *testing.T) {
		t.Parallel()
		r := newTableRig(t)
		r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'new'), (3, 'la', 'same')`)
		open := r.holdUp()
		r.sync("t", "n")
		r.tableStands(open)
	})
	t.Run("the table is new, and a key range comes for it", func(t *testing.T) {
		t.Parallel()
		r := newTableRig(t)
		r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'new'), (3, 'la', 'same')`)
		open := r.holdUp()
		r.sync("t", "n")
		r.until("the table is not looked at", func() bool { return r.state("n") == proto.TableLoading })
		r.send("n", func(b *change.Builder, table int) {
			b.AddRange(table, &change.KeyRange{Rows: []change.Row{row(1, "old"), row(3, "same")}})
		})
		r.until("nothing comes of the region's rows", func() bool { return r.u.Down.State().Problem != nil || r.applied() })
		r.want("1 new", "3 same")
		if p := r.u.Down.State().Problem; p == nil || p.Remedy == "" {
			t.Errorf("the way down does not say why it waits: %+v", p)
		}
		open()
		r.until("the range is not decided", r.applied)
		r.want("1 new", "3 same")
		r.conflicts("1 update_origin_differs edge old")
	})
	t.Run("another table takes its place", func(t *testing.T) {
		t.Parallel()
		r := newTableRig(t)
		r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'was'), (2, 'la', 'was'), (3, 'la', 'same')`)
		r.sync("t", "n")
		r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
		r.look() // they will not be looked at anyway for a while
		r.db.Exec(t, `CREATE TABLE m (LIKE n INCLUDING ALL); INSERT INTO m VALUES (1, 'la', 'new'), (3, 'la', 'same');
			DROP TABLE n; ALTER TABLE m RENAME TO n`)
		r.send("n", update(1, "old"))
		r.send("n", update(2, "late"))
		r.until("what comes down is not dealt with", r.applied)
		r.until("what waited is not decided", func() bool { return r.u.Down.State().Parked == 0 && r.state("n") == proto.TableStreaming })
		r.want("1 new", "3 same")
		r.conflicts("1 update_origin_differs edge old", "2 update_deleted edge late")
	})
	t.Run("the table fits again", func(t *testing.T) {
		t.Parallel()
		r := newTableRig(t)
		r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'was'), (2, 'la', 'deleted'), (3, 'la', 'same')`)
		r.sync("t", "n")
		r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
		r.send("n", update(1, "known"))
		r.until("what comes down is not followed", r.applied)
		r.want("1 known", "2 deleted", "3 same")
		r.db.Exec(t, `ALTER TABLE n REPLICA IDENTITY NOTHING`)
		r.sync("t", "n")
		r.until("the table is not refused", func() bool {
			return r.state("n") == proto.TableRefused && len(lines(t, r.db, `SELECT tablename::text FROM pg_publication_tables WHERE tablename = 'n'`)) == 0
		})
		r.db.Exec(t, `UPDATE n SET v = 'new' WHERE id = 1; DELETE FROM n WHERE id = 2`)
		r.send("n", update(2, "late"))
		open := r.holdUp()
		fits := func() {
			r.db.Exec(t, `ALTER TABLE n REPLICA IDENTITY DEFAULT`)
			r.sync("t", "n")
			r.until("the table does not fit again", func() bool { return r.state("n") != proto.TableRefused })
		}
		r.tableStands(func() { open(); fits() }, "2 update_deleted edge late")
	})
}

// parkedRig is one with a parked change of the table n, which is not read any more.
func parkedRig(t *testing.T) *tableRig {
	t.Helper()
	r := newTableRig(t)
	r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'was')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.refuse(`ALTER TABLE n REPLICA IDENTITY NOTHING`)
	r.send("n", update(1, "late"))
	r.until("the change is not parked", func() bool { return r.applied() && r.u.Down.State().Parked > 0 })
	return r
}

// Who has a parked change tried again has mended its table, perhaps: it is not found
// out only when the tables are looked at anyway.
func TestATableThatWasMendedIsFoundOutWhenSomethingIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := parkedRig(t)
	r.db.Exec(t, `CREATE TABLE m (LIKE n INCLUDING ALL); INSERT INTO m SELECT id, facility, 'new' FROM n; DROP TABLE n; ALTER TABLE m RENAME TO n`)
	var reads sync.WaitGroup // so that the link answers for as long as it takes
	reads.Go(func() {
		for nextFrame(r.link) != nil {
		}
	})
	defer reads.Wait()
	defer r.link.Close()
	began := time.Now()
	if err := r.link.Send(proto.TypeParkedOrder, &proto.ParkedOrder{ID: 1, Do: proto.ParkedRetry, By: "ada"}); err != nil {
		t.Fatal(err)
	}
	r.until("what waited is not decided", func() bool { return r.u.Down.State().Parked == 0 })
	if took := time.Since(began); took > settleEvery/2 {
		t.Errorf("it took %s, as if nobody had asked", took)
	}
	r.want("1 new")
	r.conflicts("1 update_origin_differs edge late")
}

// Who decided about a change is told of the tries behind that, and of none before: the
// box says with its answer when it had tried it last.
func TestTheAnswerToADecisionSaysWhenTheChangeWasTriedLast(t *testing.T) {
	t.Parallel()
	r := parkedRig(t)
	tried := func(sql string) (at int64) {
		t.Helper()
		if err := r.db.Pool(t).QueryRow(t.Context(), sql+` RETURNING (extract(epoch FROM tried_at) * 1000000)::bigint`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := tried(`UPDATE holdfast.parked SET tried_at = coalesce(tried_at, '2026-01-01') WHERE id = 1`)
	if err := r.link.Send(proto.TypeParkedOrder, &proto.ParkedOrder{ID: 7, Do: proto.ParkedRetry, Row: 1, By: "ada"}); err != nil {
		t.Fatal(err)
	}
	for {
		_, msg, err := r.link.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if done, ok := msg.(*proto.ParkedDone); ok {
			if after := tried(`UPDATE holdfast.parked SET tried_at = tried_at WHERE id = 1`); done.ID != 7 || done.Problem != nil || done.TriedAt < before || done.TriedAt > after {
				t.Errorf("the answer is %+v; it was tried at %d, and by now at %d", done, before, after)
			}
			return
		}
	}
}

// A database in which the tables cannot be looked at now does not keep decisions from
// being answered while somebody waits for that.
func TestDecisionsAreAnsweredInTimeWhenTheTablesCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	tx, err := r.db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE holdfast.synced_table_version`); err != nil {
		t.Fatal(err)
	}
	const orders = 4
	began := time.Now()
	for id := range orders {
		if err := r.link.Send(proto.TypeParkedOrder, &proto.ParkedOrder{ID: uint64(id), Do: proto.ParkedRetry, By: "ada"}); err != nil {
			t.Fatal(err)
		}
	}
	for done := 0; done < orders; {
		_, msg, err := r.link.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := msg.(*proto.ParkedDone); ok {
			done++
		}
	}
	if took := time.Since(began); took > 3*lookWithin {
		t.Errorf("%d decisions took %s", orders, took)
	}
}

// An agent that is started again knows which tables were not read.
func TestATableThatWasNotReadIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	n := proto.SyncedTable{Schema: "public", Name: "t", Class: "fact", RegionSchema: "{schema}_{facility}"}
	// While it opens nothing is decided in any case.
	if err := u.epoch.Set(epoch.Epoch{Number: 1 << 32}); err != nil {
		t.Fatal(err)
	}
	unread := func() bool {
		t.Helper()
		again, err := New(u.Config)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, ok := again.Registry().Table("public", "t")
		if !ok {
			t.Fatal("the table is not in the registry")
		}
		return e.Unread != nil
	}
	if unread() {
		t.Error("a table that streams counts as not read")
	}
	db.Exec(t, `ALTER TABLE t REPLICA IDENTITY NOTHING`)
	if !unread() {
		t.Error("a table that is refused counts as read")
	}
	db.Exec(t, `ALTER TABLE t REPLICA IDENTITY DEFAULT`)
	for range 2 {
		if !unread() {
			t.Error("a table that fits again counts as read before it is")
		}
	}
	n.Class = "master"
	if err := u.store.replace(t.Context(), proto.Tables{Version: 2, Tables: []proto.SyncedTable{n}}); err != nil {
		t.Fatal(err)
	}
	if unread() {
		t.Error("a table that only the region changes counts as not read")
	}
}

// tableRig is a box with the tables t and n that its region talks to.
type tableRig struct {
	t    *testing.T
	u    *Uplink
	db   *pgtest.DB
	link *transfer.Link
	seq  uint64 // of what was sent down last

	hellos <-chan *proto.Hello
	links  <-chan *transfer.Link
	has    atomic.Pointer[change.Position] // what the region has of the box
}

func newTableRig(t *testing.T) *tableRig {
	t.Helper()
	u, db := settledAlone(t)
	db.Exec(t, `ALTER TABLE t ADD v text; CREATE TABLE n (id int PRIMARY KEY, facility text NOT NULL, v text)`)
	settle(t, u)
	markedAtSlot(t, u)
	if err := u.epoch.Set(epoch.Epoch{Number: 1 << 32}); err != nil {
		t.Fatal(err)
	}
	u.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: db.ConnString(), Registry: u.Registry, Local: unseen.New(u.Queue, u.Settled), Restored: u.Restored,
		Hold: u.Queue.Hold, DB: u.DB, Log: slog.New(slog.DiscardHandler),
	})
	r := &tableRig{t: t, u: u, db: db, seq: 39}
	r.has.Store(&change.Position{Epoch: 1 << 32})
	r.hellos, r.links = regionThat(t, u, func(h *proto.Hello) proto.Welcome {
		has, list := r.has.Load(), synced("t")
		if h.Restored {
			list = synced("t", "n")
		}
		return proto.Welcome{Version: 2, Epoch: has.Epoch, Seq: has.Seq, WindowBytes: 1 << 20, DownEpoch: 7, Restoring: h.Restored, Tables: list}
	})
	for _, part := range []func(context.Context) error{u.Capture, u.Down.Run, u.Tables, u.Transfer} {
		begin(t, part)
	}
	<-r.hellos
	r.link = <-r.links
	r.until("the box is not ready", func() bool { return r.state("t") == proto.TableStreaming && u.Down.State().Running })
	return r
}

func synced(names ...string) proto.Tables {
	list := proto.Tables{Version: 2}
	for _, name := range names {
		list.Tables = append(list.Tables, proto.SyncedTable{Schema: "public", Name: name, Class: "fact", RegionSchema: "{schema}_{facility}"})
	}
	return list
}

// sync tells the box what is synced; it looks at its tables again.
func (r *tableRig) sync(names ...string) {
	r.t.Helper()
	list := synced(names...)
	if err := r.link.Send(proto.TypeTables, &list); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tableRig) state(name string) string {
	for _, s := range r.u.TableStates() {
		if s.Name == name {
			return s.State
		}
	}
	return ""
}

// holdUp keeps n from being read whole until it is called off.
func (r *tableRig) holdUp() (end func()) {
	r.t.Helper()
	work, err := r.db.Pool(r.t).Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = work.Rollback(context.Background()) })
	if _, err := work.Exec(r.t.Context(), `LOCK TABLE n IN ROW EXCLUSIVE MODE`); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		if err := work.Rollback(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	}
}

func row(id int, v string) change.Row {
	return change.Row{fmt.Append(nil, id), []byte("la"), []byte(v)}
}

func update(id int, v string) func(*change.Builder, int) {
	return func(b *change.Builder, table int) { b.Add(change.Update, table, nil, row(id, v), nil) }
}

// send sends a transaction of the region that had seen what was sent up so far.
func (r *tableRig) send(name string, changes func(b *change.Builder, table int)) {
	r.t.Helper()
	var b change.Builder
	table := b.AddTable(change.Table{Schema: "public", Name: name, Columns: []change.Column{
		{Name: "id", Type: "integer", Key: true}, {Name: "facility", Type: "text"}, {Name: "v", Type: "text"},
	}})
	seen, _, _ := r.u.Queue.Tail()
	prev := r.seq
	if prev == 39 {
		prev = 0
	}
	r.seq++
	b.Begin(r.seq, 1)
	b.AddNote(change.NoteSeen, seen.String())
	changes(&b, table)
	b.Commit(r.seq)
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: 7, Reason: "f:la"}, 0, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.link.Send(proto.TypeDown, &proto.Down{PrevEpoch: 7, PrevSeq: prev, Frame: f.Bytes}); err != nil {
		r.t.Fatal(err)
	}
}

// applied reports whether all that was sent is dealt with.
func (r *tableRig) applied() bool { return r.u.Down.State().Position.Seq == r.seq }

func (r *tableRig) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) || sleep(r.t.Context(), 5*time.Millisecond) != nil {
			r.t.Fatalf("%s: %+v, tables %+v", what, r.u.Down.State(), r.u.TableStates())
		}
	}
}

func (r *tableRig) want(rows ...string) {
	r.t.Helper()
	if got := lines(r.t, r.db, `SELECT concat_ws(' ', id, v) FROM n ORDER BY id`); !slices.Equal(got, rows) {
		r.t.Errorf("the box has %q, want %q", got, rows)
	}
}

func (r *tableRig) conflicts(told ...string) {
	r.t.Helper()
	got := lines(r.t, r.db, `SELECT concat_ws(' ', key->>'id', kind, decision, cloud_row->>'v') FROM holdfast.conflict ORDER BY 1`)
	if !slices.Equal(got, told) {
		r.t.Errorf("conflicts are %q, want %q", got, told)
	}
}

// tableStands shows that rows 1 new and 3 same of n stand, and that what is not of n
// flows, before and after open lets n be read. told are conflicts besides that of row 1.
func (r *tableRig) tableStands(open func(), told ...string) {
	r.t.Helper()
	r.until("the table is not looked at", func() bool { return r.state("n") != "" && r.state("n") != proto.TableStreaming })
	r.send("n", update(1, "old"))
	r.send("t", func(b *change.Builder, table int) { b.Add(change.Insert, table, nil, row(7, "flows"), nil) })
	r.until("what is of other tables waits", r.applied)
	if got := lines(r.t, r.db, `SELECT v FROM t`); !slices.Equal(got, []string{"flows"}) {
		r.t.Errorf("the other table has %q", got)
	}
	r.want("1 new", "3 same")
	r.conflicts()
	if s := r.u.Down.State(); s.Parked == 0 {
		r.t.Errorf("nothing says that changes wait: %+v", s)
	}
	open()
	r.until("what waited is not decided", func() bool { return r.u.Down.State().Parked == 0 })
	r.want("1 new", "3 same")
	r.conflicts(append([]string{"1 update_origin_differs edge old"}, told...)...)
	// What has seen all that is followed as ever.
	r.send("n", update(1, "later"))
	r.until("what comes later is not followed", r.applied)
	r.want("1 later", "3 same")
}
