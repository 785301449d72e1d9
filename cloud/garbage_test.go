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
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	large := make([]byte, 12*garbageFree)
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
	runtime.KeepAlive(large)
}

func TestGarbageMayBeAsMuchAsGoHasItInASmallHeap(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 100, 1 << 20: 100, garbageFree: 100, 2 * garbageFree: 50, 4 * garbageFree: 25, 100 * garbageFree: garbageLeast} {
		if got := garbage(live); got != want {
			t.Errorf("beside %d MiB there may be %d %%, want %d", live>>20, got, want)
		}
	}
}
