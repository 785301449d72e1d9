package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
)

// A box is replaced: another one is enrolled, with an empty database and a new
// stream, and the region sends it the facility's rows while people work at it. The
// region fences the box before. What that had committed and not sent stays in its
// queue; what it had not sent of its decisions is lost with it too.

// boxReplaced puts a new box in the place of one, whatever that has not sent.
func (w *world) boxReplaced(ctx context.Context) error {
	e := w.someEdge()
	b := w.books[e.id]
	if w.lossy || b.clear == unclear {
		// Tables may be on their way by ranges: what the region has of them is no
		// transaction's end.
		if !w.joined() {
			w.tell("not joined")
			return nil
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		if err := w.loaded(ctx, e); err != nil {
			return err
		}
		e.cable.cut()
		defer e.cable.restore(-1)
		if err := w.edgeCommit(ctx, e, w.someOps()); err != nil {
			return err
		}
	}
	r := w.region
	e.enrolment++
	r.enrolments[e.id].Store(e.enrolment)
	r.streams.Fence(ctx, e.id)
	if err := e.crash(); err != nil {
		return err
	}
	// The next session ends the one before, as the new box's does: nothing of the old
	// one is applied behind it.
	s, err := r.ingest.Open(ctx, e.id)
	if err != nil {
		return err
	}
	s.Close(ctx)
	if err := w.beginBook(ctx, e); err != nil {
		return err
	}
	if err := e.database.empty(ctx); err != nil {
		return err
	}
	e.old = e.dir
	e.dir = filepath.Join(filepath.Dir(e.dir), fmt.Sprint(e.id, "-", e.enrolment))
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return err
	}
	return e.start(ctx)
}

// beginBook begins a facility's book anew with what the region has. It must be what
// the old box's transactions come to that had arrived.
func (w *world) beginBook(ctx context.Context, e *edge) error {
	b := w.books[e.id]
	var n int
	if err := w.region.pool.QueryRow(ctx, `SELECT n FROM edge_count WHERE facility_id = $1`, e.id).Scan(&n); err != nil {
		return fmt.Errorf("ask how much of the old box has arrived: %w", err)
	}
	if n > len(b.edge) {
		return fmt.Errorf("the region has %d transactions of %s, which has made %d", n, e.id, len(b.edge))
	}
	region, err := look(ctx, w.region.pool)
	if err != nil {
		return err
	}
	w.tell("%d of %d had arrived", n, len(b.edge))
	b.edge = b.edge[:n]
	have := region.rows(e.id)
	// What the cloud prefers the old box may have decided, or not, and have told, or not.
	open := *b
	open.clear = unclear
	for _, r := range b.rows() {
		want := b.expected(r)
		if r.table != "doc" {
			want = open.expected(r)
		}
		if !w.lossy && !slices.Contains(want, have[r]) {
			return fmt.Errorf("row %s of %s is %q in the region, the books say %q:%s", r, e.id, have[r], want, b.story(r))
		}
	}
	base := map[row][2]string{}
	for r, value := range have {
		base[r] = [2]string{value, value}
		if done, due, ok := strings.Cut(value, " "); ok {
			base[r] = [2]string{done, due}
		}
	}
	for _, t := range slices.Concat(b.edge, b.cloud) {
		t.writes = nil
	}
	b.base, b.clear = base, unclear
	e.loads, err = w.loads(ctx, e)
	return err
}

// loads counts how often a table was to be sent to the facility, and says whether
// all were.
func (w *world) loads(ctx context.Context, e *edge) (l loads, err error) {
	err = w.region.pool.QueryRow(ctx, `SELECT count(*) + coalesce(sum(load_no), 0), count(*) FILTER (WHERE done_at IS NULL) FROM holdfast.down_load WHERE facility = $1`, e.id).
		Scan(&l.asked, &l.due)
	if err != nil {
		return l, fmt.Errorf("ask what is sent to %s: %w", e.id, err)
	}
	return l, nil
}

