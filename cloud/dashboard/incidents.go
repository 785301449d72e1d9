package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	incidentsEvery = time.Second // a live list looks this often
	openShown      = 200         // open incidents on one page
	resolvedShown  = 50          // and resolved ones
	incidentsBadge = "nav-incidents"
)

// incidentKinds in the order of the filter, and what people call them.
var incidentKinds = []struct{ Code, Word string }{
	{"offline", "Offline"},
	{"tunnel_down", "Tunnel down"},
	{"telemetry_down", "Heartbeats missing"},
	{"unstable", "Comes and goes"},
	{"queue_filling", "Queue filling"},
	{"disk_filling", "Disk filling"},
	{"database_down", "Database down"},
	{"no_progress", "No progress"},
	{"clock_off", "Clock off"},
	{"watchdog_off", "Watchdog not armed"},
	{"certificate", "Certificate near its end"},
	{"parked_rows", "Parked changes"},
	{"mismatch", "Rows differ"},
	{"temperature", "Too hot"},
	{"outage", "Regional outage"},
	{"blind", "Region is blind"},
	{"alerting", "Alerting itself"},
	{"drill", "Drill"},
}

// incidentStates are the tabs of the list.
var incidentStates = []struct{ Code, Word string }{
	{"", "All"}, {"open", "Open"}, {"acknowledged", "Acknowledged"}, {"resolved", "Resolved"},
}

// incidentQuery is what a list of incidents shows.
type incidentQuery struct {
	State, Facility, Kind, Tenant string
	Before                        int64 // resolved ones older than this
}

func readIncidentQuery(v url.Values) incidentQuery {
	q := incidentQuery{State: v.Get("state"), Facility: cutText(v.Get("facility"), 63), Kind: v.Get("kind"), Tenant: cutText(v.Get("tenant"), 63)}
	if wordOf(incidentStates, q.State) == q.State {
		q.State = ""
	}
	if wordOf(incidentKinds, q.Kind) == q.Kind {
		q.Kind = ""
	}
	if n, err := strconv.ParseInt(v.Get("before"), 10, 64); err == nil && n > 0 {
		q.Before = n
	}
	return q
}

// cutText keeps what a database takes and a page shows.
func cutText(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(strings.TrimSpace(s), ""), "\x00", "")
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(most, len(s))], ""))
}

func (q incidentQuery) values() url.Values {
	v := url.Values{}
	for _, p := range [][2]string{{"state", q.State}, {"facility", q.Facility}, {"kind", q.Kind}, {"tenant", q.Tenant}} {
		if p[1] != "" {
			v.Set(p[0], p[1])
		}
	}
	if q.Before > 0 {
		v.Set("before", strconv.FormatInt(q.Before, 10))
	}
	return v
}

// With is the address of the list with one value changed; it begins at the newest.
func (q incidentQuery) With(k, value string) template.URL {
	v := q.values()
	v.Del("before")
	v.Del(k)
	if value != "" {
		v.Set(k, value)
	}
	return template.URL("?" + v.Encode()) //nolint:gosec // encoded here
}

// Live is the page's WebSocket.
func (q incidentQuery) Live() template.URL {
	return template.URL("/live/incidents?" + q.values().Encode()) //nolint:gosec // encoded here
}

// Filtered reports whether more than the state picks incidents.
func (q incidentQuery) Filtered() bool { return q.Facility != "" || q.Kind != "" || q.Tenant != "" }

func (q incidentQuery) matches(i incidentLine) bool {
	return (q.Facility == "" || i.Facility == q.Facility) && (q.Kind == "" || i.Kind == q.Kind) && (q.Tenant == "" || i.Tenant == q.Tenant)
}

// incidentLine is an incident in words.
type incidentLine struct {
	v1.Incident
	CanWork bool
}

// Title is where it is, for people.
func (i incidentLine) Title() string { return cmp.Or(i.Name, i.Facility, "The region") }

// What is what is wrong, for people.
func (i incidentLine) What() string { return wordOf(incidentKinds, i.Kind) }

// Open reports that it is not over.
func (i incidentLine) Open() bool { return i.ResolvedAt == nil }

// Drill reports that nothing is wrong: it is the daily proof of the channels.
func (i incidentLine) Drill() bool { return i.Kind == "drill" }

// Waits reports that nobody has taken it on yet.
func (i incidentLine) Waits() bool { return i.Open() && i.AckedAt == nil }

// Shown is the incident's state as people see it.
func (i incidentLine) Shown() web.State {
	switch {
	case !i.Open():
		return web.State{Kind: "ok", Word: "Resolved"}
	case i.AckedAt != nil:
		return web.State{Kind: "busy", Word: "Acknowledged"}
	case i.Quiet:
		return web.State{Kind: "idle", Word: "Open, announced work"}
	case i.Severity == "critical":
		return web.State{Kind: "bad", Word: "Open"}
	}
	return web.State{Kind: "warn", Word: "Open"}
}

// Level is how much it matters.
func (i incidentLine) Level() string {
	return wordOf([]struct{ Code, Word string }{{"critical", "Critical"}, {"warning", "Warning"}, {"info", "For information"}}, i.Severity)
}

