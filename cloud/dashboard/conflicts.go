package dashboard

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	conflictsEvery = 2 * time.Second // a live list looks this often for newer ones
	badgeID        = "nav-conflicts"
)

// conflictStates are the tabs of the list, and what people call the states.
var conflictStates = []struct {
	code string
	web.State
}{
	{v1.ConflictOpen, web.State{Kind: "warn", Word: "Open"}},
	{v1.ConflictAcknowledged, web.State{Kind: "ok", Word: "Kept as it is"}},
	{v1.ConflictRestored, web.State{Kind: "ok", Word: "Other version used"}},
}

func conflictState(code string) web.State {
	for _, s := range conflictStates {
		if s.code == code {
			return s.State
		}
	}
	return web.State{Kind: "unknown", Word: code}
}

// conflictKinds in the order of the filter, and what people call them.
var conflictKinds = []struct{ Code, Word string }{
	{"update_origin_differs", "Both changed it"},
	{"insert_exists", "Both added it"},
	{"update_deleted", "Facility deleted, region changed"},
	{"delete_origin_differs", "Region deleted, facility changed"},
}

var conflictDecisions = []struct{ Code, Word string }{
	{"edge", "Facility's"}, {"cloud", "Region's"}, {"merged", "Each its own columns"},
}

// wordOf is the word for a code in one of the lists above.
func wordOf(list []struct{ Code, Word string }, code string) string {
	for _, k := range list {
		if k.Code == code {
			return k.Word
		}
	}
	return code
}

// conflictQuery is what a list of conflicts shows.
type conflictQuery struct {
	State, Facility, Table, Kind, Decision, Text string
	From, To                                     string // days of the site's zone, YYYY-MM-DD
	Cursor                                       string
}

func readConflictQuery(v url.Values) conflictQuery {
	cut := func(s string, n int) string {
		s = strings.TrimSpace(s)
		return strings.TrimSpace(strings.ToValidUTF8(s[:min(n, len(s))], ""))
	}
	day := func(s string) string {
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			return ""
		}
		return s
	}
	q := conflictQuery{
		State: v.Get("state"), Facility: cut(v.Get("facility"), 63), Table: cut(v.Get("table"), 127), Text: cut(v.Get("q"), textMaxBytes),
		Kind: v.Get("kind"), Decision: v.Get("decision"), From: day(v.Get("from")), To: day(v.Get("to")), Cursor: cut(v.Get("after"), 200),
	}
	if wordOf(conflictKinds, q.Kind) == q.Kind {
		q.Kind = ""
	}
	if wordOf(conflictDecisions, q.Decision) == q.Decision {
		q.Decision = ""
	}
	if q.State != "all" && conflictState(q.State).Kind == "unknown" {
		q.State = v1.ConflictOpen
	}
	return q
}

// filter is the query for the desk. The last day counts as a whole.
func (q conflictQuery) filter(zone *time.Location) v1.ConflictFilter {
	f := v1.ConflictFilter{Facility: q.Facility, Table: q.Table, Kind: q.Kind, Decision: q.Decision, State: q.State, Text: q.Text}
	if t, err := time.ParseInLocation(time.DateOnly, q.From, zone); err == nil {
		f.From = t
	}
	if t, err := time.ParseInLocation(time.DateOnly, q.To, zone); err == nil {
		f.To = t.AddDate(0, 0, 1)
	}
	return f
}

func (q conflictQuery) values() url.Values {
	v := url.Values{}
	for _, p := range [][2]string{
		{"facility", q.Facility}, {"table", q.Table}, {"kind", q.Kind}, {"decision", q.Decision}, {"q", q.Text}, {"from", q.From}, {"to", q.To}, {"after", q.Cursor},
	} {
		if p[1] != "" {
			v.Set(p[0], p[1])
		}
	}
	if q.State != v1.ConflictOpen {
		v.Set("state", q.State)
	}
	return v
}

// With is the address of the list with one value changed; it begins at the
// newest.
func (q conflictQuery) With(k, value string) template.URL {
	v := q.values()
	v.Del("after")
	v.Del(k)
	if value != "" && (k != "state" || value != v1.ConflictOpen) {
		v.Set(k, value)
	}
	return template.URL("?" + v.Encode()) //nolint:gosec // encoded here
}

