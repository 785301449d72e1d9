package detect

import "time"

// Config are the few figures that a region may want otherwise.
type Config struct {
	// UnstableAfter is how many times a facility may go offline or come back
	// within half an hour before it is unstable; default 4.
	UnstableAfter int
}

// Detector judges. It remembers what the rules need from step to step, and
// knows of the world only what it is given. It is not safe for several goroutines.
type Detector struct {
	cfg Config

	started time.Time
	region  Region
	blind   blindness
	last    time.Time // step
	newest  time.Time // heartbeat, of whomever
	// clear is since when everything could be heard. What was said before may have
	// been missed; long is true when boxes may have to connect again first.
	clear time.Time
	long  bool
	// began is since when tunnels are kept: before that they had to shake hands anew.
	began time.Time
	// pauses are the short ones of late, oldest first; resumed is when the last of
	// any length was over.
	pauses  []pause
	resumed time.Time

	round      uint64
	facilities map[string]*memory
	crowd      crowd
	outage     outage
	tunnels    links
	telemetry  links
	shared     latch // the region's own stalls
	clocks     clocks
	findings   int // how many the last step had
}

// memory is what is remembered of one facility.
type memory struct {
	of      *Detector // nil when the facility is no more
	round   uint64
	turn    uint64 // in which of lookEvery steps its conditions are looked at
	verdict Verdict
	episode
	flapping

	tunnel, telemetry link
	conditions        []latch   // as in rules; nil before the first
	told              []Finding // of the conditions
	looked            time.Time // by when it had told all that they follow from
}

// New begins to judge at now: as nothing is known of what was before, each
// facility has a full grace period to be heard.
func New(cfg Config, now time.Time) *Detector {
	if cfg.UnstableAfter <= 0 {
		cfg.UnstableAfter = 4
	}
	return &Detector{cfg: cfg, started: now, clear: now, began: now, last: now, long: true, facilities: make(map[string]*memory)}
}

// Begin says what the region has, for what is judged before the first step: a
// heartbeat alone is not enough where there are tunnels.
func (d *Detector) Begin(r Region) { d.region = r }

// of is what is remembered of a facility. There are many, and they are looked at
// often, so the facts keep the way there.
func (d *Detector) of(f *Facts) *memory {
	if f.memory == nil || f.memory.of != d {
		f.memory = d.named(f.ID)
	}
	return f.memory
}

func (d *Detector) named(id string) *memory {
	m := d.facilities[id]
	if m == nil {
		m = &memory{of: d, turn: uint64(len(d.facilities)) % lookEvery}
		d.facilities[id] = m
	}
	return m
}

// Recall takes over what an earlier process had found and is still open, before
// the first step: whoever was offline is so since then, and is over it only when
// he is heard again.
func (d *Detector) Recall(open []Finding) {
	for _, f := range open {
		if f.Facility == "" {
			switch f.Kind {
			case Outage:
				d.outage, d.crowd.when = outage{open: true, since: f.Since}, span{f.Since, f.Since}
			case TunnelDown:
				d.tunnels.since = f.Since
			case TelemetryDown:
				d.telemetry.since = f.Since
			case Blind:
				d.blind = blindness{now: true, since: f.Since, why: f.Summary}
			case NoProgress:
				d.shared.recall(f)
			case ClockOff:
				d.clocks.recall(f)
			}
			continue
		}
		m := d.named(f.Facility)
		switch f.Kind {
		case Offline:
			m.down, m.since, m.part = true, f.Since, f.Of == Outage
			m.summary, m.evidence = f.Summary, f.Evidence
		case Unstable:
			m.unstable, m.unstableSince, m.moves = true, f.Since, []time.Time{d.clear}
		case TunnelDown:
			m.tunnel.recall(f)
		case TelemetryDown:
			m.telemetry.recall(f)
		default:
			for i, r := range rules {
				if r.kind == f.Kind {
					m.latch(i).recall(f)
					m.told = append(m.told, f)
				}
			}
		}
		if m.unstable && m.since.IsZero() {
			m.since, m.summary = f.Since, f.Summary
		}
	}
}

