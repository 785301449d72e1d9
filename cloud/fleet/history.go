package fleet

import (
	"math"
	"time"
)

const (
	historyKept = 720 // points, an hour at sampleEvery
	rateSeconds = 10  // how far back a rate looks
)

// Batch is what ingest has committed of a facility's stream.
type Batch struct {
	Epoch, Seq                   uint64 // the last transaction in it
	Transactions, Changes, Bytes uint64
	// CommitAt is when the last transaction was committed at the facility, by
	// the facility's clock; zero when that is not known.
	CommitAt time.Time
}

// Point is one moment of a facility's history. Figures that do not fit are cut
// to the largest that does.
type Point struct {
	At                int64  `json:"at"`     // seconds since 1970
	LagMs             uint32 `json:"lag_ms"` // commit at the facility to visible here
	QueueTransactions uint32 `json:"queue_transactions"`
	QueueChanges      uint32 `json:"queue_changes"`
	QueueKiB          uint32 `json:"queue_kib"`
	Transactions      uint32 `json:"transactions"` // applied since the point before
	Changes           uint32 `json:"changes"`
	KiB               uint32 `json:"kib"`
	State             State  `json:"state"`
}

// history is a ring that grows to historyKept points.
type history struct {
	points []Point
	next   int // where the next goes, once it is full
}

func (h *history) add(p Point) {
	if len(h.points) < historyKept {
		h.points = append(h.points, p)
		return
	}
	h.points[h.next] = p
	h.next = (h.next + 1) % historyKept
}

// list returns the points, oldest first.
func (h *history) list() []Point {
	out := make([]Point, 0, len(h.points))
	out = append(out, h.points[h.next:]...)
	return append(out, h.points[:h.next]...)
}

// applied counts what was applied of one facility's stream.
type applied struct {
	epoch, seq                   uint64
	transactions, changes, bytes uint64 // since the region started
	lagMs                        int64  // of the last batch; -1 when not known
	at                           time.Time
	sampled                      [3]uint64 // the counters at the last point
	slots                        [rateSeconds + 1]slot
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
	a.bytes += b.Bytes
	a.lagMs = -1
	if !b.CommitAt.IsZero() {
		// The two clocks may differ a little; less than nothing is nothing.
		a.lagMs = max(0, now.Sub(b.CommitAt).Milliseconds())
	}
	s := &a.slots[now.Unix()%int64(len(a.slots))]
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
	for _, s := range a.slots {
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
	for _, fac := range f.facilities {
		a := &fac.applied
		p := Point{
			At: now.Unix(), State: fac.verdict.State,
			QueueTransactions: clamp(fac.Beat.QueueTransactions), QueueChanges: clamp(fac.Beat.QueueChanges),
			QueueKiB:     clamp(fac.Beat.QueueBytes >> 10),
			Transactions: clamp(a.transactions - a.sampled[0]), Changes: clamp(a.changes - a.sampled[1]),
			KiB: clamp((a.bytes - a.sampled[2]) >> 10),
		}
		if lag := fac.lag(now); lag > 0 {
			p.LagMs = clamp(uint64(lag))
		}
		a.sampled = [3]uint64{a.transactions, a.changes, a.bytes}
		fac.history.add(p)
	}
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

func clamp(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }
