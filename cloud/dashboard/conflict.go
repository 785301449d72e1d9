package dashboard

import (
	"errors"
	"net/http"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// conflictView is one conflict's page.
type conflictView struct {
	v1.ConflictDetail
	Row     conflictRow
	Zone    *time.Location // of the facility
	CanWork bool
	Problem string
	// Main are the columns to look at, Rest those that are equal on both sides.
	Main, Rest []version
}

// version is one column in every version of the row.
type version struct{ v1.ConflictColumn }

// EdgeStood reports that the facility's value stood where they differ.
func (c version) EdgeStood() bool { return c.Stood == "edge" }

// CloudStood is the region's.
func (c version) CloudStood() bool { return c.Stood == "cloud" }

// EdgeStood and CloudStood say of a whole side whether its version stood.
func (v conflictView) EdgeStood() bool { return v.Decision == "edge" }

// CloudStood is the other side's.
func (v conflictView) CloudStood() bool { return v.Decision == "cloud" }

// Merged reports that each side's own columns stood.
func (v conflictView) Merged() bool { return v.Decision == "merged" }

// Corrected reports that the facility's version was corrected while it was parked.
func (v conflictView) Corrected() bool { return v.Policy == "corrected" }

// Whole reports that both sides had the row.
func (v conflictView) Whole() bool { return v.HasEdge && v.HasCloud }

// Others are the versions that may be written now.
func (v conflictView) Others() []otherVersion {
	edge := otherVersion{"edge", "Use the facility's version", v.HasEdge}
	cloud := otherVersion{"cloud", "Use the region's version", v.HasCloud}
	var list []otherVersion
	switch v.Stands {
	case "edge":
		list = []otherVersion{cloud}
	case "cloud":
		list = []otherVersion{edge}
	default:
		return []otherVersion{edge, cloud}
	}
	if v.State != v1.ConflictRestored {
		list[0].Word = "Use the other version"
	}
	return list
}

// StandsWord says whose version was written last.
func (v conflictView) StandsWord() string {
	if v.Stands == "edge" {
		return "facility's"
	}
	return "region's"
}

type otherVersion struct {
	Side, Word string
	HasRow     bool
}

// HistoryWord says what one event of the timeline was.
func (v conflictView) HistoryWord(what string) string {
	switch what {
	case "edge_changed":
		if !v.HasEdge {
			return "Deleted at the facility"
		}
		return "Changed at the facility"
	case "cloud_changed":
		if v.Corrected() {
			return "Corrected in the region"
		}
		if !v.HasCloud {
			return "Deleted in the region"
		}
		return "Changed in the region"
	case "decided":
		if v.Corrected() {
			return "The box at the facility took the correction over, and kept both versions here"
		}
		return "The box at the facility decided, and kept both versions here"
	case v1.ConflictAcknowledged:
		return "Kept as it is"
	case "reopened":
		return "Opened again"
	case v1.ConflictRestored:
		return "The other version was written"
	}
	return what
}

func (u *UI) conflictView(r *http.Request) (conflictView, error) {
	d, err := u.desk.Show(r.Context(), r.PathValue("id"))
	if err != nil {
		return conflictView{}, err
	}
	v := conflictView{ConflictDetail: d, Zone: time.UTC}
	id, _ := web.From(r.Context())
	v.CanWork = id.Can(web.Operator)
	place := ""
	if f, ok := u.d.Fleet.Facility(d.Facility); ok {
		place = f.Name
		if zone, err := time.LoadLocation(f.TimeZone); err == nil {
			v.Zone = zone
		}
	}
	v.Row = newConflictRow(d.Conflict, place)
	for _, c := range d.Columns {
		col := version{ConflictColumn: c}
		if !v.Whole() {
			// The row differs, not its columns.
			col.Differs, col.Stood = false, ""
			if _, there := d.Key[c.Name]; there || c.Edge != nil || c.Cloud != nil || c.Now != nil {
				v.Main = append(v.Main, col)
			}
			continue
		}
		if c.Differs || c.Changed {
			v.Main = append(v.Main, col)
		} else {
			v.Rest = append(v.Rest, col)
		}
	}
	return v, nil
}

func (u *UI) conflictPage(w http.ResponseWriter, r *http.Request) {
	u.showConflict(w, r, http.StatusOK, "")
}

func (u *UI) showConflict(w http.ResponseWriter, r *http.Request, status int, problem string) {
	v, err := u.conflictView(r)
	if err != nil {
		u.noConflict(w, r, err)
		return
	}
	v.Problem = problem
	u.pages.Render(w, r, status, "conflict", web.Page{Title: "Conflict: " + v.Label, Active: "/conflicts", Live: "-", Data: v})
}

func (u *UI) noConflict(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, conflicts.ErrNotFound) {
		u.site.Error(w, r, http.StatusNotFound, hint.Wrap(errNoConflict, "Look for it in the list of conflicts."))
		return
	}
	u.site.Error(w, r, http.StatusInternalServerError, err)
}

