package limits

import (
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

func window(t *testing.T, s string) Window {
	t.Helper()
	w, err := ParseWindow(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWindowsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Mon-Fri 06:00-22:00=100":         "Mon-Fri 06:00-22:00=100",
		" sat,SUN 0:00-24:00 = none":      "Sat,Sun 00:00-24:00=none",
		"22:00-06:00=2000":                "22:00-06:00=2000",
		"Fri-Mon 20:00-04:00=10":          "Mon,Fri-Sun 20:00-04:00=10",
		"Mon,Tue,Wed,Thu 01:00-02:00=50":  "Mon-Thu 01:00-02:00=50",
		"Mon-Sun 01:00-02:00=50":          "01:00-02:00=50",
		"Sun,Tue,Thu 01:00-02:00=1250000": "Tue,Thu,Sun 01:00-02:00=1250000",
	} {
		w := window(t, in)
		if got := w.String(); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
		if again := window(t, w.String()); again != w {
			t.Errorf("%q is read back as %+v", w, again)
		}
	}
	for _, in := range []string{
		"", "Mon", "Mon 06:00-22:00", "06:00=100", "Mon-Fri 06:00-22:00=fast", "Mon-Fri 06:00-22:00=9", "Mon-Fri 06:00-22:00=-1",
		"Mon-Fri 06:00-22:00=1250001", "Montag 06:00-22:00=100", "Mon- 06:00-22:00=100", "06:00-06:00=100", "24:00-06:00=100", "06:00-25:00=100", "a b 06:00-22:00=100",
	} {
		if w, err := ParseWindow(in); err == nil || hint.Of(err) == "" {
			t.Errorf("%q is read as %+v, %v", in, w, err)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add("Mon-Fri 06:00-22:00=100")
	f.Add("22:00-06:00=none")
	f.Fuzz(func(t *testing.T, in string) {
		w, err := ParseWindow(in)
		if err != nil {
			return
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%q is written as %q, which is %+v, %v", in, w, again, err)
		}
	})
}

func TestTheFirstWindowThatFitsHoldsByTheFacilitysClock(t *testing.T) {
	t.Parallel()
	la, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit{KBps: 500, Windows: []Window{
		window(t, "Fri 12:00-13:00=none"), window(t, "Mon-Fri 06:00-22:00=100"), window(t, "Fri 23:00-02:00=50"),
	}}
	for text, want := range map[string]int{
		"2026-03-05T13:59:59Z": 500, // Thursday 05:59:59 there
		"2026-03-05T14:00:00Z": 100,
		"2026-03-06T05:59:00Z": 100, // Thursday 21:59
		"2026-03-06T06:00:00Z": 500,
		"2026-03-06T20:30:00Z": 0,   // Friday 12:30
		"2026-03-07T07:00:00Z": 50,  // Friday 23:00
		"2026-03-07T09:59:00Z": 50,  // Saturday 01:59: it began on Friday
		"2026-03-07T10:00:00Z": 500, // Saturday 02:00
		"2026-03-06T09:00:00Z": 500, // Friday 01:00: none began on Thursday
		"2026-03-09T13:00:00Z": 100, // Monday 06:00, an hour earlier by the sun: summer time
	} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.At(at.In(la)); got != want {
			t.Errorf("at %s (%s there) it is %d, want %d", text, at.In(la).Format("Mon 15:04"), got, want)
		}
	}
}
