package dashboard

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/agogsaas/holdfast/internal/web"
)

// tile is one state with how many facilities are in it.
type tile struct {
	Code  string
	Shown web.State
	Count int
	On    bool // the page shows only these
}

// line is one drawn row.
type line struct {
	ElementID string
	HTML      template.HTML
}

// fleetView is one fleet page.
type fleetView struct {
	Query    query
	Tiles    []tile
	Total    int
	Found    int
	Rows     []line
	From, To int
	Pages    int
	// Kind, Title and Text are the sentence for whoever only glances.
	Kind, Title, Text string
	Alerts            alertsBanner
}

// Prev and Next are the neighbouring pages' numbers as text, "" for none.
func (v fleetView) Prev() string {
	if v.Query.Page <= 1 {
		return ""
	}
	return fmt.Sprint(v.Query.Page - 1)
}

// Next is the next page's number, "" for none.
func (v fleetView) Next() string {
	if v.Query.Page >= v.Pages {
		return ""
	}
	return fmt.Sprint(v.Query.Page + 1)
}

// view draws the page that q asks for.
func (b *board) view(q query) (fleetView, error) {
	all := b.present()
	v := fleetView{Query: q, Total: len(all)}
	named := map[string][]string{}
	var found []row
	for _, r := range all {
		named[r.State] = append(named[r.State], r.ID)
		for trouble, has := range map[string]bool{noProgress: len(r.Stalled) > 0, hasParked: r.Parked > 0, hasDiffering: r.Differing > 0} {
			if has {
				named[trouble] = append(named[trouble], r.ID)
			}
		}
		if q.matches(r) {
			found = append(found, r)
		}
	}
	for _, s := range states {
		v.Tiles = append(v.Tiles, tile{Code: s.code, Shown: s.State, Count: len(named[s.code]), On: q.State == s.code})
	}
	v.summarize(named)
	slices.SortStableFunc(found, q.less)
	v.Found = len(found)
	v.Pages = max(1, (len(found)+rowsPerPage-1)/rowsPerPage)
	v.Query.Page = min(q.Page, v.Pages)
	from := (v.Query.Page - 1) * rowsPerPage
	to := min(from+rowsPerPage, len(found))
	v.From, v.To = from+1, to
	for _, r := range found[from:to] {
		h, err := b.html(r)
		if err != nil {
			return fleetView{}, err
		}
		v.Rows = append(v.Rows, line{ElementID: "f-" + r.ID, HTML: template.HTML(h)}) //nolint:gosec // drawn by html/template
	}
	return v, nil
}

// Troubles that a facility may have in any state.
const (
	noProgress   = "stalled"
	hasParked    = "parked"
	hasDiffering = "differing"
)

func (v *fleetView) summarize(named map[string][]string) {
	some := func(code string) string {
		ids := named[code]
		s := strings.Join(ids[:min(len(ids), namedMax)], ", ")
		if len(ids) > namedMax {
			s += fmt.Sprintf(" and %s more", web.Count(len(ids)-namedMax))
		}
		return s
	}
	offline, degraded, unknown := len(named["offline"]), len(named["degraded"]), len(named["unknown"])
	switch {
	case v.Total == 0:
		v.Kind, v.Title, v.Text = "info", "No facilities yet.", "Add the first one with: holdfastctl facility add"
	case offline > 0:
		v.Kind, v.Title = "bad", fmt.Sprintf("%s %s offline: %s.", web.Count(offline), isAre(offline), some("offline"))
		v.Text = "Their people keep working; what they save waits there."
		if offline == 1 {
			v.Text = "Its people keep working; what they save waits there."
		}
		if degraded > 0 {
			v.Text += fmt.Sprintf(" Degraded: %s.", some("degraded"))
		}
	case unknown > 0:
		v.Kind, v.Title = "warn", fmt.Sprintf("The state of %s is not known: %s.", plural(unknown), some("unknown"))
		v.Text = "This region cannot see them right now; they may be well."
	case degraded > 0:
		v.Kind, v.Title = "warn", fmt.Sprintf("%s %s degraded: %s.", web.Count(degraded), isAre(degraded), some("degraded"))
		v.Text = "Nothing is lost; one of the two ways to the region does not work."
	case len(named["online"]) == 0:
		v.Kind, v.Title, v.Text = "info", "No facility has connected yet.", "Waiting for "+some("new")+"."
	case len(named[noProgress]) > 0:
		v.Kind, v.Title = "warn", fmt.Sprintf("No progress at %s: %s.", plural(len(named[noProgress])), some(noProgress))
		v.Text = "Nothing is lost; the facility's page says what stands still."
	case len(named[hasParked]) > 0:
		v.Kind, v.Title = "warn", fmt.Sprintf("Parked changes wait for somebody at %s: %s.", plural(len(named[hasParked])), some(hasParked))
		v.Text = "A database refused them; everything else flows. Parked shows each with its reason."
	case len(named[hasDiffering]) > 0:
		v.Kind, v.Title = "warn", fmt.Sprintf("Rows differ at %s: %s.", plural(len(named[hasDiffering])), some(hasDiffering))
		v.Text = "The facility's page shows which; holdfastctl verify --repair mends them."
	default:
		n := len(named["online"])
		v.Kind, v.Title = "ok", fmt.Sprintf("%s online.", plural(n))
		v.Text = "Nothing stands still, and nothing waits for a person here."
	}
}

func isAre(n int) string {
	if n == 1 {
		return "facility is"
	}
	return "facilities are"
}

func plural(n int) string {
	if n == 1 {
		return "1 facility"
	}
	return web.Count(n) + " facilities"
}
