package queue

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
)

// thin makes every frame small; what it was stays in its numbers.
func thin(f change.Sealed) (change.Sealed, error) {
	return change.Thin(f, func(*change.Table) bool { return true })
}

func filled(t *testing.T, o Options) *Queue {
	t.Helper()
	q := open(t, o)
	for i := uint64(1); i <= 40; i++ {
		appendAll(t, q, sealed(t, epoch1, i, i, 4000))
	}
	if err := q.Ack(at(epoch1, 5)); err != nil {
		t.Fatal(err)
	}
	return q
}

// wantNumbers reads from a position to the end, whatever the frames hold.
func wantNumbers(t *testing.T, q *Queue, from, to uint64) {
	t.Helper()
	c := q.Cursor(at(epoch1, from))
	for want := from + 1; want <= to; want++ {
		if f := next(t, c); f.Header.First != want {
			t.Fatalf("%d where %d belongs", f.Header.First, want)
		}
	}
	drained(t, c)
}

func TestShrunkQueueKeepsItsNumbersAndTakesMore(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 16 << 10, KeepBytes: -1, MaxBytes: 120_000}
	q := open(t, o)
	n := uint64(0)
	for {
		if err := q.Append(sealed(t, epoch1, n+1, n+1, 4000)); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
	reader := q.Cursor(change.Position{})
	for i := uint64(1); i <= 3; i++ {
		next(t, reader)
	}
	if err := q.Ack(at(epoch1, 2)); err != nil {
		t.Fatal(err)
	}
	was := q.Stats()
	freed, err := q.Shrink(thin)
	if err != nil {
		t.Fatal(err)
	}
	now := q.Stats()
	if freed < was.Bytes/2 || now.Bytes != was.Bytes-freed || now.Transactions != was.Transactions || now.Last != was.Last || now.DiskBytes > was.DiskBytes/2 || q.Unshrunk() != 0 {
		t.Errorf("%d bytes freed: %+v, was %+v", freed, now, was)
	}
	if tail, lsn, ok := q.Tail(); !ok || tail.Seq != n || lsn != lsnOf(n) {
		t.Errorf("it ends at %s, %d", tail, lsn)
	}
	appendAll(t, q, sealed(t, epoch1, n+1, n+1, 4000))
	for i := uint64(4); i <= n+1; i++ {
		if f := next(t, reader); f.Header.First != i || (f.Header.Reason == change.Thinned) != (i <= n) {
			t.Fatalf("%+v where %d belongs", f.Header, i)
		}
	}
	for range 2 { // also after it was opened anew
		if err := q.Ack(at(epoch1, 5)); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, q, 5, n+1)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = open(t, o)
	}
	if _, err := q.Shrink(thin); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, q, 5, n+1)
	if logs, err := filepath.Glob(filepath.Join(o.Dir, "log-*")); err != nil || len(logs) != 1 {
		t.Errorf("left on disk: %v, %v", logs, err)
	}
}

func TestShrinkingFailsOrTakesPlaceWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		arm    func(write, sync, place *fault.Point)
		shrunk bool
	}{
		{"half written", func(w, _, _ *fault.Point) { w.FailBefore(1) }, false},
		{"written, reported as failed", func(w, _, _ *fault.Point) { w.FailAfter(1) }, false},
		{"not synced", func(_, s, _ *fault.Point) { s.FailBefore(1) }, false},
		{"cannot be opened", func(_, s, _ *fault.Point) { s.FailBefore(2) }, false},
		{"not in its place", func(_, _, p *fault.Point) { p.FailBefore(1) }, false},
		{"in its place, reported as failed", func(_, _, p *fault.Point) { p.FailAfter(1) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var w, s, p fault.Point
			o := Options{Dir: t.TempDir(), SegmentBytes: 16 << 10, KeepBytes: -1, WriteFault: &w, SyncFault: &s, ShrinkFault: &p}
			q := filled(t, o)
			tc.arm(&w, &s, &p)
			freed, err := q.Shrink(thin)
			if (err == nil) != tc.shrunk || (freed > 0) != tc.shrunk {
				t.Fatalf("%d bytes freed, %v", freed, err)
			}
			wantNumbers(t, q, 5, 40)
			appendAll(t, q, sealed(t, epoch1, 41, 41, 100))
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = open(t, o)
			wantNumbers(t, q, 5, 41)
			if _, err := q.Shrink(thin); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, q, 5, 41)
		})
	}
}

// What a crash leaves of a shrinking is removed when the queue is opened.
func TestUnfinishedLogDoesNotCount(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 16 << 10, KeepBytes: -1}
	q := filled(t, o)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(o.Dir, "log-1.new")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	wantNumbers(t, q, 5, 40)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if o := q.Opened(); o.Damaged != "" {
		t.Errorf("%+v", o)
	}
}
