package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// scheduleForm is a schedule as it was typed.
type scheduleForm struct {
	planHead
	TimeZone  string
	Rotations []rotationForm
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
	Form    *scheduleForm
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
	f := scheduleForm{planHead: planHead{Tenant: cutText(r.URL.Query().Get("tenant"), 63)}, Rotations: []rotationForm{freshRotation()}}
	f.show(u, w, r, http.StatusOK, nil)
}

func freshRotation() rotationForm {
	return rotationForm{FirstDay: time.Now().Format(time.DateOnly), Handover: "09:00", TurnDays: "7"}
}

// storedSchedule is a schedule as it is, for the form.
func (u *UI) storedSchedule(ctx context.Context, id int64) (planForm, error) {
	s, err := u.d.OnCall.Schedule(ctx, id, time.Now())
	if err != nil {
		return nil, err
	}
	f := &scheduleForm{planHead: planHead{ID: s.ID, Version: s.Version, Name: s.Name, Tenant: s.Tenant}, TimeZone: s.TimeZone}
	for _, r := range s.Rotations {
		f.Rotations = append(f.Rotations, rotationForm{
			Contacts: idTexts("", r.Contacts), FirstDay: r.FirstDay, Handover: r.Handover, TurnDays: strconv.Itoa(r.TurnDays), Days: r.Days, Starts: r.From, End: r.To,
		})
	}
	return f, nil
}

func (f *scheduleForm) show(u *UI, w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	v := scheduleFormView{Form: f, Wrong: what}
	named := make([]string, 0, peopleMax)
	for i := range f.Rotations {
		f.Rotations[i].No = i
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

// readSchedule reads the form. stay is true for a button that only changes the form.
func readSchedule(r *http.Request) (_ planForm, stay bool) {
	f := &scheduleForm{planHead: readHead(r), TimeZone: cutText(r.PostFormValue("time_zone"), 60)}
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
func (f *scheduleForm) document() (v1.Schedule, error) {
	s := v1.Schedule{Edition: v1.Edition{Version: f.Version}, Tenant: f.Tenant, Name: f.Name, TimeZone: f.TimeZone, Rotations: []v1.Rotation{}}
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

func (f *scheduleForm) save(ctx context.Context, u *UI, by string) (page string, err error) {
	s, err := f.document()
	if err == nil && f.ID == 0 {
		s, err = u.d.OnCall.AddSchedule(ctx, s, by, time.Now())
	} else if err == nil {
		s, err = u.d.OnCall.SetSchedule(ctx, f.ID, s, by, time.Now())
	}
	return fmt.Sprintf("/oncall/schedules/%d", s.ID), err
}
