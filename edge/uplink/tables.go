package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// Tables settles the list (what can be synced is published, what cannot is
// refused with its reason), then loads what the region does not have yet, and
// begins anew whenever the region says something.

// master is the class of tables that only the region changes.
const master = "master"

// fact is the class of tables that both sides change.
const fact = "fact"

// beginAgainEvery is how often a table may have it all begin again. What is refused
// though the table fits, by a constraint, say, does not come by being sent again.
const beginAgainEvery = time.Hour

// settleEvery is how often refused tables are looked at again without being asked.
const settleEvery = 30 * time.Second

// Tables keeps the synced tables settled and loaded until ctx is done.
func (u *Uplink) Tables(ctx context.Context) error {
	return run.Loop(ctx, u.Log, run.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second},
		func(ctx context.Context, up func()) error {
			if err := u.store.migrate(ctx); err != nil {
				return err
			}
			for {
				if err := u.settle(ctx); err != nil {
					return err
				}
				up()
				for _, c := range u.obeyed {
					close(c)
				}
				u.obeyed = nil
				if err := u.workUntilOrder(ctx); err != nil {
					return err
				}
			}
		})
}

// workUntilOrder loads tables until an order comes, and carries that out.
func (u *Uplink) workUntilOrder(ctx context.Context) error {
	loadCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- u.loadAll(loadCtx) }() // waited for below, on every way out
	var err error
	select {
	case <-ctx.Done():
	case <-time.After(settleEvery):
	case <-u.orders.wake:
	case err = <-done:
		if err == nil { // all are loaded
			select {
			case <-ctx.Done():
			case <-time.After(settleEvery):
			case <-u.orders.wake:
			}
		}
		done <- err
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		u.orders.give(order{}) // what waits is looked at when the database is back
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o := u.orders.take()
	if err := u.obey(ctx, o); err != nil {
		u.orders.giveBack(o)
		return err
	}
	return nil
}

func (u *Uplink) obey(ctx context.Context, o order) error {
	// Never mind the version: a region that was restored from a backup may
	// have counted on to the same number with another list.
	if o.tables != nil {
		if err := u.store.replace(ctx, *o.tables); err != nil {
			return err
		}
	}
	if o.reloadAll || len(o.reload) > 0 {
		if err := u.store.reload(ctx, o.reload, o.reloadAll); err != nil {
			return err
		}
	}
	for _, m := range o.mends {
		begun, err := u.store.mend(ctx, m)
		if err != nil {
			return err
		}
		if begun {
			u.Log.Warn("the region asks for a table again: the way down was mended", "table", m.table)
		}
	}
	for _, c := range o.checks {
		linted, err := u.lint(ctx, c.table)
		if err != nil {
			return err
		}
		c.reply(linted[0].Problems)
	}
	u.obeyed = append(u.obeyed, o.settled...)
	return nil
}

// settle reads the list, refuses what cannot be synced and publishes the rest.
// The rows of master tables are the region's to change, so that they are not
// published; here they are only read.
func (u *Uplink) settle(ctx context.Context) error {
	if err := u.keepLeftOut(ctx); err != nil {
		return err
	}
	if err := u.store.rowsCame(ctx); err != nil {
		return err
	}
	version, list, removed, err := u.store.tables(ctx)
	if err != nil {
		return err
	}
	tables := make([]proto.SyncedTable, len(list))
	for i, e := range list {
		tables[i] = e.SyncedTable
	}
	linted, err := u.lint(ctx, tables...)
	if err != nil {
		return err
	}
	var good []capture.Table
	var masters []schema.Name
	for i := range list {
		e, problems := &list[i], linted[i].Problems
		e.look(linted[i].Table)
		state := e.State
		switch {
		case len(problems) > 0:
			state = proto.TableRefused
		case e.Class == master:
			state = proto.TableStreaming // the region has its rows
		case e.State == proto.TableRefused:
			state = proto.TableLoading
		}
		e.Unread = e.Unread || state == proto.TableRefused && e.Class == fact
		if state != e.State || !slices.Equal(problems, e.Problems) {
			if err := u.store.setState(ctx, e.SyncedTable, state, problems); err != nil {
				return err
			}
			if state == proto.TableRefused {
				u.Log.Warn("a table cannot be synced", "table", e.ID(), "reason", problems[0].Text)
			}
		}
		e.State, e.Problems = state, problems
		switch {
		case state == proto.TableRefused:
		case e.Class == master:
			masters = append(masters, schema.Name{Schema: e.Schema, Name: e.Name})
		default:
			good = append(good, capture.Table{Schema: e.Schema, Name: e.Name, Event: e.Class == "event"})
		}
	}
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	if err := u.sendUnpublished(ctx, conn.Conn(), good, list); err != nil {
		return err
	}
	// First: what is not captured any more is not written over.
	u.setTables(version, list, removed)
	if err := capture.EnsurePublications(ctx, conn.Conn(), good); err != nil {
		return err
	}
	if err := schema.EnsureReadOnly(ctx, conn.Conn(), masters); err != nil {
		return err
	}
	select {
	case <-u.settled:
	default:
		close(u.settled)
	}
	return u.beginAgain(ctx, list)
}

