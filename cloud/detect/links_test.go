package detect

import (
	"strings"
	"testing"
	"time"
)

// ways are the two by which a facility is heard, each with what breaks it.
var ways = map[Kind]func(b *box, broken bool){
	TunnelDown:    func(b *box, broken bool) { b.tunnelDown = broken },
	TelemetryDown: func(b *box, broken bool) { b.mute = broken },
}

// broken breaks one way of boxes, whose last signs of life by it lie up to half a minute apart.
func (w *world) broken(boxes []*box, way func(*box, bool)) {
	for i := range 25 {
		for j, b := range boxes {
			if j%25 == i {
				way(b, true)
			}
		}
		w.run(time.Second)
	}
}

// alone counts those that are told of by themselves.
func (w *world) alone(k Kind) (n int) {
	for _, f := range w.word.Findings {
		if f.Kind == k && f.Facility != "" && f.Of == "" {
			n++
		}
	}
	return n
}

// TestManyWaysThatBreakAtOnceAreOne: operations get one ticket, with their number,
// and never one for a facility of them.
func TestManyWaysThatBreakAtOnceAreOne(t *testing.T) {
	t.Parallel()
	for kind, way := range ways {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 60)
			alone, first := 0, Finding{}
			w.each = func() {
				alone = max(alone, w.alone(kind))
				if f, ok := w.found(kind, ""); ok && first.Kind == "" {
					first = f
				}
			}
			w.broken(w.boxes[:30], way)
			w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) == 31 })
			if alone > 0 || first.Severity != Warning || !strings.Contains(first.Summary, "30 facilities of this region") {
				t.Errorf("%d were told by themselves; the region's is at first %+v", alone, first)
			}
			if n := w.count(Offline) + w.count(Outage); n > 0 {
				t.Errorf("%d are offline", n)
			}

			// One more, much later, is by itself.
			w.run(2 * massKept)
			way(w.boxes[40], true)
			w.until(5*time.Minute, "the other is told", w.has(kind, "f40"))
			if f, _ := w.found(kind, "f40"); f.Of != "" {
				t.Error("another is told as one of them, that broke long after")
			}
			way(w.boxes[40], false)

			// It lasts as long as one of them is down, and so does a part.
			for _, b := range w.boxes[1:30] {
				way(b, false)
			}
			w.until(5*time.Minute, "the others are up", func() bool { return w.count(kind) == 2 })
			if f, ok := w.found(kind, "f0"); !ok || f.Of != kind {
				t.Errorf("of those that are left there is %+v", f)
			}
			way(w.boxes[0], false)
			w.until(5*time.Minute, "all are up", func() bool { return w.count(kind) == 0 })
		})
	}
}

// TestFewWaysThatBreakAreEachTold: four of ten are no region's trouble, and neither
// are many that break one after the other.
func TestFewWaysThatBreakAreEachTold(t *testing.T) {
	t.Parallel()
	for kind, way := range ways {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 10)
			w.broken(w.boxes[:4], way)
			w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) == 4 })
			for _, b := range w.boxes[4:] {
				w.run(linkWithin)
				way(b, true)
			}
			w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) >= 10 })
			if n := w.alone(kind); n != 10 {
				t.Errorf("%d of 10 are told by themselves", n)
			}
		})
	}
}

// TestASecondTimeOfManyIsAnother: one of the first is down still when many break again.
func TestASecondTimeOfManyIsAnother(t *testing.T) {
	t.Parallel()
	for kind, way := range ways {
		w := newWorld(t, 40)
		w.broken(w.boxes[:20], way)
		w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) == 21 })
		for _, b := range w.boxes[1:20] {
			way(b, false)
		}
		w.run(2 * massKept)
		began := w.now
		w.broken(w.boxes[20:32], way)
		w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) == 14 })
		f, _ := w.found(kind, "")
		if f.Since.Before(began.Add(-time.Minute)) || !strings.Contains(f.Summary, "13 facilities") || w.alone(kind) > 0 {
			t.Errorf("%s: %d by themselves, and %+v", kind, w.alone(kind), f)
		}
	}
}

// TestOneTroubleOfManyOutlastsTheProcess: the next one knows whose parts they are.
func TestOneTroubleOfManyOutlastsTheProcess(t *testing.T) {
	t.Parallel()
	for kind, way := range ways {
		w := newWorld(t, 40)
		w.broken(w.boxes[:20], way)
		w.until(3*time.Minute, "all are told", func() bool { return w.count(kind) == 21 })
		before, _ := w.found(kind, "")
		open := w.word.Findings
		w.d = New(Config{}, w.now)
		w.d.Recall(open)
		w.each = func() {
			if f, ok := w.found(kind, ""); !ok || !f.Since.Equal(before.Since) || w.alone(kind) > 0 {
				t.Fatalf("%s: %d by themselves, and the region's is %+v", kind, w.alone(kind), f)
			}
		}
		w.run(10 * time.Minute)
		if w.count(kind) != 21 {
			t.Errorf("%s: %d are left", kind, w.count(kind))
		}
	}
}

// TestWhatSeemsDownForAMomentIsNoTroubleOfMany: the tunnel of one has been down for
// long, and when that is told those of many others seem to be down as well.
func TestWhatSeemsDownForAMomentIsNoTroubleOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20)
	seemed := 0
	w.each = func() {
		n := 0
		for _, b := range w.boxes[:15] {
			if w.state(b) == StateDegraded {
				n++
			}
		}
		if _, told := w.found(TunnelDown, "f19"); told {
			seemed = max(seemed, n)
		}
		if f, ok := w.found(TunnelDown, ""); ok {
			t.Fatalf("it is told of many: %+v", f)
		}
	}
	w.boxes[19].tunnelDown = true
	w.run(55 * time.Second)
	for _, b := range w.boxes[:15] {
		b.tunnelDown = true
	}
	w.run(88 * time.Second)
	for _, b := range w.boxes[:15] {
		b.tunnelDown = false
	}
	w.run(2 * time.Minute)
	if f, ok := w.found(TunnelDown, "f19"); !ok || f.Of != "" || seemed < massLeast {
		t.Errorf("%d seemed to be down, and of the one there is %+v", seemed, f)
	}
}
