package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

const epoch1 = uint64(1) << 32

// sealed returns a frame with transactions first to last of one change each.
func sealed(t testing.TB, epoch, first, last uint64, payload int) change.Sealed {
	t.Helper()
	b := &change.Body{Tables: []change.Table{{Schema: "public", Name: "t", Columns: []change.Column{{Name: "id", Type: "bigint", Key: true}, {Name: "v", Type: "text"}}}}}
	for s := first; s <= last; s++ {
		v := make([]byte, payload)
		r := rand.New(rand.NewPCG(epoch, s))
		for i := range v {
			v[i] = byte(r.Uint32())
		}
		b.Txs = append(b.Txs, change.Tx{Seq: s, LSN: lsnOf(s), CommitMicros: int64(s) * 1000, Changes: []change.Change{
			{Op: change.Insert, Row: change.Row{fmt.Append(nil, s), v}},
		}})
	}
	f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: epoch, First: first, Last: last, LSN: lsnOf(last), CommitMicros: int64(first) * 1000}, b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func lsnOf(seq uint64) uint64 { return 1000 + seq*10 }

// part returns one part of a big transaction.
func part(t testing.TB, epoch, seq uint64, n uint32, more bool, payload int) change.Sealed {
	t.Helper()
	f := sealed(t, epoch, seq, seq, payload)
	b, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	h := f.Header
	h.Part, h.More = n, more
	if more {
		h.LSN = 0
	}
	if f, err = change.Seal(h, b); err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t testing.TB, o Options) *Queue {
	t.Helper()
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func appendAll(t testing.TB, q *Queue, frames ...change.Sealed) {
	t.Helper()
	if err := q.Append(frames...); err != nil {
		t.Fatal(err)
	}
}

// next returns the cursor's next frame, which must come within two minutes.
func next(t testing.TB, c *Cursor) change.Sealed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	f, err := c.Next(ctx)
	if err != nil {
		t.Fatalf("next after %s: %v", c.Position(), err)
	}
	return f
}

// drained fails if the cursor has one more frame.
func drained(t testing.TB, c *Cursor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if ready, err := c.seek(ctx); ready || err == nil && c.next <= c.q.ix.visible && c.next != 0 {
		f, err := c.Next(context.Background())
		t.Fatalf("one more frame: %+v, %v", f.Header, err)
	}
}

func at(epoch, seq uint64) change.Position { return change.Position{Epoch: epoch, Seq: seq} }

func TestFramesComeBackInOrderAfterReopening(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(t.TempDir(), "queue"), SegmentBytes: 8 << 10}
	var want []change.Sealed
	for round := range 5 {
		q := open(t, o)
		if q.Opened() != (Opened{}) {
			t.Fatalf("opened: %+v", q.Opened())
		}
		for i := range 40 {
			n := uint64(round*40+i)*3 + 1
			f := sealed(t, epoch1, n, n+2, 100+i*13)
			want = append(want, f)
			appendAll(t, q, f)
		}
		pos, lsn, ok := q.Tail()
		if last := uint64(len(want)) * 3; !ok || pos != at(epoch1, last) || lsn != lsnOf(last) {
			t.Fatalf("tail %s %d %t", pos, lsn, ok)
		}
		c := q.Cursor(change.Position{})
		for i := range want {
			if f := next(t, c); !bytes.Equal(f.Bytes, want[i].Bytes) {
				t.Fatalf("frame %d: %+v", i, f.Header)
			}
		}
		drained(t, c)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCursorStartsBehindItsPosition(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 16 << 10})
	for n := uint64(1); n <= 3000; n += 3 {
		appendAll(t, q, sealed(t, epoch1, n, n+2, 20))
	}
	for _, after := range []uint64{0, 1, 2, 3, 4, 766, 767, 768, 769, 1500, 2996, 2997, 2998, 2999} {
		f := next(t, q.Cursor(at(epoch1, after)))
		if first := after/3*3 + 1; f.Header.First != first {
			t.Errorf("after %d: frame starts at %d, want %d", after, f.Header.First, first)
		}
	}
	drained(t, q.Cursor(at(epoch1, 3000)))
	if _, err := q.Cursor(at(epoch1, 3001)).Next(context.Background()); !errors.Is(err, ErrAhead) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := q.Cursor(at(epoch1+1, 1)).Next(context.Background()); !errors.Is(err, ErrAhead) {
		t.Errorf("in a later epoch: %v", err)
	}
}

