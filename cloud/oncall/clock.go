package oncall

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the region's machine may have no time zones of its own

	"github.com/agogsaas/holdfast/cloud/week"
	"github.com/agogsaas/holdfast/internal/hint"
)

// day is a day of the calendar, wherever: midnight of it by UTC.
type day time.Time

func dayOf(t time.Time) day {
	y, m, d := t.Date()
	return day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC))
}

func (d day) plus(n int) day        { return day(time.Time(d).AddDate(0, 0, n)) }
func (d day) since(first day) int   { return int(time.Time(d).Sub(time.Time(first)) / (24 * time.Hour)) }
func (d day) weekday() time.Weekday { return time.Time(d).Weekday() }

// at is the moment when the clocks of a zone show a time of a day, given in
// minutes. A time that they pass over in spring is the moment when they jump; of
// one that they show twice in autumn it is the first.
func (d day) at(minute int, zone *time.Location) time.Time {
	wall := time.Time(d).Add(time.Duration(minute) * time.Minute)
	near := wall.Add(-offset(wall, zone)) // right to within the change of the clocks
	before, after := offset(near.Add(-12*time.Hour), zone), offset(near.Add(12*time.Hour), zone)
	early, late := wall.Add(-before), wall.Add(-after)
	switch {
	case offset(early, zone) == before:
		return early.In(zone)
	case offset(late, zone) == after:
		return late.In(zone)
	}
	_, jump := late.In(zone).ZoneBounds()
	return jump.In(zone)
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, s := t.In(zone).Zone()
	return time.Duration(s) * time.Second
}

// loadZone is time.LoadLocation for what people type.
func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, hint.Wrap(fmt.Errorf("there is no time zone %q", name), "Write an IANA name, such as Europe/Berlin, America/Los_Angeles or UTC.")
	}
	return zone, nil
}

// parseDays is week.ParseDays; nothing is every day.
func parseDays(s string) (week.Days, error) {
	if strings.TrimSpace(s) == "" {
		return week.EveryDay, nil
	}
	return week.ParseDays(s)
}
