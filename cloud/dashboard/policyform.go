package dashboard

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	// facilitiesMaxBytes bounds what is typed for a policy's facilities: about a
	// thousand of them.
	facilitiesMaxBytes = 64 << 10
	// minutesMax keeps what is typed far below what overflows; the room takes less.
	minutesMax = 1e7
	// What is chosen of a step begins with what it is.
	ofContact, ofSchedule = "c", "s"
)

// policyForm is a policy as it was typed.
type policyForm struct {
	planHead
	Severity   string
	Kinds      []string
	Facilities string // ids, with blanks, commas or lines between them
	Steps      []stepForm
}

// stepForm is one of its steps.
type stepForm struct {
	No       int    // from 0
	After    string // minutes
	Who      []string
	Channels []string
	Offer    bool
}

// Field is what the API calls one of its fields.
func (f stepForm) Field(name string) string { return fmt.Sprintf("steps[%d].%s", f.No, name) }

// Rows are whom it names, and empty rows.
func (f stepForm) Rows() []string { return append(slices.Clone(f.Who), make([]string, rowsMore)...) }

// Nth names a row.
func (f stepForm) Nth(row int) string { return "Who " + strconv.Itoa(row+1) }

// Human counts from 1.
func (f stepForm) Human() int { return f.No + 1 }

// By reports whether it is told by a channel.
func (f stepForm) By(channel string) bool { return slices.Contains(f.Channels, channel) }

// minutes is After as a number.
func (f stepForm) minutes() (float64, bool) {
	m, err := strconv.ParseFloat(strings.ReplaceAll(f.After, ",", "."), 64)
	return m, err == nil && math.Abs(m) < minutesMax
}

type policyFormView struct {
	Form              *policyForm
	Tenants           []string
	People, Schedules []choice
	Kinds, Channels   []struct{ Code, Word string }
	Wrong             *wrong
}

// Action is where the form goes.
func (v policyFormView) Action() string {
	if v.Form.ID == 0 {
		return "/oncall/policies"
	}
	return fmt.Sprintf("/oncall/policies/%d/edit", v.Form.ID)
}

// Concerns reports whether the policy names a kind.
func (v policyFormView) Concerns(kind string) bool { return slices.Contains(v.Form.Kinds, kind) }

func (u *UI) newPolicyPage(w http.ResponseWriter, r *http.Request) {
	f := policyForm{planHead: planHead{Tenant: cutText(r.URL.Query().Get("tenant"), 63)}, Severity: "warning", Steps: []stepForm{{After: "0"}}}
	f.show(u, w, r, http.StatusOK, nil)
}

