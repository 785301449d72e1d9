package uplink

import (
	"context"
	"log/slog"
	"path/filepath"
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
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// What people change in a database that was put back, before the region has said that
// it was, replaces no newer row of the region's unseen: it waits, stands, and the
// region's version is told as a conflict.
func TestWhatIsChangedBeforeTheRegionsWordOnADatabasePutBackIsDecided(t *testing.T) {
	t.Parallel()
	t.Run("without its slot", func(t *testing.T) {
		t.Parallel()
		r := newPutBackRig(t)
		has, _, _ := r.u.Queue.Tail()
		if err := capture.DropSlot(t.Context(), r.db.Conn(t), Slot); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.change(`UPDATE t SET v = 'edited' WHERE id = 1`)
		r.decided(has, change.Position{Epoch: has.Epoch + 1, Seq: 1}, "backup")
	})
	t.Run("without its slot, which is lost once more", func(t *testing.T) {
		t.Parallel()
		r := newPutBackRig(t)
		has, _, _ := r.u.Queue.Tail()
		lose := func() {
			if err := capture.DropSlot(t.Context(), r.db.Conn(t), Slot); err != nil {
				t.Fatal(err)
			}
			r.start()
		}
		lose()
		r.change(`UPDATE t SET v = 'edited' WHERE id = 1`)
		r.stop()
		lose()
		r.decided(has, change.Position{Epoch: has.Epoch + 1, Seq: 1}, "backup")
	})
	passed := func(name string, before func(r *putBackRig), after func(r *putBackRig)) {
		t.Run("with the queue, which has passed what the region has"+name, func(t *testing.T) {
			t.Parallel()
			r := newPutBackRig(t)
			before(r)
			r.start()
			// The region has got something else by this number.
			r.change(`UPDATE t SET v = 'early' WHERE id = 2`)
			has, _, _ := r.u.Queue.Tail()
			r.change(`UPDATE t SET v = 'edited' WHERE id = 1`)
			after(r)
			r.decided(has, change.Position{Epoch: has.Epoch, Seq: has.Seq + 1}, "early")
		})
	}
	nothing, restart := func(*putBackRig) {}, func(r *putBackRig) { r.stop(); r.start() }
	passed("", nothing, nothing)
	passed(", and the agent was started again", nothing, restart)
	empty := func(r *putBackRig) {
		q, err := queue.Open(queue.Options{Dir: filepath.Join(r.t.TempDir(), "queue")})
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { q.Close() })
		if err := q.Remark(r.u.have()); err != nil {
			r.t.Fatal(err)
		}
		r.u.Queue = q
	}
	passed(", and had nothing", empty, nothing)
	passed(", and was in an epoch that had just begun", func(r *putBackRig) {
		if err := r.u.Queue.Remark(r.u.have()); err != nil {
			r.t.Fatal(err)
		}
		if err := r.u.epoch.Set(epoch.Epoch{Number: r.u.Epoch() + 1}); err != nil {
			r.t.Fatal(err)
		}
	}, nothing)
}

// What is of the epochs before leaves while it is not known from where on it may not:
// the epoch is opening, or was begun by the build before.
func TestWhatIsOfTheTimeBeforeLeavesAlsoWithoutANoteOfItsEnd(t *testing.T) {
	t.Parallel()
	u, _ := settledAlone(t)
	u.Down = downlink.New(downlink.Config{Facility: "la", Log: slog.New(slog.DiscardHandler)})
	for _, now := range []epoch.Epoch{{Number: 1<<32 + 1, Opening: true}, {Number: 1<<32 + 1, Restored: true}} {
		if err := u.epoch.Set(now); err != nil {
			t.Fatal(err)
		}
		hold := u.judge(&proto.Welcome{Version: 2, Epoch: 1 << 32}, false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := hold.wait(ctx, &change.Header{Epoch: 1 << 32, First: 7, Last: 9}); err != nil {
			t.Errorf("%+v: a frame of the epoch before waits: %v", now, err)
		}
		if err := hold.wait(ctx, &change.Header{Epoch: 1<<32 + 1, First: 1, Last: 1}); err == nil {
			t.Errorf("%+v: a frame of this epoch leaves", now)
		}
	}
}

// putBackRig is a box whose database has the rows 1 and 2 of t as they were in a backup.
type putBackRig struct {
	t   *testing.T
	ctx context.Context
	u   *Uplink
	db  *pgtest.DB

	stops []func()
}

// stop ends the agent.
func (r *putBackRig) stop() {
	for _, stop := range slices.Backward(r.stops) {
		stop()
	}
	r.stops = nil
}

func newPutBackRig(t *testing.T) *putBackRig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	u, db := settledAlone(t)
	if err := u.epoch.Set(epoch.Epoch{Number: 1 << 32}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `ALTER TABLE t ADD v text`)
	settle(t, u)
	markedAtSlot(t, u)
	r := &putBackRig{t: t, ctx: ctx, u: u, db: db}
	stop := begin(t, u.Capture)
	if err := u.waitForSlot(ctx); err != nil {
		t.Fatal(err)
	}
	r.change(`INSERT INTO t VALUES (1, 'la', 'backup'), (2, 'la', 'backup')`)
	stop()
	if err := u.forgetFound(); err != nil { // the region has agreed
		t.Fatal(err)
	}
	return r
}

