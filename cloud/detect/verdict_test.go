package detect

import (
	"testing"
	"time"
)

func TestVerdictFollowsTheTable(t *testing.T) {
	t.Parallel()
	const s = time.Second
	now := start.Add(time.Hour)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	within := TunnelWithin
	// A facility that has been online for a while, seen by a region that has
	// been up for a while.
	type evidence struct {
		f     Facts
		r     Region
		began time.Time
		long  bool
	}
	well := evidence{
		f:     Facts{ID: "la", Heard: ago(2 * s), Here: true, Rhythm: Rhythm{Every: 5 * s}, Tunnel: ago(10 * s), TunnelHere: true},
		r:     Region{Listening: start, Hub: true, Probes: true},
		began: start, long: true,
	}
	with := func(change func(e *evidence)) evidence { e := well; change(&e); return e }
	silent := func(heard, tunnel time.Duration) func(e *evidence) {
		return func(e *evidence) { e.f.Heard, e.f.Tunnel = ago(heard), ago(tunnel-within) }
	}
	asked := func(e *evidence, began time.Duration) { e.f.Asked, e.f.Unanswered = ago(began), true }
	for name, tc := range map[string]struct {
		e    evidence
		want State
		part Part
	}{
		"heartbeat and tunnel":              {well, StateOnline, ""},
		"heartbeat, idle tunnel":            {with(func(e *evidence) { e.f.Tunnel = ago(75 * s) }), StateOnline, ""},
		"heartbeat, no tunnel":              {with(func(e *evidence) { e.f.Tunnel = ago(81 * s) }), StateDegraded, PartTunnel},
		"heartbeat, never a tunnel":         {with(func(e *evidence) { e.f.Tunnel, e.f.TunnelHere = time.Time{}, false }), StateDegraded, PartTunnel},
		"heartbeat, a probe failed":         {with(func(e *evidence) { asked(e, 3*s) }), StateOnline, ""},
		"silent for less than the deadline": {with(silent(12*s, 16*s)), StateOnline, ""},
		"silent, tunnel heard":              {with(func(e *evidence) { e.f.Heard = ago(16 * s) }), StateDegraded, PartTelemetry},
		"silent, nobody has asked yet":      {with(silent(16*s, 39*s)), StateDegraded, PartTelemetry},
		"silent, asked too early":           {with(func(e *evidence) { silent(16*s, 20*s)(e); asked(e, 7*s) }), StateDegraded, PartTelemetry},
		"silent, asked in vain":             {with(func(e *evidence) { silent(16*s, 20*s)(e); asked(e, 5*s) }), StateOffline, ""},
		"silent, tunnel heard after all":    {with(func(e *evidence) { silent(16*s, 3*s)(e); asked(e, 5*s) }), StateDegraded, PartTelemetry},
		"silent, there was no turn":         {with(silent(41*s, 41*s)), StateOffline, ""},
		"slow pace, within its deadline": {with(func(e *evidence) {
			silent(149*s, 149*s)(e)
			e.f.Rhythm.Every = 60 * s
			asked(e, 2*s)
		}), StateDegraded, PartTunnel},
		"slow pace, past its deadline": {with(func(e *evidence) {
			silent(151*s, 151*s)(e)
			e.f.Rhythm.Every = 60 * s
			asked(e, 2*s)
		}), StateOffline, ""},
		"left, may come back":                 {with(func(e *evidence) { e.f.Left = ago(2 * s) }), StateOnline, ""},
		"left, tunnel still heard":            {with(func(e *evidence) { e.f.Heard, e.f.Left, e.f.Tunnel = ago(4*s), ago(3*s), ago(0) }), StateDegraded, PartTelemetry},
		"left, and does not answer":           {with(func(e *evidence) { e.f.Left = ago(1600 * time.Millisecond); asked(e, 1500*time.Millisecond) }), StateOffline, ""},
		"left, and was asked before":          {with(func(e *evidence) { e.f.Left = ago(s); asked(e, 2*s) }), StateOnline, ""},
		"said goodbye, may come back":         {with(func(e *evidence) { e.f.Bye, e.f.Left = true, ago(2*s); asked(e, 2*s) }), StateOnline, ""},
		"said goodbye, and does not answer":   {with(func(e *evidence) { e.f.Bye, e.f.Heard, e.f.Left = true, ago(4*s), ago(3*s); asked(e, 2*s) }), StateOffline, ""},
		"left, but nobody watches the tunnel": {with(func(e *evidence) { e.f.Left, e.r.Hub = ago(s), false }), StateOnline, ""},
		"no hub, heartbeat":                   {with(func(e *evidence) { e.r.Hub, e.f.TunnelHere = false, false }), StateOnline, ""},
		"no hub, silent":                      {with(func(e *evidence) { e.r.Hub, e.f.TunnelHere, e.f.Heard = false, false, ago(16*s) }), StateOffline, ""},
		"never heard":                         {with(func(e *evidence) { e.f = Facts{ID: "la"} }), StateNew, ""},
		"never heard, only its tunnel":        {with(func(e *evidence) { e.f = Facts{ID: "la", Tunnel: ago(s), TunnelHere: true} }), StateDegraded, PartTelemetry},
		"region just started": {with(func(e *evidence) {
			e.began, e.f.Here, e.f.TunnelHere = ago(10*s), false, false
		}), StateUnknown, ""},
		"region just started, heartbeat, no tunnel yet": {with(func(e *evidence) {
			e.began, e.f.Tunnel, e.f.TunnelHere = ago(10*s), ago(30*s), false
		}), StateUnknown, ""},
		"region started a while ago, heartbeat, no tunnel": {with(func(e *evidence) {
			e.began, e.f.Tunnel, e.f.TunnelHere = ago(61*s), ago(90*s), false
		}), StateDegraded, PartTunnel},
		"region was deaf for a moment, heartbeat, no tunnel": {with(func(e *evidence) {
			e.began, e.long, e.f.Tunnel, e.f.TunnelHere = ago(3*s), false, ago(90*s), true
		}), StateDegraded, PartTunnel},
		"region just started, left before its tunnel was up": {with(func(e *evidence) {
			e.began, e.f.TunnelHere, e.f.Heard, e.f.Left = ago(20*s), false, ago(4*s), ago(2*s)
			asked(e, 1500*time.Millisecond)
		}), StateUnknown, ""},
		"left, and its tunnel was down before": {with(func(e *evidence) {
			e.f.Left, e.f.Tunnel = ago(2*s), ago(10*time.Minute)
			asked(e, 1500*time.Millisecond)
		}), StateDegraded, PartTunnel},
		"region started a while ago": {with(func(e *evidence) {
			e.began, e.f.Here, e.f.TunnelHere = ago(61*s), false, false
			asked(e, 2*s)
		}), StateOffline, ""},
		"region is deaf":                 {with(func(e *evidence) { silent(time.Hour, time.Hour)(e); e.r.Listening = time.Time{} }), StateUnknown, ""},
		"region is deaf, just heard":     {with(func(e *evidence) { e.r.Listening = time.Time{} }), StateOnline, ""},
		"region was deaf until just now": {with(func(e *evidence) { silent(time.Hour, time.Hour)(e); e.began, e.long = ago(3*s), false }), StateUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := New(Config{}, tc.e.began)
			d.long, d.last = tc.e.long, now
			d.look(now, tc.e.r)
			d.region, d.clear, d.began = tc.e.r, tc.e.began, start
			if tc.e.long {
				d.began = tc.e.began
			}
			got := d.Judge(&tc.e.f, now)
			if got.State != tc.want || got.Degraded != tc.part {
				t.Errorf("%s %s (%s), want %s %s", got.State, got.Degraded, got.Reason, tc.want, tc.part)
			}
			if (got.Reason == "") != (got.State == StateOnline) {
				t.Errorf("state %s with reason %q", got.State, got.Reason)
			}
		})
	}
}