func TestOnlyTheNextFrameIsTaken(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir()})
	refused := func(f ...change.Sealed) {
		t.Helper()
		if err := q.Append(f...); !errors.Is(err, ErrOrder) {
			t.Errorf("append %d-%d: %v", f[0].Header.First, f[0].Header.Last, err)
		}
	}
	refused(sealed(t, epoch1, 2, 2, 1))
	appendAll(t, q, sealed(t, epoch1, 1, 2, 1))
	refused(sealed(t, epoch1, 2, 2, 1))
	refused(sealed(t, epoch1, 4, 4, 1))
	refused(sealed(t, epoch1, 3, 3, 1), sealed(t, epoch1, 5, 5, 1))
	refused(sealed(t, epoch1+1, 3, 3, 1))
	refused(part(t, epoch1, 3, 1, true, 1))
	appendAll(t, q, sealed(t, epoch1, 3, 3, 1), sealed(t, epoch1+1, 1, 1, 1))
	refused(sealed(t, epoch1, 4, 4, 1))
	if pos, _, _ := q.Tail(); pos != at(epoch1+1, 1) {
		t.Errorf("tail %s", pos)
	}
	c := q.Cursor(at(epoch1, 3))
	if f := next(t, c); f.Header.Epoch != epoch1+1 {
		t.Errorf("frame %+v", f.Header)
	}
}

func TestBigTransactionIsReadWhenItIsWhole(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 4 << 10}
	q := open(t, o)
	appendAll(t, q, sealed(t, epoch1, 1, 1, 10), part(t, epoch1, 2, 0, true, 900), part(t, epoch1, 2, 1, true, 900))
	c := q.Cursor(change.Position{})
	next(t, c)
	drained(t, c)
	if pos, _, _ := q.Tail(); pos != at(epoch1, 1) {
		t.Fatalf("tail %s", pos)
	}
	// The process ends here; what is dangling does not count.
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	if pos, _, _ := q.Tail(); pos != at(epoch1, 1) {
		t.Fatalf("tail after reopening %s", pos)
	}
	appendAll(t, q, part(t, epoch1, 2, 0, true, 800))
	appendAll(t, q, part(t, epoch1, 2, 0, true, 700), part(t, epoch1, 2, 1, true, 700))
	appendAll(t, q, part(t, epoch1, 2, 2, false, 700))
	appendAll(t, q, sealed(t, epoch1, 3, 3, 10))
	check := func() {
		t.Helper()
		c := q.Cursor(at(epoch1, 1))
		for i := range uint32(3) {
			if f := next(t, c); f.Header.Part != i || f.Header.First != 2 || len(f.Bytes) > 900 {
				t.Fatalf("part %d: %+v of %d bytes", i, f.Header, len(f.Bytes))
			}
		}
		if f := next(t, c); f.Header.First != 3 {
			t.Fatalf("%+v", f.Header)
		}
		drained(t, c)
		s := q.Stats()
		if s.Frames != 5 || s.Transactions != 3 || s.Changes != 5 || s.Last != 3 || s.First != 1 {
			t.Fatalf("stats %+v", s)
		}
	}
	check()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	check()
}

