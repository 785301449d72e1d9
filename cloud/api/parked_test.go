package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func untilState(t *testing.T, r *apitest.Server, id int64, want string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		p, err := r.Viewer.ParkedRow(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if p.State == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("parked change %d is %s, not %s: %s", id, p.State, want, p.Message)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestParkedChangeIsShownBesideTheRowInItsWayAndCorrected(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	first, behind := r.Park(t)
	page, err := r.Viewer.Parked(ctx, v1.ParkedFilter{Facility: "la", Table: "public.orders"}, 1, "")
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != behind || *page.Items[0].Key["id"] != "2" || page.Next == "" {
		t.Fatalf("list: %+v, %v", page, err)
	}
	page, err = r.Viewer.Parked(ctx, v1.ParkedFilter{Reason: "unique"}, 0, "")
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != first {
		t.Fatalf("list by reason: %+v, %v", page, err)
	}
	p, err := r.Viewer.ParkedRow(ctx, first)
	if err != nil || p.Blocking != "public.orders" || p.Behind != 1 || p.Dependants != 0 || len(p.Columns) != 5 {
		t.Fatalf("show: %+v, %v", p, err)
	}
	note := p.Columns[3]
	if note.Name != "note" || *note.Value != "mine" || *note.Blocking != "theirs" || !note.Differs || p.Columns[2].Differs {
		t.Errorf("columns: %+v", p.Columns)
	}
	if s, err := r.Viewer.SyncStatus(ctx, "la"); err != nil || s.Parked != 2 || s.Waits != "" {
		t.Errorf("sync status: %+v, %v", s, err)
	}

	name := "nut"
	edit := v1.ParkedEdit{Set: map[string]*string{"name": &name}}
	_, err = r.Viewer.EditParked(ctx, first, edit)
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	_, err = r.Operator.EditParked(ctx, first, v1.ParkedEdit{Set: map[string]*string{"id": &name}})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	_, err = r.Operator.EditParked(ctx, first, v1.ParkedEdit{Set: map[string]*string{"nothing": nil}})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	if _, err = r.Operator.EditParked(ctx, first, edit); err != nil {
		t.Fatal(err)
	}
	untilState(t, r, first, "applied")
	// The version behind it still has the name that the other row has.
	if n := count(t, r, "SELECT count(*) FROM public.orders WHERE id = 2 AND name = 'nut' AND note = 'mine'"); n != 1 {
		t.Error("the corrected row is not there")
	}
	if _, err = r.Operator.EditParked(ctx, behind, v1.ParkedEdit{Set: map[string]*string{"name": &name, "note": nil}}); err != nil {
		t.Fatal(err)
	}
	untilState(t, r, behind, "applied")
	if n := count(t, r, "SELECT count(*) FROM public.orders WHERE id = 2 AND name = 'nut' AND note IS NULL"); n != 1 {
		t.Error("the later version is not there")
	}
	if n := count(t, r, "SELECT count(*) FROM public.orders WHERE id = 1 AND name = 'bolt' AND note = 'theirs'"); n != 1 {
		t.Error("the row in the way was touched")
	}
	_, err = r.Operator.EditParked(ctx, first, edit)
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if got := audited(t, r, "parked.edit"); len(got) != 2 {
		t.Errorf("audit of edit: %v", got)
	}
}

func TestParkedChangeIsDiscardedAndWhatWaitsBehindItIsNext(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	first, behind := r.Park(t)
	_, err := r.Operator.DiscardParked(ctx, 99, v1.ParkedDiscard{})
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	_, err = r.Viewer.DiscardParked(ctx, first, v1.ParkedDiscard{})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	dry, err := r.Operator.DiscardParked(ctx, first, v1.ParkedDiscard{DryRun: true})
	if err != nil || !dry.DryRun || dry.Row.Behind != 1 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	untilState(t, r, first, "waiting")
	if _, err := r.Operator.DiscardParked(ctx, first, v1.ParkedDiscard{}); err != nil {
		t.Fatal(err)
	}
	p, err := r.Viewer.ParkedRow(ctx, first)
	if err != nil || p.State != "discarded" || p.EndedBy == "" || p.EndedAt == nil {
		t.Errorf("discarded: %+v, %v", p, err)
	}
	if _, err := r.DB.Exec(ctx, "DELETE FROM public.orders WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Operator.RetryAllParked(ctx, "la"); err != nil || n.Rows > 1 {
		t.Errorf("retry all: %+v, %v", n, err)
	}
	untilState(t, r, behind, "applied")
	if n := count(t, r, "SELECT count(*) FROM public.orders WHERE id = 2 AND note = 'mine, later'"); n != 1 {
		t.Error("what waited behind it is not there")
	}
	if got := audited(t, r, "parked.discard"); len(got) != 1 {
		t.Errorf("audit of discard: %v", got)
	}
	_, err = r.Operator.RetryParked(ctx, behind)
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
}
