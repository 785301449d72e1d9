package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// Forms of several parts: rotations, and policies' steps. They work without any
// script: a button adds a part or takes one out, and the page comes back with all
// that was typed. Nothing is stored until Save is pressed.

const (
	// partsMax bounds how many rotations or steps a form has; the room takes fewer.
	partsMax = 30
	// peopleMax bounds whom one of them names; the room takes fewer.
	peopleMax = 60
	// rowsMore is how many empty rows for people a part has.
	rowsMore = 2
)

// choice is one of what a form offers.
type choice struct{ ID, Name string }

// scheduleForm is a schedule as it was typed.
type scheduleForm struct {
	ID                     int64 // 0: a new one
	Name, Tenant, TimeZone string
	Rotations              []rotationForm
}

// rotationForm is one of its rotations.
type rotationForm struct {
	No                                              int // from 0
	Contacts                                        []string
	FirstDay, Handover, TurnDays, Days, Starts, End string
}

// Field is what the API calls one of its fields.
func (f rotationForm) Field(name string) string { return fmt.Sprintf("rotations[%d].%s", f.No, name) }

// Rows are whom it names, in the order of their turns, and empty rows.
func (f rotationForm) Rows() []string {
	return append(slices.Clone(f.Contacts), make([]string, rowsMore)...)
}

// Nth names a row's turn.
func (f rotationForm) Nth(row int) string { return "Turn " + strconv.Itoa(row+1) }

// Human counts from 1.
func (f rotationForm) Human() int { return f.No + 1 }

type scheduleFormView struct {
	Form    scheduleForm
	Tenants []string
	People  []choice
	Wrong   *wrong
}

// Action is where the form goes.
func (v scheduleFormView) Action() string {
	if v.Form.ID == 0 {
		return "/oncall/schedules"
	}
	return fmt.Sprintf("/oncall/schedules/%d/edit", v.Form.ID)
}

func (u *UI) newSchedulePage(w http.ResponseWriter, r *http.Request) {
	f := scheduleForm{Tenant: cutText(r.URL.Query().Get("tenant"), 63)}
	f.Rotations = []rotationForm{freshRotation()}
	u.showScheduleForm(w, r, http.StatusOK, f, nil)
}

func freshRotation() rotationForm {
	return rotationForm{FirstDay: time.Now().Format(time.DateOnly), Handover: "09:00", TurnDays: "7"}
}

func (u *UI) editSchedulePage(w http.ResponseWriter, r *http.Request) {
	f, err := u.storedSchedule(r.Context(), pathID(r, "id"))
	if err != nil {
		u.refusedAlert(w, r, err, nil)
		return
	}
	u.showScheduleForm(w, r, http.StatusOK, f, nil)
}

// storedSchedule is a schedule as it is, for the form.
func (u *UI) storedSchedule(ctx context.Context, id int64) (scheduleForm, error) {
	s, err := u.d.OnCall.Schedule(ctx, id, time.Now())
	if err != nil {
		return scheduleForm{}, err
	}
	f := scheduleForm{ID: s.ID, Name: s.Name, Tenant: s.Tenant, TimeZone: s.TimeZone}
	for _, r := range s.Rotations {
		f.Rotations = append(f.Rotations, rotationForm{
			Contacts: idTexts("", r.Contacts), FirstDay: r.FirstDay, Handover: r.Handover, TurnDays: strconv.Itoa(r.TurnDays), Days: r.Days, Starts: r.From, End: r.To,
		})
	}
	return f, nil
}

func (u *UI) showScheduleForm(w http.ResponseWriter, r *http.Request, status int, f scheduleForm, what *wrong) {
	v := scheduleFormView{Form: f, Wrong: what}
	named := make([]string, 0, peopleMax)
	for i := range f.Rotations {
		v.Form.Rotations[i].No = i
		named = append(named, f.Rotations[i].Contacts...)
	}
	var err error
	if v.People, v.Tenants, err = u.people(r.Context(), f.Tenant, f.ID != 0, "", named); err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	title := "New schedule"
	if f.ID != 0 {
		title = "Change a schedule"
	}
	u.pages.Render(w, r, status, "schedule-form", web.Page{Title: title, Active: "/oncall", Live: "/live/oncall", Data: v})
}

// people are the contacts that may be chosen, each with whose it is where that is
// not settled, and all tenants that there are. What was chosen stays a choice.
func (u *UI) people(ctx context.Context, tenant string, settled bool, prefix string, chosen []string) (list []choice, tenants []string, err error) {
	contacts, err := u.d.OnCall.ListContacts(ctx, "", 0, listMax)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range contacts {
		one := choice{prefix + strconv.FormatInt(c.ID, 10), c.Name}
		switch {
		case !settled:
			one.Name += " (" + whose(c.Tenant) + ")"
		case c.Tenant != "" && c.Tenant != tenant && !slices.Contains(chosen, one.ID):
			continue
		}
		list = append(list, one)
	}
	return keepChosen(list, prefix, chosen), u.tenants(contacts), nil
}

