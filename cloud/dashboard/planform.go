package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/oncall"
)

// Forms of several parts: schedules with rotations, and policies with steps. They work without any
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

// planHead is what the forms of a schedule and of a policy have in common.
type planHead struct {
	ID           int64 // 0: a new one
	Version      int64 // that it was when the form was opened
	Newer        bool  // somebody has changed it since
	Name, Tenant string
}

func (h *planHead) head() *planHead { return h }

func readHead(r *http.Request) planHead {
	return planHead{Version: formID(r, "version"), Name: cutText(r.PostFormValue("name"), 200), Tenant: cutText(r.PostFormValue("tenant"), 63)}
}

// planForm is a schedule or a policy as it was typed.
type planForm interface {
	head() *planHead
	// show renders the form, with what is wrong in it.
	show(u *UI, w http.ResponseWriter, r *http.Request, status int, what *wrong)
	// save stores what it says: a new one, or another one's place; page shows it then.
	save(ctx context.Context, u *UI, by string) (page string, err error)
}

// storedPlan reads what there is, for the form.
type storedPlan func(ctx context.Context, id int64) (planForm, error)

func (u *UI) editPlan(stored storedPlan) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u.showPlan(w, r, http.StatusOK, stored, nil)
	}
}

// showPlan shows the form with what is stored.
func (u *UI) showPlan(w http.ResponseWriter, r *http.Request, status int, stored storedPlan, what *wrong) {
	f, err := stored(r.Context(), pathID(r, "id"))
	if err != nil {
		u.refusedAlert(w, r, err, nil)
		return
	}
	f.show(u, w, r, status, what)
}

// savePlan stores a form. read returns stay for a button that only changes the form.
func (u *UI) savePlan(read func(*http.Request) (f planForm, stay bool), stored storedPlan) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			u.site.Error(w, r, http.StatusBadRequest, errBadForm)
			return
		}
		f, stay := read(r)
		if r.PathValue("id") != "" {
			was, err := stored(r.Context(), pathID(r, "id"))
			if err != nil {
				u.refusedAlert(w, r, err, nil)
				return
			}
			f.head().ID, f.head().Tenant = was.head().ID, was.head().Tenant
		}
		if stay {
			f.show(u, w, r, http.StatusOK, nil)
			return
		}
		page, err := f.save(r.Context(), u, whoIs(r))
		if stale, ok := errors.AsType[*oncall.StaleError](err); ok {
			// He has been told now: if he saves once more, he means it.
			f.head().Version, f.head().Newer = stale.Now.Version, true
			f.show(u, w, r, http.StatusConflict, &wrong{
				Text: fmt.Sprintf("%s has changed the %s since you opened it, at %s: nothing is saved yet",
					stale.Now.ChangedBy, stale.What, stale.Now.ChangedAt.In(u.site.Zone()).Format("Mon 2 Jan 15:04:05 MST")),
				Remedy: "Below is what you entered. Look at how it is now; then save again, which puts yours in its place.",
			})
			return
		}
		if err != nil {
			u.refusedAlert(w, r, err, func(status int, what *wrong) { f.show(u, w, r, status, what) })
			return
		}
		http.Redirect(w, r, page, http.StatusSeeOther)
	}
}

func (u *UI) removePlan(stored storedPlan, remove func(ctx context.Context, id int64, by string, now time.Time) error, list string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		if r.PostFormValue("sure") == "" {
			err = invalid("", "nothing was removed", "Tick that you are sure, and press Remove again.")
		} else {
			err = remove(r.Context(), pathID(r, "id"), whoIs(r), time.Now())
		}
		if err != nil {
			u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showPlan(w, r, status, stored, what) })
			return
		}
		http.Redirect(w, r, list, http.StatusSeeOther)
	}
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
