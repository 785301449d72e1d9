package detect

import "time"

// State is what a facility is taken to be.
type State string

// The states.
const (
	StateNew      State = "new"      // never heard of
	StateOnline   State = "online"   // heartbeat and tunnel
	StateDegraded State = "degraded" // one of the two
	StateOffline  State = "offline"  // neither
	StateUnknown  State = "unknown"  // this region cannot tell
)

// Part is what works badly or not at all when a facility is degraded.
type Part string

// The parts.
const (
	PartTunnel    Part = "tunnel"    // heartbeats arrive, the tunnel does not work
	PartTelemetry Part = "telemetry" // the tunnel works, heartbeats do not arrive
)

// Verdict is what follows from the evidence.
type Verdict struct {
	State State
	// Degraded says which part is missing; "" unless State is StateDegraded.
	Degraded Part
	// Reason says why a facility is not online, for people; "" when it is.
	Reason string
	// Since is when State became what it is, as far back as is known: a facility
	// is offline since the last thing that was heard of it.
	Since time.Time
	// Heartbeat and Tunnel are the evidence: whether either is there.
	Heartbeat, Tunnel bool
}

const (
	// leaveGrace is how long the heartbeats of a box that has left still count: it
	// may come back at once.
	leaveGrace = 2500 * time.Millisecond
	// tunnelDeadline is for a box that is heard otherwise: an idle tunnel has a
	// packet each 25 s, and two of them may be lost.
	tunnelDeadline = 80 * time.Second
	// tunnelDoubt is for a silent box that nobody could ask.
	tunnelDoubt = 40 * time.Second
)

// Judge applies the rule to one facility between two steps. It changes nothing but
// since when the state is what it is.
func (d *Detector) Judge(f *Facts, now time.Time) Verdict {
	return d.judge(f, d.of(f), now)
}

// Verdict is what was judged last of a facility.
func (d *Detector) Verdict(f *Facts) Verdict { return d.of(f).verdict }

func (d *Detector) judge(f *Facts, m *memory, now time.Time) Verdict {
	v := d.weigh(f, now)
	switch was := m.verdict; {
	case v.State == StateOffline && m.down && !m.unstable:
		v.Since = m.since
	case v.State == was.State && v.Degraded == was.Degraded && v.State != StateUnknown:
		v.Since = was.Since
	case v.State == StateOffline:
		v.Since = f.ever()
	case v.State == StateUnknown:
		v.Since = d.clear
		if d.blind.now {
			v.Since = d.blind.since
		}
	case v.Degraded == PartTelemetry && f.Here:
		v.Since = f.Heard
	case v.Degraded == PartTunnel && !f.tunnel().IsZero():
		v.Since = f.tunnel()
	default:
		v.Since = now
	}
	m.verdict = v
	return v
}

// weigh is the rule itself, but for since when.
func (d *Detector) weigh(f *Facts, now time.Time) Verdict {
	life, tunnel, hub := f.life(), f.tunnel(), d.region.Hub
	v := Verdict{Heartbeat: f.Here && now.Sub(f.Heard) <= f.Rhythm.Deadline()+d.paused(f.Heard)}
	if hub && !f.Left.IsZero() && now.Sub(f.Left) >= leaveGrace {
		v.Heartbeat = false
	}
	if hub && !tunnel.IsZero() {
		if v.Heartbeat {
			v.Tunnel = now.Sub(tunnel) <= tunnelDeadline
		} else {
			v.Tunnel = now.Sub(tunnel) <= tunnelDoubt && !(f.Unanswered && f.Asked.After(tunnel))
		}
	}
	dead := d.dead(f, life, now)
	switch {
	case f.Heard.IsZero() && life.IsZero():
		v.State, v.Reason = StateNew, "It has not been heard of yet."
	case dead && !d.blind.now:
		v.State, v.Reason, v.Heartbeat, v.Tunnel = StateOffline, "Neither heartbeats nor the tunnel work.", false, false
		if !hub {
			v.Reason = "Heartbeats do not arrive."
		}
		if f.gone(life) && f.Bye && f.LeftWords != "" {
			v.Reason = "It said goodbye: " + f.LeftWords + "."
		}
	case v.Heartbeat && (v.Tunnel || !hub):
		v.State = StateOnline
	case v.Heartbeat && d.rises(f, now):
		v.State, v.Reason = StateUnknown, "This region has only just begun to listen. Heartbeats arrive; its tunnel has a minute to come up."
	case v.Heartbeat:
		v.State, v.Degraded, v.Reason = StateDegraded, PartTunnel, "Its tunnel is down. Heartbeats arrive."
	case d.blind.now:
		v.State, v.Reason = StateUnknown, d.blind.why
	case life.Before(d.clear), d.long && f.Left.IsZero() && f.Heard.Before(d.clear) && now.Sub(d.clear) <= graceLong:
		v.State, v.Reason = StateUnknown, "This region has only just begun to listen."
	case v.Tunnel:
		v.State, v.Degraded, v.Reason = StateDegraded, PartTelemetry, "Its heartbeats do not arrive. The tunnel works."
	default:
		v.State, v.Degraded, v.Reason = StateDegraded, PartTelemetry, "Its heartbeats do not arrive. The tunnel is being asked."
	}
	return v
}

