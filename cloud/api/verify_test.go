package api_test

import (
	"net/http"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/verify"
)

func TestComparisonIsAskedForAndShown(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	if _, err := r.Operator.AddFacility(t.Context(), v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Viewer.VerifyStatus(t.Context(), "la")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	r.Below.Find(v1.VerifyRun{State: v1.VerifyDone, Tables: []v1.VerifyTable{{
		Schema: "public", Table: "orders", State: v1.VerifyDiffers, Differing: 1, Rows: []v1.VerifyRow{{Kind: "missing", Key: map[string]string{"id": "7"}}},
	}}}, nil)
	_, err = r.Viewer.StartVerify(t.Context(), "la", v1.VerifyRequest{})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	if run, err := r.Operator.StartVerify(t.Context(), "la", v1.VerifyRequest{Repair: true}); err != nil || run.State != v1.VerifyRunning || !run.Repair {
		t.Errorf("started %+v, %v", run, err)
	}
	if run, err := r.Viewer.VerifyStatus(t.Context(), "la"); err != nil || len(run.Tables) != 1 || run.Tables[0].Rows[0].Key["id"] != "7" {
		t.Errorf("found %+v, %v", run, err)
	}
	if who := audited(t, r, "facility.verify"); len(who) != 1 {
		t.Errorf("audited: %q", who)
	}
	for _, refusal := range []error{verify.ErrNotConnected, verify.ErrRunning} {
		r.Below.Find(v1.VerifyRun{}, refusal)
		_, err = r.Operator.StartVerify(t.Context(), "la", v1.VerifyRequest{})
		wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	}
	r.Below.Find(v1.VerifyRun{}, verify.ErrNoTable)
	_, err = r.Operator.StartVerify(t.Context(), "la", v1.VerifyRequest{Schema: "public", Table: "nothing"})
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
}

func TestTablesSayWhenBothSidesWereEqual(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	if _, err := r.Operator.AddFacility(t.Context(), v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Operator.AddTable(t.Context(), v1.TableAdd{Schema: "public", Table: "orders", Class: "fact"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.DB.Exec(t.Context(), `INSERT INTO holdfast.verified (facility, schema_name, table_name, equal_at, equal_seq, equal_rows, differing, repaired, differences)
		VALUES ('la', 'public', 'orders', now(), '4294967296:12', 9, 2, 1, '[{"kind": "differs", "key": {"id": "3"}}]')`)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Viewer.SyncStatus(t.Context(), "la")
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.Viewer.Tables(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tables := range [][]v1.TableAt{s.Tables, list[0].Facilities} {
		v := tables[0].Verified
		if v == nil || v.EqualAt == nil || v.EqualRows != 9 || v.Open() != 1 || v.Place() != "12" || len(v.Rows) != 1 {
			t.Errorf("verified: %+v", v)
		}
	}
}
