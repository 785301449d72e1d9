package fleet

import (
	"slices"
	"time"
)

const (
	historyKept = 720 // points, an hour at sampleEvery
	rateSeconds = 10  // how far back a rate looks
)

// Batch is what ingest has committed of a facility's stream.
type Batch struct {
	Epoch, Seq            uint64 // the last transaction in it
	Transactions, Changes uint64
	// CommitAt is when the last transaction was committed at the facility, by
	// the facility's clock; zero when that is not known.
	CommitAt time.Time
}

// Point is one moment of a facility's history. Large figures are rounded, see figure.
type Point struct {
	At                int64  `json:"at"`     // seconds since 1970
	LagMs             uint64 `json:"lag_ms"` // commit at the facility to visible here
	QueueTransactions uint64 `json:"queue_transactions"`
	Changes           uint64 `json:"changes"` // applied since the point before
	State             State  `json:"state"`
}

// moments are when all histories have their points.
type moments struct {
	at   [historyKept]int64 // a ring: the moment no is at no % historyKept
	past int                // how many there have been
}

// sample is a Point as it is kept, at the place of its moment. There are hundreds
// for each of thousands of facilities, so it is small.
type sample struct {
	lagMs, queueTransactions, changes figure
	state                             uint8 // its place in states
}

// history is a facility's.
type history struct {
	samples []sample // a ring like moments.at; nil before the first
	first   int      // moment that it has
}

// states are all there are; what is not among them is unknown.
var states = [...]State{StateUnknown, StateNew, StateOnline, StateDegraded, StateOffline}

func (h *history) add(m *moments, p Point) {
	if h.samples == nil {
		h.samples, h.first = make([]sample, historyKept), m.past
	}
	h.samples[m.past%historyKept] = sample{
		newFigure(p.LagMs), newFigure(p.QueueTransactions), newFigure(p.Changes), uint8(max(0, slices.Index(states[:], p.State))),
	}
}

// list returns the points, oldest first.
func (h *history) list(m *moments) []Point {
	if h.samples == nil {
		return nil
	}
	first := max(h.first, m.past-historyKept)
	out := make([]Point, 0, m.past-first)
	for no := first; no < m.past; no++ {
		s := h.samples[no%historyKept]
		out = append(out, Point{
			At: m.at[no%historyKept], LagMs: s.lagMs.value(), QueueTransactions: s.queueTransactions.value(), Changes: s.changes.value(), State: states[s.state],
		})
	}
	return out
}

// applied counts what was applied of one facility's stream.
type applied struct {
	epoch, seq            uint64
	transactions, changes uint64 // since the region started
	lagMs                 int64  // of the last batch; -1 when not known
	at                    time.Time
	sampled               uint64                 // changes at the last point
	lately                *[rateSeconds + 1]slot // nil before the first batch
}

type slot struct {
	second                int64
	transactions, changes uint64
}

// Applied notes what ingest has committed. It is cheap and never waits.
func (f *Fleet) Applied(id string, b Batch) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	fac := f.facilities[id]
	if fac == nil {
		return
	}
	a := &fac.applied
	a.epoch, a.seq, a.at = b.Epoch, b.Seq, now
	a.transactions += b.Transactions
	a.changes += b.Changes
	a.lagMs = -1
	if !b.CommitAt.IsZero() {
		// The two clocks may differ a little; less than nothing is nothing.
		a.lagMs = max(0, now.Sub(b.CommitAt).Milliseconds())
	}
	if a.lately == nil {
		a.lately = new([rateSeconds + 1]slot)
	}
	s := &a.lately[now.Unix()%int64(len(a.lately))]
	if s.second != now.Unix() {
		*s = slot{second: now.Unix()}
	}
	s.transactions += b.Transactions
	s.changes += b.Changes
	for s := range f.subs {
		s.tell(fac.ID)
	}
}

// rates are per second, over the last whole seconds.
func (a *applied) rates(now time.Time) (transactions, changes float64) {
	if a.lately == nil {
		return 0, 0
	}
	for _, s := range a.lately {
		if age := now.Unix() - s.second; age >= 1 && age <= rateSeconds {
			transactions += float64(s.transactions)
			changes += float64(s.changes)
		}
	}
	return transactions / rateSeconds, changes / rateSeconds
}

// sample adds a point to each facility's history.
func (f *Fleet) sample(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for fac := range f.eachLocked() {
		a := &fac.applied
		fac.history.add(&f.moments, Point{
			LagMs: uint64(max(0, fac.lag(now))), QueueTransactions: fac.Beat.QueueTransactions, Changes: a.changes - a.sampled, State: fac.verdict.State,
		})
		a.sampled = a.changes
	}
	f.moments.at[f.moments.past%historyKept] = now.Unix()
	f.moments.past++
}

// lag is the age of the oldest change that is not visible here yet, or when
// there is none, how long the last one took; -1 when neither is known.
func (fac *facility) lag(now time.Time) int64 {
	if fac.Beat.QueueTransactions > 0 && fac.Beat.OldestSeconds > 0 && fac.BeatAt.After(fac.applied.at) {
		return int64(fac.Beat.OldestSeconds)*1000 + now.Sub(fac.BeatAt).Milliseconds()
	}
	if fac.applied.at.IsZero() {
		return -1
	}
	return fac.applied.lagMs
}