func TestAcknowledgedFramesGoWhenEnoughAreKept(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 32 << 10, KeepBytes: 100 << 10}
	q := open(t, o)
	const n = 1000
	for i := range uint64(n) {
		appendAll(t, q, sealed(t, epoch1, i+1, i+1, 400))
	}
	full := q.Stats()
	if full.Transactions != n || full.OldestCommit != time.UnixMicro(1000) || full.DiskBytes < full.Bytes {
		t.Fatalf("stats %+v", full)
	}
	for i := uint64(10); i <= n; i += 10 {
		if err := q.Ack(at(epoch1, i)); err != nil {
			t.Fatal(err)
		}
		s := q.Stats()
		if s.Transactions != int64(n-i) || s.Acked != i || i < n && s.OldestCommit != time.UnixMicro(int64(i+1)*1000) {
			t.Fatalf("after %d: %+v", i, s)
		}
	}
	s := q.Stats()
	if s.DiskBytes < o.KeepBytes || s.DiskBytes > o.KeepBytes+256*600+3*int64(o.SegmentBytes) {
		t.Errorf("%d bytes on disk, keep %d", s.DiskBytes, o.KeepBytes)
	}
	if _, err := q.Cursor(at(epoch1, 1)).Next(context.Background()); !errors.Is(err, ErrBehind) {
		t.Errorf("cursor behind: %v", err)
	}
	if f := next(t, q.Cursor(at(epoch1, s.First-1))); f.Header.First != s.First {
		t.Errorf("oldest frame %+v, want %d", f.Header, s.First)
	}
	if err := q.Ack(at(epoch1, n+100)); err != nil {
		t.Fatal(err)
	}
	if got := q.Acked(); got != at(epoch1, n) {
		t.Errorf("acked %s, ahead of the tail", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	again := q.Stats()
	if again.Acked != n || again.Transactions != 0 || again.First != s.First || again.DiskBytes > s.DiskBytes {
		t.Errorf("reopened %+v, was %+v", again, s)
	}
}

func TestLastFrameStaysAndTheRestMayGo(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 4 << 10, KeepBytes: -1})
	for i := range uint64(1500) {
		appendAll(t, q, sealed(t, epoch1, i+1, i+1, 300))
		if err := q.Ack(at(epoch1, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if s := q.Stats(); s.DiskBytes > 300<<10 || s.Last != 1500 || s.First == 0 || s.First > 1500 {
		t.Errorf("stats %+v", s)
	}
	if pos, lsn, ok := q.Tail(); !ok || pos != at(epoch1, 1500) || lsn != lsnOf(1500) {
		t.Errorf("tail %s %d", pos, lsn)
	}
}

func TestFullQueueRefusesAndTakesAgain(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 8 << 10, MaxBytes: 64 << 10})
	n := uint64(1)
	var err error
	for ; err == nil; n++ {
		err = q.Append(sealed(t, epoch1, n, n, 1000))
	}
	n--
	if !errors.Is(err, ErrFull) || n < 50 || n > 70 {
		t.Fatalf("frame %d: %v", n, err)
	}
	if err := q.Append(sealed(t, epoch1, n, n, 1000)); !errors.Is(err, ErrFull) {
		t.Fatalf("again: %v", err)
	}
	if err := q.Ack(at(epoch1, n-1)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, q, sealed(t, epoch1, n, n, 1000))
}

func TestMarkSurvives(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir()}
	q := open(t, o)
	for _, lsn := range []uint64{5, 100, 50} {
		if err := q.Mark(lsn); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q = open(t, o); q.Marked() != 100 {
		t.Errorf("marked %d", q.Marked())
	}
}

func TestCursorsReadWhileFramesArrive(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 64 << 10, KeepBytes: 1 << 30})
	const n = 1500
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			c := q.Cursor(change.Position{})
			for want := uint64(1); want <= n; want++ {
				f, err := c.Next(ctx)
				if err != nil || f.Header.First != want {
					errs <- fmt.Errorf("want %d: %+v, %w", want, f.Header, err)
					return
				}
				if want%100 == 0 {
					if err := q.Ack(at(epoch1, want)); err != nil {
						errs <- err
						return
					}
				}
				_ = q.Stats()
			}
			errs <- nil
		}()
	}
	for i := range uint64(n) {
		if err := q.Append(sealed(t, epoch1, i+1, i+1, 50)); err != nil {
			t.Error(err)
			break
		}
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestClosedQueueEndsItsCursors(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir()})
	done := make(chan error)
	go func() {
		_, err := q.Cursor(change.Position{}).Next(context.Background())
		done <- err
	}()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("next: %v", err)
	}
	if err := q.Append(sealed(t, epoch1, 1, 1, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v", err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	if q, err := Open(Options{Dir: dir}); err == nil {
		t.Error("opened twice", q.Close())
	}
	if _, err := os.Stat(dir + "/segments.0"); err != nil {
		t.Error(err)
	}
}
