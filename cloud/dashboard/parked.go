package dashboard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// Parked is what people may do about changes that were refused (cloud/parked).
type Parked interface {
	List(ctx context.Context, f parked.Filter) ([]v1.Parked, error)
	Open(ctx context.Context) (int, error)
	Show(ctx context.Context, id int64) (v1.ParkedRow, error)
	Edit(ctx context.Context, id int64, set map[string]*string, by string) (v1.ParkedRow, error)
	Discard(ctx context.Context, id int64, by string) error
	Retry(ctx context.Context, id int64, by string) (v1.ParkedRow, error)
}

const (
	parkedBadgeID = "nav-parked"
	parkedPerPage = 50
	// editMaxBytes is the longest value that a form offers to correct.
	editMaxBytes = 4096
	formMaxBytes = 1 << 20
)

var (
	errNoParked      = hint.Wrap(errors.New("there is no such parked change"), "It may have ended long ago. Look for it among what is parked.")
	errNoFilter      = errors.New("the filter is not known")
	parkedPathPrefix = "/parked/"
)

// parkedListView is the page of all that is parked.
type parkedListView struct {
	Facility, Reason, State string
	Facilities              []string
	Reasons                 []apply.Reason
	States                  []string
	Rows                    []parkedLine
	Next                    string // link to older ones
}

// parkedLine is a parked change in words.
type parkedLine struct{ v1.Parked }

// Shown is the change's state as people see it.
func (p parkedLine) Shown() web.State {
	switch p.State {
	case "waiting":
		return web.State{Kind: "warn", Word: strings.ReplaceAll(p.Reason, "_", " ")}
	case "applied":
		return web.State{Kind: "ok", Word: "Applied"}
	case "discarded":
		return web.State{Kind: "idle", Word: "Discarded"}
	}
	return web.State{Kind: "idle", Word: "Replaced"}
}

// KeyText is the key as people write it.
func (p parkedLine) KeyText() string {
	parts := make([]string, 0, len(p.Key))
	for _, name := range slices.Sorted(maps.Keys(p.Key)) {
		value := "NULL"
		if v := p.Key[name]; v != nil {
			value = *v
		}
		parts = append(parts, name+" = "+value)
	}
	return strings.Join(parts, ", ")
}

// AtBox reports whether it waits at the facility's box, not in the region.
func (p parkedLine) AtBox() bool { return p.Direction == "down" }

// Where is whose database refuses it.
func (p parkedLine) Where() string {
	if p.AtBox() {
		return "at the facility"
	}
	return "in the region"
}

// Waits reports whether anything can still be done about it.
func (p parkedLine) Waits() bool { return p.State == "waiting" }

func (u *UI) parkedPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	v := parkedListView{Facility: q.Get("facility"), Reason: q.Get("reason"), State: q.Get("state"), Reasons: apply.Reasons, States: []string{"waiting", "applied", "discarded", "replaced", "all"}}
	if v.State == "" {
		v.State = "waiting"
	}
	f := parked.Filter{Facility: v.Facility, Reason: v.Reason, State: v.State, Limit: parkedPerPage + 1}
	if f.State == "all" {
		f.State = ""
	}
	var err error
	if before := q.Get("before"); before != "" {
		if f.Before, err = strconv.ParseInt(before, 10, 64); err != nil {
			u.site.Error(w, r, http.StatusBadRequest, errNoFilter)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	list, err := u.d.Parked.List(ctx, f)
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	if len(list) > parkedPerPage {
		list = list[:parkedPerPage]
		q.Set("before", strconv.FormatInt(list[parkedPerPage-1].ID, 10))
		v.Next = "/parked?" + q.Encode()
	}
	for _, p := range list {
		v.Rows = append(v.Rows, parkedLine{p})
	}
	for _, s := range u.d.Fleet.Snapshot() {
		v.Facilities = append(v.Facilities, s.ID)
	}
	u.pages.Render(w, r, http.StatusOK, "parked", web.Page{Title: "Parked", Active: "/parked", Data: v})
}

// parkedBadge is how many changes wait, beside the navigation's entry.
func (u *UI) parkedBadge(r *http.Request) (number, of string) { return u.parkedBadgeOf(r.Context()) }

func (u *UI) parkedBadgeOf(ctx context.Context) (number, of string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	n, err := u.d.Parked.Open(ctx)
	switch {
	case err != nil || n == 0:
		return "", ""
	case n >= parked.OpenMax:
		return web.Count(parked.OpenMax-1) + "+", "waiting"
	}
	return web.Count(n), "waiting"
}

// parkedRowView is one parked change beside the row in its way.
type parkedRowView struct {
	parkedLine
	Row     v1.ParkedRow
	Columns []parkedColumn
	CanWork bool
	Wrong   string
	// Outcome is what came of trying it just now.
	Outcome string
}

// parkedColumn is a column with its field of the form.
type parkedColumn struct {
	v1.ParkedColumn
	// Editable columns have a field, of several lines where Long.
	Editable, Long bool
	Input          string
	Null           bool
}

// Text is the parked value for people.
func (c parkedColumn) Text() string {
	if !c.Sent {
		return "not sent: unchanged"
	}
	return orNull(c.Value)
}

// Other is the value of the row in the way.
func (c parkedColumn) Other() string { return orNull(c.Blocking) }

func orNull(v *string) string {
	if v == nil {
		return "NULL"
	}
	if len(*v) > editMaxBytes {
		return strings.ToValidUTF8((*v)[:editMaxBytes], "") + "…"
	}
	return *v
}

func parkedID(r *http.Request) int64 {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0 // which nothing has
	}
	return id
}

func (u *UI) parkedRowPage(w http.ResponseWriter, r *http.Request) {
	u.showParked(w, r, http.StatusOK, "")
}

