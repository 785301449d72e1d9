package conflicts

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// Sides and decisions, as the table has them.
const (
	edge   = "edge"
	cloud  = "cloud"
	merged = "merged"
)

// corrected is a conflict's policy where a person decided: the facility's change
// was parked in the region, and corrected there.
const corrected = "corrected"

// conflict is the record for readers of the list.
func (r *record) conflict() v1.Conflict {
	c := v1.Conflict{
		ID: r.ID, Facility: r.Facility, At: r.At, Schema: r.Schema, Table: r.Table, Key: r.Key, Label: r.label(),
		Kind: r.Kind, Policy: r.Policy, Decision: r.Decision, Summary: r.summary(), Fields: append([]string{}, r.Fields...),
		EdgeAt: r.EdgeAt, CloudAt: r.CloudAt, EdgeBy: r.EdgeBy, CloudBy: r.CloudBy, State: v1.ConflictOpen,
	}
	if r.Action != nil {
		c.State = *r.Action
		c.Review = &v1.ConflictReview{Action: *r.Action, By: *r.ReviewBy, At: *r.ReviewAt, Note: *r.Note}
	}
	return c
}

// LabelColumns are columns by which people often know a row, the best first.
var LabelColumns = []string{"number", "order_number", "order_no", "sku", "code", "name", "title", "label", "serial", "lot"}

func (r *record) label() string { return Label(r.Key, r.EdgeRow, r.CloudRow) }

