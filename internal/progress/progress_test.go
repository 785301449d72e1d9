package progress

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// looks lets a stage pass through steps, one look each 5 s, and returns after
// how many seconds it was first called stalled; -1 is never.
func looks(t *testing.T, w *Watch, seconds int, sample func(second int) (Sample, bool)) (first int) {
	t.Helper()
	first = -1
	synctest.Test(t, func(t *testing.T) {
		for s := 0; s <= seconds; s += 5 {
			samples := map[Stage]Sample{}
			if one, ok := sample(s); ok {
				samples[Apply] = one
			}
			if list := w.Look(time.Now(), samples); len(list) > 0 && first < 0 {
				first = s
			}
			time.Sleep(5 * time.Second)
		}
	})
	return first
}

func TestWorkWithoutProgressIsAStall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		sample func(s int) (Sample, bool)
		want   int
	}{
		{"nothing to do", func(int) (Sample, bool) { return Sample{}, true }, -1},
		{"work and progress", func(s int) (Sample, bool) { return Sample{7, Mark{uint64(s)}}, true }, -1},
		{"slow progress", func(s int) (Sample, bool) { return Sample{7, Mark{uint64(s / 55)}}, true }, -1},
		{"progress in any counter", func(s int) (Sample, bool) { return Sample{7, Mark{1, 2, 3, uint64(s)}}, true }, -1},
		{"progress backwards is some", func(s int) (Sample, bool) { return Sample{7, Mark{uint64(1000 - s)}}, true }, -1},
		{"no progress", func(int) (Sample, bool) { return Sample{7, Mark{4}}, true }, 60},
		{"more work is no progress", func(s int) (Sample, bool) { return Sample{uint64(s + 1), Mark{4}}, true }, 60},
		{"it came to a halt", func(s int) (Sample, bool) { return Sample{7, Mark{uint64(min(s, 100))}}, true }, 160},
		{"work came late", func(s int) (Sample, bool) { return Sample{uint64(max(0, s-200)), Mark{}}, true }, 265},
		{"the work goes now and then", func(s int) (Sample, bool) { return Sample{uint64(s % 50), Mark{}}, true }, -1},
		{"not known now and then", func(s int) (Sample, bool) { return Sample{7, Mark{}}, s%50 != 0 }, -1},
	} {
		if got := looks(t, &Watch{}, 400, c.sample); got != c.want {
			t.Errorf("%s: stalled after %d s, want %d", c.name, got, c.want)
		}
	}
}

func TestPatienceIsByLinkAndStage(t *testing.T) {
	t.Parallel()
	still := func(int) (Sample, bool) { return Sample{1, Mark{}}, true }
	if got := looks(t, &Watch{After: Metered}, 400, still); got != 300 {
		t.Errorf("metered: after %d s", got)
	}
	if got := looks(t, &Watch{Other: map[Stage]time.Duration{Apply: 2 * time.Minute}}, 400, still); got != 120 {
		t.Errorf("one stage: after %d s", got)
	}
}

func TestAStallHasABeginAndEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		began := time.Now()
		look := func(work uint64, done uint64) []Stall {
			defer time.Sleep(10 * time.Second)
			return w.Look(time.Now(), map[Stage]Sample{Apply: {work, Mark{done}}, Capture: {work, Mark{done}}})
		}
		for range 6 {
			if list := look(3, 1); len(list) > 0 {
				t.Fatalf("too early: %v", list)
			}
		}
		list := look(9, 1)
		if len(list) != 2 || list[0] != (Stall{Apply, began, 9}) || list[1].Stage != Capture {
			t.Errorf("got %+v", list)
		}
		if list := look(8, 2); len(list) > 0 {
			t.Errorf("it moved: %+v", list)
		}
	})
}

// A laptop lid, a frozen virtual machine: when the watcher was not there either,
// the others get their time again.
func TestWhoWasAwayHimselfBlamesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		still := map[Stage]Sample{Apply: {1, Mark{}}}
		w.Look(time.Now(), still)
		time.Sleep(time.Hour)
		if list := w.Look(time.Now(), still); len(list) > 0 {
			t.Errorf("got %+v", list)
		}
		for range 12 {
			time.Sleep(5 * time.Second)
			w.Look(time.Now(), still)
		}
		time.Sleep(5 * time.Second)
		if list := w.Look(time.Now(), still); len(list) != 1 {
			t.Errorf("and then: %+v", list)
		}
	})
}

func TestEachStageHasItsWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range []Stage{Capture, Transfer, Acknowledge, Load, Receive, Apply, Parked, LoadDown, Deliver, RouteDown, "of a newer build"} {
		one, many := s.Text(1), s.Text(22)
		if seen[one] || !strings.HasPrefix(one, "1 ") || !strings.HasPrefix(many, "22 ") || one[1:] == many[2:] && s != Capture {
			t.Errorf("%s: %q, %q", s, one, many)
		}
		seen[one] = true
	}
}

func TestForecastFollowsTheRate(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	hours := func(d time.Duration) string { return fmt.Sprintf("%.1f h", d.Hours()) }
	for _, c := range []struct {
		name    string
		seconds int
		bytes   func(second int) int64
		room    int64
		want    string // "" is none
	}{
		{"an outage at a steady rate", 1800, func(s int) int64 { return int64(s) * mib }, 36 * gib, "10.2 h"},
		{"the same, watched for a minute", 60, func(s int) int64 { return int64(s) * mib }, 36 * gib, ""},
		{"it drains", 1800, func(s int) int64 { return int64(10000-s) * mib }, gib, ""},
		{"it rests", 7200, func(int) int64 { return 500 * mib }, gib, ""},
		{"it is empty", 7200, func(int) int64 { return 0 }, gib, ""},
		{"it comes and goes", 7200, func(s int) int64 { return int64(s%60) * mib }, 36 * gib, ""},
		{"a trickle", 7200, func(s int) int64 { return int64(s) }, 36 * gib, ""}, // in a thousand years
		{"drained, then an outage", 3000, func(s int) int64 { return max(int64(1500-s), int64(s-1500)) * mib }, 36 * gib, "10.2 h"},
		{"the rate of the last hour", 20000, func(s int) int64 { return int64(max(0, s-10000)) * mib }, 36 * gib, "10.2 h"},
		{"an outage after hours of quiet", 10600, func(s int) int64 { return int64(max(0, s-10000)) * mib }, 36 * gib, "10.4 h"},
		{"a link that is too slow", 3600, func(s int) int64 { return int64(s)*mib + int64(s%30)*5*mib }, 36 * gib, "10.2 h"},
		{"full already", 1800, func(s int) int64 { return int64(s) * mib }, -5, "0.0 h"},
		{"the shift is over", 20000, func(s int) int64 { return int64(min(s, 5000)) * mib }, 36 * gib, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			var f Fill
			for s := 0; s <= c.seconds; s += 5 {
				f.Look(time.Now(), c.bytes(s))
				time.Sleep(5 * time.Second)
			}
			got := ""
			if fc, ok := f.Forecast(c.room); ok {
				got = hours(fc.In)
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			if len(f.points) > 260 {
				t.Errorf("%s: %d points are kept", c.name, len(f.points))
			}
		})
	}
}