func (u *UI) showParked(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	row, err := u.d.Parked.Show(r.Context(), parkedID(r))
	if err != nil {
		u.parkedFailed(w, r, err)
		return
	}
	who, _ := web.From(r.Context())
	v := parkedRowView{parkedLine: parkedLine{row.Parked}, Row: row, Wrong: wrong, Outcome: r.URL.Query().Get("outcome")}
	v.CanWork = who.Can(web.Operator) && row.State == "waiting"
	for i, c := range row.Columns {
		one := parkedColumn{ParkedColumn: c}
		short := c.Value == nil || len(*c.Value) <= editMaxBytes && !strings.ContainsRune(*c.Value, '\r')
		one.Editable = v.CanWork && row.Op != "delete" && !c.Key && c.Sent && short
		one.Null = c.Value == nil
		if c.Value != nil {
			one.Input, one.Long = *c.Value, strings.ContainsRune(*c.Value, '\n')
		}
		if wrong != "" && one.Editable { // what was typed stays
			one.Input, one.Null = typed(r, i), r.PostFormValue(fmt.Sprintf("n%d", i)) != ""
		}
		v.Columns = append(v.Columns, one)
	}
	u.pages.Render(w, r, status, "parked-row", web.Page{Title: "Parked: " + row.Label, Active: "/parked", Data: v})
}

// typed is the field of a column. Browsers send line ends as two characters.
func typed(r *http.Request, i int) string {
	return strings.ReplaceAll(r.PostFormValue(fmt.Sprintf("v%d", i)), "\r\n", "\n")
}

func (u *UI) parkedFailed(w http.ResponseWriter, r *http.Request, err error) {
	bad, invalid := errors.AsType[*parked.InvalidError](err)
	switch {
	case errors.Is(err, parked.ErrNotFound):
		u.site.Error(w, r, http.StatusNotFound, errNoParked)
	case invalid:
		u.showParked(w, r, http.StatusUnprocessableEntity, bad.Error()+". "+bad.Remedy)
	case isRefused(err):
		u.showParked(w, r, http.StatusConflict, strings.TrimSpace(err.Error()+". "+hint.Of(err)))
	case errors.Is(err, parked.ErrEnded):
		u.showParked(w, r, http.StatusConflict, "It does not wait any more.")
	case errors.Is(err, parked.ErrBusy):
		u.showParked(w, r, http.StatusConflict, "A big transaction of the facility is being applied. Try again when it is done.")
	default:
		u.d.Log.Error("parked change not dealt with", "err", err)
		u.site.Error(w, r, http.StatusInternalServerError, err)
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*parked.RefusedError](err)
	return ok
}

// parkedForm does something and shows the change again, with what came of it.
func (u *UI) parkedForm(do func(r *http.Request, id int64, by string) (outcome string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, formMaxBytes)
		if err := r.ParseForm(); err != nil {
			u.site.Error(w, r, http.StatusBadRequest, errNoFilter)
			return
		}
		who, _ := web.From(r.Context())
		id := parkedID(r)
		outcome, err := do(r, id, who.Name)
		if err != nil {
			u.parkedFailed(w, r, err)
			return
		}
		page := parkedPathPrefix + url.PathEscape(strconv.FormatInt(id, 10))
		if outcome != "" {
			page += "?outcome=" + url.QueryEscape(outcome)
		}
		http.Redirect(w, r, page, http.StatusSeeOther)
	})
}

// editParked takes over the fields that differ from what the form showed.
func (u *UI) editParked(r *http.Request, id int64, by string) (outcome string, err error) {
	row, err := u.d.Parked.Show(r.Context(), id)
	if err != nil {
		return "", err
	}
	set := map[string]*string{}
	for i, c := range row.Columns {
		if _, sent := r.PostForm[fmt.Sprintf("v%d", i)]; !sent || c.Key || r.PostFormValue(fmt.Sprintf("c%d", i)) != c.Name {
			continue
		}
		var v *string
		text := typed(r, i)
		if r.PostFormValue(fmt.Sprintf("n%d", i)) == "" || c.Value == nil && text != "" {
			v = &text
		}
		if (v == nil) != (c.Value == nil) || v != nil && *v != *c.Value {
			set[c.Name] = v
		}
	}
	if len(set) == 0 {
		return "", nil
	}
	row, err = u.d.Parked.Edit(r.Context(), id, set, by)
	return row.Outcome, err
}

func (u *UI) discardParked(r *http.Request, id int64, by string) (outcome string, err error) {
	if r.PostFormValue("sure") == "" {
		return "", &parked.InvalidError{Text: "was not discarded", Remedy: "Tick that you are sure, and press Discard again."}
	}
	return "", u.d.Parked.Discard(r.Context(), id, by)
}

func (u *UI) retryParked(r *http.Request, id int64, by string) (outcome string, err error) {
	row, err := u.d.Parked.Retry(r.Context(), id, by)
	return row.Outcome, err
}

// mountParked adds the pages. Whoever may look sees them, operators decide.
func (u *UI) mountParked(mux *web.Mux) {
	look := func(pattern string, h http.Handler) { mux.Handle(pattern, u.d.Auth.Require(web.Viewer, h)) }
	work := func(pattern string, h http.Handler) { mux.Handle(pattern, u.d.Auth.Require(web.Operator, h)) }
	look("GET /parked", http.HandlerFunc(u.parkedPage))
	look("GET /parked/{id}", http.HandlerFunc(u.parkedRowPage))
	work("POST /parked/{id}/edit", u.parkedForm(u.editParked))
	work("POST /parked/{id}/discard", u.parkedForm(u.discardParked))
	work("POST /parked/{id}/retry", u.parkedForm(u.retryParked))
}