// storedPolicy is a policy as it is, for the form.
func (u *UI) storedPolicy(ctx context.Context, id int64) (planForm, error) {
	p, err := u.d.OnCall.Policy(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &policyForm{planHead: planHead{ID: p.ID, Version: p.Version, Name: p.Name, Tenant: p.Tenant}, Severity: p.Severity, Kinds: p.Kinds, Facilities: strings.Join(p.Facilities, " ")}
	for _, s := range p.Steps {
		f.Steps = append(f.Steps, stepForm{
			After:    strconv.FormatFloat(float64(s.After)/60, 'g', 7, 64),
			Who:      append(idTexts(ofSchedule, s.Schedules), idTexts(ofContact, s.Contacts)...),
			Channels: s.Channels, Offer: s.Offer != "",
		})
	}
	return f, nil
}

func (f *policyForm) show(u *UI, w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	v := policyFormView{Form: f, Kinds: incidentKinds, Channels: channelWords, Wrong: what}
	for _, k := range f.Kinds {
		if wordOf(incidentKinds, k) == k { // it stays as it is
			v.Kinds = append(slices.Clone(v.Kinds), struct{ Code, Word string }{k, k})
		}
	}
	var named []string
	for i := range f.Steps {
		f.Steps[i].No = i
		named = append(named, f.Steps[i].Who...)
	}
	var err error
	if v.People, v.Tenants, err = u.people(r.Context(), f.Tenant, f.ID != 0, ofContact, named); err == nil {
		v.Schedules, err = u.scheduleChoices(r.Context(), f.planHead, named)
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	title := "New policy"
	if f.ID != 0 {
		title = "Change a policy"
	}
	u.pages.Render(w, r, status, "policy-form", web.Page{Title: title, Active: "/oncall", Live: "/live/oncall", Data: v})
}

// scheduleChoices are the schedules that may be chosen; see people.
func (u *UI) scheduleChoices(ctx context.Context, f planHead, chosen []string) ([]choice, error) {
	list, err := u.d.OnCall.ListSchedules(ctx, "", 0, listMax, time.Now())
	if err != nil {
		return nil, err
	}
	var out []choice
	for _, s := range list {
		one := choice{ofSchedule + strconv.FormatInt(s.ID, 10), s.Name}
		switch {
		case f.ID == 0:
			one.Name += " (" + whose(s.Tenant) + ")"
		case s.Tenant != "" && s.Tenant != f.Tenant && !slices.Contains(chosen, one.ID):
			continue
		}
		out = append(out, one)
	}
	return keepChosen(out, ofSchedule, chosen), nil
}

// readPolicy reads the form. stay is true for a button that only changes the form.
func readPolicy(r *http.Request) (_ planForm, stay bool) {
	f := &policyForm{
		planHead: readHead(r), Severity: cutText(r.PostFormValue("severity"), 20),
		Kinds: chosenOf(r, "kinds"), Facilities: cutText(r.PostFormValue("facilities"), facilitiesMaxBytes),
	}
	parts, more, stay := formParts(r)
	for _, n := range parts {
		f.Steps = append(f.Steps, stepForm{
			After: cutText(r.PostFormValue("after-"+n), 20), Who: chosenOf(r, "who-"+n), Channels: chosenOf(r, "channels-"+n), Offer: r.PostFormValue("offer-"+n) != "",
		})
	}
	if more {
		last := 0.0
		for _, s := range f.Steps {
			if m, ok := s.minutes(); ok {
				last = max(last, m)
			}
		}
		f.Steps = append(f.Steps, stepForm{After: strconv.FormatFloat(last+10, 'g', 7, 64)})
	}
	return f, stay
}

// document is the policy that the form describes. It brings the form's steps into
// the order in which they are taken: what is wrong is told by their number there.
func (f *policyForm) document() (v1.Policy, error) {
	p := v1.Policy{
		Edition: v1.Edition{Version: f.Version}, Tenant: f.Tenant, Name: f.Name, Severity: f.Severity, Kinds: f.Kinds,
		Facilities: strings.FieldsFunc(f.Facilities, func(c rune) bool { return strings.ContainsRune(" \t\r\n,;", c) }),
	}
	for i, s := range f.Steps {
		if _, ok := s.minutes(); !ok {
			s.No = i
			return p, invalid(s.Field("after_s"), fmt.Sprintf("%.40q is no number of minutes", s.After), "Give minutes after the incident was opened, such as 10; 0 is at once.")
		}
	}
	slices.SortStableFunc(f.Steps, func(a, b stepForm) int { return a.seconds() - b.seconds() })
	for _, s := range f.Steps {
		step := v1.PolicyStep{After: s.seconds(), Channels: s.Channels}
		for _, who := range s.Who {
			if id, ok := strings.CutPrefix(who, ofSchedule); ok {
				step.Schedules = append(step.Schedules, idOf(id))
			} else {
				step.Contacts = append(step.Contacts, idOf(strings.TrimPrefix(who, ofContact)))
			}
		}
		if s.Offer {
			step.Offer = "fallback"
		}
		p.Steps = append(p.Steps, step)
	}
	return p, nil
}

// seconds is After, once it is known to be a number.
func (f stepForm) seconds() int {
	m, _ := f.minutes()
	return int(math.Round(m * 60))
}

func (f *policyForm) save(ctx context.Context, u *UI, by string) (page string, err error) {
	p, err := f.document()
	if err == nil && f.ID == 0 {
		p, err = u.d.OnCall.AddPolicy(ctx, p, by)
	} else if err == nil {
		p, err = u.d.OnCall.SetPolicy(ctx, f.ID, p, by)
	}
	return fmt.Sprintf("/oncall/policies#p-%d", p.ID), err
}
