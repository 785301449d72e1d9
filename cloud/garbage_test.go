package cloud

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestALargeHeapHasLittleGarbage(t *testing.T) {
	before, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(before); debug.SetMemoryLimit(limit) }()
	large := make([]byte, 8*garbageFree)
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*tidyEvery)
		defer cancel()
		if err := tidy(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
	if got := debug.SetGCPercent(100); got != garbageLeast {
		t.Errorf("beside a gigabyte that lives there may be %d %% of garbage", got)
	}
	// What is needed fits, and little more.
	live, rest := memoryInUse()
	need := live + live*garbageLeast/100 + rest
	if got := uint64(debug.SetMemoryLimit(-1)); got < need || got > need*11/10 {
		t.Errorf("%d MiB are needed, and the limit is %d MiB", need>>20, got>>20)
	}
	runtime.KeepAlive(large)
}

func TestASmallRegionHasRoom(t *testing.T) {
	t.Parallel()
	if got := memoryLimit(20<<20, 20<<20, 100); got < 256<<20 {
		t.Errorf("the limit is %d MiB", got>>20)
	}
}

func TestGarbageMayBeAsMuchAsGoHasItInASmallHeap(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 100, 1 << 20: 100, garbageFree: 100, 2 * garbageFree: 50, 4 * garbageFree: 25, 100 * garbageFree: garbageLeast} {
		if got := garbage(live); got != want {
			t.Errorf("beside %d MiB there may be %d %%, want %d", live>>20, got, want)
		}
	}
}
