package detect

import (
	"math"
	"time"
)

// The deadline of a silent facility. A cut must be told within 15 s, and a line
// that loses 2 % of its packets, delays them by up to 300 ms, or is dead for 5 s
// must never be taken for a cut. So it is:
//
//	5.5 s  a box promises a beat each 5 s, give or take a tenth: before that it is not even late
//	5   s  a line may be dead for that long, beginning just before the beat was due
//	2   s  and then an answer through the tunnel must have had its time, twice: a
//	       packet that was lost is sent again after one second
//
// which is 12.5 s, or two and a half beats, and leaves 2.5 s of the 15 for a step
// of this rule, the incident and the requests to the channels. A heartbeat alone
// would not do: TCP sends again what the dead line has swallowed after 1, 2 and 4 s,
// so after 5 s of it the beat itself may be on its way until the deadline. Therefore
// the tunnel is asked from the moment on when a beat is late (askBefore), again
// and again, and only if the questions of the last seconds (askLast) were in vain too is
// the facility offline.
//
// A line whose beats come irregularly gets more time, mean and four standard
// deviations of what lies between two of them, but at most a fifth more: such
// lines are told of within 17 s, not 15. Gaps of an outage are not counted:
// else the first cut would make the next one slower.
const (
	standardPace  = 5 * time.Second
	deadlineBeats = 2.5
	deadlineLeast = 12500 * time.Millisecond
	deadlineMore  = 1.2 // at most so many times the usual one
	sigmas        = 4
	rhythmWeight  = 1.0 / 16 // of the newest gap
	rhythmLeast   = 8        // gaps, before anything follows from them

	askBefore = 6500 * time.Millisecond
	askLast   = 2500 * time.Millisecond
	dueBeats  = 1.25 // a beat that has not come after so many is late
)

// Rhythm is how a facility's heartbeats arrive. The zero value is a box that has
// promised nothing yet.
type Rhythm struct {
	// Every is the pace that the box has promised; 0 is the standard one.
	Every time.Duration

	last           time.Time
	session, seq   uint64
	mean, variance float64 // of the gaps, in seconds
	gaps           int
}

// Beat takes in a heartbeat.
func (r *Rhythm) Beat(at time.Time, session, seq uint64, every time.Duration) {
	if every != r.Every {
		*r = Rhythm{Every: every, session: r.session, seq: r.seq}
	}
	gap := at.Sub(r.last)
	follows := !r.last.IsZero() && session == r.session && seq == r.seq+1
	r.last, r.session, r.seq = at, session, seq
	// What piled up during an outage comes all at once afterwards; neither its gap
	// nor theirs say anything about the line.
	if !follows || gap > r.usual() || gap < r.pace()/4 {
		return
	}
	r.gaps++
	if r.gaps == 1 {
		r.mean = gap.Seconds()
		return
	}
	diff := gap.Seconds() - r.mean
	r.mean += rhythmWeight * diff
	r.variance = (1 - rhythmWeight) * (r.variance + rhythmWeight*diff*diff)
}

// Deadline is how long the facility may be silent.
func (r *Rhythm) Deadline() time.Duration {
	usual := r.usual()
	if r.gaps < rhythmLeast {
		return usual
	}
	line := time.Duration((r.mean + sigmas*math.Sqrt(r.variance)) * float64(time.Second))
	return min(max(usual, line), time.Duration(deadlineMore*float64(usual)))
}

func (r *Rhythm) usual() time.Duration {
	return max(deadlineLeast, time.Duration(deadlineBeats*float64(r.pace())))
}

// due is how long after one sign of life the next is late.
func (r *Rhythm) due() time.Duration { return time.Duration(dueBeats * float64(r.pace())) }

func (r *Rhythm) pace() time.Duration {
	if r.Every <= 0 {
		return standardPace
	}
	return r.Every
}
