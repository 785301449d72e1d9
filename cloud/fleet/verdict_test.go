package fleet

import (
	"testing"
	"time"
)

func TestVerdictFollowsTheTable(t *testing.T) {
	t.Parallel()
	const s = time.Second
	// A facility that has been online for a while, seen by a region that has
	// been up for a while.
	well := Evidence{Known: true, Listening: time.Hour, Heartbeat: 2 * s, Every: 5 * s, Left: never, Hub: true, Tunnel: 10 * s}
	with := func(change func(e *Evidence)) Evidence { e := well; change(&e); return e }
	for name, tc := range map[string]struct {
		e    Evidence
		want State
	}{
		"heartbeat and tunnel":                {well, StateOnline},
		"heartbeat, idle tunnel":              {with(func(e *Evidence) { e.Tunnel = 75 * s }), StateOnline},
		"heartbeat, no tunnel":                {with(func(e *Evidence) { e.Tunnel = 81 * s }), StateDegraded},
		"heartbeat, never a tunnel":           {with(func(e *Evidence) { e.Tunnel = never }), StateDegraded},
		"heartbeat, probe failed once":        {with(func(e *Evidence) { e.ProbeFailed = true }), StateOnline},
		"silent for less than the deadline":   {with(func(e *Evidence) { e.Heartbeat, e.Tunnel = 15*s, 16*s }), StateOnline},
		"silent, tunnel heard":                {with(func(e *Evidence) { e.Heartbeat = 16 * s }), StateDegraded},
		"silent, tunnel in doubt":             {with(func(e *Evidence) { e.Heartbeat, e.Tunnel = 16*s, 39*s }), StateDegraded},
		"silent, probe failed":                {with(func(e *Evidence) { e.Heartbeat, e.Tunnel, e.ProbeFailed = 16*s, 20*s, true }), StateOffline},
		"silent, both old":                    {with(func(e *Evidence) { e.Heartbeat, e.Tunnel = 41*s, 41*s }), StateOffline},
		"slow pace, within its deadline":      {with(func(e *Evidence) { e.Every, e.Heartbeat = 60*s, 149*s }), StateOnline},
		"slow pace, past its deadline":        {with(func(e *Evidence) { e.Every, e.Heartbeat, e.Tunnel = 60*s, 151*s, 151*s }), StateOffline},
		"left, may come back":                 {with(func(e *Evidence) { e.Left = 2 * s }), StateOnline},
		"left, tunnel still heard":            {with(func(e *Evidence) { e.Left = 3 * s }), StateDegraded},
		"left, and does not answer":           {with(func(e *Evidence) { e.Left, e.ProbeFailed = 3*s, true }), StateOffline},
		"left, but nobody watches the tunnel": {with(func(e *Evidence) { e.Left, e.Hub, e.Tunnel = 3*s, false, never }), StateOnline},
		"no hub, heartbeat":                   {with(func(e *Evidence) { e.Hub, e.Tunnel = false, never }), StateOnline},
		"no hub, silent":                      {with(func(e *Evidence) { e.Hub, e.Tunnel, e.Heartbeat = false, never, 16*s }), StateOffline},
		"never heard":                         {Evidence{Listening: time.Hour, Heartbeat: never, Left: never, Hub: true, Tunnel: never}, StateNew},
		"never heard, only its tunnel":        {Evidence{Listening: time.Hour, Heartbeat: never, Left: never, Hub: true, Tunnel: s}, StateDegraded},
		"region just started":                 {Evidence{Known: true, Listening: 10 * s, Heartbeat: never, Left: never, Hub: true, Tunnel: never}, StateUnknown},
		"region started a while ago":          {Evidence{Known: true, Listening: 16 * s, Heartbeat: never, Left: never, Hub: true, Tunnel: never}, StateOffline},
		"region is deaf":                      {with(func(e *Evidence) { e.Listening, e.Heartbeat, e.Tunnel = 0, time.Hour, time.Hour }), StateUnknown},
		"region was deaf until just now":      {with(func(e *Evidence) { e.Listening, e.Heartbeat, e.Tunnel = 3*s, time.Hour, time.Hour }), StateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Judge(tc.e)
			if got.State != tc.want {
				t.Errorf("Judge: %s (%s), want %s", got.State, got.Reason, tc.want)
			}
			if (got.Reason == "") != (got.State == StateOnline) {
				t.Errorf("Judge: state %s with reason %q", got.State, got.Reason)
			}
		})
	}
}