// dead reports that nothing says that the facility is there, and that something
// would have said so.
func (d *Detector) dead(f *Facts, life, now time.Time) bool {
	// A will says that the connection broke. That alone is a hint; but who does not
	// answer through the tunnel either is gone, and nobody waits for a deadline. A
	// goodbye is no accident: the box may be back at once.
	unanswered := d.unanswered(f) && !d.rises(f, now)
	if d.region.Hub && f.gone(life) && unanswered && d.asks(f) && !f.Asked.Before(f.Left) && (!f.Bye || now.Sub(f.Left) >= leaveGrace) {
		return true
	}
	from, patience := d.patience(f, life)
	silence := now.Sub(from)
	switch {
	case silence <= patience:
		return false
	case !d.region.Hub:
		return true
	case unanswered && !f.Asked.Before(from.Add(patience-askLast)):
		return true
	}
	return silence > max(patience, tunnelDoubt) // there was no turn for a question
}

// unanswered reports that the last question was in vain. What was asked before
// this process stood still may have been answered.
func (d *Detector) unanswered(f *Facts) bool { return f.Unanswered && d.paused(f.Asked) == 0 }

// rises is true while a facility's tunnel has not worked yet in this process's time,
// and may have had no time to: to shake hands takes up to half a minute.
func (d *Detector) rises(f *Facts, now time.Time) bool {
	return d.region.Hub && f.tunnel().Before(d.began) && now.Sub(d.began) <= graceLong
}

// asks reports whether a box that is there would have answered the last question: its
// tunnel worked not long before.
func (d *Detector) asks(f *Facts) bool {
	tunnel := f.tunnel()
	return !tunnel.IsZero() && f.Asked.Sub(tunnel) <= tunnelDeadline
}

// inVain reports that a facility has been asked since its last sign of life, and
// should have answered.
func (d *Detector) inVain(f *Facts, life time.Time) bool {
	return d.unanswered(f) && d.asks(f) && f.Asked.Add(onItsWay).After(life)
}

// patience is from when on a facility's silence counts, and how long it may last.
// Nobody is silent for longer than the region has been able to hear.
func (d *Detector) patience(f *Facts, life time.Time) (from time.Time, patience time.Duration) {
	patience = f.Rhythm.Deadline()
	if life.Before(d.clear) {
		life = d.clear
		if d.long {
			patience = max(patience, graceLong)
		}
	}
	return life, patience + d.paused(life)
}

// Probe reports whether a facility should be asked through the tunnel now.
func (d *Detector) Probe(f *Facts, now time.Time) bool {
	if !d.region.Hub || d.blind.now || now.Sub(f.Asked) < askAgain {
		return false
	}
	life := f.life()
	if f.gone(life) && (f.Asked.Before(f.Left) || f.Unanswered && d.paused(f.Asked) > 0) {
		return true
	}
	from, patience := d.patience(f, life)
	silence := now.Sub(from)
	if silence > patience+askBefore || f.Heard.IsZero() {
		return now.Sub(f.Asked) >= askSilent
	}
	// One question when a beat is missing, and one to all when it may be many who are.
	if silence > f.Rhythm.due() && !f.Asked.After(life) || d.crowd.calls(f) {
		return true
	}
	return silence > patience-askBefore
}

const (
	askAgain  = time.Second      // the shortest time between two questions
	askSilent = 15 * time.Second // to one that has long been silent
)
