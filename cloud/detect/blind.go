package detect

import (
	"fmt"
	"slices"
	"time"
)

const (
	// deafAfter is how long neither a canary nor any facility may be heard. A
	// canary sings each second; anybody's heartbeat proves the way as well.
	deafAfter = 6500 * time.Millisecond
	// unwritableAfter is how long the database may refuse what is written.
	unwritableAfter = 5 * time.Second
	// pauseAfter is how long there may be between two steps: after more, this
	// process, or its machine, has stood still. Up to blindNotice of that are given to
	// all deadlines that run; what is longer is blindness.
	pauseAfter = time.Second

	// blindNotice is how long it must have lasted until people are told, and also how
	// long a box waits before it gives a connection up: after less than that, all
	// are still connected, and one deadline is enough to hear them.
	blindNotice = 10 * time.Second
	// graceLong is how long a facility has to be heard again after something
	// longer: boxes wait up to half a minute between two attempts to connect, and
	// an idle tunnel is opened anew within 25 s.
	graceLong = time.Minute
	// busyWithin is the time of which it must have run for half: deadlines that are
	// moved again and again are none.
	busyWithin = time.Minute
	// lonelyAfter is for how long no facility at all may be heard: longer than each waits
	// to connect again.
	lonelyAfter = 2 * time.Minute
	// pauseKept is longer than any deadline but a slow box's.
	pauseKept = 2 * time.Minute
	// blindCritical is how long nobody may watch until somebody must act.
	blindCritical = 2 * time.Minute
)

// blindness is whether the region can judge at all.
type blindness struct {
	now    bool
	since  time.Time
	why    string
	lasted time.Duration // of the last one, when it is over
}

// look finds out whether the region itself is at fault. After blindness all
// silence is counted anew: see patience.
func (d *Detector) look(now time.Time, r Region) {
	// The monotonic clock may have rested with the machine; the wall's did not.
	gap := max(now.Sub(d.last), now.Round(0).Sub(d.last.Round(0)))
	paused := d.round > 0 && gap > pauseAfter
	if paused {
		d.resumed = now
	}
	if paused && gap >= blindNotice {
		d.began = now
	}
	if paused && gap < blindNotice {
		d.pauses = slices.DeleteFunc(d.pauses, func(p pause) bool { return now.Sub(p.over) > pauseKept })
		d.pauses = append(d.pauses, pause{now, gap})
	}
	was := d.blind
	since, why := d.obstacle(now, r)
	switch {
	case why != "":
		d.blind = blindness{now: true, since: since, why: why}
		if was.now && was.since.Before(since) {
			d.blind.since = was.since
		}
	case was.now:
		d.over(now, now.Sub(was.since), was)
	}
	if paused && gap >= blindNotice && !d.blind.now {
		why := fmt.Sprintf("This region stood still for %s.", lasting(gap))
		d.over(now, gap, blindness{since: d.last, why: why})
	}
	if why == "" && d.round == 0 {
		d.clear = now
	}
	d.last = now
}

// pause is a short time in which this process stood still.
type pause struct {
	over time.Time
	long time.Duration
}

// paused is for how long this process has stood still since a moment. What came
// meanwhile is heard as soon as it runs again, so a deadline needs no more than that.
func (d *Detector) paused(since time.Time) (long time.Duration) {
	for _, p := range d.pauses {
		if p.over.After(since) {
			long += p.long
		}
	}
	return long
}

// obstacle is what keeps the region from judging now, and since when; why is "" for nothing.
func (d *Detector) obstacle(now time.Time, r Region) (since time.Time, why string) {
	heard, canaries := latest(d.newest, d.resumed), false
	for _, c := range r.Canaries {
		heard, canaries = latest(heard, c), canaries || !c.IsZero()
	}
	switch {
	case r.Listening.IsZero():
		return now, "This region cannot hear heartbeats: its own connection to the broker is down."
	case canaries && now.Sub(heard) > deafAfter && now.Sub(r.Listening) > deafAfter:
		return heard, "This region cannot hear heartbeats: not even its own come back from the broker."
	case !r.Shut.IsZero() && now.Sub(latest(r.Shut, d.resumed)) > deafAfter:
		return latest(r.Shut, d.resumed), "This region lets no box in that connects: " + r.ShutWhy + "."
	case !r.Unwritable.IsZero() && now.Sub(r.Unwritable) > unwritableAfter:
		return r.Unwritable, "This region cannot judge: its database takes no writes."
	case d.paused(now.Add(-busyWithin)) > busyWithin/2:
		return now.Add(-busyWithin), "This region cannot judge: it stood still for more than half of the last minute. Its machine has too much to do."
	}
	return time.Time{}, ""
}

// hears reports whether what a canary said came back a moment ago.
func (d *Detector) hears(now time.Time) bool {
	return slices.ContainsFunc(d.region.Canaries, func(c time.Time) bool { return !c.IsZero() && now.Sub(c) <= deafAfter })
}

// over ends a blindness.
func (d *Detector) over(now time.Time, lasted time.Duration, was blindness) {
	d.blind = blindness{since: was.since, why: was.why, lasted: lasted}
	d.clear, d.long = now, lasted > blindNotice || d.long && now.Sub(d.clear) < graceLong
}

// held says whether nothing may be concluded about facilities, and why: while
// the region is blind, and for a deadline after that, in which it learns again
// what it missed.
func (d *Detector) held(now time.Time) (why string, held bool) {
	switch {
	case d.blind.now:
		return d.blind.why, true
	case now.Sub(d.clear) > deadlineLeast:
		return "", false
	case d.blind.lasted > 0:
		return d.blind.why + " That is over; it listens before it judges.", true
	}
	return "This region has only just begun to listen.", true
}

// blindFinding is what operations are told.
func (d *Detector) blindFinding(now time.Time, held bool) (Finding, bool) {
	lasted := d.blind.lasted
	if d.blind.now {
		lasted = now.Sub(d.blind.since)
	}
	if !held || lasted < blindNotice {
		return Finding{}, false
	}
	f := Finding{
		Kind: Blind, Severity: Warning, Since: d.blind.since, Summary: d.blind.why,
		Evidence: []string{"While that is so, no facility is judged, and no facility's people are told anything."},
	}
	if lasted >= blindCritical {
		f.Severity = Critical
		f.Evidence = append(f.Evidence, "It has lasted for longer than "+lasting(blindCritical)+": facilities that fail now are not noticed.")
	}
	return f, true
}
