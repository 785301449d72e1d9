package limits

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/cloud/week"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	// MinKBps is the lowest limit: at less, a frame of the usual size would take
	// so long that what stands still could not be told from what is slow.
	MinKBps = 10
	// MaxKBps is 10 Gbit/s, and far above what any box sends.
	MaxKBps = 1_250_000
	// MaxWindows is how many windows a facility may have.
	MaxWindows = 20
)

// Limit is how fast a facility's frames may travel, in either direction.
type Limit struct {
	// KBps is kilobytes (1000 bytes) per second outside of the windows; 0 is no limit.
	KBps    int
	Windows []Window
}

// Window is a time of the week with a limit of its own. One that ends before it
// begins goes on past midnight, and belongs to the day on which it began.
type Window struct {
	Days     week.Days
	From, To int // minutes of the day; To may be 24:00
	KBps     int // 0: no limit
}

// ParseWindow reads 'Mon-Fri 06:00-22:00=100', 'Sat,Sun 00:00-24:00=none' or,
// for every day, '22:00-06:00=2000'.
func ParseWindow(s string) (Window, error) {
	w, err := parseWindow(s)
	if err != nil {
		return w, hint.Wrap(fmt.Errorf("the window %q: %w", s, err),
			"Write days, hours and KB/s, such as 'Mon-Fri 06:00-22:00=100', 'Sat,Sun 00:00-24:00=none', or '22:00-06:00=2000' for every day.")
	}
	return w, nil
}

func parseWindow(s string) (Window, error) {
	var w Window
	when, kbps, ok := strings.Cut(strings.TrimSpace(s), "=")
	if !ok {
		return w, fmt.Errorf("no = and limit")
	}
	var err error
	if w.KBps, err = ParseKBps(kbps); err != nil {
		return w, err
	}
	switch f := strings.Fields(when); len(f) {
	case 1:
		w.Days = week.EveryDay
		when = f[0]
	case 2:
		if w.Days, err = week.ParseDays(f[0]); err != nil {
			return w, err
		}
		when = f[1]
	default:
		return w, fmt.Errorf("neither days and hours nor hours alone")
	}
	from, to, ok := strings.Cut(when, "-")
	if !ok {
		return w, fmt.Errorf("%q is not from-to", when)
	}
	if w.From, err = week.ParseMinute(from); err != nil {
		return w, err
	}
	if w.To, err = week.ParseMinute(to); err != nil {
		return w, err
	}
	if w.From == w.To || w.From == week.Minutes {
		return w, fmt.Errorf("from %s to %s is no time", from, to)
	}
	return w, nil
}

// ParseKBps reads a limit in kilobytes per second, or none.
func ParseKBps(s string) (int, error) {
	s = strings.TrimSpace(s)
	if s == "none" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of KB/s", s)
	}
	return n, CheckKBps(n)
}

// CheckKBps says whether a limit can be kept; 0 is none.
func CheckKBps(n int) error {
	if n != 0 && (n < MinKBps || n > MaxKBps) {
		return fmt.Errorf("%d KB/s is not between %d and %d", n, MinKBps, MaxKBps)
	}
	return nil
}

// String is what ParseWindow reads.
func (w Window) String() string {
	var b strings.Builder
	if w.Days != week.EveryDay {
		b.WriteString(w.dayText())
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%02d:%02d-%02d:%02d=", w.From/60, w.From%60, w.To/60, w.To%60)
	if w.KBps == 0 {
		b.WriteString("none")
	} else {
		b.WriteString(strconv.Itoa(w.KBps))
	}
	return b.String()
}

// dayText lists the days from Monday on; three or more in a row are a range.
func (w Window) dayText() string {
	var parts []string
	for i := 0; i < 7; i++ {
		n := 0
		for i+n < 7 && w.Days[(i+n+1)%7] {
			n++
		}
		switch {
		case n >= 3:
			parts = append(parts, week.Names[(i+1)%7]+"-"+week.Names[(i+n)%7])
			i += n
		case n > 0:
			parts = append(parts, week.Names[(i+1)%7])
		}
	}
	return strings.Join(parts, ",")
}

// At is the limit at a moment, in KB/s, 0 for none. The moment's location is the
// facility's. The first window that fits holds.
func (l Limit) At(now time.Time) int {
	minute, today := now.Hour()*60+now.Minute(), now.Weekday()
	yesterday := (today + 6) % 7
	for _, w := range l.Windows {
		in := w.Days[today] && w.From <= minute && minute < w.To
		if w.To < w.From {
			in = w.Days[today] && w.From <= minute || w.Days[yesterday] && minute < w.To
		}
		if in {
			return w.KBps
		}
	}
	return l.KBps
}
