package progress

import (
	"math"
	"time"
)

const (
	// fillWindow is how far back the rate looks, fillStep the time between two
	// points of it.
	fillWindow = time.Hour
	fillStep   = 15 * time.Second
	// fillLeast is how long it must have been filling before anything is said:
	// a burst is no rate.
	fillLeast = 2 * time.Minute
	// fillMost is the farthest time that is told: past that the rate will have changed.
	fillMost = 90 * 24 * time.Hour
)

// Forecast is when something will be full at the rate at which it fills now.
type Forecast struct {
	PerSecond float64 // bytes
	In        time.Duration
}

// Fill watches how full something is, and forecasts. The rate is that since it
// was last at its lowest within the window: what drains has no rate, and an
// outage is measured from its begin.
type Fill struct {
	points []fillPoint // oldest first, fillStep apart
	last   fillPoint
}

type fillPoint struct {
	at    time.Time
	bytes int64
}

// Look takes in how full it is now.
func (f *Fill) Look(now time.Time, bytes int64) {
	f.last = fillPoint{now, bytes}
	if n := len(f.points); n > 0 && now.Sub(f.points[n-1].at) < fillStep {
		// Between two points only a new low counts.
		if p := &f.points[n-1]; bytes <= p.bytes {
			p.bytes = bytes
		}
	} else {
		f.points = append(f.points, f.last)
	}
	for len(f.points) > 0 && now.Sub(f.points[0].at) > fillWindow {
		f.points = f.points[1:]
	}
}

// Forecast says when room more bytes will be used up; false when that is not to
// be expected: it drains, it rests, it fills so slowly that the rate says
// nothing, or it was not watched for long enough.
func (f *Fill) Forecast(room int64) (Forecast, bool) {
	if len(f.points) == 0 {
		return Forecast{}, false
	}
	low := f.points[0]
	for _, p := range f.points {
		if p.bytes <= low.bytes {
			low = p
		}
	}
	took, grown := f.last.at.Sub(low.at), f.last.bytes-low.bytes
	if took < fillLeast || grown <= 0 {
		return Forecast{}, false
	}
	rate := float64(grown) / took.Seconds()
	seconds := float64(max(room, 0)) / rate
	if seconds > fillMost.Seconds() {
		return Forecast{}, false
	}
	return Forecast{PerSecond: rate, In: time.Duration(math.Round(seconds)) * time.Second}, true
}
