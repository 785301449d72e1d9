package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	shiftDays     = 14 // of a schedule that are shown
	localTimeForm = "2006-01-02T15:04"
)

// oncallView is who is on call now.
type oncallView struct {
	Sections  []section
	Now       []oncallLine
	Schedules []v1.Schedule
	Uncovered []uncovered
	CanWork   bool
}

// uncovered are facilities of which the same people would not hear, for the same reason.
type uncovered struct {
	v1.Coverage               // the first of them
	Others      []v1.Coverage // up to uncoveredNames more
	More        int           // that are not named
}

// uncoveredNames is how many more facilities of one reason are named.
const uncoveredNames = 5

// addUncovered adds a facility of which somebody would not hear to those of its reason.
func addUncovered(list []uncovered, c v1.Coverage) []uncovered {
	i := slices.IndexFunc(list, func(u uncovered) bool {
		return u.Tenant == c.Tenant && u.Customer.Problem == c.Customer.Problem && u.Operations.Problem == c.Operations.Problem
	})
	switch {
	case i < 0:
		return append(list, uncovered{Coverage: c})
	case len(list[i].Others) < uncoveredNames:
		list[i].Others = append(list[i].Others, c)
	default:
		list[i].More++
	}
	return list
}

// Facilities is of how many somebody would not hear.
func (v oncallView) Facilities() (n int) {
	for _, u := range v.Uncovered {
		n += 1 + len(u.Others) + u.More
	}
	return n
}

// oncallLine is one schedule's person of this moment.
type oncallLine struct {
	v1.OnCall
	Zone *time.Location
	Next shift // who is it afterwards; From is zero when that is not known
}

// shift is a time that somebody is on call of a schedule, or that nobody is.
type shift struct {
	From, To time.Time
	Contact  int64  // 0: nobody
	Who      string // the contact's name
	Override bool   // stands in
}

// shiftsMax bounds how many shifts are looked for.
const shiftsMax = 200

// shifts is who is on call of a schedule when within [from, to), without gaps.
func (u *UI) shifts(ctx context.Context, schedule int64, from, to time.Time) ([]shift, error) {
	var out []shift
	for at := from; at.Before(to) && len(out) < shiftsMax; {
		list, err := u.d.OnCall.OnCall(ctx, at)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(o v1.OnCall) bool { return o.Schedule == schedule })
		if i < 0 {
			return out, nil // it was removed just now
		}
		s := shift{From: at, To: to, Who: list[i].Who, Override: list[i].Override}
		if list[i].Contact != nil {
			s.Contact = *list[i].Contact
		}
		if until := list[i].Until; until != nil && until.Before(to) && until.After(at) {
			s.To = *until
		}
		out = append(out, s)
		at = s.To
	}
	return out, nil
}

// Nobody reports that no one would be told.
func (l oncallLine) Nobody() bool { return l.Contact == nil }

