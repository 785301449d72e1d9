package dashboard

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// windowsShown is how many windows the page lists, with those that are over.
const windowsShown = 100

// windowLengths are what the form offers, in minutes.
var windowLengths = []int{30, 60, 120, 240, 480}

// windowLine is announced work in words.
type windowLine struct {
	v1.Maintenance
	Place   string
	Zone    *time.Location // of the facility
	Now     time.Time
	CanWork bool
}

// Until is when it really ends.
func (l windowLine) Until() time.Time {
	if l.EndedAt != nil && l.EndedAt.Before(l.EndsAt) && !l.CalledOff() {
		return *l.EndedAt
	}
	return l.EndsAt
}

// Over reports that it is past.
func (l windowLine) Over() bool { return l.EndedAt != nil || !l.EndsAt.After(l.Now) }

// CalledOff reports that it was ended before it began.
func (l windowLine) CalledOff() bool { return l.EndedAt != nil && !l.EndedAt.After(l.StartsAt) }

// EndWord is what its button does.
func (l windowLine) EndWord() string {
	if l.StartsAt.After(l.Now) {
		return "Call off"
	}
	return "End now"
}

// Shown is the window's state as people see it.
func (l windowLine) Shown() web.State {
	switch {
	case l.CalledOff():
		return web.State{Kind: "gone", Word: "Called off"}
	case l.EndedAt != nil:
		return web.State{Kind: "gone", Word: "Ended early"}
	case l.Over():
		return web.State{Kind: "gone", Word: "Over"}
	case l.StartsAt.After(l.Now):
		return web.State{Kind: "waiting", Word: "Announced"}
	}
	return web.State{Kind: "busy", Word: "Now"}
}

// There is a time by the facility's clock.
func (l windowLine) There(t time.Time) string { return t.In(l.Zone).Format("Mon 15:04 MST") }

// windowForm is what was typed.
type windowForm struct {
	Facility, Starts, Reason string
	Minutes                  int
}

type maintenanceView struct {
	Sections   []section
	Windows    []windowLine
	Facilities []conflictChoice
	Lengths    []int
	CanWork    bool
	Wrong      *wrong
	Form       windowForm
}

// Length names one of the form's lengths.
func (v maintenanceView) Length(minutes int) string {
	return web.Span(time.Duration(minutes) * time.Minute)
}

func (u *UI) maintenancePage(w http.ResponseWriter, r *http.Request) {
	u.showMaintenance(w, r, http.StatusOK, nil)
}

func (u *UI) showMaintenance(w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	v := maintenanceView{Sections: u.sections("/oncall/maintenance"), Lengths: windowLengths, CanWork: canWork(r), Wrong: what, Form: windowForm{Minutes: 60, Facility: r.URL.Query().Get("facility")}}
	if what != nil {
		v.Form = readWindow(r)
	}
	now := time.Now()
	list, err := u.d.OnCall.ListMaintenance(r.Context(), "", true, windowsShown, now)
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	places, zones := map[string]string{}, map[string]*time.Location{}
	for _, f := range u.d.Fleet.Snapshot() {
		places[f.ID], zones[f.ID] = f.Name, zoneOf(f.TimeZone)
		v.Facilities = append(v.Facilities, conflictChoice{f.ID, f.Name})
	}
	for _, m := range list {
		l := windowLine{Maintenance: m, Place: places[m.Facility], Zone: zones[m.Facility], Now: now, CanWork: v.CanWork}
		if l.Place == "" {
			l.Place = m.Facility
		}
		if l.Zone == nil {
			l.Zone = time.UTC
		}
		v.Windows = append(v.Windows, l)
	}
	// What is, before what comes, before what was.
	slices.SortStableFunc(v.Windows, func(a, b windowLine) int {
		switch {
		case a.Over() != b.Over():
			if a.Over() {
				return 1
			}
			return -1
		case a.Over():
			return b.Until().Compare(a.Until())
		}
		return a.StartsAt.Compare(b.StartsAt)
	})
	u.pages.Render(w, r, status, "maintenance", web.Page{Title: "Maintenance", Active: "/oncall", Live: "/live/oncall", Data: v})
}

func readWindow(r *http.Request) windowForm {
	f := windowForm{Facility: cutText(r.PostFormValue("facility"), 63), Starts: cutText(r.PostFormValue("starts"), 40), Reason: cutText(r.PostFormValue("reason"), 500)}
	f.Minutes, _ = strconv.Atoi(r.PostFormValue("minutes")) // 0 is none of those offered
	return f
}

func (u *UI) addMaintenance(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	f := readWindow(r)
	now := time.Now()
	starts := now
	place, ok := u.d.Fleet.Facility(f.Facility)
	if f.Starts != "" {
		starts = localTime(f.Starts, zoneOf(place.TimeZone))
	}
	// Work that has begun already ends when it was to.
	begins, ends := starts, starts.Add(time.Duration(f.Minutes)*time.Minute)
	if begins.Before(now) {
		begins = now
	}
	var err error
	switch {
	case !ok:
		err = invalid("facility", "no facility was chosen", "Choose where work is done.")
	case starts.IsZero():
		err = invalid("starts_in_s", "the beginning is no time", "Choose a day and a time, or leave it empty for now.")
	case !slices.Contains(windowLengths, f.Minutes):
		err = invalid("for_s", "how long it takes is missing", "Choose one of the lengths; it can be ended early, and announced again.")
	case ends.Sub(now) < time.Minute:
		err = invalid("starts_in_s", "the work would be over already", "Choose a later time, or leave it empty for now.")
	case f.Reason == "":
		err = invalid("reason", "what is done there is missing", "Write it for those who look at the facility meanwhile.")
	default:
		whole := now.Truncate(time.Second) // so that it begins at the minute that was chosen
		_, err = u.d.OnCall.AddMaintenance(r.Context(), v1.MaintenanceAdd{
			Facility: f.Facility, StartsIn: int(begins.Sub(whole) / time.Second), For: int((ends.Sub(begins) + time.Second - 1) / time.Second), Reason: f.Reason,
		}, whoIs(r), whole)
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showMaintenance(w, r, status, what) })
		return
	}
	http.Redirect(w, r, "/oncall/maintenance", http.StatusSeeOther)
}

func (u *UI) endMaintenance(w http.ResponseWriter, r *http.Request) {
	if _, err := u.d.OnCall.EndMaintenance(r.Context(), pathID(r, "id"), whoIs(r), time.Now()); err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showMaintenance(w, r, status, what) })
		return
	}
	http.Redirect(w, r, "/oncall/maintenance", http.StatusSeeOther)
}