// beginAgain asks for another restored epoch where a table that did not take the
// region's rows would now, and what was changed of it here is not known, so that they
// cannot be decided by themselves. It is carried out by Capture.
func (u *Uplink) beginAgain(ctx context.Context, list []entry) error {
	now := u.epoch.Get()
	if u.Down == nil || now.Restored || now.Opening {
		return nil
	}
	for _, e := range list {
		if !e.PutBack || !e.Unread || e.State == proto.TableRefused || time.Since(u.begunAgain[e.ID()]) < beginAgainEvery {
			continue
		}
		fits, err := u.Down.WouldFit(ctx, e.Schema, e.Name)
		if err != nil {
			return err
		}
		if fits {
			u.begunAgain[e.ID()] = time.Now()
			_ = u.askEpoch(wanted{reason: e.ID() + " fits again, and lacks what the region sent when this database had been put back", above: now.Number, restored: true})
			return nil
		}
	}
	return nil
}

// sendUnpublished marks tables that are about to be published to be sent from
// their first row: what happened to them until now was not captured. Most are
// new; but a migration may also have put another table in the place of one that
// streams, or a table may have lost and regained its key. That is found out when
// the list is looked at, and before a change that comes down is decided (sameTables).
func (u *Uplink) sendUnpublished(ctx context.Context, conn *pgx.Conn, good []capture.Table, list []entry) error {
	missing, err := capture.Unpublished(ctx, conn, good)
	if err != nil || len(missing) == 0 {
		return err
	}
	ids := make([]string, len(missing))
	for i, t := range missing {
		ids[i] = t.ID()
	}
	for i := range list {
		if slices.Contains(ids, list[i].ID()) {
			list[i].State, list[i].RowsLoaded = proto.TableLoading, 0
			list[i].Unread = list[i].Unread || list[i].Class == fact
		}
	}
	return u.store.reloadUnread(ctx, ids)
}

// lint asks the local database whether it can serve tables.
func (u *Uplink) lint(ctx context.Context, tables ...proto.SyncedTable) ([]schema.Linted, error) {
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	return schema.LintAll(ctx, conn.Conn(), tables, schema.Edge)
}

// loadAll loads the tables that wait for it, one after the other, and returns
// when none does, or when ctx ends. History comes last: nothing waits for it.
func (u *Uplink) loadAll(ctx context.Context) error {
	if err := u.waitForSlot(ctx); err != nil {
		return err
	}
	_, list, _, err := u.store.tables(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, history := range []bool{false, true} {
		for _, e := range list {
			// Rows of history add and correct; others are exactly what is sent.
			if e.State != proto.TableLoading || (e.Class == "event") != history || !history && (e.PutBack || !u.mayLoad()) {
				continue
			}
			if err := u.load(ctx, e); ctx.Err() != nil {
				return err
			} else if err != nil {
				errs = append(errs, err) // one table does not hold up the others
			}
		}
		if err := u.readUnread(ctx); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (u *Uplink) load(ctx context.Context, e entry) error {
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	began, rows := time.Now(), e.RowsLoaded
	t, part := capture.Table{Schema: e.Schema, Name: e.Name, Event: e.Class == "event"}, capture.Part{Whole: e.Whole}
	err = capture.LoadPart(ctx, conn.Conn(), t, part, e.LoadAfter,
		func(ctx context.Context, tx pgx.Tx, after change.Row, n int64) error {
			rows += n
			u.noteProgress(e.ID(), rows)
			return progress(ctx, tx, e, after, n)
		})
	if errors.Is(err, capture.ErrNoKey) {
		u.Log.Warn("a table without a key: only rows written from now on are sent", "table", e.ID())
		err = nil
	}
	if errors.Is(err, errRestarted) {
		u.orders.give(order{}) // look at the list again
		return nil
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", e.ID(), err)
	}
	if e.Unread {
		if err := u.drained(ctx); err != nil {
			return err
		}
	}
	if err := u.store.loaded(ctx, e); err != nil {
		return err
	}
	u.Log.Info("table loaded", "table", e.ID(), "rows", rows, "took", time.Since(began).Round(time.Millisecond))
	version, list, removed, err := u.store.tables(ctx)
	if err == nil {
		u.keepFingerprints(list)
		u.setTables(version, list, removed)
	}
	return err
}

// noteProgress shows a load's progress without asking the database.
func (u *Uplink) noteProgress(id string, rows int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.tables {
		if u.tables[i].ID() == id {
			u.tables[i].RowsLoaded = rows
		}
	}
	close(u.changed)
	u.changed = make(chan struct{})
}

func (u *Uplink) keepFingerprints(list []entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range list {
		for _, old := range u.tables {
			if old.ID() == list[i].ID() {
				list[i].fingerprint, list[i].columns = old.fingerprint, old.columns
			}
		}
	}
}

// waitForSlot waits until what is written to the WAL will be captured.
func (u *Uplink) waitForSlot(ctx context.Context) error {
	for {
		u.mu.Lock()
		slot, changed := u.capture != nil, u.changed
		u.mu.Unlock()
		if slot {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
