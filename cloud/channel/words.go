package channel

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Words is what a template may use. Times are the facility's own.
type Words struct {
	Event   Event  // trigger, update, resolve or test
	Contact string // who is told
	// Repeat is true when this message may have arrived before.
	Repeat bool

	ID       int64
	Kind     string // offline, tunnel_down, …
	Severity string // info, warning or critical
	Level    string // Severity in capitals
	Tenant   string
	Facility string // its id; "" for the region itself
	Region   string

	What     string // one line: what is wrong, without a full stop
	Headline string // What, with the place before it, unless it begins with that
	Where    string // such as Los Angeles (la)
	Place    string // Where, without the id
	Belongs  string // Where, with tenant and region
	// Since is a whole moment with its zone, SinceShort the day of the week and the
	// time, SinceSpoken how people say it.
	Since, SinceShort, SinceSpoken string
	Until                          string // when it was over, as Since; "" while it is not
	Lasted                         string // such as 4 minutes 12 seconds; "" while it is not over

	Evidence []string
	Actions  []string
	AckedBy  string
	Code     string // such as A17, by which an SMS acknowledges; "" when there is nothing to acknowledge
	URL      string
	AckURL   string // "" when there is nothing to acknowledge
	Offer    string
	OfferURL string
	Affected []string // the facilities of a region's incident
}

// NewWords puts a message into the words that its templates use.
func NewWords(m Message) Words {
	in := m.Incident
	zone := zoneOf(in.TimeZone)
	w := Words{
		Event: m.Event, Contact: m.Contact, Repeat: m.Repeat,
		ID: in.ID, Kind: in.Kind, Severity: in.Severity, Level: strings.ToUpper(in.Severity),
		Tenant: in.Tenant, Facility: in.Facility, Region: in.Region,
		What: strings.TrimSuffix(oneLine(in.Summary), "."), Where: where(in), Place: cmp.Or(in.Name, in.Facility, "region "+in.Region),
		Evidence: local(in.Evidence, zone), Actions: in.Actions, AckedBy: in.AckedBy,
		URL: in.URL, Offer: in.Offer, OfferURL: in.OfferURL, Affected: in.Affected,
	}
	if m.Event == Resolve && in.Kind == "offline" {
		w.What = w.Place + " was offline" // half asleep one reads no further than "is offline"
	}
	w.Headline, w.Belongs = w.What, w.Where
	if !strings.HasPrefix(w.What, w.Place) {
		w.Headline = w.Place + ": " + w.What
	}
	if in.Facility != "" {
		if in.Tenant != "" {
			w.Belongs += " of " + in.Tenant
		}
		w.Belongs += ", region " + in.Region
	}
	if !in.Since.IsZero() {
		w.Since, w.SinceShort, w.SinceSpoken = moment(in.Since, zone), short(in.Since, zone), spoken(in.Since, zone)
	}
	if !in.Resolved.IsZero() {
		w.Until, w.Lasted = moment(in.Resolved, zone), lasted(in.Resolved.Sub(in.Since))
	}
	if m.Event != Resolve && in.AckedBy == "" && in.ID != 0 {
		w.Code = fmt.Sprintf("A%d", in.ID)
	}
	if m.Event != Resolve && in.AckedBy == "" {
		w.AckURL = in.AckURL
	}
	return w
}

func where(in Incident) string {
	switch {
	case in.Facility == "":
		return "region " + in.Region
	case in.Name == "" || in.Name == in.Facility:
		return in.Facility
	}
	return in.Name + " (" + in.Facility + ")"
}

func zoneOf(name string) *time.Location {
	if l, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
		return l
	}
	return time.UTC
}

// moment is a whole point in time: the abbreviation of a zone alone may mean
// several (CST is Chicago and Shanghai), so its name stands beside it.
func moment(t time.Time, zone *time.Location) string {
	t = t.In(zone)
	abbreviation := t.Format("MST")
	if zone == time.UTC {
		return t.Format("Mon 2 Jan 2006, 15:04:05 UTC")
	}
	if strings.ContainsAny(abbreviation, "+-") {
		abbreviation = "UTC" + t.Format("-07:00")
	}
	return t.Format("Mon 2 Jan 2006, 15:04:05 ") + abbreviation + " (" + zone.String() + ")"
}

// stamp is a moment in a line of evidence, as cloud/detect writes it.
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`)

// local puts the moments in lines of evidence into the zone's time.
func local(lines []string, zone *time.Location) (out []string) {
	for _, line := range lines {
		out = append(out, stamp.ReplaceAllStringFunc(line, func(s string) string {
			t, err := time.Parse("2006-01-02 15:04:05 UTC", s)
			if err != nil {
				return s
			}
			return t.In(zone).Format("2 Jan 15:04:05 ") + city(zone)
		}))
	}
	return out
}

// short names the zone by its city.
func short(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("Mon 15:04 ") + city(zone)
}

func spoken(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("Monday, 3:04 PM, ") + city(zone)
}

func city(zone *time.Location) string {
	name := zone.String()
	if i := strings.LastIndexByte(name, '/'); i >= 0 && !strings.HasPrefix(name, "Etc/") {
		return strings.ReplaceAll(name[i+1:], "_", " ") + " time"
	}
	return name
}

// lasted says a duration in its two largest units.
func lasted(d time.Duration) string {
	s := int64(max(d, 0).Round(time.Second) / time.Second)
	var parts []string
	for _, u := range []struct {
		seconds int64
		word    string
	}{{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}} {
		n := s / u.seconds
		s %= u.seconds
		if n == 1 {
			parts = append(parts, "1 "+u.word)
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %ss", n, u.word))
		} else if len(parts) > 0 {
			break // 2 days 5 seconds says more than is known
		}
		if len(parts) == 2 {
			break
		}
	}
	if len(parts) == 0 {
		return "less than a second"
	}
	return strings.Join(parts, " ")
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