// Step judges everything at a moment. It is called every quarter of a second or
// so; when it is not, the region has stood still.
func (d *Detector) Step(s Snapshot) Word {
	now := s.Now
	d.look(now, s.Region)
	d.region = s.Region
	d.round++
	why, held := d.held(now)
	w := Word{At: now, Held: held, Why: why, Findings: make([]Finding, 0, d.findings)}
	if f, ok := d.blindFinding(now, held); ok {
		w.Findings = append(w.Findings, f)
	}
	d.crowd.begin()
	d.tunnels.begin()
	d.telemetry.begin()
	d.clocks.begin()
	there, known, heard := 0, false, time.Time{}
	for f := range s.Facilities {
		there++
		known, heard = known || !f.ever().IsZero(), latest(heard, f.life())
		m := d.of(f)
		m.round = d.round
		if f.Here {
			d.newest = latest(d.newest, f.Heard)
		}
		v := d.judge(f, m, now)
		d.crowd.count(d, f, m, now)
		d.clocks.count(f, now)
		if !held {
			d.follow(f, m, v, now)
		}
		d.tunnels.count(&m.tunnel, now)
		d.telemetry.count(&m.telemetry, now)
		if v.State == StateUnknown {
			if w.HeldOf == nil {
				w.HeldOf = make(map[string]bool)
			}
			w.HeldOf[f.ID] = true
		}
		if m.down && !m.back.IsZero() {
			if w.Returning == nil {
				w.Returning = make(map[string]bool)
			}
			w.Returning[f.ID] = true
		}
		w.Findings = m.findings(w.Findings, f, d.fresh(now) && !m.looked.After(d.clear))
	}
	w.Deaf = known && now.Sub(heard) > lonelyAfter
	w.Fresh = now.Sub(d.started) <= graceLong && d.hears(now)
	d.crowd.end(now)
	d.tunnels.end(d.crowd.fifth, now)
	d.telemetry.end(d.crowd.fifth, now)
	d.clocks.end(now)
	w.Findings = d.regional(w.Findings, now)
	d.forget(there)
	d.findings = len(w.Findings)
	return w
}

// follow is what depends on how things were before.
func (d *Detector) follow(f *Facts, m *memory, v Verdict, now time.Time) {
	d.episodes(f, m, v, now)
	m.settle(now)
	if v.State != StateUnknown {
		m.tunnel.step(now, tunnelReading(f, v), v.Since, &d.tunnels)
		m.telemetry.step(now, telemetryReading(f, v), v.Since, &d.telemetry)
	}
	if d.round%lookEvery == m.turn {
		m.look(f, now, d.clocks.ours)
	}
}

// fresh is true while not everybody can have been heard again after the region could not hear.
func (d *Detector) fresh(now time.Time) bool { return d.long && now.Sub(d.clear) <= graceLong }

// findings appends what holds of one facility; its conditions are unsure while they
// follow from what it told long ago.
func (m *memory) findings(out []Finding, f *Facts, unsure bool) []Finding {
	if m.down || m.unstable {
		o := Finding{Kind: Offline, Facility: f.ID, Severity: Critical, Since: m.since, Summary: m.summary, Evidence: m.evidence}
		if m.part {
			o.Of = Outage
		}
		if !m.down { // it counts as offline, and nobody is told so
			o.Unsure, o.Summary = true, f.title()+" was offline and is heard again. As it comes and goes, it counts as offline until it has stayed for "+lasting(calmAfter)+"."
		}
		out = append(out, o)
	}
	if m.unstable {
		out = append(out, Finding{
			Kind: Unstable, Facility: f.ID, Severity: Warning, Since: m.unstableSince,
			Summary:  f.title() + " goes offline and comes back again and again.",
			Evidence: []string{"It counts as offline until it has stayed as it is for " + lasting(calmAfter) + "."},
		})
	}
	out = m.tunnel.finding(out, TunnelDown, f.ID)
	out = m.telemetry.finding(out, TelemetryDown, f.ID)
	n := len(out)
	out = append(out, m.told...)
	for i := n; unsure && i < len(out); i++ {
		out[i].Unsure = true
	}
	return out
}

// regional appends what holds of the region itself, but for its blindness.
func (d *Detector) regional(out []Finding, now time.Time) []Finding {
	n := len(out)
	if f, ok := d.outageFinding(); ok {
		out = append(out, f)
	}
	out = d.tunnels.finding(out, TunnelDown, "The tunnels of %s of this region went down at once, so nothing of theirs is synced. Their heartbeats arrive.")
	out = d.telemetry.finding(out, TelemetryDown, "The heartbeats of %s of this region stopped at once. Their tunnels work, so they sync.")
	var r reading
	if len(d.region.Stalls) > 0 {
		r = reading{Warning, "What is changed in this region does not get to any facility.", d.region.Stalls}
	}
	d.shared.step(now, r, 0, stallOff)
	out = d.shared.finding(out, NoProgress, "")
	out = d.clocks.finding(out, ClockOff, "")
	for i := n; d.fresh(now) && i < len(out); i++ {
		out[i].Unsure = out[i].Severity != Critical
	}
	return out
}

// forget drops facilities that are no more.
func (d *Detector) forget(there int) {
	if len(d.facilities) == there {
		return
	}
	for id, m := range d.facilities {
		if m.round != d.round {
			m.of = nil
			delete(d.facilities, id)
		}
	}
}
