package detect

import (
	"strings"
	"testing"
	"time"
)

// TestAFaultOfTheRegionIsNeverAFacilitys: whatever befalls the region, and however
// long, nobody's people are told anything, and operations are.
func TestAFaultOfTheRegionIsNeverAFacilitys(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin, end func(w *world)
		after      time.Duration // until it is known
		says       string
	}{
		"the broker's connection is lost": {
			func(w *world) { w.region.Listening = time.Time{} }, func(w *world) { w.region.Listening = w.now }, tick, "its own connection to the broker",
		},
		"not even the canaries are heard": {
			func(w *world) { w.deaf = true }, func(w *world) { w.deaf = false }, deafAfter + tick, "not even its own",
		},
		"nobody gets in any more": {
			func(w *world) { w.region.Shut, w.region.ShutWhy = w.now, "its certificate has expired" },
			func(w *world) { w.region.Shut = time.Time{} }, deafAfter + tick, "its certificate has expired",
		},
		"the database takes no writes": {
			func(w *world) { w.region.Unwritable = w.now }, func(w *world) { w.region.Unwritable = time.Time{} }, unwritableAfter + tick, "takes no writes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 30)
			w.each = func() {
				if n := w.count(Offline) + w.count(Outage) + w.count(TelemetryDown); n > 0 {
					t.Fatalf("after %s facilities are accused: %v", w.now.Sub(start), w.word.Findings)
				}
			}
			began := w.now
			tc.begin(w)
			took := w.until(time.Minute, "the region knows", func() bool { return w.word.Held })
			if took > tc.after+tick {
				t.Errorf("known after %s", took)
			}
			if !strings.Contains(w.word.Why, tc.says) {
				t.Errorf("it says %q", w.word.Why)
			}
			w.until(time.Minute, "operations are told", w.has(Blind, ""))
			if f, _ := w.found(Blind, ""); f.Severity != Warning || f.Since.Sub(began).Abs() > deafAfter || w.now.Sub(f.Since) < blindNotice {
				t.Errorf("%+v at %s", f, w.now)
			}
			w.run(time.Minute)
			for _, b := range w.boxes {
				v := w.d.Verdict(&b.Facts)
				if heard := w.now.Sub(b.Heard) < 10*time.Second; heard != (v.State == StateOnline) || !heard && (v.State != StateUnknown || v.Since.IsZero()) {
					t.Fatalf("%s was heard %s ago and is %s since %s", b.ID, w.now.Sub(b.Heard), v.State, v.Since)
				}
			}
			w.until(2*time.Minute, "somebody must act", func() bool { f, _ := w.found(Blind, ""); return f.Severity == Critical })
			tc.end(w)
			w.until(30*time.Second, "it judges again", func() bool { return !w.word.Held })
			if w.count(Blind) > 0 {
				t.Error("it is still blind")
			}
			w.run(5 * time.Minute)
			for _, b := range w.boxes {
				if w.state(b) != StateOnline {
					t.Errorf("%s is %s", b.ID, w.state(b))
				}
			}
		})
	}
}

func TestAFrozenRegionAccusesNobody(t *testing.T) {
	t.Parallel()
	for _, long := range []time.Duration{3 * time.Second, time.Minute, time.Hour} {
		w := newWorld(t, 30)
		w.each = func() {
			if n := w.count(Offline) + w.count(Outage) + w.count(TelemetryDown); n > 0 {
				t.Fatalf("frozen for %s: %v", long, w.word.Findings)
			}
		}
		// Nothing of this process runs, and what the broker has for it waits.
		w.now = w.now.Add(long)
		for _, b := range w.boxes {
			b.next = w.now.Add(time.Duration(len(b.ID)) * time.Second)
		}
		w.run(tick)
		if w.word.Held != (long >= blindNotice) {
			t.Fatalf("frozen for %s, held: %v", long, w.word.Held)
		}
		if told := w.has(Blind, "")(); told != (long >= blindNotice) {
			t.Errorf("frozen for %s, operations are told: %v", long, told)
		}
		w.run(5 * time.Minute)
		if w.word.Held || w.count(Blind) > 0 {
			t.Errorf("frozen for %s, and it never judges again", long)
		}
	}
}

// TestABusyMachineDelaysWhatItTellsAndNoMore: a machine that stands still for
// seconds again and again neither accuses anybody nor forgets who is silent.
func TestABusyMachineDelaysWhatItTellsAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	la := w.boxes[0]
	const still, runs = 3 * time.Second, 4 * time.Second
	busy := func(d time.Duration) {
		for until := w.now.Add(d); w.now.Before(until); {
			for end := w.now.Add(still); w.now.Before(end); {
				w.now = w.now.Add(tick) // it does not even notice that an answer came
				w.boxes[1].asking = time.Time{}
			}
			w.run(runs)
			for _, b := range w.boxes {
				if w.state(b) == StateOffline && !b.down || w.word.Held {
					t.Fatalf("%s is %s, held: %v", b.ID, w.state(b), w.word.Held)
				}
			}
		}
	}
	busy(10 * time.Minute)
	la.pull(w, false)
	cut := w.now
	busy(28 * time.Second)
	if f, ok := w.found(Offline, la.ID); !ok || f.Since.After(cut) {
		t.Errorf("28 s of which 16 s it ran, and it is %s: %+v", w.state(la), f)
	}
}

