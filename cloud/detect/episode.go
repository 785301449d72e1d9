package detect

import (
	"fmt"
	"slices"
	"time"
)

const (
	// A facility is back when it has been heard for backAfter, with backBeats
	// heartbeats, and its sync stream has shaken hands; without a stream when all
	// else has worked for backWithout.
	backAfter   = 10 * time.Second
	backBeats   = 3
	backWithout = 2 * time.Minute
	// byeMax is how long a box that said goodbye may announce to be away without
	// anybody being told.
	byeMax = 5 * time.Minute

	flapWindow = 30 * time.Minute
	calmAfter  = 15 * time.Minute
)

// episode is one time of being offline, from the first proof until it is over.
type episode struct {
	down     bool
	since    time.Time // the last thing heard before
	known    time.Time // when it was known
	fell     span      // in which it fell silent; zero when it is not known
	part     bool      // it is part of the region's outage
	summary  string
	evidence []string
	back     time.Time // when it was heard again; zero while it is not
	beats    uint64    // that had been heard by then
}

// flapping is whether a facility goes and comes.
type flapping struct {
	moves         []time.Time // when it went offline or came back, of the last flapWindow
	unstable      bool
	unstableSince time.Time
}

// episodes begins and ends the time of being offline.
func (d *Detector) episodes(f *Facts, m *memory, v Verdict, now time.Time) {
	switch {
	case v.State == StateUnknown, v.State == StateNew:
	case !m.down:
		if v.State == StateOffline && !d.waits(f, now) {
			m.begin(f, v, now)
			if d.hears(now) {
				m.evidence = append(m.evidence, "The region hears: what its own canaries say comes back through the broker.")
			}
			if m.fell = d.fell(f, f.life()); d.partOfOutage(m) {
				d.join(m)
			}
			d.moved(m, now)
		}
	case v.State == StateOffline:
		m.back, m.beats = time.Time{}, f.Beats
	default:
		if m.back.IsZero() {
			m.back = now
		}
		if d.isBack(f, m, v, now) {
			m.down, m.part, m.back = false, false, time.Time{}
			d.moved(m, now)
		}
	}
}

// waits reports that a facility is offline and nobody is told yet.
func (d *Detector) waits(f *Facts, now time.Time) bool {
	return f.gone(f.life()) && f.away(now) || d.crowd.waits(now)
}

func (m *memory) begin(f *Facts, v Verdict, now time.Time) {
	m.down, m.part, m.known, m.back, m.beats = true, false, now, time.Time{}, f.Beats
	if !m.unstable {
		m.since = v.Since // the offline finding of an unstable one is still open
	}
	m.summary = f.title() + " is offline: neither its heartbeats nor its tunnel work."
	m.evidence = nil
	say := func(format string, args ...any) { m.evidence = append(m.evidence, fmt.Sprintf(format, args...)) }
	if !f.Heard.IsZero() {
		say("Last heartbeat: %s.", clock(f.Heard))
	}
	if !f.Tunnel.IsZero() {
		m.evidence = append(m.evidence, lastPacket(f))
	}
	switch {
	case f.gone(f.life()) && f.Bye:
		say("It said goodbye at %s: %s.", clock(f.Left), f.LeftWords)
		m.summary = f.title() + " is offline: it said goodbye (" + f.LeftWords + ") and has not come back."
	case f.gone(f.life()):
		say("The broker saw its connection break at %s.", clock(f.Left))
	}
	if f.Unanswered {
		say("It was asked through the tunnel and did not answer, last at %s.", clock(f.Asked))
	}
	if f.Beat.QueueTransactions > 0 {
		say("%s waited there to be sent.", plural(int64(f.Beat.QueueTransactions), "transaction", "transactions"))
	}
}

func (d *Detector) isBack(f *Facts, m *memory, v Verdict, now time.Time) bool {
	here := now.Sub(m.back)
	if here < backAfter || v.Heartbeat && f.Beats < m.beats+backBeats {
		return false
	}
	return f.Streaming || !d.region.Streams || here >= backWithout
}

// moved counts a facility's going and coming. The first time of an episode is
// never held back: only from the fourth move on it is unstable, and then being
// offline is not over until it has been calm for a while.
func (d *Detector) moved(m *memory, now time.Time) {
	m.moves = slices.DeleteFunc(m.moves, func(t time.Time) bool { return now.Sub(t) > flapWindow })
	m.moves = append(m.moves, now)
	if !m.unstable && len(m.moves) >= d.cfg.UnstableAfter {
		m.unstable, m.unstableSince = true, m.moves[0]
	}
}

// settle ends being unstable.
func (m *memory) settle(now time.Time) {
	if m.unstable && now.Sub(m.moves[len(m.moves)-1]) >= calmAfter {
		m.unstable, m.moves = false, nil
	}
}
