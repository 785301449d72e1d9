package main

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/verify"
)

func TestVerifyPrintsWhatDiffersAndWhatToDo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la")
	equal := v1.VerifyTable{Schema: "public", Table: "parts", State: v1.VerifyEqual, RowsDone: 1200, Position: "4294967296:77"}
	differs := v1.VerifyTable{
		Schema: "public", Table: "orders", State: v1.VerifyDiffers, RowsDone: 9, Differing: 2,
		Rows: []v1.VerifyRow{{Kind: "differs", Key: map[string]string{"id": "3"}}, {Kind: "extra", Key: map[string]string{"id": "5"}, Action: "deleted in the region"}},
	}
	r.Below.Find(v1.VerifyRun{State: v1.VerifyDone, Tables: []v1.VerifyTable{equal}}, nil)
	wants(t, s.ok("verify", "la"), "public.parts", "equal", "4294967296:77")
	r.Below.Find(v1.VerifyRun{State: v1.VerifyDone, Tables: []v1.VerifyTable{equal, differs}}, nil)
	got := s.run("verify", "la")
	if got.code != 1 {
		t.Errorf("exit code %d", got.code)
	}
	wants(t, got.out, "2 rows differ", "id=3", "not the same", "id=5", "too many", "--repair")
	wants(t, s.run("verify", "la", "orders", "--dry-run").out, "deleted in the region", "Nothing was changed")
	if out := s.run("verify", "la", "--json").out; !strings.Contains(out, `"kind": "extra"`) {
		t.Errorf("as JSON: %s", out)
	}
	parked := v1.VerifyTable{Schema: "public", Table: "orders", State: v1.VerifyDiffers, Differing: 1, Rows: []v1.VerifyRow{{Kind: "parked", Key: map[string]string{"id": "7"}}}}
	r.Below.Find(v1.VerifyRun{State: v1.VerifyDone, Tables: []v1.VerifyTable{parked}}, nil)
	out := s.run("verify", "la").out
	wants(t, out, "holdfastctl parked --facility la")
	if strings.Contains(out, "--repair") {
		t.Errorf("a repair is offered for parked rows alone: %s", out)
	}
	r.Below.Find(v1.VerifyRun{State: v1.VerifyDone, Tables: []v1.VerifyTable{equal}}, nil)
	if out := s.run("verify", "la", "--dry-run").out; strings.Contains(out, "repairs") {
		t.Errorf("a repair is offered for equal tables: %s", out)
	}
	r.Below.Find(v1.VerifyRun{}, verify.ErrNotConnected)
	if got := s.run("verify", "la"); got.code != 4 {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if got := s.run("verify"); got.code != 2 {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
}