var errNoConflict = errors.New("there is no such conflict in this region")

// refused shows why something was not done, on the page it was asked from.
func (u *UI) refused(w http.ResponseWriter, r *http.Request, err error, show func(status int, why string)) {
	if !errors.Is(err, conflicts.ErrRefused) {
		u.noConflict(w, r, err)
		return
	}
	why := err.Error()
	why = strings.ToUpper(why[:1]) + strings.TrimSuffix(why[1:], ".") + "."
	show(http.StatusConflict, why)
}

func (u *UI) keep(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := u.desk.Acknowledge(r.Context(), id, whoIs(r), note(r)); err != nil {
		u.refused(w, r, err, func(status int, why string) { u.showConflict(w, r, status, why) })
		return
	}
	http.Redirect(w, r, "/conflicts/"+id, http.StatusSeeOther)
}

func (u *UI) reopen(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := u.desk.Reopen(r.Context(), id, whoIs(r)); err != nil {
		u.refused(w, r, err, func(status int, why string) { u.showConflict(w, r, status, why) })
		return
	}
	http.Redirect(w, r, "/conflicts/"+id, http.StatusSeeOther)
}

// restoreView is the page that shows exactly what will be written.
type restoreView struct {
	conflictView
	Plan    v1.ConflictRestoration
	Note    string
	Refused string // why it cannot be written; then there is no plan
	Advice  string
}

// Whose is the side whose version it is, for people.
func (v restoreView) Whose() string {
	if v.Plan.Version == "edge" {
		return "facility's"
	}
	return "region's"
}

// SinceOf is how a value changed after the decision, nil if it did not.
func (v restoreView) SinceOf(column string) *v1.ConflictWrite {
	for i := range v.Plan.Since {
		if v.Plan.Since[i].Column == column {
			return &v.Plan.Since[i]
		}
	}
	return nil
}

// Warned reports whether something speaks against writing.
func (v restoreView) Warned() bool { return len(v.Plan.Warnings) > 0 }

func (u *UI) restorePage(w http.ResponseWriter, r *http.Request) {
	u.showRestore(w, r, http.StatusOK, r.URL.Query().Get("version"), "")
}

func (u *UI) showRestore(w http.ResponseWriter, r *http.Request, status int, side, problem string) {
	c, err := u.conflictView(r)
	if err != nil {
		u.noConflict(w, r, err)
		return
	}
	if side != "edge" && side != "cloud" {
		side = c.Others()[0].Side
	}
	v := restoreView{conflictView: c, Note: note(r)}
	v.Problem = problem
	v.Plan, err = u.desk.Restore(r.Context(), c.ID, whoIs(r), v1.ConflictRestore{Version: side, DryRun: true})
	if errors.Is(err, conflicts.ErrRefused) {
		v.Refused, v.Advice, err = err.Error(), hint.Of(err), nil
		v.Plan.Version = side
	}
	if err != nil {
		u.noConflict(w, r, err)
		return
	}
	u.pages.Render(w, r, status, "conflict-restore", web.Page{Title: "Use the other version: " + v.Label, Active: "/conflicts", Live: "-", Data: v})
}

func (u *UI) restore(w http.ResponseWriter, r *http.Request) {
	id, side := r.PathValue("id"), r.PostFormValue("version")
	_, err := u.desk.Restore(r.Context(), id, whoIs(r), v1.ConflictRestore{
		Version: side, Note: note(r), Seen: r.PostFormValue("seen"), Force: r.PostFormValue("force") == "yes",
	})
	if err != nil {
		u.refused(w, r, err, func(status int, why string) { u.showRestore(w, r, status, side, why) })
		return
	}
	http.Redirect(w, r, "/conflicts/"+id, http.StatusSeeOther)
}