// change changes something, and waits until that is in the queue.
func (r *putBackRig) change(sql string) {
	r.t.Helper()
	r.db.Exec(r.t, sql)
	if err := r.u.drained(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

// start starts the agent again, without a line.
func (r *putBackRig) start() {
	r.t.Helper()
	c := r.u.Config
	c.Down = downlink.New(downlink.Config{
		Facility: "la", ConnString: r.db.ConnString(), Registry: func() *apply.Registry { return r.u.Registry() },
		Local:    unseen.New(c.Queue, func(ctx context.Context) error { return r.u.Settled(ctx) }),
		Restored: func() (restored, whole bool) { return r.u.Restored() }, Hold: c.Queue.Hold, DB: c.DB, Log: slog.New(slog.DiscardHandler),
	})
	u, err := New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.u = u
	for _, part := range []func(context.Context) error{u.Down.Run, u.Tables, u.Capture} {
		r.stops = append(r.stops, begin(r.t, part))
	}
	if err := u.waitForSlot(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

// decided shows that row 1 stands, as it was edited, against a region that has all up
// to a position and newer rows, and leaves with the first frame that does, and that
// row 2 does not stand. Both are told.
func (r *putBackRig) decided(has, first change.Position, second string) {
	t, u := r.t, r.u
	t.Helper()
	hellos, links := regionThat(t, u, func(h *proto.Hello) proto.Welcome {
		w := proto.Welcome{Version: 2, Epoch: has.Epoch, Seq: has.Seq, WindowBytes: 1 << 20, WentBack: !h.Restored, Restoring: h.Restored, Tables: synced("t")}
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
	sendRange(t, link, 40, has.String(), []change.Row{row(1, "newer"), row(2, "newer")})
	for u.Down.State().Position.Seq != 40 {
		if err := sleep(r.ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("the region's rows are not decided: %+v", u.Down.State())
		}
	}
	if got, want := lines(t, r.db, `SELECT v FROM t ORDER BY id`), []string{"edited", "newer"}; !slices.Equal(got, want) {
		t.Errorf("the box has %q, want %q", got, want)
	}
	told := []string{"1 update_origin_differs edge edited newer", "2 update_origin_differs cloud " + second + " newer"}
	if got := lines(t, r.db, `SELECT concat_ws(' ', key->>'id', kind, decision, edge_row->>'v', cloud_row->>'v') FROM holdfast.conflict ORDER BY 1`); !slices.Equal(got, told) {
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
		if f == nil || f.Epoch != first.Epoch || f.First != first.Seq {
			t.Errorf("the first that leaves is %+v, want the edit", f)
		}
	case <-r.ctx.Done():
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

// A table that was refused when its database had been put back is not captured: the
// region's rows come, and remove nothing that people made, and what they replace is told.
func TestATableThatIsRefusedInADatabasePutBackLosesNothingUntold(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'backup'), (2, 'la', 'backup'), (3, 'la', 'same')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.refuse(`ALTER TABLE n REPLICA IDENTITY NOTHING`)
	r.db.Exec(t, `UPDATE n SET v = 'edited' WHERE id = 1; INSERT INTO n VALUES (5, 'la', 'made')`)
	r.putBack()
	r.send("n", func(b *change.Builder, table int) {
		b.AddRange(table, &change.KeyRange{Rows: []change.Row{row(1, "region"), row(2, "region"), row(3, "same")}})
	})
	r.until("the region's rows do not come first in a database that was put back", r.applied)
	r.want("1 region", "2 region", "3 same", "5 made")
	r.conflicts("1 update_origin_differs cloud region", "2 update_origin_differs cloud region")
	r.db.Exec(t, `UPDATE n SET v = 'again' WHERE id = 2`)
	r.send("n", func(b *change.Builder, table int) {
		b.Add(change.Update, table, nil, row(2, "later"), nil)
		b.Add(change.Delete, table, row(5, "")[:1], nil, nil)
	})
	r.until("what comes behind is not followed", r.applied)
	r.want("1 region", "2 later", "3 same")
	r.conflicts("1 update_origin_differs cloud region", "2 update_origin_differs cloud later", "2 update_origin_differs cloud region", "5 delete_origin_differs cloud")
	r.healed()
	r.db.Exec(t, `UPDATE n SET v = 'mine' WHERE id = 1`)
	r.send("n", update(1, "theirs"))
	r.until("the change is not parked", func() bool { return r.applied() && r.u.Down.State().Parked > 0 })
	r.want("1 mine", "2 later", "3 same")
}

// A table that could not take the region's rows when its database had been put back
// is not sent up before it has them: that would remove them there.
func TestATableThatDidNotFitInADatabasePutBackGetsTheRegionsRowsFirst(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'backup')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.refuse(`ALTER TABLE n DROP CONSTRAINT n_pkey`)
	r.putBack()
	r.send("n", func(b *change.Builder, table int) {
		b.AddRange(table, &change.KeyRange{Rows: []change.Row{row(1, "region"), row(2, "region")}})
	})
	r.until("the rows that do not fit are not passed over", r.applied)
	r.healed()
	now := r.u.epoch.Get()
	r.until("the other table is not sent up", func() bool { return r.state("t") == proto.TableStreaming })
	tail, _, _ := r.u.Queue.Tail()
	r.db.Exec(t, `ALTER TABLE n ADD PRIMARY KEY (id); ALTER TABLE n RENAME v TO w`)
	r.look()
	r.look() // what the first asked for has begun
	if e := r.u.epoch.Get(); e.Number != now.Number || r.state("n") == proto.TableStreaming {
		t.Errorf("%+v: it begins again, or the table is sent up, before that fits what the region sent", e)
	}
	r.db.Exec(t, `ALTER TABLE n RENAME w TO v`)
	r.sync("t", "n")
	r.until("the region is not asked for its rows", func() bool {
		e := r.u.epoch.Get()
		return e.Number > now.Number && e.Restored && !e.Opening || r.state("n") == proto.TableStreaming
	})
	if e := r.u.epoch.Get(); !e.Restored || e.Whole {
		t.Errorf("the table is sent up, in %+v", e)
	}
	if got, _, _ := r.u.Queue.Tail(); got != tail {
		t.Errorf("something of it is in the queue: it ends at %s, and ended at %s", got, tail)
	}
	now = r.u.epoch.Get()
	r.again()
	r.send("n", func(b *change.Builder, table int) {
		b.AddRange(table, &change.KeyRange{Rows: []change.Row{row(1, "region"), row(2, "region")}})
	})
	r.until("the region's rows do not come", r.applied)
	r.want("1 region", "2 region")
	r.conflicts("1 update_origin_differs cloud region")
	r.healed()
	r.until("the table is not sent up", func() bool { return r.state("n") == proto.TableStreaming })
	r.send("n", update(2, "later"))
	r.until("what comes behind is not followed", r.applied)
	r.want("1 region", "2 later")
	if e := r.u.epoch.Get(); e.Number != now.Number || e.Restored {
		t.Errorf("it begins once more: %+v, and was %+v", e, now)
	}
}

// Where it does not help that the region sends its rows once more it is not done again
// and again.
func TestATableThatDoesNotGetTheRegionsRowsBeginsNoEpochAfterTheOther(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.refuse(`ALTER TABLE n DROP CONSTRAINT n_pkey`)
	r.putBack()
	r.send("n", func(b *change.Builder, table int) {
		b.AddRange(table, &change.KeyRange{Rows: []change.Row{row(1, "region")}})
	})
	r.until("the rows that do not fit are not passed over", r.applied)
	r.healed()
	first := r.u.epoch.Get().Number
	r.db.Exec(t, `ALTER TABLE n ADD PRIMARY KEY (id)`)
	r.sync("t", "n")
	r.until("it does not begin again", func() bool { e := r.u.epoch.Get(); return e.Number > first && !e.Opening })
	r.again()
	r.healed() // and nothing of n came
	for range 2 {
		r.look()
	}
	if e := r.u.epoch.Get(); e.Number != first+1 {
		t.Errorf("it begins again and again: %+v", e)
	}
}

// A table that lacked a column when its database had been put back is captured, and
// still not sent up before it has the region's rows.
func TestATableThatLackedAColumnInADatabasePutBackWaitsForTheRegionsRows(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'backup')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.sendAll()
	r.wide()
	r.until("the rows that do not fit are not passed over", r.applied)
	r.healed()
	r.until("the other table is not sent up", func() bool { return r.state("t") == proto.TableStreaming })
	if s := r.state("n"); s != proto.TableLoading {
		t.Fatalf("the table is %s before the region's rows have come", s)
	}
	r.db.Exec(t, `ALTER TABLE n ADD w text`)
	r.until("the region is not asked for the table", func() bool {
		return slices.Equal(lines(t, r.db, `SELECT 'asked' FROM holdfast.parked_table WHERE asked_at IS NOT NULL`), []string{"asked"})
	})
	r.wide()
	r.until("the region's rows do not come", r.applied)
	r.want("1 region", "2 region")
	if err := r.link.Send(proto.TypeHeal, &proto.Heal{Tables: []string{"public.n"}, Reason: "mended", Mend: "1@7"}); err != nil {
		t.Fatal(err)
	}
	r.until("the table is not sent up", func() bool { return r.state("n") == proto.TableStreaming })
}

// What people changed in a table that waits for the region's rows, and nobody had read
// when it was lost, is not replaced untold when they come.
func TestWhatIsLostOfATableThatWaitsForTheRegionsRowsIsTold(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.db.Exec(t, `INSERT INTO n VALUES (1, 'la', 'backup')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.sendAll()
	r.wide()
	r.until("the rows that do not fit are not passed over", r.applied)
	r.healed()
	r.until("the other table is not sent up", func() bool { return r.state("t") == proto.TableStreaming })
	r.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'down la 1:1'); UPDATE n SET v = 'lost' WHERE id = 1; COMMIT`)
	if _, err := r.u.gap(t.Context(), &queue.LostError{Epoch: 1 << 32, First: 1, Last: 1}); err != nil {
		t.Fatal(err)
	}
	r.look()
	r.until("the other table is not read", func() bool { return r.state("t") == proto.TableStreaming && !r.u.epoch.Get().Unread })
	now := r.u.epoch.Get()
	r.db.Exec(t, `ALTER TABLE n ADD w text`)
	r.look()
	r.until("the region is not asked for its rows", func() bool {
		e := r.u.epoch.Get()
		return e.Number > now.Number && e.Restored && !e.Opening || len(lines(t, r.db, `SELECT 'asked' FROM holdfast.parked_table WHERE asked_at IS NOT NULL`)) > 0
	})
	if r.u.epoch.Get().Restored {
		r.again()
	}
	r.wide()
	r.until("the region's rows do not come", r.applied)
	r.want("1 region", "2 region")
	r.conflicts("1 update_origin_differs cloud region")
	r.healed()
	r.until("the table is not sent up", func() bool { return r.state("n") == proto.TableStreaming })
}

// A table is not sent up while a row that the region has sent waits at the box, because
// its unique number was given anew, say: without it the region would lose it.
func TestATableOfWhichTheRegionsRowsWaitInADatabasePutBackIsSentWithThem(t *testing.T) {
	t.Parallel()
	r := newTableRig(t)
	r.db.Exec(t, `ALTER TABLE n ADD UNIQUE (v); INSERT INTO n VALUES (1, 'la', 'one')`)
	r.sync("t", "n")
	r.until("the table is not read", func() bool { return r.state("n") == proto.TableStreaming })
	r.sendAll()
	r.db.Exec(t, `INSERT INTO n VALUES (5, 'la', 'seven')`)
	r.send("n", func(b *change.Builder, table int) {
		b.AddRange(table, &change.KeyRange{UpTo: row(2, "")[:1], Rows: []change.Row{row(1, "region"), row(2, "seven")}})
	})
	r.until("the row that is refused is not parked", func() bool { return r.applied() && r.u.Down.State().Parked > 0 })
	r.want("1 region", "5 seven")
	r.healed()
	r.until("the other table is not sent up", func() bool { return r.state("t") == proto.TableStreaming })
	if s := r.state("n"); s != proto.TableLoading {
		t.Errorf("the table is %s while a row of the region's waits", s)
	}
	r.db.Exec(t, `UPDATE n SET v = 'eight' WHERE id = 5`)
	r.until("the row does not come", func() bool { return r.u.Down.State().Parked == 0 })
	r.want("1 region", "2 seven", "5 eight")
	r.look()
	r.until("the table is not sent up", func() bool { return r.state("n") == proto.TableStreaming })
}

// sendAll has the box wait for the region's rows, and not know all that was changed
// since its database was put back.
func (r *tableRig) sendAll() {
	r.t.Helper()
	if err := r.u.setEpoch(epoch.Epoch{Number: r.u.Epoch(), Restored: true}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.u.store.reload(r.t.Context(), nil, true); err != nil {
		r.t.Fatal(err)
	}
	r.look()
}

// wide sends rows 1 and 2 of n with one column more.
func (r *tableRig) wide() {
	r.t.Helper()
	r.send("n", func(b *change.Builder, _ int) {
		table := b.AddTable(change.Table{Schema: "public", Name: "n", Columns: []change.Column{
			{Name: "id", Type: "integer", Key: true}, {Name: "facility", Type: "text"}, {Name: "v", Type: "text"}, {Name: "w", Type: "text"},
		}})
		b.AddRange(table, &change.KeyRange{Rows: []change.Row{append(row(1, "region"), []byte("w")), append(row(2, "region"), []byte("w"))}})
	})
}

// refuse makes n one that cannot be captured, and waits until it is not.
func (r *tableRig) refuse(sql string) {
	r.t.Helper()
	r.db.Exec(r.t, sql)
	r.sync("t", "n")
	r.until("the table is not refused", func() bool {
		return r.state("n") == proto.TableRefused && len(lines(r.t, r.db, `SELECT tablename::text FROM pg_publication_tables WHERE tablename = 'n'`)) == 0
	})
}

// putBack has the box wait for the region's rows as after its database was put back,
// all that was changed since being in the queue.
func (r *tableRig) putBack() {
	r.t.Helper()
	if err := r.u.setEpoch(epoch.Epoch{Number: r.u.Epoch(), Restored: true, Whole: true}); err != nil {
		r.t.Fatal(err)
	}
	r.look()
}

// again has the region take what waits, and goes on with the session in which it sends
// the box its rows.
func (r *tableRig) again() {
	r.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		// Where it is to go on is known once its epoch is open.
		has := r.u.epoch.Get().After
		r.has.Store(&has)
		r.link.Close()
		select {
		case h := <-r.hellos:
			if r.link = <-r.links; h.Restored {
				r.until("the way down does not go on", func() bool { return r.u.Down.State().Running })
				return
			}
			// It knows by now what the region has.
		case <-late:
			r.t.Fatal("the box does not ask for the region's rows")
		}
	}
}

// healed tells the box that it has the region's rows.
func (r *tableRig) healed() {
	r.t.Helper()
	if err := r.link.Send(proto.TypeHeal, &proto.Heal{Restored: true}); err != nil {
		r.t.Fatal(err)
	}
	r.until("it goes on waiting", func() bool { return !r.u.epoch.Get().Restored })
	r.look()
}

// look has the box look at its tables.
func (r *tableRig) look() {
	r.t.Helper()
	done := make(chan struct{})
	r.u.orders.give(order{settled: []chan<- struct{}{done}})
	<-done
}
