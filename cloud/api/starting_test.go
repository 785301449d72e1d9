package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestWhoAsksForTablesWhileTheRegionStartsIsToldSo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Operator.AddTable(ctx, v1.TableAdd{Schema: "public", Table: "customers", Class: "master"}); err != nil {
		t.Fatal(err)
	}
	r.Below.SetStarting()
	_, err := r.Operator.Resync(ctx, "la", v1.ResyncRequest{Direction: v1.ResyncDown})
	p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if !strings.Contains(p.Detail, "has only just started") || p.Remedy == "" {
		t.Errorf("%+v", p)
	}
}