func TestAMachineThatHardlyRunsIsToldToOperations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.boxes[0].pull(w, false)
	for range 120 {
		w.now = w.now.Add(1250 * time.Millisecond)
		w.run(tick)
		if w.count(Offline) > 0 {
			t.Fatal("it judges although it hardly runs")
		}
	}
	if f, ok := w.found(Blind, ""); !ok || !w.word.Held || !strings.Contains(f.Summary, "too much to do") {
		t.Errorf("held: %v, %+v", w.word.Held, f)
	}
	w.until(3*time.Minute, "it runs again, and finds who is gone", w.has(Offline, w.boxes[0].ID))
}

// TestARestartOfTheRegionAccusesNobody: boxes need up to a minute to be back. Who
// was offline before and is not heard is offline again, since when he was.
func TestARestartOfTheRegionAccusesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30)
	old := w.boxes[0]
	old.pull(w, false)
	w.until(15*time.Second, "one is offline", w.has(Offline, old.ID))
	healed := w.boxes[1]
	healed.pull(w, false)
	w.until(15*time.Second, "and another", w.has(Offline, healed.ID))
	w.run(time.Minute)
	before := w.word.Findings
	was, _ := w.found(Offline, old.ID)

	w.run(20 * time.Second) // the region is down
	w.d = New(Config{}, w.now)
	w.d.Recall(before)
	restarted := w.now
	dead := w.boxes[2] // its cable is pulled meanwhile
	dead.pull(w, false)
	healed.plug()
	for i, b := range w.boxes {
		b.Here, b.TunnelHere, b.Beats, b.Rhythm = false, false, 0, Rhythm{}
		b.Asked, b.Answered, b.Unanswered, b.asking = time.Time{}, time.Time{}, false, time.Time{}
		b.next = w.now.Add(time.Duration(i*1900) * time.Millisecond) // up to 57 s
		b.tunnelDown = true
	}
	w.each = func() {
		for _, b := range w.boxes {
			if w.now.Sub(restarted) > 57*time.Second {
				b.tunnelDown = false
			}
			if b != old && b != healed && b != dead && w.state(b) == StateOffline {
				t.Fatalf("%s is taken for offline %s after the restart", b.ID, w.now.Sub(restarted))
			}
			if n := w.count(Outage); n > 0 {
				t.Fatal("an outage")
			}
		}
		f, ok := w.found(Offline, old.ID)
		if !ok || f.Since != was.Since {
			t.Fatalf("%s after the restart it is %+v, before %+v", w.now.Sub(restarted), f, was)
		}
	}
	w.run(deadlineLeast + time.Second)
	if w.word.Held || !w.word.HeldOf[old.ID] || w.state(old) != StateUnknown {
		t.Errorf("held: %v, the old one: %v %s", w.word.Held, w.word.HeldOf[old.ID], w.state(old))
	}
	w.until(time.Minute, "the one that came back is over", w.hasNot(Offline, healed.ID))
	w.until(time.Minute, "the one that is cut is found", w.has(Offline, dead.ID))
	if f, _ := w.found(Offline, dead.ID); f.Since.After(restarted) {
		t.Errorf("it was heard last before the restart, at %s, and is offline since %s", dead.Heard, f.Since)
	}
	if w.state(old) != StateOffline || w.word.HeldOf[old.ID] {
		t.Errorf("the old one is %s", w.state(old))
	}
	if v := w.d.Verdict(&old.Facts); v.Since != was.Since {
		t.Errorf("shown since %s, want %s", v.Since, was.Since)
	}
}

// TestAStartDegradesNobody: heartbeats come at once, and the tunnels shake hands a
// while later.
func TestAStartDegradesNobody(t *testing.T) {
	t.Parallel()
	w := bareWorld(t, 30)
	broken := w.boxes[0]
	for _, b := range w.boxes {
		b.tunnelDown = true
	}
	w.each = func() {
		for i, b := range w.boxes {
			if b != broken && w.now.Sub(start) > time.Duration(i)*time.Second {
				b.tunnelDown = false
			}
			v := w.d.Verdict(&b.Facts)
			if v.State == StateDegraded && (b != broken || w.now.Sub(start) < graceLong) {
				t.Fatalf("%s is degraded %s after the start: %s", b.ID, w.now.Sub(start), v.Reason)
			}
			if v.State == StateUnknown && (v.Since.Sub(start) > tick || v.Heartbeat && !strings.Contains(v.Reason, "Heartbeats arrive")) {
				t.Fatalf("unknown since %s: %s", v.Since, v.Reason)
			}
		}
	}
	w.run(50 * time.Second)
	for _, b := range w.boxes[1:] {
		if w.state(b) != StateOnline {
			t.Errorf("%s is %s", b.ID, w.state(b))
		}
	}
	w.until(15*time.Second, "what does not come up is told", func() bool { return w.state(broken) == StateDegraded })
}

