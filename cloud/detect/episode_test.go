package detect

import (
	"strings"
	"testing"
	"time"
)

func TestAVisibleDeathIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	la := w.boxes[0]
	heard := la.Heard
	la.pull(w, true)
	took := w.until(10*time.Second, "it is offline", w.has(Offline, la.ID))
	if took > 2250*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	f, _ := w.found(Offline, la.ID)
	if f.Severity != Critical || f.Of != "" || f.Since.Before(heard) || f.Since.After(w.now.Add(-took)) {
		t.Errorf("finding %+v, last heard %s", f, heard)
	}
	if !strings.Contains(strings.Join(f.Evidence, "\n"), "The broker saw its connection break") {
		t.Errorf("the evidence does not say so: %q", f.Evidence)
	}
}

func TestAWillAloneIsNoDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	la.mute, la.Left = true, w.now
	w.each = func() {
		if w.state(la) == StateOffline {
			t.Fatal("its tunnel answers, and it is offline")
		}
	}
	w.until(5*time.Second, "its telemetry is missing", func() bool { return w.d.Verdict(&la.Facts).Degraded == PartTelemetry })
	took := w.until(5*time.Minute, "somebody is told", w.has(TelemetryDown, la.ID))
	if took < linkAfter || took > linkAfter+5*time.Second {
		t.Errorf("told after %s", took)
	}
	la.mute, la.Left = false, time.Time{}
	w.until(2*time.Minute, "it is over", w.hasNot(TelemetryDown, la.ID))
}

func TestATunnelThatIsDownIsATicket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	la.tunnelDown = true
	w.until(4*time.Minute, "it is found", w.has(TunnelDown, la.ID))
	if f, _ := w.found(TunnelDown, la.ID); f.Severity != Warning || w.state(la) != StateDegraded || w.count(Offline) > 0 {
		t.Errorf("%+v, %s", f, w.state(la))
	}
	// Now it is cut: the offline one takes the place of the other.
	la.pull(w, false)
	w.until(15*time.Second, "it is offline", w.has(Offline, la.ID))
	w.until(2*time.Minute, "one thing is told, not two", w.hasNot(TunnelDown, la.ID))
}

func TestOfflineIsOverWhenItIsHeardForAWhileAndSyncs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	la.pull(w, false)
	w.until(15*time.Second, "it is offline", w.has(Offline, la.ID))
	was, _ := w.found(Offline, la.ID)

	la.down = false // one beat, and gone again
	w.until(6*time.Second, "it is heard", func() bool { return w.state(la) == StateOnline })
	la.down = true
	w.run(time.Minute)
	if f, ok := w.found(Offline, la.ID); !ok || f.Since != was.Since {
		t.Errorf("one beat ended it: %+v", f)
	}
	la.down = false // all is well, but it does not sync
	w.run(90 * time.Second)
	if _, ok := w.found(Offline, la.ID); !ok {
		t.Error("it is over, and nothing was synced")
	}
	la.Streaming = true
	w.run(tick)
	if _, ok := w.found(Offline, la.ID); ok {
		t.Error("it syncs, and is still offline")
	}
	w.run(flapWindow)
	la.pull(w, false)
	w.until(15*time.Second, "it is offline", w.has(Offline, la.ID))
	la.plug()
	took := w.until(time.Minute, "it is over", w.hasNot(Offline, la.ID))
	if took < backAfter || took > 20*time.Second {
		t.Errorf("back after %s", took)
	}
}

func TestWhoSaysGoodbyeIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	bye := func(back time.Duration) {
		la.pull(w, false)
		la.Left, la.Bye, la.LeftWords, la.Back = w.now, true, "restarting for an update", back
	}
	bye(time.Minute)
	w.run(59 * time.Second)
	if w.state(la) != StateOffline || w.count(Offline) > 0 {
		t.Errorf("%s, and told: %d", w.state(la), w.count(Offline))
	}
	if r := w.d.Verdict(&la.Facts).Reason; !strings.Contains(r, "restarting for an update") {
		t.Errorf("reason %q", r)
	}
	la.plug()
	w.run(time.Minute)
	bye(8 * time.Hour) // nobody is away for so long without anybody being told
	took := w.until(byeMax+time.Second, "it is told", w.has(Offline, la.ID))
	if took < byeMax {
		t.Errorf("told after %s", took)
	}
}

func TestComingAndGoingIsOneFinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	var pages, ends int
	was := false
	w.each = func() {
		_, is := w.found(Offline, la.ID)
		if is && !was {
			pages++
		}
		if !is && was {
			ends++
		}
		was = is
	}
	for range 6 {
		la.pull(w, false)
		w.run(40 * time.Second)
		la.plug()
		w.run(40 * time.Second)
	}
	if pages != 2 || ends != 1 {
		t.Errorf("%d pages and %d resolves, want the first two and one", pages, ends)
	}
	f, ok := w.found(Unstable, la.ID)
	if !ok || f.Severity != Warning {
		t.Errorf("unstable: %+v", f)
	}
	if w.state(la) != StateOnline {
		t.Errorf("it is shown as %s", w.state(la))
	}
	if f, _ = w.found(Offline, la.ID); !f.Unsure || !strings.Contains(f.Summary, "is heard again") {
		t.Errorf("while it is there people are told that it is offline: %+v", f)
	}
	took := w.until(20*time.Minute, "it is over", w.hasNot(Offline, la.ID))
	if took < calmAfter-time.Minute || w.count(Unstable) > 0 {
		t.Errorf("over after %s, unstable: %d", took, w.count(Unstable))
	}
	// Hours later the first page is a first page again.
	la.pull(w, false)
	w.until(15*time.Second, "it is offline", w.has(Offline, la.ID))
}

func TestManyAtOnceAreOneOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	for _, b := range w.boxes[:12] {
		b.pull(w, false)
	}
	cut := w.now
	w.each = func() {
		if w.count(Offline) > 0 && w.count(Outage) != 1 {
			t.Fatalf("%d are offline without the region's outage", w.count(Offline))
		}
		for _, f := range w.word.Findings {
			if f.Kind == Offline && f.Of != Outage {
				t.Fatalf("%s is not part of it", f.Facility)
			}
		}
	}
	w.until(15*time.Second, "all are found", func() bool { return w.count(Offline) == 12 })
	if took := w.now.Sub(cut); took > 13500*time.Millisecond {
		t.Errorf("all were known after %s", took)
	}
	if f, _ := w.found(Outage, ""); f.Severity != Critical || f.Since.After(cut) || cut.Sub(f.Since) > 6*time.Second {
		t.Errorf("outage %+v, the cut was at %s", f, cut)
	}
	w.each = nil
	w.run(time.Minute)
	w.boxes[20].pull(w, false) // one that has nothing to do with it
	w.run(time.Minute)
	if f, ok := w.found(Offline, "f20"); !ok || f.Of != "" {
		t.Errorf("a later one was put to it: %+v", f)
	}
	for _, b := range w.boxes[:11] {
		b.plug()
	}
	w.run(time.Minute)
	if w.count(Outage) != 1 || w.count(Offline) != 2 {
		t.Errorf("one is still offline: %d outages, %d offline", w.count(Outage), w.count(Offline))
	}
	w.boxes[11].plug()
	w.until(time.Minute, "the outage is over", w.hasNot(Outage, ""))
}

func TestFourAreNoOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	for _, b := range w.boxes[:4] {
		b.pull(w, false)
	}
	w.until(15*time.Second, "all are found", func() bool { return w.count(Offline) == 4 })
	if w.count(Outage) > 0 {
		t.Error("four of six are no outage: a page for each is better")
	}
}

// After a restart an earlier finding stands until it is over or known to be still
// so; in between the word says that it may be over in a moment.
func TestWhoeverIsHeardAgainIsSaidToBeReturning(t *testing.T) {
	t.Parallel()
	w := bareWorld(t, 1)
	la := w.boxes[0]
	w.d.Recall([]Finding{{Kind: Offline, Facility: la.ID, Severity: Critical, Since: start.Add(-time.Hour), Summary: "It is offline."}})
	returned := false
	w.each = func() {
		if open := w.has(Offline, la.ID)(); open && !w.word.Held && !w.word.HeldOf[la.ID] && !w.word.Returning[la.ID] {
			t.Fatalf("after %s it counts as offline without a doubt", w.now.Sub(start))
		}
		returned = returned || w.word.Returning[la.ID]
	}
	w.run(tick)
	w.until(time.Minute, "it is over", w.hasNot(Offline, la.ID))
	if !returned || len(w.word.Returning) > 0 {
		t.Errorf("returning %t, and when it is back %v", returned, w.word.Returning)
	}
	w.each = nil
	la.pull(w, true)
	w.until(10*time.Second, "it is offline again", w.has(Offline, la.ID))
	if w.run(time.Minute); len(w.word.Returning) > 0 {
		t.Error("it is said to return while nothing is heard of it")
	}
}
