package detect

import (
	"fmt"
	"slices"
	"time"
)

const (
	// An outage is when so many of a region's live facilities may have fallen silent
	// within massWithin.
	massLeast  = 5
	massPart   = 5 // one in so many
	massWithin = 10 * time.Second
	// When as many as that are silent, though it may be no outage, all others are
	// asked whether they are there.
	fewLeast, fewPart = 1, 200
	// onItsWay is how long after a box was cut something of it may still arrive.
	onItsWay = time.Second
	// massHold is how long the first of them wait at most for the answers, so that
	// the cause is known before anybody is told.
	massHold = 3 * time.Second
	// massKept is how long one that is offline counts. It is longer than the deadline
	// of a facility on a metered line, which is found last.
	massKept = 5 * time.Minute
	// outageWithin is how far an outage's begin may lie before the moment that its
	// parts have in common.
	outageWithin = 15 * time.Second
)

// span is when a facility may have fallen silent: after the last sign of life, and
// before the next was due. It is known no better than that, and the slower the pace
// the worse, but of many that fell silent in one moment all spans contain it.
type span struct{ from, to time.Time }

func (s span) meets(o span) bool { return !s.from.After(o.to) && !s.to.Before(o.from) }

// fell is a silent facility's span, wider by massWithin.
func (d *Detector) fell(f *Facts, life time.Time) span {
	s := span{f.ever(), life.Add(f.Rhythm.due())}
	if life.Before(d.clear) {
		from, patience := d.patience(f, life)
		s.to = from.Add(patience)
	}
	if f.gone(life) && f.Left.Before(s.to) {
		s.to = f.Left
	}
	return span{s.from.Add(-massWithin / 2), s.to.Add(massWithin / 2)}
}

// crowd finds out whether many have fallen silent at once.
type crowd struct {
	// Of this step.
	live, unheard int // unheard: not silent yet, and has not answered to the roll
	silent        []span
	found         span // in which those are silent that are not told of yet

	// Of the last whole step.
	fifth     int
	called    time.Time // when the roll was called; zero while there is no reason to
	many      bool
	undecided bool // they may be many when all have answered or not
	when      span // when the many fell silent, of the last time that they were so many
}

func (c *crowd) begin() {
	c.live, c.unheard, c.silent, c.found = 0, 0, c.silent[:0], span{}
}

// count takes in one facility.
func (c *crowd) count(d *Detector, f *Facts, m *memory, now time.Time) {
	life := f.life()
	if f.Heard.IsZero() && life.IsZero() || m.down && now.Sub(m.known) > massKept {
		return
	}
	if m.down {
		c.live++
		c.silent = append(c.silent, m.fell)
		return
	}
	from, patience := d.patience(f, life)
	late := now.Sub(from) > min(patience-askBefore, f.Rhythm.due())
	if life.Before(d.clear) {
		if late = now.Sub(from) > patience-askBefore; !late {
			return // nobody knows yet whether it lives
		}
	}
	c.live++
	switch {
	case f.gone(life) && !f.away(now), d.inVain(f, life):
	case late && !(d.region.Probes && d.asks(f)): // there is no better evidence
	default:
		if !c.answered(f) {
			c.unheard++
		}
		return
	}
	s := d.fell(f, life)
	c.silent = append(c.silent, s)
	if c.found.to.IsZero() {
		c.found = s
	}
	c.found = span{earliest(c.found.from, s.from), latest(c.found.to, s.to)}
}

// end decides whether they are many, and has the roll called when they may be: those
// that are cut as well, and have not been missed yet, do not answer.
func (c *crowd) end(now time.Time) {
	c.fifth = max(massLeast, (c.live+massPart-1)/massPart)
	most, when := c.densest()
	if c.many = most >= c.fifth; c.many {
		c.when = when
	}
	switch {
	case most < max(fewLeast, c.live/fewPart):
		c.called = time.Time{}
	case c.called.IsZero():
		c.called, c.unheard = now, c.live-len(c.silent)
	}
	c.undecided = most+c.unheard >= c.fifth
}

// densest returns how many spans have a moment in common at most, and from when
// until when as many have one as it takes. Moments at which nobody has fallen silent
// who is not told of yet do not count.
func (c *crowd) densest() (most int, when span) {
	if c.found.to.IsZero() {
		return 0, span{}
	}
	ends := make([]time.Time, len(c.silent))
	for i, s := range c.silent {
		ends[i] = s.to
	}
	slices.SortFunc(ends, time.Time.Compare)
	slices.SortFunc(c.silent, func(a, b span) int { return a.from.Compare(b.from) })
	over := 0
	for i, s := range c.silent {
		for ends[over].Before(s.from) {
			over++
		}
		if s.from.Before(c.found.from) || s.from.After(c.found.to) {
			continue
		}
		n := i + 1 - over
		most = max(most, n)
		if n >= c.fifth && when.from.IsZero() {
			when.from = s.from
		}
		if n >= c.fifth {
			when.to = s.from
		}
	}
	return most, when
}

// waits reports that many have fallen silent just now, or that it is not known yet
// whether they are many.
func (c *crowd) waits(now time.Time) bool {
	return !c.called.IsZero() && now.Sub(c.called) < massHold && (c.many || c.undecided)
}

// answered reports whether a facility has said something since the roll was called.
func (c *crowd) answered(f *Facts) bool {
	return latest(f.tunnel(), f.Heard.Add(-onItsWay)).After(c.called)
}

// calls reports whether the roll is called, and a facility has neither been heard
// nor asked since.
func (c *crowd) calls(f *Facts) bool {
	return !c.called.IsZero() && f.Asked.Before(c.called) && !c.answered(f)
}

// outage is many facilities of the region that fell silent at once. It holds
// until the last of them is back.
type outage struct {
	open    bool
	since   time.Time
	members int // of this step, that are still offline
	most    int
}

// partOfOutage reports whether a facility that is offline is one of many.
func (d *Detector) partOfOutage(m *memory) bool {
	return (d.crowd.many || d.outage.open) && m.fell.meets(d.crowd.when)
}

// join makes a facility a part of the outage. When many fall silent long after an
// outage began of which not all are back, that is another one: those who are left of
// the first are by themselves from then on.
func (d *Detector) join(m *memory) {
	since := latest(m.since, d.crowd.when.to.Add(-outageWithin))
	switch o := &d.outage; {
	case !o.open:
		*o = outage{open: true, since: since}
	case since.After(o.since.Add(massKept)):
		for _, old := range d.facilities {
			old.part = false
		}
		*o = outage{open: true, since: since}
	default:
		o.since = earliest(o.since, since)
	}
	m.part = true
}

func (d *Detector) outageFinding() (Finding, bool) {
	o := &d.outage
	if !o.open {
		return Finding{}, false
	}
	o.members = 0
	for _, m := range d.facilities {
		if m.round != d.round {
			continue
		}
		if m.down && !m.part && d.partOfOutage(m) {
			d.join(m) // it was told of before the others were missed
		}
		if m.part && (m.down || m.unstable) {
			o.members++
		}
	}
	if o.members == 0 {
		*o = outage{}
		return Finding{}, false
	}
	o.most = max(o.most, o.members)
	return Finding{
		Kind: Outage, Severity: Critical, Since: o.since,
		Summary: "Many facilities of this region fell silent at once.",
		Evidence: []string{
			fmt.Sprintf("%s, %d of them are offline now.", plural(int64(o.most), "facility", "facilities"), o.members),
			"The region hears itself through its broker: look at what lies between it and the facilities first.",
		},
	}, true
}