type loads struct{ asked, due int }

// lookAtNewBox notes, before the cloud commits, that a new box has sent all of its
// tables and that all it is to be sent is in the WAL: no range is under way any more
// when the box has what follows.
func (w *world) lookAtNewBox(ctx context.Context, e *edge) error {
	b := w.books[e.id]
	if b.clear != unclear {
		return nil
	}
	heard, err := w.heard(ctx, e)
	if err != nil || !heard {
		return err
	}
	l, err := w.loads(ctx, e)
	if err != nil || l.due > 0 || l.asked == e.loads.asked {
		return err
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if e.loading() || e.up.Settled(short) != nil || e.queue.Stats().Transactions > 0 {
		return nil
	}
	b.clear = len(b.cloud) + 1
	w.tell("(%s has all of its rows)", e.id)
	return nil
}

// whole reports whether what the facility's box sends of a table removes in the region
// what is not there: it is the first one, or was told that it has all that there was.
func (w *world) whole(ctx context.Context, e *edge) (yes bool, err error) {
	if e.enrolment == 1 {
		return true, nil
	}
	err = w.region.pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM holdfast.synced_table t WHERE class = 'fact' AND NOT EXISTS (SELECT FROM holdfast.down_load l
		WHERE l.facility = $1 AND (l.schema_name, l.table_name) = (t.schema_name, t.table_name) AND whole_enrolment = $2))`, e.id, int64(e.enrolment)).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("ask whether %s is whole: %w", e.id, err)
	}
	return yes, nil
}

// heard reports whether the region has something of the newest box.
func (w *world) heard(ctx context.Context, e *edge) (yes bool, err error) {
	err = w.region.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.position WHERE facility = $1 AND epoch >> 32 = $2)`, e.id, int64(e.enrolment)).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("ask for the position of %s: %w", e.id, err)
	}
	return yes, nil
}

// replacedBoxComes lets a box that was replaced come again. In the real world its tunnel
// has ended; here it is the stream that must refuse it, and leave its queue alone.
func (w *world) replacedBoxComes(ctx context.Context) (err error) {
	e := w.someEdge()
	heard, err := w.heard(ctx, e)
	if err != nil {
		return err
	}
	if e.old == "" || !heard || !e.cable.joined() {
		w.tell("not now")
		return nil
	}
	log := e.log.With("box", "old")
	q, err := queue.Open(queue.Options{Dir: filepath.Join(e.old, "queue"), SegmentBytes: 1 << 20, KeepBytes: -1, Log: log})
	if err != nil {
		return err
	}
	had := q.Stats()
	nowhere, err := pgxpool.New(ctx, "host=/nonexistent")
	if err != nil {
		return err
	}
	defer nowhere.Close()
	up, err := uplink.New(uplink.Config{
		Facility: e.id, EpochBase: uint64(e.enrolment-1) << 32, EpochFile: filepath.Join(e.old, "epoch"), DB: nowhere, CaptureConn: "host=/nonexistent",
		Queue: q, Dial: newCable(e.cable.addr, e.cable.accept).Dial, Hub: "region:1", Agent: "sim", Log: log,
	})
	if err != nil {
		return errors.Join(err, q.Close())
	}
	s := run.New(log)
	s.Close("queue", q.Close)
	s.Go("transfer", up.Transfer)
	err = until(ctx, w.patience, func() (bool, error) { return up.LinkState().Replaced, nil })
	if err != nil {
		err = fmt.Errorf("the old box of %s is not told that it was replaced: %w: %s", e.id, err, up.LinkState().Error)
	}
	has := q.Stats()
	w.tell("with %d transactions", has.Transactions)
	if has.Transactions != had.Transactions {
		err = errors.Join(err, fmt.Errorf("the old box of %s had %d transactions in its queue, and now has %d", e.id, had.Transactions, has.Transactions))
	}
	return errors.Join(err, s.Stop(stopWithin))
}
