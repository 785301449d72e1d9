// Package week reads days of the week and times of day as people write them in
// limits and rotations.
//
// In:  cloud/limits, cloud/oncall.
// Out: nothing; it returns what it read.
package week

import (
	"fmt"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

// Names are the days, by time.Weekday.
var Names = [7]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Days is a set of days, by time.Weekday.
type Days = [7]bool

// EveryDay is all of them.
var EveryDay = Days{true, true, true, true, true, true, true}

// Minutes of a day; a time of day is 0 to Minutes, its end.
const Minutes = 24 * 60

// ParseDays reads 'Mon-Fri', 'Sat,Sun' or 'Fri-Mon'.
func ParseDays(s string) (set Days, err error) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := day(first)
		if err != nil {
			return set, err
		}
		b := a
		if isRange {
			if b, err = day(last); err != nil {
				return set, err
			}
		}
		for d := a; ; d = (d + 1) % 7 {
			set[d] = true
			if d == b {
				break
			}
		}
	}
	return set, nil
}

func day(s string) (int, error) {
	s = strings.TrimSpace(s)
	for i, name := range Names {
		if strings.EqualFold(name, s) {
			return i, nil
		}
	}
	return 0, hint.Wrap(fmt.Errorf("%q is no day of the week", s), "Write days as Mon-Fri, or Sat,Sun; nothing is every day.")
}

// ParseMinute reads a time of day, as minutes; 24:00 is its end.
func ParseMinute(s string) (int, error) {
	if s == "24:00" {
		return Minutes, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, hint.Wrap(fmt.Errorf("%q is no time of day", s), "Write it as 09:00 or 22:30.")
	}
	return t.Hour()*60 + t.Minute(), nil
}

// MinuteText is what ParseMinute reads.
func MinuteText(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
