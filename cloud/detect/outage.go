package detect

import (
	"fmt"
	"time"
)

const (
	// An outage is when so many of a region's live facilities fall silent within
	// massWithin.
	massLeast  = 5
	massPart   = 5 // one in so many
	massWithin = 10 * time.Second
	// massHold is how long the first of them wait, so that the cause is known before
	// anybody is told. It costs nothing: the last of them are not known sooner.
	massHold = 3 * time.Second
	// outageWithin is how far from its begin a facility may have been heard last to
	// be a part of it.
	outageWithin = 15 * time.Second
)

// crowd counts who has fallen silent lately.
type crowd struct {
	live, silent int       // of this step
	since        time.Time // when there were many; zero when there are not
	now          time.Time
}

func (c *crowd) begin(now time.Time) { c.live, c.silent, c.now = 0, 0, now }

// count takes in one facility.
func (c *crowd) count(d *Detector, f *Facts, m *memory, now time.Time) {
	life := f.life()
	if f.Heard.IsZero() && life.IsZero() {
		return
	}
	from, patience := d.patience(f, life)
	silence, late := now.Sub(from), patience-askBefore // late: from when on it is being asked
	switch {
	case m.down && now.Sub(m.known) > massWithin:
		return
	case m.down, f.gone(life), silence > late && silence <= late+massWithin:
		c.silent++
	}
	c.live++
}

func (c *crowd) end(now time.Time) {
	if c.silent < max(massLeast, (c.live+massPart-1)/massPart) {
		c.since = time.Time{}
	} else if c.since.IsZero() {
		c.since = now
	}
}

// waits reports that many have fallen silent just now.
func (c *crowd) waits(now time.Time) bool {
	return !c.since.IsZero() && now.Sub(c.since) < massHold
}

// outage is many facilities of the region that fell silent at once. It holds
// until the last of them is back.
type outage struct {
	open    bool
	since   time.Time
	members int // of this step, that are still offline
	most    int
}

// partOfOutage reports whether a facility that has just gone offline is one of many.
func (d *Detector) partOfOutage(m *memory, now time.Time) bool {
	if !d.crowd.since.IsZero() {
		return true
	}
	apart := m.since.Sub(d.outage.since).Abs()
	return d.outage.open && apart <= outageWithin
}

func (o *outage) join(m *memory) {
	if !o.open {
		*o = outage{open: true, since: m.since}
	}
	if m.since.Before(o.since) && o.since.Sub(m.since) <= outageWithin {
		o.since = m.since
	}
}

func (d *Detector) outageFinding() (Finding, bool) {
	o := &d.outage
	if !o.open {
		return Finding{}, false
	}
	o.members = 0
	for _, m := range d.facilities {
		if m.round == d.round && m.part && (m.down || m.unstable) {
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
