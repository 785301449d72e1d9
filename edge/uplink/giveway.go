package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// When the link is down for so long that the queue fills, what waited longest
// gives way. Of fact rows nothing is lost by that: the local database has their
// last image, and all of them are sent again when the link is back, by key ranges
// behind a gap (see gap). History is another matter, because the box may have
// pruned it by then: rows of event tables are written into the WAL once more, so
// that they wait at the end of the queue instead of at its front.
const (
	giveWayAfter   = time.Minute // without a link
	giveWayPercent = 90          // of the limit, from which on
	giveWayTo      = 75          // until that many are left
	// giveWayBytes is how much gives way at a time, in frames: they are unpacked in memory.
	giveWayBytes = 4 << 20
	// historyMost of four changes may be of history: with more of them nothing
	// would be gained, and the same rows would be written again and again.
	historyMost = 3
	emitRows    = 500
)

// errKeeps is why nothing gives way: the queue fills up, and then the WAL waits.
var errKeeps = errors.New("nothing in the queue can give way")

// GiveWay keeps the queue from filling up while the link is down, until ctx is done.
func (u *Uplink) GiveWay(ctx context.Context) error {
	after := u.GiveWayAfter
	if after == 0 {
		after = giveWayAfter
	}
	said := ""
	return run.Loop(ctx, u.Log, run.Backoff{Min: after / 4, Max: after}, func(ctx context.Context, _ func()) error {
		u.mu.Lock()
		link, slot := u.link, u.capture != nil
		u.mu.Unlock()
		// Without the slot, what is written to the WAL now would not be captured.
		if link.Up || time.Since(link.Since) < after || !slot {
			return nil
		}
		err := u.giveWay(ctx)
		if !errors.Is(err, errKeeps) {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			u.Log.Warn("the queue is nearly full; when it is, changes wait in the database's WAL", "reason", err)
		}
		return nil
	})
}

// giveWay gives way until enough is free.
func (u *Uplink) giveWay(ctx context.Context) error {
	for most := int64(giveWayPercent); ; most = giveWayTo {
		s := u.Queue.Stats()
		if s.LimitBytes <= 0 || s.Bytes < s.LimitBytes/100*most {
			return nil
		}
		from, to, ok := u.Queue.Front(min(giveWayBytes, s.LimitBytes/8))
		if !ok {
			return nil
		}
		history, err := u.history(ctx, from, to)
		if err != nil {
			return err
		}
		if err := u.emit(ctx, history); err != nil {
			return err
		}
		if err := u.Queue.GiveWay(to); err != nil {
			return err
		}
		u.Log.Warn("the queue is nearly full: what waited longest gave way, and its tables are sent again when the link is back",
			"first", from.Seq+1, "last", to.Seq, "history_kept", len(history))
	}
}

// history returns the changes of event tables after from, up to to, as messages
// for the WAL.
func (u *Uplink) history(ctx context.Context, from, to change.Position) (messages [][]byte, err error) {
	u.mu.Lock()
	event := map[string]bool{proto.ConflictTable: true}
	for _, e := range u.tables {
		if e.Class == string(apply.Event) {
			event[e.ID()] = true
		}
	}
	u.mu.Unlock()
	all := 0
	add := func(t *change.Table, c *change.Change) error {
		if c.Op == change.Delete || c.Op == change.Truncate {
			return nil // the region keeps history
		}
		if len(t.KeyColumns()) == 0 {
			return fmt.Errorf("%w: %s has no key, so its rows could arrive twice", errKeeps, t.ID())
		}
		m, err := change.EncodeRow(t, c)
		messages = append(messages, m)
		return err
	}
	cursor := u.Queue.Cursor(from)
	for cursor.Position().Before(to) {
		f, err := cursor.Next(ctx)
		var lost *queue.LostError
		if errors.As(err, &lost) {
			continue // it is told when its turn comes, as it would have been
		}
		if err != nil {
			return nil, fmt.Errorf("read what is to give way: %w", err)
		}
		body, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("read what is to give way: %w", err)
		}
		for i := range body.Txs {
			for j := range body.Txs[i].Changes {
				c := &body.Txs[i].Changes[j]
				if !c.Op.OfRows() {
					continue
				}
				t := &body.Tables[c.Table]
				all += max(1, rowsIn(c))
				switch {
				case !event[t.ID()]:
				case c.Op == change.Range:
					for _, row := range c.Range.Rows {
						if err := add(t, &change.Change{Op: change.Insert, Row: row}); err != nil {
							return nil, err
						}
					}
				default:
					if err := add(t, c); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	if len(messages)*4 > all*historyMost {
		return nil, fmt.Errorf("%w: most of it is history, which must not be lost", errKeeps)
	}
	return messages, nil
}

func rowsIn(c *change.Change) int {
	if c.Range == nil {
		return 1
	}
	return len(c.Range.Rows)
}

// emit writes messages into the WAL, and returns when they are on the disk.
func (u *Uplink) emit(ctx context.Context, messages [][]byte) error {
	if len(messages) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, u.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = on`); err != nil {
			return err
		}
		for len(messages) > 0 {
			n := min(emitRows, len(messages))
			if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, m) FROM pg_catalog.unnest($2::bytea[]) m`, apply.RowPrefix, messages[:n]); err != nil {
				return err
			}
			messages = messages[n:]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write history into the WAL once more: %w", err)
	}
	return nil
}
