package detect

import (
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

const (
	clockWarning = time.Minute
	// clocksLeast is how many facilities must agree that it is the region's clock.
	clocksLeast        = 3
	clockOn, clockOver = 30 * time.Second, 2 * time.Minute
)

// skew is how far a box's clock was ahead of this region's at its last heartbeat.
func (f *Facts) skew() (ahead time.Duration, ok bool) {
	if f.Beat.Seq == 0 || f.BeatAt.IsZero() {
		return 0, false
	}
	return time.UnixMilli(f.Beat.WallMs).Sub(f.BeatAt.Round(0)), true
}

func clockReading(f *Facts, _ time.Time, was Severity) reading {
	limit := clockWarning
	if was != "" {
		limit /= 2
	}
	ahead, ok := f.skew()
	if !ok || ahead.Abs() < limit {
		return reading{}
	}
	how := "ahead of"
	if ahead < 0 {
		how = "behind"
	}
	r := reading{Warning, fmt.Sprintf("%s's clock is %s %s this region's.", f.title(), lasting(ahead.Abs()), how), nil}
	if f.Beat.Clock == proto.ClockUnsynced {
		r.evidence = []string{"Nothing keeps it in step: it has no time server, or does not reach it."}
	}
	return r
}

// clocks finds out when it is not the boxes' clocks that are off but the
// region's: most of them say so, and all in the same direction.
type clocks struct {
	latch
	told, ahead, behind int  // of this step
	ours                bool // of the step before
}

func (c *clocks) begin() { c.told, c.ahead, c.behind = 0, 0, 0 }

func (c *clocks) count(f *Facts, now time.Time) {
	ahead, ok := f.skew()
	if !ok || now.Sub(f.BeatAt) > f.Rhythm.Deadline() {
		return
	}
	c.told++
	switch {
	case ahead >= clockWarning/2:
		c.ahead++
	case ahead <= -clockWarning/2:
		c.behind++
	}
}

func (c *clocks) end(now time.Time) {
	most := max(c.ahead, c.behind)
	c.ours = most >= clocksLeast && 2*most > c.told
	var r reading
	if c.ours {
		r = reading{Warning, "This region's clock is off: most facilities' say so.", []string{
			fmt.Sprintf("Of %s heard now, the clocks of %d are ahead of it, of %d behind.", plural(int64(c.told), "facility", "facilities"), c.ahead, c.behind),
		}}
	}
	c.step(now, r, clockOn, clockOver)
}
