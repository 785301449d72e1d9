package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts/conflictstest"
)

func conflicted(t *testing.T) *apitest.Server {
	t.Helper()
	r := apitest.Start(t)
	conflictstest.Fill(t, r.DB)
	return r
}

func listed(t *testing.T, r *apitest.Server, f v1.ConflictFilter) []string {
	t.Helper()
	page, err := r.Viewer.Conflicts(t.Context(), f, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range page.Items {
		out = append(out, c.ID[len(c.ID)-1:])
	}
	return out
}

func order(t *testing.T, r *apitest.Server, id string) (quantity int, notes string) {
	t.Helper()
	if err := r.DB.QueryRow(t.Context(), `SELECT quantity, notes FROM orders WHERE id = $1`, id).Scan(&quantity, &notes); err != nil {
		t.Fatal(err)
	}
	return quantity, notes
}

func TestConflictsAreFoundByWhatPeopleKnow(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	now := time.Now()
	for _, c := range []struct {
		name string
		f    v1.ConflictFilter
		want string
	}{
		{"all", v1.ConflictFilter{}, "12345"},
		{"facility", v1.ConflictFilter{Facility: "frankfurt"}, ""},
		{"table", v1.ConflictFilter{Table: "public.orders"}, "123"},
		{"kind", v1.ConflictFilter{Kind: "update_deleted"}, "2"},
		{"decision", v1.ConflictFilter{Decision: "merged"}, "4"},
		{"time", v1.ConflictFilter{From: now.Add(-150 * time.Minute), To: now.Add(-5 * time.Minute)}, "23"},
		{"value", v1.ConflictFilter{Text: "cedar"}, "1"},
		{"value of the other version", v1.ConflictFilter{Text: "NORTHWIND"}, "2"},
		{"key", v1.ConflictFilter{Text: "ffg-2"}, "5"},
		{"author", v1.ConflictFilter{Text: "jonas"}, "1234"[1:]},
		{"a column's name is not a value", v1.ConflictFilter{Text: "due_date"}, ""},
		{"percent is no wildcard", v1.ConflictFilter{Text: "%"}, ""},
	} {
		if got := strings.Join(listed(t, r, c.f), ""); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, q := range []string{"kind=bogus", "state=gone", "from=yesterday", "cursor=x"} {
		if status, raw := call(t, r, "GET", "/api/v1/conflicts?"+q, r.Viewer.Token, ""); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", q, status, raw)
		}
	}
	n, err := r.Viewer.CountConflicts(t.Context(), v1.ConflictFilter{Table: "public.orders"})
	if err != nil || n.Open != 3 || n.Acknowledged != 0 {
		t.Errorf("count: %+v, %v", n, err)
	}
}

func TestConflictsComeInPagesEachOnce(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	conflictstest.More(t, r.DB, 30)
	if _, err := r.DB.Exec(t.Context(), `UPDATE holdfast.conflict SET at = date_trunc('hour', at) WHERE facility_id = 'frankfurt'`); err != nil {
		t.Fatal(err) // many at one moment: the id must tell them apart
	}
	seen := map[string]bool{}
	cursor, pages := "", 0
	last := time.Now().Add(time.Hour)
	for {
		page, err := r.Viewer.Conflicts(t.Context(), v1.ConflictFilter{}, 10, cursor)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, c := range page.Items {
			if seen[c.ID] || c.At.After(last) {
				t.Errorf("%s comes twice or out of order", c.ID)
			}
			seen[c.ID], last = true, c.At
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 35 || pages != 4 {
		t.Errorf("%d conflicts on %d pages", len(seen), pages)
	}
}

func TestConflictShowsBothVersionsAndTheRowNow(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	c, err := r.Viewer.Conflict(ctx, conflictstest.Quantity)
	if err != nil {
		t.Fatal(err)
	}
	if c.Label != "A-10482" || c.State != v1.ConflictOpen || !strings.Contains(c.Summary, "the facility decides: its version stood on both sides") || c.EdgeBy != "maria" || c.CloudSeq != "4294967297:404" {
		t.Errorf("conflict: %+v", c)
	}
	if !c.Now.Exists || c.Now.Changed || c.Now.Schema != "public" || c.Now.Problem != "" {
		t.Errorf("now: %+v", c.Now)
	}
	at := slices.IndexFunc(c.Columns, func(col v1.ConflictColumn) bool { return col.Name == "quantity" })
	if col := c.Columns[at]; *col.Edge != "2500" || *col.Cloud != "3000" || *col.Now != "2500" || !col.Differs || col.Changed {
		t.Errorf("quantity: %+v", col)
	}
	if c.Columns[0].Name != "id" || !c.Columns[0].Key || c.Columns[0].Differs {
		t.Errorf("the first column: %+v", c.Columns[0])
	}
	var what []string
	for _, h := range c.History {
		what = append(what, h.What)
	}
	if got := strings.Join(what, " "); got != "cloud_changed edge_changed decided" {
		t.Errorf("history: %s", got)
	}
	for id, want := range map[string]string{
		conflictstest.Deleted: "the row stayed deleted",
		conflictstest.Kept:    "the row was kept, with the facility's values",
		conflictstest.Stock:   "the region's reorder_level stood, and the facility's values in all others",
		conflictstest.Own:     "the region decides: its version stood on both sides",
	} {
		c, err := r.Viewer.Conflict(ctx, id)
		if err != nil || !strings.Contains(c.Summary, want) || c.Now.Changed || c.Now.Problem != "" {
			t.Errorf("%s: %q is missing in %q, now %+v, %v", id, want, c.Summary, c.Now, err)
		}
	}
	_, err = r.Viewer.Conflict(ctx, "0d4b6f5e-0000-4000-8000-00000000ffff")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	if err := r.Operator.RemoveTable(ctx, "public", "orders"); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Viewer.Conflict(ctx, conflictstest.Quantity); err != nil || !strings.Contains(c.Now.Problem, "no longer synced") || len(c.Columns) != 13 {
		t.Errorf("of a table that is gone: %+v, %v", c, err)
	}
}

func TestAcknowledgingIsAuditedAndCanBeTakenBack(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	_, err := r.Viewer.AcknowledgeConflict(ctx, conflictstest.Quantity, v1.ConflictAcknowledge{})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	c, err := r.Operator.AcknowledgeConflict(ctx, conflictstest.Quantity, v1.ConflictAcknowledge{Note: "asked maria"})
	if err != nil || c.State != v1.ConflictAcknowledged || c.Review.By != "test operator" || c.Review.Note != "asked maria" {
		t.Fatalf("%+v, %v", c, err)
	}
	_, err = r.Operator.AcknowledgeConflict(ctx, conflictstest.Quantity, v1.ConflictAcknowledge{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if got := strings.Join(listed(t, r, v1.ConflictFilter{State: "acknowledged"}), ""); got != "1" {
		t.Errorf("acknowledged: %s", got)
	}
	if c, err = r.Operator.ReopenConflict(ctx, conflictstest.Quantity); err != nil || c.State != v1.ConflictOpen || c.Review != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	_, err = r.Operator.ReopenConflict(ctx, conflictstest.Quantity)
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	d, err := r.Viewer.Conflict(ctx, conflictstest.Quantity)
	if err != nil {
		t.Fatal(err)
	}
	if h := d.History[len(d.History)-2:]; h[0].What != "acknowledged" || h[0].Note != "asked maria" || h[1].What != "reopened" || h[1].By != "test operator" {
		t.Errorf("history: %+v", h)
	}
	if got := audited(t, r, "conflict.acknowledge"); !slices.Equal(got, []string{"test operator"}) {
		t.Errorf("audit: %v", got)
	}
}

func TestManyAreAcknowledgedOnlyIfTheyAreAsManyAsSaid(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	many := v1.ConflictAcknowledgeMany{Filter: v1.ConflictFilter{Table: "public.orders"}, Count: 2, Note: "known"}
	_, err := r.Operator.AcknowledgeConflicts(ctx, many)
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "3 open conflicts match, not 2") {
		t.Errorf("%s", p.Detail)
	}
	if n := count(t, r, `SELECT count(*) FROM holdfast.conflict_review`); n != 0 {
		t.Fatalf("%d were acknowledged all the same", n)
	}
	many.Count = 3
	if done, err := r.Operator.AcknowledgeConflicts(ctx, many); err != nil || done.Acknowledged != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := strings.Join(listed(t, r, v1.ConflictFilter{}), ""); got != "45" {
		t.Errorf("open: %s", got)
	}
	many.Filter.State = "restored"
	_, err = r.Operator.AcknowledgeConflicts(ctx, many)
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
}

func TestTheOtherVersionIsWrittenAsAnOrdinaryChange(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	dry, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{DryRun: true})
	if err != nil || !dry.DryRun || dry.Write != "update" || dry.Version != "cloud" || len(dry.Changes) != 4 || len(dry.Since) != 0 || len(dry.Warnings) != 0 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if q, _ := order(t, r, conflictstest.QuantityOrder); q != 2500 {
		t.Fatalf("a dry run wrote %d", q)
	}
	_, err = r.Viewer.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{DryRun: true})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	done, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Seen: dry.Seen, Note: "customer called"})
	if err != nil || done.DryRun {
		t.Fatalf("%+v, %v", done, err)
	}
	if q, notes := order(t, r, conflictstest.QuantityOrder); q != 3000 || notes != "" {
		t.Errorf("the order has %d, %q", q, notes)
	}
	c, err := r.Viewer.Conflict(ctx, conflictstest.Quantity)
	if err != nil || c.State != v1.ConflictRestored || c.Review.Note != "customer called" || c.History[len(c.History)-1].What != "restored" {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = r.Operator.ReopenConflict(ctx, conflictstest.Quantity)
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.Operator.AcknowledgeConflict(ctx, conflictstest.Quantity, v1.ConflictAcknowledge{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Version: "edge"})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	// And back, on purpose; the audit log has what was overwritten.
	if back, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Version: "edge", Force: true}); err != nil || back.Write != "update" {
		t.Fatalf("%+v, %v", back, err)
	}
	if q, notes := order(t, r, conflictstest.QuantityOrder); q != 2500 || notes != "Print <both> sides" {
		t.Errorf("the order has %d, %q", q, notes)
	}
	if n := count(t, r, `SELECT count(*) FROM holdfast.audit WHERE what = 'conflict.restore' AND detail @> '{"changes": [{"column": "quantity", "from": "3000", "to": "2500"}]}'`); n != 1 {
		t.Errorf("the audit log has %d entries with what was overwritten", n)
	}
}

