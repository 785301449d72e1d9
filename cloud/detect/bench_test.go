package detect

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkStep is what a region with as many facilities as this machine has
// descriptors pays four times a second.
func BenchmarkStep(b *testing.B) {
	const facilities = 19_000
	d := New(Config{}, start)
	all := make([]*Facts, facilities)
	for i := range all {
		all[i] = &Facts{ID: fmt.Sprintf("f%d", i), Streaming: true}
	}
	now := start
	for i := 0; b.Loop(); i++ {
		now = now.Add(tick)
		for j := i % 20; j < facilities; j += 20 {
			f := all[j]
			f.Heard, f.Here, f.Beats, f.Tunnel, f.TunnelHere = now, true, f.Beats+1, now, true
			f.Rhythm.Beat(now, 1, f.Beats, 5*time.Second)
		}
		w := d.Step(Snapshot{
			Now: now, Region: Region{Listening: start, Hub: true, Probes: true},
			Facilities: func(yield func(*Facts) bool) {
				for _, f := range all {
					if !yield(f) {
						return
					}
				}
			},
		})
		if len(w.Findings) > 0 {
			b.Fatal(w.Findings)
		}
	}
}