// Filtered reports whether more than the state picks conflicts.
func (q conflictQuery) Filtered() bool {
	q.State, q.Cursor = "", ""
	return q != conflictQuery{}
}

// More reports whether one of the rarer filters is set.
func (q conflictQuery) More() bool { return q.Decision != "" || q.From != "" || q.To != "" }

// conflictRow is one conflict on the list.
type conflictRow struct {
	v1.Conflict
	Shown web.State
	What  string
	Place string // the facility's name for people
}

// StandsWord says whose version stood.
func (r conflictRow) StandsWord() string { return wordOf(conflictDecisions, r.Decision) }

// FieldsText lists the columns that differ, shortened.
func (r conflictRow) FieldsText() string {
	if r.Kind == "update_deleted" || r.Kind == "delete_origin_differs" {
		return "" // the row differs, not its columns
	}
	const most = 4
	if len(r.Fields) > most {
		return strings.Join(r.Fields[:most], ", ") + " and " + strconv.Itoa(len(r.Fields)-most) + " more"
	}
	return strings.Join(r.Fields, ", ")
}

// tab is one state of the list with how many are in it.
type tab struct {
	Code, Word string
	Count      int64
	On         bool
}

type conflictsView struct {
	Query      conflictQuery
	Tabs       []tab
	Rows       []conflictRow
	Next       string
	Facilities []conflictChoice
	Tables     []string
	Kinds      []struct{ Code, Word string }
	Decisions  []struct{ Code, Word string }
	// Open is how many open ones the filter picks; CanWork says that the
	// reader may deal with them.
	Open    int64
	CanWork bool
	Problem string
	Fresh   bool
}

type conflictChoice struct{ ID, Name string }

// Live is the page's WebSocket; it tells when there are newer conflicts.
func (v conflictsView) Live() template.URL {
	u := v.Query.values()
	if v.Query.Cursor == "" && len(v.Rows) > 0 {
		u.Set("top", conflicts.Cursor(v.Rows[0].Conflict))
	}
	return template.URL("/live/conflicts?" + u.Encode()) //nolint:gosec // encoded here
}

// Hidden are the filter's values for a form that changes many.
func (v conflictsView) Hidden() [][2]string {
	u := v.Query.values()
	u.Del("after")
	u.Del("state")
	var out [][2]string
	for k := range u {
		out = append(out, [2]string{k, u.Get(k)})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return out
}

func (u *UI) conflictsPage(w http.ResponseWriter, r *http.Request) {
	u.showConflicts(w, r, http.StatusOK, "")
}

func (u *UI) showConflicts(w http.ResponseWriter, r *http.Request, status int, problem string) {
	values := r.URL.Query()
	if r.Method == http.MethodPost {
		values = r.PostForm
	}
	v := conflictsView{Query: readConflictQuery(values), Kinds: conflictKinds, Decisions: conflictDecisions, Problem: problem}
	id, _ := web.From(r.Context())
	v.CanWork = id.Can(web.Operator)
	f := v.Query.filter(u.site.Zone())
	items, next, err := u.desk.List(r.Context(), f, rowsPerPage, v.Query.Cursor)
	if err != nil && v.Query.Cursor != "" {
		v.Query.Cursor = ""
		items, next, err = u.desk.List(r.Context(), f, rowsPerPage, "")
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	n, err := u.desk.Count(r.Context(), f)
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	if v.Tables, err = u.store.factTables(r.Context()); err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	if v.Query.Table != "" && !slices.Contains(v.Tables, v.Query.Table) {
		v.Tables = append(v.Tables, v.Query.Table)
	}
	v.Next, v.Open = next, n.Open
	for i, s := range conflictStates {
		v.Tabs = append(v.Tabs, tab{Code: s.code, Word: s.Word, Count: []int64{n.Open, n.Acknowledged, n.Restored}[i], On: v.Query.State == s.code})
	}
	v.Tabs = append(v.Tabs, tab{Code: "all", Word: "All", Count: n.Open + n.Acknowledged + n.Restored, On: v.Query.State == "all"})
	names := map[string]string{}
	for _, x := range u.d.Fleet.Snapshot() {
		names[x.ID] = x.Name
		v.Facilities = append(v.Facilities, conflictChoice{x.ID, x.Name})
	}
	if _, ok := names[v.Query.Facility]; !ok && v.Query.Facility != "" {
		v.Facilities = append(v.Facilities, conflictChoice{ID: v.Query.Facility})
	}
	for _, c := range items {
		v.Rows = append(v.Rows, newConflictRow(c, names[c.Facility]))
	}
	u.pages.Render(w, r, status, "conflicts", web.Page{Title: "Conflicts", Active: "/conflicts", Live: "/live/conflicts", Data: v})
}

func newConflictRow(c v1.Conflict, place string) conflictRow {
	if place == "" {
		place = c.Facility
	}
	what := wordOf(conflictKinds, c.Kind)
	if c.Policy == "corrected" {
		what = "Corrected while it was parked"
	}
	return conflictRow{Conflict: c, Shown: conflictState(c.State), What: what, Place: place}
}

// keepMany acknowledges all open conflicts that the list shows, on all pages.
func (u *UI) keepMany(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, err)
		return
	}
	q := readConflictQuery(r.PostForm)
	count, err := strconv.ParseInt(r.PostFormValue("count"), 10, 64)
	if err != nil || count < 1 {
		u.showConflicts(w, r, http.StatusUnprocessableEntity, "How many conflicts are meant was not sent. Press the button again.")
		return
	}
	if err := u.desk.AcknowledgeAll(r.Context(), q.filter(u.site.Zone()), count, whoIs(r), note(r)); err != nil {
		u.refused(w, r, err, func(status int, why string) { u.showConflicts(w, r, status, why) })
		return
	}
	http.Redirect(w, r, "/conflicts"+string(q.With("state", v1.ConflictAcknowledged)), http.StatusSeeOther)
}

