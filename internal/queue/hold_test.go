package queue

import (
	"errors"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
)

func TestWhatIsHeldStaysAlthoughItIsAcknowledged(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 8 << 10, KeepBytes: -1}
	q := open(t, o)
	q.Hold(at(epoch1, 700))
	const n = 3000
	for i := range uint64(n) {
		appendAll(t, q, sealed(t, epoch1, i+1, i+1, 100))
		if err := q.Ack(at(epoch1, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	c := q.Cursor(at(epoch1, 700))
	for i := range uint64(n - 700) {
		if f := next(t, c); f.Header.First != 701+i {
			t.Fatalf("frame %d where %d belongs", f.Header.First, 701+i)
		}
	}
	if _, err := q.Cursor(at(epoch1, 0)).Next(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("what came before is not dropped: %v", err)
	}
	q.Hold(at(epoch1, n))
	appendAll(t, q, sealed(t, epoch1, n+1, n+1, 100))
	if err := q.Ack(at(epoch1, n+1)); err != nil {
		t.Fatal(err)
	}
	if first, last := q.Entries(); first < n-2*checkpointFrames || last != n+1 {
		t.Errorf("entries %d to %d are held", first, last)
	}
}

// A reader that does not come on must not fill the disk.
func TestWhatIsHeldGivesWayAtTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 8 << 10, KeepBytes: -1, MaxBytes: limit})
	q.Hold(at(epoch1, 0))
	const n = 3000
	for i := range uint64(n) {
		appendAll(t, q, sealed(t, epoch1, i+1, i+1, 100))
		if err := q.Ack(at(epoch1, i+1)); err != nil {
			t.Fatal(err)
		}
		if s := q.Stats(); s.DiskBytes > 2*limit {
			t.Fatalf("%d bytes on disk after %d frames, the limit is %d", s.DiskBytes, i+1, limit)
		}
	}
	if _, err := q.Cursor(at(epoch1, 0)).Next(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("a reader of what was given up: %v", err)
	}
}

func TestEntriesAreReadAtTheirPlaces(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), SegmentBytes: 8 << 10, KeepBytes: -1}
	q := open(t, o)
	const n = 1000
	for i := range uint64(n) {
		appendAll(t, q, sealed(t, epoch1, 2*i+1, 2*i+2, 100))
	}
	if err := q.Ack(at(epoch1, 1400)); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, o)
	first, last := q.Entries()
	if first < 2 || last != n {
		t.Fatalf("entries %d to %d", first, last)
	}
	want := first
	err := q.Headers(func(i uint64, h *change.Header, size int) {
		if i != want || h == nil || h.First != 2*i-1 || size == 0 {
			t.Fatalf("entry %d: %+v, want %d", i, h, want)
		}
		want++
	})
	if err != nil || want != n+1 {
		t.Fatalf("headers up to %d: %v", want, err)
	}
	for _, i := range []uint64{first, n / 2 * 2, n} {
		if f, err := q.Entry(i); err != nil || f.Header.First != 2*i-1 {
			t.Errorf("entry %d: %+v, %v", i, f.Header, err)
		}
	}
	if _, err := q.Entry(first - 1); !errors.Is(err, ErrBehind) {
		t.Errorf("an entry that was dropped: %v", err)
	}
	if _, err := q.Entry(n + 1); !errors.Is(err, ErrAhead) {
		t.Errorf("an entry that is to come: %v", err)
	}
}
