package unseen

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

// fill appends frames of one insert each until more than so much waits.
func fill(t *testing.T, q *queue.Queue, bytes int64) (last change.Position) {
	t.Helper()
	tail, _, _ := q.Tail()
	last.Epoch = epoch1
	for seq := tail.Seq + 1; q.Stats().Bytes < bytes; seq++ {
		var b change.Builder
		b.AddTable(tables[0])
		b.Begin(seq, 1)
		// Text that does not pack.
		b.Add(change.Insert, 0, nil, full(0, row(seq), rand.Text()+rand.Text()+rand.Text()), nil)
		f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: epoch1}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Append(f); err != nil {
			t.Fatal(err)
		}
		last.Seq = seq
	}
	return last
}

// reads is whether a question has to read the queue first.
func reads(t *testing.T, x *Index, seen change.Position) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing can be read with it
	got, err := x.Touched(ctx, seen, asks(0, row(-1)))
	if len(got) > 0 || err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("a key that nobody changed: %v, %v", got, err)
	}
	return err != nil
}

func TestABacklogIsReadBeforeAnybodyAsks(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	x := New(q, settled)
	began := change.Position{Epoch: epoch1}
	x.Seen(began)
	fill(t, q, aheadFrom/2)
	if _, err := x.readAhead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x.begun {
		t.Error("it was read although little waits")
	}
	last := fill(t, q, aheadFrom)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(2 * aheadEvery)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	if reads(t, x, began) {
		t.Error("the backlog was not read")
	}
	if got, err := x.Touched(t.Context(), began, asks(0, row(last.Seq))); err != nil || got[0].Position != last {
		t.Errorf("the last row was changed at %+v, %v; want %s", got[0], err, last)
	}
}
