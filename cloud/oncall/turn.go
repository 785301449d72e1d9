package oncall

import (
	"time"

	"github.com/agogsaas/holdfast/cloud/week"
)

// Schedule says who is on call when: people who take turns, and others who
// stand in for them.
type Schedule struct {
	Zone      *time.Location
	Rotations []Rotation // of several that cover a moment the last holds
	Overrides []Override // come before all rotations; of several the last made holds
}

// Rotation is people who take turns, each for the same number of days.
type Rotation struct {
	Contacts []int64
	First    day
	Handover int // minute of the day when turns change
	TurnDays int
	// Days and hours that it covers. To is not after From where it ends on the
	// next day; such a night belongs to the day on which it begins.
	Days     [7]bool // by time.Weekday
	From, To int     // minutes of the day
}

// Override is somebody who stands in.
type Override struct {
	ID, Contact int64
	Starts      time.Time
	Ends        time.Time
}

// Turn is who is on call at a moment.
type Turn struct {
	Contact  int64     // 0: nobody
	Until    time.Time // when that changes; zero: not within a year, as far as could be looked
	Override bool
}

const (
	// lookAhead is how far At looks for the end of a turn.
	lookAhead = 366 * 24 * time.Hour
	// looksMax is how many moments it looks at: enough for a year of days with two
	// rotations, and little enough that nobody waits for the answer.
	looksMax = 1500
)

// At says who is on call at a moment, and until when.
func (s Schedule) At(now time.Time) Turn {
	turn := s.who(now)
	t := now
	for range looksMax {
		next := s.next(t)
		if next.IsZero() || next.Sub(now) > lookAhead {
			return turn
		}
		if then := s.who(next); then.Contact != turn.Contact || then.Override != turn.Override {
			turn.Until = next
			return turn
		}
		t = next
	}
	return turn
}

func (s Schedule) who(t time.Time) Turn {
	best := Override{}
	for _, o := range s.Overrides {
		if o.ID >= best.ID && !t.Before(o.Starts) && t.Before(o.Ends) {
			best = o
		}
	}
	if best.Contact != 0 {
		return Turn{Contact: best.Contact, Override: true}
	}
	for i := len(s.Rotations) - 1; i >= 0; i-- {
		if c := s.Rotations[i].who(t, s.Zone); c != 0 {
			return Turn{Contact: c}
		}
	}
	return Turn{}
}

// next is the first moment after t at which somebody else might be on call;
// zero when there is none.
func (s Schedule) next(t time.Time) time.Time {
	var first time.Time
	take := func(c time.Time) {
		if c.After(t) && (first.IsZero() || c.Before(first)) {
			first = c
		}
	}
	for _, o := range s.Overrides {
		take(o.Starts)
		take(o.Ends)
	}
	for _, r := range s.Rotations {
		k := r.turn(t, s.Zone)
		if k < 0 || len(r.Contacts) > 1 {
			take(r.begins(max(k, -1)+1, s.Zone))
		}
		if r.always() {
			continue
		}
		// Some day of the week ahead is covered; the first edges to come are enough.
		today, begins, ends := dayOf(t.In(s.Zone)), false, false
		for n := -1; n <= 8 && !(begins && ends); n++ {
			d := today.plus(n)
			if !r.Days[d.weekday()] {
				continue
			}
			from, to := r.hours(d, s.Zone)
			take(from)
			take(to)
			begins, ends = begins || from.After(t), ends || to.After(t)
		}
	}
	return first
}

// who is whose turn it is, 0 when the rotation does not cover the moment.
func (r Rotation) who(t time.Time, zone *time.Location) int64 {
	k := r.turn(t, zone)
	if k < 0 || !r.covers(t, zone) {
		return 0
	}
	return r.Contacts[k%len(r.Contacts)]
}

// turn counts turns from 0; it is negative before the first.
func (r Rotation) turn(t time.Time, zone *time.Location) int {
	n := dayOf(t.In(zone)).since(r.First)
	if n < -1 {
		return -1
	}
	k := n / r.TurnDays
	// The day says it to within one: the handover may be still to come.
	for k > 0 && t.Before(r.begins(k, zone)) {
		k--
	}
	if t.Before(r.begins(0, zone)) {
		return -1
	}
	return k
}

// begins is when a turn begins.
func (r Rotation) begins(k int, zone *time.Location) time.Time {
	return r.First.plus(k*r.TurnDays).at(r.Handover, zone)
}

func (r Rotation) always() bool {
	return r.From == 0 && r.To == week.Minutes && r.Days == week.EveryDay
}

func (r Rotation) covers(t time.Time, zone *time.Location) bool {
	if r.always() {
		return true
	}
	today := dayOf(t.In(zone))
	for _, d := range [2]day{today, today.plus(-1)} {
		from, to := r.hours(d, zone)
		if r.Days[d.weekday()] && !t.Before(from) && t.Before(to) {
			return true
		}
	}
	return false
}

// hours is what the rotation covers of a day, which may end on the next.
func (r Rotation) hours(d day, zone *time.Location) (from, to time.Time) {
	end := d
	if r.To <= r.From {
		end = d.plus(1)
	}
	return d.at(r.From, zone), end.at(r.To, zone)
}
