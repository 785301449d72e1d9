package queue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
)

// full returns a queue that takes no more, of which the first acked frames are
// acknowledged.
func full(t *testing.T, o Options, acked uint64) (q *Queue, last uint64) {
	t.Helper()
	q = open(t, o)
	for {
		err := q.Append(sealed(t, epoch1, last+1, last+1, 100))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last++; last == acked {
			if err := q.Ack(at(epoch1, acked)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return q, last
}

// wayGiven gives about a third way.
func wayGiven(t *testing.T, q *Queue, acked uint64) (to change.Position) {
	t.Helper()
	before := q.Stats()
	from, to, ok := q.Front(before.Bytes / 3)
	if !ok || from != at(epoch1, acked) || to.Seq <= acked || to.Seq >= before.Last {
		t.Fatalf("%s to %s could give way (%t), with %d acknowledged and %d there", from, to, ok, acked, before.Last)
	}
	if err := q.GiveWay(to); err != nil {
		t.Fatal(err)
	}
	after := q.Stats()
	if given := before.Transactions - after.Transactions; given != int64(to.Seq-acked) {
		t.Errorf("%d transactions fewer wait, %d gave way", given, to.Seq-acked)
	}
	if after.GaveWay != to.Seq {
		t.Errorf("%d is told to have given way, it was %d", after.GaveWay, to.Seq)
	}
	if after.Bytes >= before.Bytes || after.Bytes <= 0 || after.OldestCommit.IsZero() {
		t.Errorf("%d of %d bytes wait, the oldest since %s", after.Bytes, before.Bytes, after.OldestCommit)
	}
	return to
}

// toldAs checks that a reader behind after is told what gave way, and then gets
// everything else in order.
func toldAs(t *testing.T, c *Cursor, first, to, last uint64) {
	t.Helper()
	_, err := c.Next(t.Context())
	var lost *LostError
	if !errors.As(err, &lost) || !errors.Is(err, ErrGaveWay) || lost.Epoch != epoch1 || lost.First != first || lost.Last != to {
		t.Fatalf("%v where transactions %d to %d gave way", err, first, to)
	}
	for seq := to + 1; seq <= last; seq++ {
		if f := next(t, c); f.Header.First != seq {
			t.Fatalf("transaction %d where %d belongs", f.Header.First, seq)
		}
	}
}

func TestWhatGivesWayIsToldAndTheRestStays(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 32 << 10, KeepBytes: -1, MaxBytes: 512 << 10}
	const acked = 100
	q, last := full(t, o, acked)
	reader := q.Cursor(at(epoch1, acked))
	if f := next(t, reader); f.Header.First != acked+1 {
		t.Fatalf("the reader begins with %d", f.Header.First)
	}
	to := wayGiven(t, q, acked)
	appendAll(t, q, sealed(t, epoch1, last+1, last+1, 100)) // it takes again
	last++
	toldAs(t, q.Cursor(at(epoch1, acked)), acked+1, to.Seq, last)
	toldAs(t, q.Cursor(at(epoch1, to.Seq-1)), to.Seq, to.Seq, last)
	toldAs(t, reader, acked+2, to.Seq, last)
	if f := next(t, q.Cursor(to)); f.Header.First != to.Seq+1 {
		t.Errorf("who has what gave way goes on with %d", f.Header.First)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	toldAs(t, q.Cursor(at(epoch1, acked)), acked+1, to.Seq, last)

	// Once more, and then everything arrives.
	again := wayGiven(t, q, to.Seq)
	toldAs(t, q.Cursor(at(epoch1, acked)), acked+1, again.Seq, last)
	if err := q.Ack(at(epoch1, last)); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Transactions != 0 || s.Bytes != 0 || s.GaveWay != 0 {
		t.Errorf("%d transactions of %d bytes wait when all have arrived, and %d gave way", s.Transactions, s.Bytes, s.GaveWay)
	}
	if _, _, ok := q.Front(1 << 20); ok {
		t.Error("something could give way although nothing waits")
	}
}

func TestWhatWasNotedToGiveWayGoesWhenTheQueueIsOpenedAgain(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 32 << 10, KeepBytes: -1, MaxBytes: 512 << 10}
	const acked = 7
	q, last := full(t, o, acked)
	before := copyDir(t, o.Dir)
	to := wayGiven(t, q, acked)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	// The process ended when it had noted it, before anything was dropped.
	notes := 0
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "note") {
			raw, err := os.ReadFile(filepath.Join(o.Dir, e.Name()))
			if err == nil {
				err = os.WriteFile(filepath.Join(before, e.Name()), raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			notes++
		}
	}
	if notes == 0 {
		t.Fatal("there is no note")
	}
	o.Dir = before
	toldAs(t, open(t, o).Cursor(at(epoch1, acked)), acked+1, to.Seq, last)
}