// keepChosen adds what was chosen and is no choice any more.
func keepChosen(list []choice, prefix string, chosen []string) []choice {
	for _, id := range chosen {
		if strings.HasPrefix(id, prefix) && id != "" && !slices.ContainsFunc(list, func(c choice) bool { return c.ID == id }) {
			list = append(list, choice{id, "one that was removed"})
		}
	}
	return list
}

// tenants are all that have facilities, or contacts.
func (u *UI) tenants(contacts []v1.Contact) []string {
	var out []string
	for _, f := range u.d.Fleet.Snapshot() {
		out = append(out, f.Tenant)
	}
	for _, c := range contacts {
		out = append(out, c.Tenant)
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(t string) bool { return t == "" })
}

// idTexts writes ids as a form has them.
func idTexts(prefix string, ids []int64) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = prefix + strconv.FormatInt(id, 10)
	}
	return out
}

// idOf reads one; what is none is 0, which nothing has.
func idOf(text string) int64 {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

// chosenOf are the values of a form's rows that are not empty.
func chosenOf(r *http.Request, name string) []string {
	var out []string
	for _, v := range r.PostForm[name] {
		if v = cutText(v, 30); v != "" && len(out) < peopleMax {
			out = append(out, v)
		}
	}
	return out
}

// formParts are the numbers of a form's parts, in their order. A button that takes
// one out has dropped it; one that adds another has more set.
func formParts(r *http.Request) (numbers []string, more, stay bool) {
	do := r.PostFormValue("do")
	for _, n := range r.PostForm["part"] {
		if n = cutText(n, 5); do != "drop-"+n && len(numbers) < partsMax {
			numbers = append(numbers, n)
		}
	}
	return numbers, do == "more", do != ""
}

// readSchedule reads the form. stay is true for a button that only changes the form.
func readSchedule(r *http.Request) (f scheduleForm, stay bool) {
	f = scheduleForm{Name: cutText(r.PostFormValue("name"), 200), Tenant: cutText(r.PostFormValue("tenant"), 63), TimeZone: cutText(r.PostFormValue("time_zone"), 60)}
	parts, more, stay := formParts(r)
	for _, n := range parts {
		of := func(name string) string { return cutText(r.PostFormValue(name+"-"+n), 60) }
		f.Rotations = append(f.Rotations, rotationForm{
			Contacts: chosenOf(r, "contacts-"+n), FirstDay: of("first_day"), Handover: of("handover"), TurnDays: of("turn_days"),
			Days: of("days"), Starts: of("from"), End: of("to"),
		})
	}
	if more {
		f.Rotations = append(f.Rotations, freshRotation())
	}
	return f, stay
}

// document is the schedule that the form describes.
func (f scheduleForm) document() (v1.Schedule, error) {
	s := v1.Schedule{Tenant: f.Tenant, Name: f.Name, TimeZone: f.TimeZone, Rotations: []v1.Rotation{}}
	for i, r := range f.Rotations {
		r.No = i
		turn, err := strconv.Atoi(r.TurnDays)
		if err != nil {
			return s, invalid(r.Field("turn_days"), fmt.Sprintf("%.40q is no number of days", r.TurnDays), "Give 1 to 366 days; 7 is a week.")
		}
		one := v1.Rotation{FirstDay: r.FirstDay, Handover: r.Handover, TurnDays: turn, Days: r.Days, From: r.Starts, To: r.End}
		for _, c := range r.Contacts {
			one.Contacts = append(one.Contacts, idOf(c))
		}
		s.Rotations = append(s.Rotations, one)
	}
	return s, nil
}

// saveSchedule stores what the form says: a new schedule, or another one's place.
func (u *UI) saveSchedule(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	f, stay := readSchedule(r)
	if r.PathValue("id") != "" {
		was, err := u.d.OnCall.Schedule(r.Context(), pathID(r, "id"), time.Now())
		if err != nil {
			u.refusedAlert(w, r, err, nil)
			return
		}
		f.ID, f.Tenant = was.ID, was.Tenant
	}
	if stay {
		u.showScheduleForm(w, r, http.StatusOK, f, nil)
		return
	}
	s, err := f.document()
	if err == nil && f.ID == 0 {
		s, err = u.d.OnCall.AddSchedule(r.Context(), s, whoIs(r), time.Now())
	} else if err == nil {
		s, err = u.d.OnCall.SetSchedule(r.Context(), f.ID, s, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showScheduleForm(w, r, status, f, what) })
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/oncall/schedules/%d", s.ID), http.StatusSeeOther)
}

func (u *UI) removeSchedule(w http.ResponseWriter, r *http.Request) {
	id := pathID(r, "id")
	var err error
	if r.PostFormValue("sure") == "" {
		err = invalid("", "nothing was removed", "Tick that you are sure, and press Remove again.")
	} else {
		err = u.d.OnCall.RemoveSchedule(r.Context(), id, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) {
			f, err := u.storedSchedule(r.Context(), id)
			if err != nil {
				u.refusedAlert(w, r, err, nil)
				return
			}
			u.showScheduleForm(w, r, status, f, what)
		})
		return
	}
	http.Redirect(w, r, "/oncall", http.StatusSeeOther)
}