// Heard is who was told, in short.
func (i incidentLine) Heard() string {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{i.Told, "told"}, {i.Waiting, "waiting"}, {i.Failed, "failed"}} {
		if p.n > 0 {
			parts = append(parts, web.Count(p.n)+" "+p.word)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nobody told")
}

// Lasted is how long a resolved one took.
func (i incidentLine) Lasted() string {
	if i.ResolvedAt == nil {
		return ""
	}
	return web.Span(max(0, i.ResolvedAt.Sub(i.Since)))
}

// HowWord says by what way somebody acknowledged.
func (i incidentLine) HowWord() string {
	return wordOf([]struct{ Code, Word string }{
		{"sms", "by SMS"},
		{"voice", "by a key on the phone"},
		{"slack", "in Slack"},
		{"link", "by the link in the message"},
		{"dashboard", "on this dashboard"},
		{"cli", "with holdfastctl"},
	}, i.AckedHow)
}

// byUrgency puts what waits for somebody first; parts of a regional incident
// come behind it.
func byUrgency(a, b incidentLine) int {
	rank := func(i incidentLine) int {
		n := map[string]int{"critical": 0, "warning": 1}[i.Severity]
		if i.Severity == "info" {
			n = 2
		}
		if i.AckedAt != nil || i.Quiet {
			n += 3
		}
		if i.Parent != nil {
			n += 6
		}
		return n
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.OpenedAt.Compare(a.OpenedAt), cmp.Compare(b.ID, a.ID))
}

type incidentsView struct {
	Query      incidentQuery
	Tabs       []tab
	Rows       []incidentRow
	More       int // open ones that are not shown
	Next       template.URL
	Facilities []conflictChoice
	Tenants    []string
	Kinds      []struct{ Code, Word string }
	Problem    string
}

// incidentRow is one drawn row.
type incidentRow struct {
	ElementID string
	HTML      template.HTML
}

// incidentsView reads and draws a list.
func (u *UI) incidentsView(ctx context.Context, q incidentQuery, work bool) (incidentsView, error) {
	v := incidentsView{Query: q, Kinds: incidentKinds}
	open, err := u.open.now(ctx)
	if err != nil {
		return v, err
	}
	var shown []incidentLine
	counts := map[string]int64{}
	for _, i := range open {
		if !q.matches(i) {
			continue
		}
		counts["open"]++
		if i.AckedAt != nil {
			counts["acknowledged"]++
		}
		if q.State != "resolved" && (q.State != "acknowledged" || i.AckedAt != nil) && q.Before == 0 {
			shown = append(shown, i)
		}
	}
	if len(shown) > openShown {
		v.More = len(shown) - openShown
		shown = shown[:openShown]
	}
	if q.State == "" || q.State == "resolved" {
		list, err := u.d.Alerts.List(ctx, alert.Filter{State: alert.Resolved, Facility: q.Facility, Kind: q.Kind, Tenant: q.Tenant, Before: q.Before, Limit: resolvedShown + 1})
		if err != nil {
			return v, err
		}
		if len(list) > resolvedShown {
			list = list[:resolvedShown]
			older := q
			older.Before = list[resolvedShown-1].ID
			v.Next = template.URL("/incidents?" + older.values().Encode()) //nolint:gosec // encoded here
		}
		for _, i := range list {
			shown = append(shown, incidentLine{Incident: i})
		}
	}
	for _, s := range incidentStates {
		n := int64(-1) // not counted
		if s.Code == "open" || s.Code == "acknowledged" {
			n = counts[s.Code]
		}
		v.Tabs = append(v.Tabs, tab{Code: s.Code, Word: s.Word, Count: n, On: q.State == s.Code})
	}
	for _, i := range shown {
		i.CanWork = work
		html, err := u.pages.Fragment("incident-row", i)
		if err != nil {
			return v, err
		}
		v.Rows = append(v.Rows, incidentRow{fmt.Sprintf("i-%d", i.ID), html})
	}
	return v, nil
}

func (u *UI) incidentsPage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	v, err := u.incidentsView(ctx, readIncidentQuery(r.URL.Query()), canWork(r))
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	known := map[string]bool{}
	for _, f := range u.d.Fleet.Snapshot() {
		v.Facilities = append(v.Facilities, conflictChoice{f.ID, f.Name})
		known[f.ID] = true
		if f.Tenant != "" && !slices.Contains(v.Tenants, f.Tenant) {
			v.Tenants = append(v.Tenants, f.Tenant)
		}
	}
	if v.Query.Facility != "" && !known[v.Query.Facility] {
		v.Facilities = append(v.Facilities, conflictChoice{ID: v.Query.Facility})
	}
	if v.Query.Tenant != "" && !slices.Contains(v.Tenants, v.Query.Tenant) {
		v.Tenants = append(v.Tenants, v.Query.Tenant)
	}
	slices.Sort(v.Tenants)
	u.pages.Render(w, r, http.StatusOK, "incidents", web.Page{Title: "Incidents", Active: "/incidents", Live: "/live/incidents", Data: v})
}

// incidentsFeed is the live connection of a list.
func (u *UI) incidentsFeed(r *http.Request) (web.Feed, error) {
	q, work := readIncidentQuery(r.URL.Query()), canWork(r)
	return web.Feed{
		Every: incidentsEvery,
		Frame: func(ctx context.Context) (web.Frame, error) {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			v, err := u.incidentsView(ctx, q, work)
			if err != nil {
				return web.Frame{}, err
			}
			f := web.Frame{Order: map[string][]string{"incident-rows": {}}, Parts: u.badgeParts(ctx)}
			for _, name := range []string{"incident-tabs", "incident-foot"} {
				html, err := u.pages.Fragment(name, v)
				if err != nil {
					return web.Frame{}, err
				}
				f.Parts = append(f.Parts, web.Part{ID: name, HTML: html})
			}
			for _, l := range v.Rows {
				f.Parts = append(f.Parts, web.Part{ID: l.ElementID, HTML: l.HTML})
				f.Order["incident-rows"] = append(f.Order["incident-rows"], l.ElementID)
			}
			return f, nil
		},
	}, nil
}
