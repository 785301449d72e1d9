package cloud

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Most of a large region's memory lives as long as the process: the tunnels' queues,
// the facilities' histories. Go lets garbage grow to as much again before it
// collects, which of thousands of facilities would be a gigabyte of nothing. So the
// more lives, the smaller the part that garbage may have. GOGC, if it is set, stands.
const (
	garbageFree  = 96 << 20 // bytes of a heap up to which it is as Go has it
	garbageLeast = 10       // percent
	tidyEvery    = 2 * time.Second
)

// tidy keeps the collector's target until ctx is done.
func tidy(ctx context.Context) error {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for set := 100; ; {
		if want := garbage(liveBytes()); want != set {
			debug.SetGCPercent(want)
			set = want
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// garbage is how much of it there may be, in percent of what lives.
func garbage(live uint64) int {
	return int(min(100, max(garbageLeast, 100*garbageFree/max(live, 1))))
}

// liveBytes is what the last collection has left.
func liveBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
