package cloud

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Most of a large region's memory lives as long as the process: the tunnels' queues,
// the facilities' histories. Go lets garbage grow to as much again before it
// collects, which of thousands of facilities would be a gigabyte of nothing. So the
// more lives, the smaller the part that garbage may have. And what was once needed,
// as when all boxes connect at once, goes back to the machine: Go would keep a tenth
// more than it needs. GOGC and GOMEMLIMIT, if they are set, stand.
const (
	garbageFree  = 128 << 20 // bytes of a heap up to which it is as Go has it
	garbageLeast = 18        // percent
	tidyEvery    = 2 * time.Second
	// Go gives memory back from limitAt percent of its limit on.
	limitAt    = 95
	limitLeast = 512 << 20
)

// tidy keeps the collector's targets until ctx is done.
func tidy(ctx context.Context) error {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	limited := os.Getenv("GOMEMLIMIT") != ""
	for set, limit := 100, int64(0); ; {
		live, rest := memoryInUse()
		want := garbage(live)
		if want != set {
			debug.SetGCPercent(want)
			set = want
		}
		// To set it stops the world for a moment.
		if next := memoryLimit(live, rest, want); !limited && max(next-limit, limit-next) > limit/50 {
			debug.SetMemoryLimit(next)
			limit = next
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// memoryLimit is just above what is needed, so that it is never why garbage is collected.
func memoryLimit(live, rest uint64, percent int) int64 {
	need := live + live*uint64(percent)/100 + rest
	return int64(max(limitLeast, need*100/limitAt))
}

// garbage is how much of it there may be, in percent of what lives.
func garbage(live uint64) int {
	return int(min(100, max(garbageLeast, 100*garbageFree/max(live, 1))))
}

// memoryInUse is what the last collection has left, and what all takes that is no heap.
func memoryInUse() (live, rest uint64) {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(s)
	rest = s[1].Value.Uint64()
	for _, heap := range s[2:] {
		rest -= min(rest, heap.Value.Uint64())
	}
	return s[0].Value.Uint64(), rest
}