func whoIs(r *http.Request) string {
	id, _ := web.From(r.Context())
	return id.Name
}

// noteMaxRunes bounds what somebody writes beside a decision.
const noteMaxRunes = 500

func note(r *http.Request) string {
	s := []rune(strings.ToValidUTF8(strings.TrimSpace(r.PostFormValue("note")), ""))
	return strings.ReplaceAll(string(s[:min(len(s), noteMaxRunes)]), "\x00", "")
}

// badge is the number of open conflicts beside the navigation's entry. A
// database that does not answer shows none: the page itself will say why.
func (u *UI) badge(r *http.Request) (number, of string) {
	return u.badgeOf(r.Context())
}

func (u *UI) badgeOf(ctx context.Context) (number, of string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	n, many, err := u.desk.Open(ctx, "")
	switch {
	case err != nil || n == 0:
		return "", ""
	case many:
		return web.Count(n) + "+", "open"
	}
	return web.Count(n), "open"
}

// badgePart keeps the badge true on every live page.
func (u *UI) badgePart(ctx context.Context) web.Part {
	number, of := u.badgeOf(ctx)
	return web.Part{ID: badgeID, HTML: web.BadgeHTML(badgeID, number, of)}
}

// conflictsFeed is the live connection of a list: it does not move rows under
// the reader's hands, it tells that there are newer ones.
func (u *UI) conflictsFeed(r *http.Request) (web.Feed, error) {
	q := readConflictQuery(r.URL.Query())
	top := r.URL.Query().Get("top")
	every := conflictsEvery
	if top == "" {
		every = 0 // seldom: all of them must be looked through
	}
	return web.Feed{
		Every: every,
		Frame: func(ctx context.Context) (web.Frame, error) {
			v := conflictsView{Query: q}
			if q.Cursor == "" { // on a later page there are always newer ones
				var err error
				if v.Fresh, err = u.desk.Newer(ctx, q.filter(u.site.Zone()), top); err != nil {
					return web.Frame{}, err
				}
			}
			html, err := u.pages.Fragment("conflicts-fresh", v)
			if err != nil {
				return web.Frame{}, err
			}
			return web.Frame{Parts: append(u.badgeParts(ctx), web.Part{ID: "conflicts-fresh", HTML: html})}, nil
		},
	}, nil
}
