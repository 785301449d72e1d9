package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

func seconds(d time.Duration) *uint64 { s := uint64(d / time.Second); return &s }

func milli(celsius int64) *int64 { m := celsius * 1000; return &m }

// TestConditionsAreFoundAndOver: each begins, gets worse where it can, and ends.
func TestConditionsAreFoundAndOver(t *testing.T) {
	t.Parallel()
	type step struct {
		what string
		do   func(w *world, b *box)
		want Severity
	}
	status := func(change func(s *proto.Status)) func(*world, *box) {
		return func(w *world, b *box) {
			s := proto.Status{}
			change(&s)
			b.Status, b.StatusAt = &s, w.now
		}
	}
	full := func(in time.Duration) func(*world, *box) {
		return status(func(s *proto.Status) {
			s.Queue = proto.Queue{LimitBytes: 1 << 33, Bytes: 1 << 30, FullSeconds: seconds(in)}
		})
	}
	fault := func(codes ...proto.FaultCode) func(*world, *box) {
		return func(_ *world, b *box) { b.Beat.Faults = codes }
	}
	disk := func(percent uint64) func(*world, *box) {
		return status(func(s *proto.Status) {
			s.Disks = []proto.Disk{{Role: "data", TotalBytes: 100 << 30, FreeBytes: percent << 30}}
		})
	}
	hot := func(celsius int64) func(*world, *box) {
		return status(func(s *proto.Status) { s.MilliCelsius = milli(celsius) })
	}
	watchdog := func(state string, faults ...proto.FaultCode) func(*world, *box) {
		return func(w *world, b *box) {
			status(func(s *proto.Status) { s.Watchdog = &proto.Watchdog{State: state, Name: "iTCO_wdt", Seconds: 30} })(w, b)
			fault(faults...)(w, b)
		}
	}
	for kind, steps := range map[Kind][]step{
		QueueFilling: {
			{"no rate", full(0 /* replaced below */), ""},
			{"two days", full(48 * time.Hour), ""},
			{"twenty hours", full(20 * time.Hour), Warning},
			{"thirty hours is no better", full(30 * time.Hour), Warning},
			{"three hours", full(3 * time.Hour), Critical},
			{"five hours are no better", full(5 * time.Hour), Critical},
			{"eight hours", full(8 * time.Hour), Warning},
			{"it drains", status(func(*proto.Status) {}), ""},
			{"nearly full", fault(proto.FaultQueueNearFull), Warning},
			{"full", fault(proto.FaultQueueFull), Critical},
			{"empty", fault(), ""},
		},
		DiskFilling: {
			{"half free", disk(50), ""},
			{"14 %", disk(14), Warning},
			{"16 % is no better", disk(16), Warning},
			{"the box calls it low", fault(proto.FaultDataDiskLow), Critical},
			{"it does not any more", fault(), Warning},
			{"half free again", disk(50), ""},
		},
		DatabaseDown: {
			{"down", fault(proto.FaultDatabaseDown), Critical},
			{"up", fault(), ""},
		},
		NoProgress: {
			{"stalled", func(_ *world, b *box) { b.Stalls = []string{"5 transactions have arrived, and none is applied."} }, Warning},
			{"moves", func(_ *world, b *box) { b.Stalls = nil }, ""},
		},
		WatchdogOff: {
			{"a box of the build before", status(func(*proto.Status) {}), ""},
			{"none", watchdog(proto.WatchdogNone), ""},
			{"not armed", watchdog(proto.WatchdogUnarmed, proto.FaultWatchdogOff), Warning},
			{"armed", watchdog(proto.WatchdogArmed), ""},
			{"not armed, and meant so", watchdog(proto.WatchdogUnarmed), ""},
		},
		Certificate: {
			{"a month", func(w *world, b *box) { b.CertificateUntil = w.now.Add(30 * 24 * time.Hour) }, ""},
			{"ten days", func(w *world, b *box) { b.CertificateUntil = w.now.Add(10 * 24 * time.Hour) }, Warning},
			{"two days", func(w *world, b *box) { b.CertificateUntil = w.now.Add(2 * 24 * time.Hour) }, Critical},
			{"ended", func(w *world, b *box) { b.CertificateUntil = w.now.Add(-time.Hour) }, Critical},
			{"renewed", func(w *world, b *box) { b.CertificateUntil = w.now.Add(90 * 24 * time.Hour) }, ""},
		},
		ParkedRows: {
			{"parked", func(_ *world, b *box) { b.Parked = 3 }, Warning},
			{"dealt with", func(_ *world, b *box) { b.Parked = 0 }, ""},
		},
		Mismatch: {
			{"differs", func(_ *world, b *box) { b.Differing = 1 }, Warning},
			{"mended", func(_ *world, b *box) { b.Differing = 0 }, ""},
		},
		Temperature: {
			{"cool", hot(50), ""},
			{"hot", hot(81), Warning},
			{"a little less is no better", hot(77), Warning},
			{"very hot", hot(91), Critical},
			{"a little less is no better", hot(87), Critical},
			{"hot", hot(82), Warning},
			{"cool", hot(70), ""},
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			la := w.boxes[0]
			steps[0].do(w, la)
			if kind == QueueFilling {
				la.Status.Queue.FullSeconds = nil
			}
			for i, s := range steps {
				if i > 0 {
					s.do(w, la)
				}
				w.run(6 * time.Minute)
				got, _ := w.found(kind, la.ID)
				if got.Severity != s.want {
					t.Fatalf("%s: %q, want %q", s.what, got.Severity, s.want)
				}
				if s.want != "" && (got.Since.IsZero() || !strings.Contains(got.Summary, "Facility 0") || len(got.Evidence) == 0 && kind != DatabaseDown) {
					t.Errorf("%s: nobody can do anything with %+v", s.what, got)
				}
				if len(w.word.Findings) > 1 || s.want == "" && len(w.word.Findings) > 0 {
					t.Errorf("%s: %+v", s.what, w.word.Findings)
				}
			}
		})
	}
}

func TestAClockThatIsOffIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	la := w.boxes[0]
	for i, tc := range []struct {
		by   time.Duration
		want Severity
		says string
	}{
		{50 * time.Second, "", ""},
		{2 * time.Minute, Warning, "2 minutes ahead of"},
		{40 * time.Second, Warning, ""},
		{20 * time.Second, "", ""},
		{-3 * time.Hour, Warning, "3 hours behind"},
	} {
		la.skewed = tc.by
		w.run(6 * time.Minute)
		f, _ := w.found(ClockOff, la.ID)
		if f.Severity != tc.want || !strings.Contains(f.Summary, tc.says) {
			t.Errorf("%d: off by %s: %+v", i, tc.by, f)
		}
	}
}

// TestTheRegionsOwnClockIsNobodyElsesFault: when most clocks differ in the same way
// it is the region's that is off.
func TestTheRegionsOwnClockIsNobodyElsesFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	for _, b := range w.boxes[:4] {
		b.skewed = 5 * time.Minute
	}
	w.each = func() {
		for _, b := range w.boxes {
			if _, ok := w.found(ClockOff, b.ID); ok {
				t.Fatalf("%s is accused", b.ID)
			}
		}
	}
	w.until(time.Minute, "the region's is found", w.has(ClockOff, ""))
	for _, b := range w.boxes {
		b.skewed = 0
	}
	w.until(3*time.Minute, "it is over", w.hasNot(ClockOff, ""))
}

func TestAConditionDoesNotFlutter(t *testing.T) {
	t.Parallel()
	var l latch
	now, bad := start, reading{severity: Warning, summary: "bad"}
	changes := 0
	was := l.severity
	step := func(r reading, d time.Duration) {
		for until := now.Add(d); now.Before(until); now = now.Add(time.Second) {
			l.step(now, r, 30*time.Second, time.Minute)
			if l.severity != was {
				changes++
				was = l.severity
			}
		}
	}
	for range 20 {
		step(bad, 20*time.Second)
		step(reading{}, 20*time.Second)
	}
	if changes != 0 {
		t.Errorf("%d changes of what was never bad for long", changes)
	}
	step(bad, time.Minute)
	if l.since != now.Add(-time.Minute) {
		t.Errorf("it began at %s, not %s", now.Add(-time.Minute), l.since)
	}
	for range 20 {
		step(reading{}, 40*time.Second)
		step(bad, 5*time.Second)
	}
	if changes != 1 {
		t.Errorf("%d changes, want one", changes)
	}
	step(reading{}, 2*time.Minute)
	if changes != 2 || l.severity != "" {
		t.Errorf("%d changes, now %q", changes, l.severity)
	}
}

func TestConditionsOutliveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.boxes[0].Stalls, w.boxes[0].Parked = []string{"5 transactions wait."}, 7
	w.region.Stalls = []string{"The WAL is not read."}
	w.run(2 * time.Minute)
	before := w.word.Findings
	if len(before) != 3 {
		t.Fatalf("%+v", before)
	}
	// The new process sees stalls a minute later than the old one.
	w.boxes[0].Stalls, w.region.Stalls = nil, nil
	w.d = New(Config{}, w.now)
	w.d.Recall(before)
	w.each = func() {
		if len(w.word.Findings) != 3 {
			t.Fatalf("after the restart: %+v", w.word.Findings)
		}
	}
	w.run(90 * time.Second)
	w.boxes[0].Stalls, w.region.Stalls = []string{"5 transactions wait."}, []string{"The WAL is not read."}
	w.run(5 * time.Minute)
	for i, f := range w.word.Findings {
		for _, b := range before {
			if b.Kind == f.Kind && b.Facility == f.Facility && b.Since != f.Since {
				t.Errorf("%d: since %s, before %s", i, f.Since, b.Since)
			}
		}
	}
	w.each = nil
	w.boxes = w.boxes[1:] // a facility that is removed takes its findings along
	w.run(time.Second)
	if len(w.word.Findings) != 1 || len(w.d.facilities) != 1 {
		t.Errorf("left behind: %+v, %d facilities", w.word.Findings, len(w.d.facilities))
	}
}

// TestAConditionIsUnsureUntilTheBoxHasToldItAnew: after a start of the region what was
// found before may long be over, and so may what reads better by now.
func TestAConditionIsUnsureUntilTheBoxHasToldItAnew(t *testing.T) {
	t.Parallel()
	full := func(percent uint64) *proto.Status {
		return &proto.Status{Disks: []proto.Disk{{Role: "data", TotalBytes: 100 << 30, FreeBytes: percent << 30}}}
	}
	w := bareWorld(t, 3)
	w.region.Stalls = []string{"the router"}
	for i, b := range w.boxes {
		b.Heard, b.Status, b.StatusAt = start.Add(-time.Minute), full(2), start.Add(-time.Minute) // as it was written down
		w.d.Recall([]Finding{{Kind: DiskFilling, Facility: b.ID, Severity: Warning, Since: start.Add(-time.Hour)}})
		b.down = i == 2
	}
	w.d.Recall([]Finding{{Kind: NoProgress, Severity: Warning, Since: start.Add(-time.Hour)}})
	unsure := func(k Kind, facility string) bool {
		t.Helper()
		f, ok := w.found(k, facility)
		if !ok {
			t.Fatalf("after %s there is no %s of %q", w.now.Sub(start), k, facility)
		}
		return f.Unsure
	}
	w.each = func() {
		if !unsure(DiskFilling, "f0") || !unsure(DiskFilling, "f1") || !unsure(DiskFilling, "f2") || !unsure(NoProgress, "") {
			t.Fatalf("after %s it is taken for sure: %+v", w.now.Sub(start), w.word.Findings)
		}
	}
	w.run(30 * time.Second)
	w.boxes[0].Status, w.boxes[0].StatusAt = full(2), w.now
	w.boxes[1].Status, w.boxes[1].StatusAt = full(80), w.now
	w.each = func() {
		if !unsure(DiskFilling, "f1") || w.now.Sub(start) < graceLong && !unsure(DiskFilling, "f2") {
			t.Fatalf("after %s it is taken for sure", w.now.Sub(start))
		}
	}
	w.until(3*time.Second, "what it says again is sure", func() bool { return !unsure(DiskFilling, "f0") })
	w.run(2 * time.Minute)
	if unsure(DiskFilling, "f0") || unsure(DiskFilling, "f2") || unsure(NoProgress, "") {
		t.Errorf("it is still unsure: %+v", w.word.Findings)
	}
	w.each = nil
	w.until(5*time.Minute, "it is over", w.hasNot(DiskFilling, "f1"))
}
