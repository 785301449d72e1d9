package unseen

import (
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

func TestADigestTouchesNothing(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	var b change.Builder
	b.Begin(1, 1)
	pos := b.AddTable(tables[0])
	b.Add(change.Digest, pos, nil, row("what the rows come to"), nil)
	b.Commit(9)
	b.Begin(2, 1)
	b.Add(change.Insert, pos, nil, full(0, row(7), "b"), nil)
	b.Commit(10)
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: epoch1}, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Append(f); err != nil {
		t.Fatal(err)
	}
	got, err := New(q, settled).Touched(t.Context(), change.Position{Epoch: epoch1}, asks(0, row(7), row(8)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Position.Seq != 2 {
		t.Errorf("touched: %+v", got)
	}
}
