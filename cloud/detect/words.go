package detect

import (
	"fmt"
	"strings"
	"time"
)

// lasting is a duration in words, rounded as people would.
func lasting(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return plural(int64(d.Round(time.Second)/time.Second), "second", "seconds")
	case d < 2*time.Hour:
		return plural(int64(d.Round(time.Minute)/time.Minute), "minute", "minutes")
	case d < 48*time.Hour:
		return plural(int64(d.Round(time.Hour)/time.Hour), "hour", "hours")
	}
	return plural(int64(d/(24*time.Hour)), "day", "days")
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// size is a number of bytes for people.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return plural(int64(n), "byte", "bytes")
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + string(units[i]) + "iB"
}

// clock is a moment for people; the incident has the facility's own time beside it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }
