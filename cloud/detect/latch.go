package detect

import "time"

// textAfter is how often the words of a condition that lasts are brought up to date.
const textAfter = 5 * time.Minute

// reading is how bad a condition is at a moment; the zero value is not at all.
type reading struct {
	severity Severity
	summary  string
	evidence []string
}

// latch keeps a condition from fluttering: it must have been worse for a while
// until it counts as worse, and better for a while until it counts as better.
type latch struct {
	reading
	since         time.Time // when it began
	worse, better time.Time // since when it reads so; zero while it does not
	worded        time.Time
}

var rank = map[Severity]int{"": 0, Info: 1, Warning: 2, Critical: 3}

func (l *latch) step(now time.Time, r reading, on, off time.Duration) {
	is, was := rank[r.severity], rank[l.severity]
	switch {
	case is == was:
		l.worse, l.better = time.Time{}, time.Time{}
		if is > 0 && now.Sub(l.worded) >= textAfter {
			l.reading, l.worded = r, now
		}
		return
	case is > was:
		l.better = time.Time{}
		if l.worse.IsZero() {
			l.worse = now
		}
		if now.Sub(l.worse) < on {
			return
		}
		if was == 0 {
			l.since = l.worse
		}
	default:
		l.worse = time.Time{}
		if l.better.IsZero() {
			l.better = now
		}
		if now.Sub(l.better) < off {
			return
		}
	}
	l.reading, l.worded, l.worse, l.better = r, now, time.Time{}, time.Time{}
}

// recall takes over what an earlier process had found.
func (l *latch) recall(f Finding) {
	*l = latch{reading: reading{f.Severity, f.Summary, f.Evidence}, since: f.Since}
}

func (l *latch) finding(out []Finding, k Kind, facility string) []Finding {
	if l.severity == "" {
		return out
	}
	return append(out, Finding{Kind: k, Facility: facility, Severity: l.severity, Since: l.since, Summary: l.summary, Evidence: l.evidence, Unsure: !l.better.IsZero()})
}
