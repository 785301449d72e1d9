package queue

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/fault"
)

func TestANewEpochMayBeginEarlierInTheWAL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := open(t, Options{Dir: dir})
	if err := q.Mark(5000); err != nil {
		t.Fatal(err)
	}
	if err := q.Remark(70); err != nil {
		t.Fatal(err)
	}
	if q.Marked() != 70 {
		t.Fatalf("marked %d, want 70", q.Marked())
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q = open(t, Options{Dir: dir}); q.Marked() != 70 {
		t.Fatalf("marked %d after reopening, want 70", q.Marked())
	}
}

func TestACursorWaitsForAnEpochThatHasNotBegun(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Dir: t.TempDir()})
	appendAll(t, q, sealed(t, epoch1, 1, 3, 10))
	c := q.Cursor(at(epoch1+1, 0))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want to wait", err)
	}
	appendAll(t, q, sealed(t, epoch1, 4, 4, 10), sealed(t, epoch1+1, 1, 1, 10))
	if f := next(t, c); f.Header.Epoch != epoch1+1 || f.Header.First != 1 {
		t.Fatalf("got %d:%d, want the first of the new epoch", f.Header.Epoch, f.Header.First)
	}
}

func TestAFullDiskTakesBackWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	full := new(fault.Point)
	q := open(t, Options{Dir: t.TempDir(), SegmentBytes: 64 << 10, KeepBytes: 1 << 30, WriteFault: full})
	for seq := uint64(1); seq <= 600; seq++ {
		appendAll(t, q, sealed(t, epoch1, seq, seq, 2<<10))
	}
	if err := q.Ack(at(epoch1, 590)); err != nil {
		t.Fatal(err)
	}
	before := q.Stats().DiskBytes
	full.Break(syscall.ENOSPC)
	if err := q.Append(sealed(t, epoch1, 601, 601, 2<<10)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk", err)
	}
	if err := q.Append(sealed(t, epoch1, 601, 601, 2<<10)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk still", err)
	}
	if after := q.Stats().DiskBytes; after > before/2 {
		t.Errorf("%d of %d bytes are still taken although most is acknowledged", after, before)
	}
	full.Heal()
	appendAll(t, q, sealed(t, epoch1, 601, 601, 2<<10))
	c := q.Cursor(at(epoch1, 590))
	for seq := uint64(591); seq <= 601; seq++ {
		if f := next(t, c); f.Header.First != seq {
			t.Fatalf("got %d, want %d", f.Header.First, seq)
		}
	}
}