// Label is what people call a row: its number or name where a column of one of its
// versions says so, else its key. Versions need to have only LabelColumns.
func Label(key map[string]*string, versions ...map[string]*string) string {
	for _, n := range LabelColumns {
		for _, side := range append(versions, key) {
			if v := side[n]; v != nil && *v != "" {
				return short(*v)
			}
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(key)) {
		if v := key[k]; v != nil {
			parts = append(parts, *v)
		}
	}
	return short(strings.Join(parts, ", "))
}

// labelMaxRunes is how much of a label a list shows.
const labelMaxRunes = 60

func short(s string) string {
	if runes := []rune(s); len(runes) > labelMaxRunes {
		return string(runes[:labelMaxRunes-1]) + "…"
	}
	return s
}

// summary says in plain words what happened, what was decided, and why.
func (r *record) summary() string {
	if r.Policy == corrected {
		return r.correction()
	}
	var what string
	switch r.Kind {
	case "insert_exists":
		what = "The facility and the region both added this row before either had heard of the other."
	case "update_deleted":
		what = "The region changed this row and the facility had deleted it, before either had heard of the other."
	case "delete_origin_differs":
		what = "The region deleted this row and the facility had changed it, before either had heard of the other."
	default:
		what = "The facility and the region both changed this row before either had heard of the other."
	}
	return what + " " + r.why()
}

func (r *record) correction() string {
	who := cmp.Or(r.CloudBy, "Somebody in the region")
	switch {
	case r.CloudRow == nil:
		return fmt.Sprintf("The region's database had refused the facility's change of this row, so that it was parked. %s corrected what was parked, and the row was deleted on both sides.", who)
	case r.EdgeRow == nil:
		return fmt.Sprintf("The region's database had refused the facility's change of this row, so that it was parked. %s corrected it there, and the corrected row stood on both sides; the facility had deleted it.", who)
	}
	return fmt.Sprintf("The region's database had refused the facility's version of this row, so that it was parked. %s corrected it there, and the corrected version stood on both sides. The facility's is kept here.", who)
}

func (r *record) why() string {
	if r.Decision == merged {
		if own := r.cloudOwned(); len(own) > 0 {
			return fmt.Sprintf("In this table each side owns columns: the region's %s stood, and the facility's values in all others.", list(own))
		}
		return "In this table each side owns columns: each side's own values stood."
	}
	side := "facility"
	if r.Decision == cloud {
		side = "region"
	}
	stood := "its version stood on both sides."
	has := r.version(r.Decision) != nil
	switch {
	case !has && r.Kind == "update_deleted":
		stood = "the row stayed deleted."
	case !has:
		stood = "the row was deleted on both sides."
	case r.Kind == "delete_origin_differs" || r.Kind == "update_deleted":
		stood = fmt.Sprintf("the row was kept, with the %s's values.", side)
	}
	if r.Policy == r.Decision {
		return fmt.Sprintf("In this table the %s decides: %s", side, stood)
	}
	return strings.ToUpper(stood[:1]) + stood[1:]
}

// cloudOwned are the differing columns that the region owns.
func (r *record) cloudOwned() []string {
	var own []string
	for _, f := range r.Fields {
		if slices.Contains(r.CloudColumns, f) {
			own = append(own, f)
		}
	}
	return own
}

func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// version is one side's row, nil where that side had none.
func (r *record) version(side string) row {
	if side == cloud {
		return r.CloudRow
	}
	return r.EdgeRow
}

// stoodSide is whose value of a column stood. Of one in which the two did not
// differ it is the region's: either they were equal, or the facility's change
// had not touched it.
func (r *record) stoodSide(column string) string {
	switch {
	case r.EdgeRow == nil || r.CloudRow == nil:
		return r.Decision
	case !slices.Contains(r.Fields, column), r.Decision == merged && slices.Contains(r.CloudColumns, column):
		return cloud
	case r.Decision == merged:
		return edge
	}
	return r.Decision
}

// stands is whose version was written last, by the decision or by somebody since;
// "merged" when it was each side's own columns.
func (r *record) stands(log []entry) string {
	for _, e := range slices.Backward(log) {
		if e.What == auditRestore && e.Version != "" {
			return e.Version
		}
	}
	return r.Decision
}

// other is the side whose version does not stand, "" when they were merged.
func (r *record) other(log []entry) string {
	switch r.stands(log) {
	case edge:
		return cloud
	case cloud:
		return edge
	}
	return ""
}

// detail puts everything side by side. look may be nil, with the reason why.
func (r *record) detail(look *sight, problem error) v1.ConflictDetail {
	d := v1.ConflictDetail{
		Conflict: r.conflict(), EdgeSeq: r.EdgeSeq, CloudSeq: r.CloudSeq,
		HasEdge: r.EdgeRow != nil, HasCloud: r.CloudRow != nil, Columns: []v1.ConflictColumn{},
	}
	var order []string
	now := row{}
	if look != nil {
		d.Now = v1.ConflictNow{Schema: look.layout.Schema, Exists: look.now != nil, Changed: look.changed()}
		now = look.now
		for _, c := range look.layout.Columns {
			order = append(order, c.Name)
		}
	} else if problem != nil {
		d.Now.Problem = problem.Error()
	}
	for _, c := range r.columns(order) {
		col := v1.ConflictColumn{Name: c, Differs: slices.Contains(r.Fields, c), Now: now[c]}
		_, col.Key = r.Key[c]
		col.Edge, col.EdgeSent = r.EdgeRow[c], has(r.EdgeRow, c)
		col.Cloud, col.CloudSent = r.CloudRow[c], has(r.CloudRow, c)
		col.Changed = look != nil && look.isChanged(c)
		if col.Differs {
			col.Stood = r.stoodSide(c)
		} else if d.HasEdge && d.HasCloud && col.CloudSent && !equal(col.Edge, col.Cloud) {
			col.EdgeSent = false // it has the value from before the region's change
		}
		d.Columns = append(d.Columns, col)
	}
	return d
}

// columns are all that any version has, in the table's order as far as known.
func (r *record) columns(order []string) []string {
	all := slices.Clone(order)
	var rest []string
	for _, side := range []row{r.Key, r.EdgeRow, r.CloudRow} {
		for c := range side {
			if !slices.Contains(all, c) && !slices.Contains(rest, c) {
				rest = append(rest, c)
			}
		}
	}
	slices.SortFunc(rest, func(a, b string) int { // the key first where the table does not tell
		return cmp.Or(-cmp.Compare(len(pick(r.Key, a)), len(pick(r.Key, b))), cmp.Compare(a, b))
	})
	return append(all, rest...)
}

func pick(m row, c string) string {
	if has(m, c) {
		return "k"
	}
	return ""
}

func has(m row, c string) bool { _, ok := m[c]; return ok }

// history is what happened, oldest first: the two changes by the clocks of
// those who made them, then the decision, then what people did about it.
func (r *record) history(log []entry) []v1.ConflictHistory {
	out := []v1.ConflictHistory{}
	if r.EdgeAt != nil {
		out = append(out, v1.ConflictHistory{At: *r.EdgeAt, What: "edge_changed", By: r.EdgeBy})
	}
	if r.CloudAt != nil {
		out = append(out, v1.ConflictHistory{At: *r.CloudAt, What: "cloud_changed", By: r.CloudBy})
	}
	byTime := func(a, b v1.ConflictHistory) int { return a.At.Compare(b.At) }
	slices.SortStableFunc(out, byTime)
	out = append(out, v1.ConflictHistory{At: r.At, What: "decided"})
	var later []v1.ConflictHistory
	for _, e := range log {
		if e.What != auditReopen && e.What != auditRestore {
			continue // what is acknowledged now is in the review, what was before is in before
		}
		if e.BeforeAction == v1.ConflictAcknowledged && e.BeforeAt != nil {
			later = append(later, v1.ConflictHistory{At: *e.BeforeAt, What: e.BeforeAction, By: e.BeforeBy, Note: e.BeforeNote})
		}
		what := "reopened"
		if e.What == auditRestore {
			what = v1.ConflictRestored
		}
		later = append(later, v1.ConflictHistory{At: e.At, What: what, By: e.Who, Note: e.Note})
	}
	if r.Action != nil && *r.Action == v1.ConflictAcknowledged {
		later = append(later, v1.ConflictHistory{At: *r.ReviewAt, What: *r.Action, By: *r.ReviewBy, Note: *r.Note})
	}
	slices.SortStableFunc(later, byTime)
	return append(out, later...)
}