func TestBrokenCanariesDoNotBlindARegionThatHears(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	silent := w.now
	w.each = func() {
		w.region.Canaries = []time.Time{silent, silent}
		if w.word.Held {
			t.Fatal("facilities are heard, and it takes itself for deaf")
		}
	}
	// The world would let them sing: it is told that they cannot.
	w.deaf = false
	for range 400 {
		w.now = w.now.Add(tick)
		for _, b := range w.boxes {
			b.tick(w)
		}
		w.region.Canaries = []time.Time{silent, silent}
		w.word = w.d.Step(Snapshot{Now: w.now, Region: w.region, Facilities: w.facts()})
		w.each()
	}
}

func TestOnlyACanaryThatIsHeardIsEvidence(t *testing.T) {
	t.Parallel()
	for _, heard := range []bool{true, false} {
		w := newWorld(t, 2)
		gone := w.boxes[0]
		gone.pull(w, false)
		for !w.has(Offline, gone.ID)() && w.now.Before(start.Add(time.Hour)) {
			w.now = w.now.Add(tick)
			for _, b := range w.boxes {
				b.tick(w)
			}
			w.region.Canaries = []time.Time{{}, {}}
			if heard {
				w.region.Canaries[1] = w.now
			}
			w.word = w.d.Step(Snapshot{Now: w.now, Region: w.region, Facilities: w.facts()})
		}
		f, _ := w.found(Offline, gone.ID)
		if said := strings.Contains(strings.Join(f.Evidence, "\n"), "canaries"); said != heard || len(f.Evidence) == 0 {
			t.Errorf("canaries heard: %t; evidence: %q", heard, f.Evidence)
		}
	}
}

// What one process does not hear another may: it is no reason to judge.
func TestWhoHearsNoFacilityAtAllSaysSo(t *testing.T) {
	t.Parallel()
	w := bareWorld(t, 2)
	w.boxes[0].Heard = start.Add(-time.Hour) // by an earlier process
	for _, b := range w.boxes {
		b.down = true
	}
	w.run(5 * time.Minute)
	if !w.word.Deaf || w.word.Held {
		t.Errorf("deaf %t, held %t: it hears its canaries only", w.word.Deaf, w.word.Held)
	}
	w.boxes[1].plug()
	w.until(time.Minute, "it hears one", func() bool { return !w.word.Deaf })
	w.boxes[1].pull(w, false)
	w.until(lonelyAfter+time.Minute, "it hears none any more", func() bool { return w.word.Deaf })

	if none := bareWorld(t, 1); true {
		none.boxes[0].down = true // it was never there
		if none.run(5 * time.Minute); none.word.Deaf {
			t.Error("deaf, although there is nobody to hear")
		}
	}
}

// Operations hear once that the region is blind, and once that it is over, whatever
// is restarted meanwhile.
func TestARestartEndsNoBlindness(t *testing.T) {
	t.Parallel()
	for name, heals := range map[string]bool{"it is still blind": false, "it hears again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3)
			w.region.Listening = time.Time{}
			w.until(20*time.Second, "operations are told", w.has(Blind, ""))
			w.run(time.Minute)
			before := w.word.Findings
			was, _ := w.found(Blind, "")

			w.run(20 * time.Second) // the region is down
			w.d = New(Config{}, w.now)
			w.d.Recall(before)
			if heals {
				w.region.Listening = w.now
			}
			ended := false
			w.each = func() {
				f, ok := w.found(Blind, "")
				switch {
				case !ok && w.word.Held:
					t.Fatal("it is over, and nothing can be judged")
				case ok && (ended || !f.Since.Equal(was.Since)):
					t.Fatalf("blind again (%t), since %s and not %s", ended, f.Since, was.Since)
				}
				ended = !ok
			}
			w.run(3 * time.Minute)
			if ended != heals {
				t.Errorf("over: %t, want %t", ended, heals)
			}
		})
	}
}

// TestAFreshProcessThatHearsNobodySaysSo: and no longer than it takes nobody for silent.
func TestAFreshProcessThatHearsNobodySaysSo(t *testing.T) {
	t.Parallel()
	w := bareWorld(t, 8)
	for _, b := range w.boxes {
		b.Heard, b.down = start.Add(-10*time.Second), true
	}
	w.run(time.Second)
	w.until(deadlineLeast, "it judges", func() bool { return !w.word.Held })
	if !w.word.Deaf || !w.word.Fresh {
		t.Errorf("it is deaf: %t, fresh: %t", w.word.Deaf, w.word.Fresh)
	}
	w.each = func() {
		if w.word.Fresh && len(w.word.Findings) > 0 {
			t.Fatalf("fresh, and it has found %+v", w.word.Findings)
		}
	}
	w.until(2*time.Minute, "they are offline", func() bool { return w.count(Offline) == 8 })

	// What it says of itself does not come back.
	w = bareWorld(t, 1)
	w.region.Canaries, w.deaf = []time.Time{{}, {}}, true
	w.run(deadlineLeast + time.Second)
	if w.word.Fresh {
		t.Error("nothing comes back from the broker")
	}
}
