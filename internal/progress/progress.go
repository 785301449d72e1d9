// Package progress tells when there is work and nothing of it gets done.
//
// It is apart from the parts that it watches and believes nothing that they say
// of themselves: it sees two counters of each stage, how much there is to do
// and how much was done, and a clock. A stage that hangs, or goes round in
// circles while it calls itself well, is found by that.
//
// In:  edge/facts.go and cloud/fleet, with counters that others keep.
// Out: the status document, the facility's page, the dashboard, the API.
package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Stage is one step on the way of a row.
type Stage string

// The stages. The first four are a box's own to see, the others the region's.
const (
	Capture     Stage = "capture"     // WAL is there to be read
	Transfer    Stage = "transfer"    // transactions wait to be sent
	Acknowledge Stage = "acknowledge" // transactions were sent and not acknowledged
	Load        Stage = "load"        // tables wait to be sent
	Receive     Stage = "receive"     // a box has transactions for the region
	Apply       Stage = "apply"       // transactions have arrived
	Parked      Stage = "parked"      // changes wait for a cause to go away
	LoadDown    Stage = "load_down"   // tables wait to be sent down
	Deliver     Stage = "deliver"     // the region has transactions for a box
	RouteDown   Stage = "route_down"  // the region's WAL is there to be routed to the boxes
)

// Default is how long there must be no progress. Metered is for links where
// that may well be because nobody is in a hurry.
const (
	Default = time.Minute
	Metered = 5 * time.Minute
)

// Paced is how much longer there may be no progress where only so many bytes per
// second may be sent, 0 for no limit: the next frame waits until the one before
// is paid for, and one of frameBytes may have been large.
func Paced(bytesPerSecond uint64) time.Duration {
	if bytesPerSecond == 0 {
		return 0
	}
	return time.Duration(frameBytes * uint64(time.Second) / bytesPerSecond)
}

// frameBytes is what a frame may have, unless one row has more.
const frameBytes = 4 << 20

// Text says in words what stands still.
func (s Stage) Text(work uint64) string {
	n := func(one, many string) string {
		if work == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", work, many)
	}
	switch s {
	case Capture:
		return n("byte", "bytes") + " of WAL wait to be read, and none is"
	case Transfer:
		return n("transaction waits", "transactions wait") + " to be sent while the tunnel works, and none is"
	case Acknowledge:
		return n("transaction waits", "transactions wait") + " to be acknowledged by the region, and none is"
	case Load:
		return n("table waits", "tables wait") + " to be sent, and no row is"
	case Receive:
		return n("transaction waits", "transactions wait") + " at the facility while its tunnel works, and none arrives"
	case Apply:
		return n("transaction has", "transactions have") + " arrived, and none is applied"
	case Parked:
		return n("parked change waits", "parked changes wait") + ", and none is tried again"
	case LoadDown:
		return n("table waits", "tables wait") + " to be sent down, and no row is"
	case Deliver:
		return n("transaction waits", "transactions wait") + " for the facility, and none is taken"
	case RouteDown:
		return n("byte", "bytes") + " of the region's WAL wait to be routed to the facilities, and none is"
	}
	return n("thing waits", "things wait") + " at the stage " + string(s) + ", and nothing is done"
}

// Mark is whatever moves when something is done. Only whether it is the same
// counts.
type Mark [4]uint64

// Sample is one look at a stage.
type Sample struct {
	Work uint64 // how much there is to do; 0 is nothing
	Done Mark
}

// Stall is a stage that has had work and made no progress since a time.
type Stall struct {
	Stage Stage
	Since time.Time
	Work  uint64
}

// Watch remembers what was seen. Its methods are not safe for several goroutines.
type Watch struct {
	// After is how long without progress is a stall; 0 is Default.
	After time.Duration
	// Other is the same for some stages.
	Other map[Stage]time.Duration

	seen   map[Stage]held
	looked time.Time
}

type held struct {
	since time.Time // from when on there was work and the mark stood still
	done  Mark
}

func (w *Watch) after(s Stage) time.Duration {
	if d := w.Other[s]; d > 0 {
		return d
	}
	if w.After > 0 {
		return w.After
	}
	return Default
}

// Look takes in what is there now and returns what stands still, by stage. A
// stage that is not in samples is not known now, and nothing is said of it.
func (w *Watch) Look(now time.Time, samples map[Stage]Sample) []Stall {
	seen := make(map[Stage]held, len(samples))
	// Whoever did not look for that long was not there himself: the whole
	// program was stopped, say. What stood still meanwhile is nobody's fault.
	absent := now.Sub(w.looked) > w.after("")
	var stalls []Stall
	for stage, s := range samples {
		if s.Work == 0 {
			continue
		}
		old, ok := w.seen[stage]
		if !ok || absent || old.done != s.Done {
			seen[stage] = held{now, s.Done}
			continue
		}
		seen[stage] = old
		if now.Sub(old.since) >= w.after(stage) {
			stalls = append(stalls, Stall{stage, old.since, s.Work})
		}
	}
	w.seen, w.looked = seen, now
	slices.SortFunc(stalls, func(a, b Stall) int { return strings.Compare(string(a.Stage), string(b.Stage)) })
	return stalls
}
