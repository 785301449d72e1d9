package uplink

import (
	"context"
	"errors"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// What people changed and nobody had read when the slot was lost, or what the
// queue has lost, is in the database alone. Whatever comes down then may be
// older, and nothing here tells: so
//
//  1. the loss is noted with the epoch, on disk, before the WAL is read again;
//  2. until the fact tables have been read into the queue, by key ranges, nothing
//     of them that comes down is decided: it waits;
//  3. then the ranges stand for whatever had been changed: the rows are as they
//     are here, and what the region had of them is told as conflicts.
//
// So it is at a new box, whose people may be at work before the region has said which
// tables there are.
//
// Of one table it is so while it is not captured: from when it is refused until it
// fits again, and has been read, and of a new one until that. Then what comes down
// of it is parked, and decided when it has been read; everything else flows. It is
// noted with the table before that leaves the publication. So it is of a table that
// waits for the region's rows since its database was put back (restored.go), when what
// was changed here is lost meanwhile.
//
// A database that was put back from a backup is the other case: its rows are the
// older ones, and the region's come first (restored.go). Which of the two it is
// the region has said before it sends anything: until then no fact table is read.

// errUnread is why nothing that comes down is decided.
var errUnread = hint.Wrap(errors.New("not all that was changed at this box has been read; its tables are read first"),
	"It goes on by itself. A transaction that has long been open on one of the tables keeps it from being read: end that.")

// errExchanged is why nothing is decided until the tables have been looked at.
var errExchanged = hint.Wrap(errors.New("a table at this box is not the one that is captured: a migration has put another in its place, perhaps"), "It goes on by itself.")

// sameTables makes sure that the fact tables that count as read are captured. It has
// them looked at when one is not: that is found out otherwise every settleEvery.
func (u *Uplink) sameTables(ctx context.Context) error {
	var schemas, names []string
	u.mu.Lock()
	for i := range u.tables {
		if e := &u.tables[i]; e.Class == fact && !e.Unread && e.State != proto.TableRefused {
			schemas, names = append(schemas, e.Schema), append(names, e.Name)
		}
	}
	u.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	if all, err := u.store.published(ctx, schemas, names); err != nil || all {
		return err
	}
	u.orders.give(order{})
	return errExchanged
}

// loseUnread marks all tables to be sent again because what was changed here is
// not in the queue any more, and notes that until then it is nowhere else.
func (u *Uplink) loseUnread(ctx context.Context) error {
	u.setting.Lock()
	defer u.setting.Unlock()
	now := u.epoch.Get()
	if now.Opening || now.Restored { // it will be noted, or the region's rows come first
		return u.store.reload(ctx, nil, true)
	}
	if err := u.store.reloadLost(ctx); err != nil {
		return err
	}
	now.Unread = true
	return u.epoch.Set(now)
}

// readUnread notes that nothing is unread any more, unless a fact table still waits
// to be read. It is called by whoever reads them, so that none of them was read
// behind what it waits for.
func (u *Uplink) readUnread(ctx context.Context) error {
	if !u.epoch.Get().Unread {
		return nil
	}
	if err := u.drained(ctx); err != nil {
		return err
	}
	u.setting.Lock()
	defer u.setting.Unlock()
	now := u.epoch.Get()
	if now.Opening {
		return nil
	}
	if version, _, _, err := u.store.tables(ctx); err != nil || version == 0 {
		return err // the region has not said yet what there is to be read
	}
	if due, err := u.store.facts(ctx); err != nil || len(due) > 0 {
		return err
	}
	now.Unread = false
	if err := u.epoch.Set(now); err != nil {
		return err
	}
	u.Log.Info("what was changed here unread is in the queue; what comes down is decided again", "epoch", now.Number)
	return nil
}

// unread says why what comes down of a table is parked; nil when it is not.
func (e *entry) unread() *apply.Unread {
	switch {
	case !e.Unread:
		return nil
	case e.State == proto.TableRefused && len(e.Problems) > 0:
		return &apply.Unread{Why: "is not captured at this facility, so that its people's changes would be overwritten unseen: " + e.Problems[0].Text, Remedy: e.Problems[0].Remedy}
	case e.PutBack: // it is not read before the region's rows are there, which begins anew
		return &apply.Unread{
			Why:    "did not take the region's rows when this facility's database had been put back, and waits for them",
			Remedy: "Give the table at the facility the columns and the key that it has in the region; all of it is then sent again by itself.",
		}
	}
	return &apply.Unread{
		Why:    "has rows at this facility that were changed before it was captured, and it is still being read",
		Remedy: "It goes on by itself. A transaction that has long been open on the table keeps it from being read: end that.", Soon: true,
	}
}
