package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestParkedChangesAreListedShownAndDecided(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la")
	wants(t, s.ok("parked"), "Nothing is parked")
	first, behind := r.Park(t)
	id := strconv.FormatInt(first, 10)
	wants(t, s.ok("parked", "--facility", "la"), "public.orders", "bolt", "▲ unique", "▲ behind")
	var list []v1.Parked
	if err := json.Unmarshal([]byte(s.ok("parked", "list", "--reason", "unique", "--json")), &list); err != nil || len(list) != 1 || list[0].ID != first {
		t.Errorf("list --json: %+v, %v", list, err)
	}
	wants(t, s.ok("sync", "status", "la"), "▲ 2 rows parked", "holdfastctl parked --facility la")
	wants(t, s.ok("parked", "show", id), "IN THE WAY (public.orders)", "theirs", "mine", "1 later change of the row", "Change one of the two.")
	wants(t, s.ok("parked", "discard", id, "--dry-run"), "Would discard the insert of public.orders id=2 from la")
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"parked", "bogus"}, exitUsage, "no command"},
		{[]string{"parked", "show", "x"}, exitUsage, "parked list"},
		{[]string{"parked", "show", "99"}, exitNotFound, "parked list"},
		{[]string{"parked", "edit", id}, exitUsage, "--set"},
		{[]string{"parked", "edit", id, "--set", "name"}, exitUsage, "column=value"},
		{[]string{"parked", "edit", id, "--set", "id=3"}, exitUsage, "key"},
		{[]string{"parked", "edit", id, "--set", "amount=abc"}, exitUsage, `values of the type integer: invalid input syntax for type integer: "abc"`},
		{[]string{"parked", "retry", id}, exitFailed, "was refused again: duplicate key value violates unique constraint"},
		{[]string{"parked", "discard", id}, exitRefused, "--yes"},
		{[]string{"parked", "retry", "1", "2"}, exitUsage, "1 argument"},
	} {
		got := s.run(c.args...)
		if got.code != c.code {
			t.Errorf("%v: exit %d, want %d\n%s", c.args, got.code, c.code, got.err)
		}
		wants(t, got.err, "error: ", "to do: ", c.text)
	}
	var again v1.ParkedRow
	if err := json.Unmarshal([]byte(s.run("parked", "retry", id, "--json").out), &again); err != nil || again.Outcome != v1.ParkedRefused || again.Attempts < 2 || again.TriedAt == nil {
		t.Errorf("retry --json: %+v, %v", again, err)
	}
	wants(t, s.ok("parked", "show", strconv.FormatInt(behind, 10)), ": parked change "+id)
	wants(t, s.ok("parked", "discard", id, "--yes"), "Discarded the insert of public.orders id=2")
	wants(t, s.ok("parked", "edit", strconv.FormatInt(behind, 10), "--set", "name=nut", "--null", "note"), "Corrected parked change", ": applied.")
	if shown := s.ok("parked", "show", strconv.FormatInt(behind, 10)); strings.Contains(shown, "Remedy") || !strings.Contains(shown, "Was refused") {
		t.Errorf("one that is applied is shown as\n%s", shown)
	}
	wants(t, s.ok("parked", "retry"), "tried now")
	wants(t, s.ok("parked", "list", "--state", "discarded"), "○ discarded")
}
