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

// What was sent back to the region is nobody's change here, unless somebody changed
// the row as well.
func TestWhatWasSentBackIsNobodysChange(t *testing.T) {
	t.Parallel()
	q := openQueue(t, queue.Options{})
	var b change.Builder
	pos := 0
	for i, tx := range []struct {
		back bool
		keys []int
	}{{true, []int{7, 8}}, {false, []int{8}}, {true, []int{8}}} {
		b.Begin(uint64(i+1), 1)
		if tx.back {
			b.AddNote(change.NoteBack, "1")
		}
		pos = b.AddTable(tables[0])
		for _, k := range tx.keys {
			b.Add(change.Update, pos, nil, full(0, row(k), "b"), nil)
		}
		b.Commit(uint64(9 + i))
	}
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: epoch1}, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Append(f); err != nil {
		t.Fatal(err)
	}
	x := New(q, settled)
	for seq, want := range map[uint64][2]bool{0: {true, false}, 2: {false, true}} { // of 7, of 8
		got, err := x.Touched(t.Context(), change.Position{Epoch: epoch1, Seq: seq}, asks(0, row(7), row(8)))
		if err != nil {
			t.Fatal(err)
		}
		if got[0].SentBack != want[0] || got[1].SentBack != want[1] {
			t.Errorf("behind %d: %+v", seq, got)
		}
	}
}
