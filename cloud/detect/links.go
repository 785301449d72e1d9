package detect

import (
	"fmt"
	"slices"
	"time"
)

// linkWithin is how far apart the last signs of life lie at most that came by one of
// the two ways, when it breaks for many in one moment: a metered box sends one a minute.
const linkWithin = 75 * time.Second

// linkSeems is from when on a link counts that seems to be down: many that fall silent
// seem so for a moment, until they have been asked.
const linkSeems = linkAfter / 2

// link is one of the two ways to a facility.
type link struct {
	latch
	last time.Time // sign of life by it, when it is down or seems to be; else zero
	part bool      // it went down with many others' and is told of with them
}

// step is the latch's; since is the last sign of life.
func (l *link) step(now time.Time, r reading, since time.Time, all *links) {
	on := linkAfter
	if all.ripe && all.when.has(l.last) {
		on = linkSeems
	}
	l.latch.step(now, r, on, linkAfter)
	switch {
	case l.severity == "" && l.worse.IsZero():
		l.last, l.part = time.Time{}, false
	case l.last.IsZero():
		l.last = since
	}
}

func (l *link) recall(f Finding) {
	l.latch.recall(f)
	l.last, l.part = f.Since, f.Of == f.Kind
}

func (l *link) finding(out []Finding, k Kind, facility string) []Finding {
	n := len(out)
	if out = l.latch.finding(out, k, facility); l.part && len(out) > n {
		out[n].Of = k
	}
	return out
}

// links finds out whether one of the two ways went down at many facilities at once.
// Then it is one condition of the region, of the same kind, with the facilities' as its
// parts, as an outage is. Nobody is told of any for linkAfter: by then all are known.
type links struct {
	down  []fallen // of this step
	when  span     // in which many went down, of the last time that they were so many
	ripe  bool     // the first of those has been down for long enough to be told
	parts int      // that are told of
	sure  bool     // one of them does not seem to be over
	now   int      // of those of that time, that are down
	most  int
	since time.Time
}

// fallen is a link that is down, or seems to be.
type fallen struct{ last, known time.Time }

func (s span) has(t time.Time) bool { return !t.IsZero() && !t.Before(s.from) && !t.After(s.to) }

func (a *links) begin() { a.down, a.parts, a.sure = a.down[:0], 0, false }

// count takes in one facility's. Many that go down long after the others, of which not
// all are up, are told of anew, together with those.
func (a *links) count(l *link, now time.Time) {
	known := l.worse
	switch {
	case l.severity != "":
		known = l.since
		if !l.part && a.when.has(l.last) {
			l.part = true
			switch {
			case a.since.IsZero() || l.last.Before(a.since):
				a.since = l.last
			case l.last.After(a.since.Add(massKept)):
				a.since, a.most = l.last, 0
			}
		}
		if l.part {
			a.parts++
			a.sure = a.sure || l.better.IsZero()
		}
	case l.last.IsZero() || now.Sub(known) < linkSeems:
		return
	}
	a.down = append(a.down, fallen{l.last, known})
}

// end looks for the last time at which many went down.
func (a *links) end(many int, now time.Time) {
	slices.SortFunc(a.down, func(x, y fallen) int { return x.last.Compare(y.last) })
	a.when = span{}
	for i := range max(0, len(a.down)-many+1) {
		first, last := a.down[i].last, a.down[i+many-1].last
		switch {
		case last.Sub(first) > linkWithin:
		case first.After(a.when.to):
			a.when = span{first, last}
		default:
			a.when.to = last
		}
	}
	a.now, a.ripe = 0, false
	for _, f := range a.down {
		if a.when.has(f.last) {
			a.now++
			a.ripe = a.ripe || now.Sub(f.known) >= linkAfter
		}
	}
	a.now = max(a.now, a.parts)
	a.most = max(a.most, a.now)
	if a.parts == 0 {
		a.since, a.most = time.Time{}, 0
	}
}

func (a *links) finding(out []Finding, k Kind, words string) []Finding {
	if a.parts == 0 {
		return out
	}
	return append(out, Finding{
		Kind: k, Severity: Warning, Since: a.since, Unsure: !a.sure,
		Summary: fmt.Sprintf(words, plural(int64(a.most), "facility", "facilities")),
		Evidence: []string{
			fmt.Sprintf("It is so at %d of them now.", a.now),
			"It began at once: look at what lies between them and the region first.",
		},
	})
}
