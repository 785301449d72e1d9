package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// The region asks what a table's rows come to, one question after the other and
// with pauses of its own. An answer goes through the WAL like any change; only
// where there is none a word goes straight back. Questions end with their
// session: the region asks again.

// questionsMax bounds the questions that wait; the region asks one at a time.
const questionsMax = 8

// answer answers the region's questions until ctx is done.
func (u *Uplink) answer(ctx context.Context, link *transfer.Link, questions <-chan *proto.Verify) error {
	for {
		var q *proto.Verify
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q = <-questions:
		}
		err := u.verify(ctx, q)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		if errors.Is(err, capture.ErrNoKey) {
			err = hint.Wrap(fmt.Errorf("%s.%s has no key that tells its rows apart", q.Schema, q.Name), "Give it a primary key, here and in the region, to have it compared.")
		}
		u.Log.Debug("a question about a table has no answer", "table", q.Schema+"."+q.Name, "err", err)
		p := proto.Problem{Text: err.Error(), Remedy: hint.Of(err)}
		if err := link.Send(proto.TypeUnverified, &proto.Unverified{ID: q.ID, Problem: p}); err != nil {
			return err
		}
	}
}

// verify puts the answer to a question into the stream.
func (u *Uplink) verify(ctx context.Context, q *proto.Verify) error {
	t, err := u.verifiable(q)
	if err != nil {
		return err
	}
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	if len(q.Mend) > 0 {
		keys := make([]change.Row, len(q.Mend))
		for i, k := range q.Mend {
			keys[i] = k
		}
		u.Log.Warn("the region asks for rows again", "table", t.ID(), "rows", len(keys))
		return capture.MendRows(ctx, conn.Conn(), t, keys)
	}
	return capture.DigestTable(ctx, conn.Conn(), t, capture.Question{
		ID: q.ID, After: bound(q.After), UpTo: bound(q.UpTo), Rows: int(q.Rows), Parts: int(q.Parts), List: q.List,
	})
}

func bound(key [][]byte) change.Row {
	if len(key) == 0 {
		return nil
	}
	return key
}

// verifiable returns the table that a question is about: one whose rows the
// region has all been sent.
func (u *Uplink) verifiable(q *proto.Verify) (capture.Table, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.tables, func(e entry) bool { return e.Schema == q.Schema && e.Name == q.Name })
	switch {
	case i < 0:
		return capture.Table{}, fmt.Errorf("%s.%s is not synced here", q.Schema, q.Name)
	case u.tables[i].State != proto.TableStreaming:
		return capture.Table{}, fmt.Errorf("%s is %s", u.tables[i].ID(), u.tables[i].State)
	case u.capture == nil:
		return capture.Table{}, errors.New("changes are not being read now")
	}
	e := u.tables[i]
	return capture.Table{Schema: e.Schema, Name: e.Name, Event: e.Class == "event"}, nil
}

// heard takes a question of the region, or an order. One that finds no room is
// dropped: the region asks again.
func heard[T any](questions chan<- T, q T) {
	select {
	case questions <- q:
	default:
	}
}