func TestARowThatChangedSinceIsNotOverwrittenUnasked(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	if _, err := r.DB.Exec(ctx, `UPDATE orders SET quantity = 2600, customer = 'Cedar & Daughters' WHERE id = $1`, conflictstest.QuantityOrder); err != nil {
		t.Fatal(err)
	}
	_, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{})
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "changed since the decision, in customer and quantity") {
		t.Errorf("%s", p.Detail)
	}
	dry, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{DryRun: true})
	if err != nil || len(dry.Since) != 2 || *dry.Since[1].From != "2500" || *dry.Since[1].To != "2600" || len(dry.Warnings) != 1 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if _, err := r.DB.Exec(ctx, `UPDATE orders SET quantity = 2700 WHERE id = $1`, conflictstest.QuantityOrder); err != nil {
		t.Fatal(err)
	}
	_, err = r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Force: true, Seen: dry.Seen})
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "since you looked") {
		t.Errorf("%s", p.Detail)
	}
	if _, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Force: true}); err != nil {
		t.Fatal(err)
	}
	if q, _ := order(t, r, conflictstest.QuantityOrder); q != 3000 {
		t.Errorf("the order has %d", q)
	}
}

// A large value that the plant's change did not touch is the region's: that is
// no change since, and the region's version writes it back where it was lost.
func TestWhatOneSideDidNotTouchIsTheOthers(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	if _, err := r.DB.Exec(ctx, `
		UPDATE holdfast.conflict SET fields = '{quantity}', cloud_row = cloud_row || '{"due_date": "2026-12-01", "updated_at": "2026-11-26 17:02:00+00", "notes": "new drawing"}', edge_row = (edge_row || '{"notes": "old drawing"}'::jsonb) - 'unit'::text
		 WHERE id = '`+conflictstest.Quantity+`'`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DB.Exec(ctx, `UPDATE orders SET notes = 'new drawing' WHERE id = $1`, conflictstest.QuantityOrder); err != nil {
		t.Fatal(err)
	}
	c, err := r.Viewer.Conflict(ctx, conflictstest.Quantity)
	if err != nil || c.Now.Changed {
		t.Fatalf("%+v, %v", c.Now, err)
	}
	for _, col := range c.Columns {
		if untouched := col.Name == "notes" || col.Name == "unit"; col.EdgeSent == untouched || col.Differs != (col.Name == "quantity") || col.Differs != (col.Stood == "edge") {
			t.Errorf("%+v", col)
		}
	}
	if w, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{}); err != nil || len(w.Changes) != 1 || w.Changes[0].Column != "quantity" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestDeletedRowsComeBackAndKeptOnesGo(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	if w, err := r.Operator.RestoreConflict(ctx, conflictstest.Deleted, v1.ConflictRestore{}); err != nil || w.Write != "insert" {
		t.Fatalf("%+v, %v", w, err)
	}
	if q, notes := order(t, r, conflictstest.DeletedOrder); q != 1200 || notes != "Deliver in the morning" {
		t.Errorf("the order has %d, %q", q, notes)
	}
	if w, err := r.Operator.RestoreConflict(ctx, conflictstest.Kept, v1.ConflictRestore{}); err != nil || w.Write != "delete" || len(w.Changes) != 13 {
		t.Fatalf("%+v, %v", w, err)
	}
	if n := count(t, r, `SELECT count(*) FROM orders WHERE id = $1`, conflictstest.KeptOrder); n != 0 {
		t.Error("the order is still there")
	}
}

func TestMergedVersionsAndSchemasOfFacilitiesAreRestored(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	_, err := r.Operator.RestoreConflict(ctx, conflictstest.Stock, v1.ConflictRestore{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if w, err := r.Operator.RestoreConflict(ctx, conflictstest.Stock, v1.ConflictRestore{Version: "edge"}); err != nil || len(w.Changes) != 1 || w.Changes[0].Column != "reorder_level" || *w.Changes[0].To != "400.000" {
		t.Fatalf("%+v, %v", w, err)
	}
	if w, err := r.Operator.RestoreConflict(ctx, conflictstest.Own, v1.ConflictRestore{}); err != nil || w.Schema != "la_public" || w.Version != "edge" || len(w.Changes) != 3 {
		t.Fatalf("%+v, %v", w, err)
	}
	var name string
	var running bool
	if err := r.DB.QueryRow(ctx, `SELECT name, running FROM la_public.machines WHERE code = 'FFG-2'`).Scan(&name, &running); err != nil || name != "Folder gluer" || running {
		t.Errorf("%s %v %v", name, running, err)
	}
}

func TestWhatTheDatabaseRefusesIsSaidAndChangesNothing(t *testing.T) {
	t.Parallel()
	r := conflicted(t)
	ctx := t.Context()
	if _, err := r.DB.Exec(ctx, `ALTER TABLE orders ADD CHECK (quantity < 2900) NOT VALID`); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		_, err := r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{DryRun: dry})
		if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "violates check constraint") {
			t.Errorf("%s", p.Detail)
		}
	}
	if c, err := r.Viewer.Conflict(ctx, conflictstest.Quantity); err != nil || c.State != v1.ConflictOpen {
		t.Errorf("%+v, %v", c, err)
	}
	// A key that another facility's row has by now is not taken from it.
	if _, err := r.DB.Exec(ctx, `INSERT INTO orders (id, facility_id, number, customer, product, quantity, created_by) VALUES ($1, 'frankfurt', 'F-1', 'c', 'p', 1, 'x')`, conflictstest.DeletedOrder); err != nil {
		t.Fatal(err)
	}
	_, err := r.Operator.RestoreConflict(ctx, conflictstest.Deleted, v1.ConflictRestore{Force: true})
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "belongs to another facility now") {
		t.Errorf("%s", p.Detail)
	}
	if n := count(t, r, `SELECT count(*) FROM orders WHERE facility_id = 'frankfurt' AND quantity = 1`); n != 1 {
		t.Error("frankfurt's order was changed")
	}
	// A version of another facility's row writes nothing.
	if _, err := r.DB.Exec(ctx, `UPDATE holdfast.conflict SET facility_id = 'frankfurt' WHERE id = $1`, conflictstest.Quantity); err != nil {
		t.Fatal(err)
	}
	_, err = r.Operator.RestoreConflict(ctx, conflictstest.Quantity, v1.ConflictRestore{Force: true})
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "another facility_id") {
		t.Errorf("%s", p.Detail)
	}
}
