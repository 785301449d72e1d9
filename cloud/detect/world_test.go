package detect

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

const tick = 250 * time.Millisecond

// start is when each world begins; it has no monotonic reading, so that times
// compare as they are written.
var start = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

// world is a region and its facilities, in which time passes step by step.
type world struct {
	t      *testing.T
	now    time.Time
	d      *Detector
	region Region
	boxes  []*box
	deaf   bool // the region hears no heartbeats and no canaries
	frozen bool // nothing is judged
	word   Word
	each   func() // after each step
}

// box is one facility's.
type box struct {
	Facts
	down       bool // no power, or no cable
	mute       bool // its heartbeats do not arrive
	tunnelDown bool
	skewed     time.Duration // its clock
	next       time.Time     // beat
	asking     time.Time     // zero while it is not being asked
}

// newWorld is a region that has listened for two minutes.
func newWorld(t *testing.T, facilities int) *world {
	t.Helper()
	w := bareWorld(t, facilities)
	w.run(2 * time.Minute)
	if w.word.Held || len(w.word.Findings) > 0 {
		t.Fatalf("a healthy region: held %v, findings %v", w.word.Held, w.word.Findings)
	}
	return w
}

// bareWorld is a region that begins now.
func bareWorld(t *testing.T, facilities int) *world {
	t.Helper()
	w := &world{t: t, now: start, d: New(Config{}, start)}
	w.region = Region{Listening: start, Canaries: []time.Time{start, start}, Hub: true, Probes: true, Streams: true}
	for i := range facilities {
		b := &box{Facts: Facts{ID: fmt.Sprintf("f%d", i), Name: fmt.Sprintf("Facility %d", i), Streaming: true}}
		b.next = start.Add(time.Duration(i*1700%5000) * time.Millisecond)
		w.boxes = append(w.boxes, b)
	}
	return w
}

func (w *world) facts() iter.Seq[*Facts] {
	return func(yield func(*Facts) bool) {
		for _, b := range w.boxes {
			if !yield(&b.Facts) {
				return
			}
		}
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for until := w.now.Add(d); w.now.Before(until); {
		w.now = w.now.Add(tick)
		w.step()
	}
}

// until lets time pass until ok, at most most.
func (w *world) until(most time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := w.now
	for !ok() {
		if w.now.Sub(began) > most {
			w.t.Fatalf("after %s still not so: %s", most, what)
		}
		w.run(tick)
	}
	return w.now.Sub(began)
}

func (w *world) step() {
	if !w.deaf && !w.region.Listening.IsZero() {
		w.region.Canaries = []time.Time{w.now, w.now}
	}
	for _, b := range w.boxes {
		b.tick(w)
	}
	if w.frozen {
		return
	}
	w.word = w.d.Step(Snapshot{Now: w.now, Region: w.region, Facilities: w.facts()})
	if w.each != nil {
		w.each()
	}
}

func (b *box) tick(w *world) {
	if !b.down && !w.now.Before(b.next) {
		b.next = b.next.Add(5 * time.Second)
		if b.next.Before(w.now) {
			b.next = w.now.Add(5 * time.Second)
		}
		if !b.mute && !w.deaf && !w.region.Listening.IsZero() {
			b.beat(w.now)
		}
		if !b.tunnelDown {
			b.Tunnel, b.TunnelHere = w.now, true
		}
	}
	works := !b.down && !b.tunnelDown
	switch {
	case b.asking.IsZero():
		if w.d.Probe(&b.Facts, w.now) {
			b.asking = w.now
		}
	case works:
		b.Asked, b.Answered, b.Unanswered, b.asking = b.asking, w.now, false, time.Time{}
	case w.now.Sub(b.asking) >= 1500*time.Millisecond:
		b.Asked, b.Unanswered, b.asking = b.asking, true, time.Time{}
		if w.d.Probe(&b.Facts, w.now) {
			b.asking = w.now
		}
	}
}

// beat is one heartbeat that arrives.
func (b *box) beat(at time.Time) {
	b.Heard, b.Here, b.Beats, b.BeatAt = at, true, b.Beats+1, at
	b.Beat = proto.Heartbeat{Session: 1, Seq: b.Beats, EverySeconds: 5, WallMs: at.Add(b.skewed).UnixMilli(), Faults: b.Beat.Faults}
	b.Rhythm.Beat(at, 1, b.Beats, 5*time.Second)
	b.Left, b.Bye, b.LeftWords, b.Back = time.Time{}, false, "", 0
}

// pull takes a box's cable out; with a will, the broker sees it.
func (b *box) pull(w *world, will bool) {
	b.down, b.Streaming = true, false
	if will {
		b.Left = w.now
	}
}

func (b *box) plug() { b.down, b.Streaming = false, true }

func (w *world) state(b *box) State { return w.d.Verdict(&b.Facts).State }

// found returns the finding of a kind at a place.
func (w *world) found(k Kind, facility string) (Finding, bool) {
	i := slices.IndexFunc(w.word.Findings, func(f Finding) bool { return f.Kind == k && f.Facility == facility })
	if i < 0 {
		return Finding{}, false
	}
	return w.word.Findings[i], true
}

func (w *world) has(k Kind, facility string) func() bool {
	return func() bool { _, ok := w.found(k, facility); return ok }
}

func (w *world) hasNot(k Kind, facility string) func() bool {
	return func() bool { _, ok := w.found(k, facility); return !ok }
}

func (w *world) count(k Kind) (n int) {
	for _, f := range w.word.Findings {
		if f.Kind == k {
			n++
		}
	}
	return n
}