func (u *UI) oncallPage(w http.ResponseWriter, r *http.Request) {
	v := oncallView{Sections: u.sections("/oncall"), CanWork: canWork(r)}
	now := time.Now()
	list, err := u.d.OnCall.OnCall(r.Context(), now)
	if err == nil {
		v.Schedules, err = u.d.OnCall.ListSchedules(r.Context(), "", 0, listMax, now)
	}
	var covered []v1.Coverage
	if err == nil {
		covered, err = u.d.OnCall.Coverage(r.Context(), "", "", listMax, now)
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	for _, c := range covered {
		if c.Customer.Problem != "" || c.Operations.Problem != "" {
			v.Uncovered = addUncovered(v.Uncovered, c)
		}
	}
	for _, o := range list {
		l := oncallLine{OnCall: o, Zone: time.UTC}
		for _, s := range v.Schedules {
			if s.ID == o.Schedule {
				l.Zone = zoneOf(s.TimeZone)
			}
		}
		if o.Until != nil { // and who is it then
			after, err := u.shifts(r.Context(), o.Schedule, *o.Until, o.Until.Add(time.Second))
			if err != nil {
				u.site.Error(w, r, http.StatusInternalServerError, err)
				return
			}
			if len(after) > 0 {
				l.Next = after[0]
			}
		}
		v.Now = append(v.Now, l)
	}
	u.pages.Render(w, r, http.StatusOK, "oncall", web.Page{Title: "On call", Active: "/oncall", Live: "/live/oncall", Data: v})
}

func zoneOf(name string) *time.Location {
	if zone, err := time.LoadLocation(cmp.Or(name, "UTC")); err == nil {
		return zone
	}
	return time.UTC
}

// scheduleView is one schedule's next two weeks.
type scheduleView struct {
	v1.Schedule
	Sections  []section
	Zone      *time.Location
	From, To  time.Time
	Days      []dayMark
	People    []personShifts
	Gaps      []shift // when nobody is on call
	Shifts    []shift
	Contacts  []v1.Contact // who may stand in
	Overrides []overrideLine
	CanWork   bool
	Wrong     *wrong
	Form      overrideForm
}

// overrideForm is what was typed.
type overrideForm struct {
	Contact          int64
	Starts, Ends     string
	StartsAt, EndsAt time.Time
}

// overrideLine is somebody who stands in, with a name.
type overrideLine struct {
	v1.Override
	Who string
}

// personShifts is one person's row of the two weeks.
type personShifts struct {
	Who   string
	Bars  []bar
	Total time.Duration
}

// Hours is how long that is.
func (p personShifts) Hours() string {
	if p.Total < time.Hour {
		return web.Span(p.Total)
	}
	return fmt.Sprintf("%.0f h", p.Total.Hours())
}

// bar is a shift as a part of the two weeks, in thousandths of their length.
type bar struct {
	X, Width float64
	shift
}

// dayMark is the beginning of a day, in thousandths, with its name.
type dayMark struct {
	X    float64
	Text string
	Odd  bool // a narrow page leaves its name out
}

// spread puts shifts into rows by person.
func spread(shifts []shift, from, to time.Time) (people []personShifts, gaps []shift) {
	whole := to.Sub(from)
	for _, s := range shifts {
		if s.Contact == 0 {
			gaps = append(gaps, s)
			continue
		}
		i := slices.IndexFunc(people, func(p personShifts) bool { return p.Who == s.Who })
		if i < 0 {
			i = len(people)
			people = append(people, personShifts{Who: s.Who})
		}
		long := s.To.Sub(s.From)
		people[i].Total += long
		people[i].Bars = append(people[i].Bars, bar{1000 * float64(s.From.Sub(from)) / float64(whole), 1000 * float64(long) / float64(whole), s})
	}
	return people, gaps
}

// days marks midnights of a zone within [from, to).
func days(from, to time.Time, zone *time.Location) []dayMark {
	var out []dayMark
	y, m, d := from.In(zone).Date()
	for n := 0; ; n++ {
		day := time.Date(y, m, d+n, 0, 0, 0, 0, zone)
		if !day.Before(to) {
			return out
		}
		if !day.Before(from) {
			out = append(out, dayMark{1000 * float64(day.Sub(from)) / float64(to.Sub(from)), day.Format("Mon 2"), len(out)%2 == 1})
		}
	}
}

func (u *UI) schedulePage(w http.ResponseWriter, r *http.Request) {
	u.showSchedule(w, r, http.StatusOK, nil)
}

func (u *UI) showSchedule(w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	v, err := u.scheduleView(r.Context(), pathID(r, "id"))
	if err != nil {
		u.refusedAlert(w, r, err, nil)
		return
	}
	v.CanWork, v.Wrong = canWork(r), what
	if what != nil {
		v.Form = readOverride(r, v.Zone)
	}
	u.pages.Render(w, r, status, "schedule", web.Page{Title: v.Name, Active: "/oncall", Live: "/live/oncall", Data: v})
}

func (u *UI) scheduleView(ctx context.Context, id int64) (scheduleView, error) {
	s, err := u.d.OnCall.Schedule(ctx, id, time.Now())
	if err != nil {
		return scheduleView{}, err
	}
	v := scheduleView{Schedule: s, Zone: zoneOf(s.TimeZone), Sections: u.sections("/oncall")}
	y, m, d := time.Now().In(v.Zone).Date()
	v.From, v.To = time.Date(y, m, d, 0, 0, 0, 0, v.Zone), time.Date(y, m, d+shiftDays, 0, 0, 0, 0, v.Zone)
	if v.Shifts, err = u.shifts(ctx, id, v.From, v.To); err != nil {
		return scheduleView{}, err
	}
	v.People, v.Gaps = spread(v.Shifts, v.From, v.To)
	v.Days = days(v.From, v.To, v.Zone)
	contacts, err := u.d.OnCall.ListContacts(ctx, "", 0, listMax)
	if err != nil {
		return scheduleView{}, err
	}
	names := map[int64]string{}
	for _, c := range contacts {
		names[c.ID] = c.Name
		if c.Tenant == s.Tenant || c.Tenant == "" {
			v.Contacts = append(v.Contacts, c)
		}
	}
	for _, o := range s.Overrides {
		if o.EndsAt.After(v.From) {
			v.Overrides = append(v.Overrides, overrideLine{o, cmp.Or(names[o.Contact], "a contact that was removed")})
		}
	}
	return v, nil
}

// readOverride reads the form. Its times are by the schedule's clock.
func readOverride(r *http.Request, zone *time.Location) overrideForm {
	f := overrideForm{Contact: formID(r, "contact"), Starts: cutText(r.PostFormValue("starts"), 40), Ends: cutText(r.PostFormValue("ends"), 40)}
	f.StartsAt, f.EndsAt = localTime(f.Starts, zone), localTime(f.Ends, zone)
	return f
}

func (u *UI) addOverride(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	again := func(status int, what *wrong) { u.showSchedule(w, r, status, what) }
	s, err := u.d.OnCall.Schedule(r.Context(), pathID(r, "id"), time.Now())
	if err != nil {
		u.refusedAlert(w, r, err, again)
		return
	}
	f := readOverride(r, zoneOf(s.TimeZone))
	switch {
	case f.Contact == 0:
		err = invalid("contact", "nobody was chosen", "Choose who stands in.")
	case f.StartsAt.IsZero():
		err = invalid("starts_at", "the beginning is missing", "Choose a day and a time.")
	case f.EndsAt.IsZero():
		err = invalid("ends_at", "the end is missing", "Choose a day and a time.")
	case !f.EndsAt.After(f.StartsAt):
		err = invalid("ends_at", "the end is not after the beginning", "Choose a later end.")
	default:
		_, err = u.d.OnCall.AddOverride(r.Context(), s.ID, v1.Override{Contact: f.Contact, StartsAt: f.StartsAt, EndsAt: f.EndsAt}, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, again)
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/oncall/schedules/%d", s.ID), http.StatusSeeOther)
}

func (u *UI) removeOverride(w http.ResponseWriter, r *http.Request) {
	id := pathID(r, "id")
	if _, err := u.d.OnCall.RemoveOverride(r.Context(), id, pathID(r, "override"), whoIs(r), time.Now()); err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showSchedule(w, r, status, what) })
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/oncall/schedules/%d", id), http.StatusSeeOther)
}

// Long is how long a shift is.
func (v scheduleView) Long(s shift) string { return web.Span(s.To.Sub(s.From)) }
