package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts/conflictstest"
)

func TestConflictsAreListedShownAndDealtWith(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	wants(t, s.ok("conflicts"), "No open conflicts")
	conflictstest.Fill(t, r.DB)

	out := s.ok("conflicts")
	wants(t, out, "A-10482", "public.orders", "both changed it", "facility deleted, region changed", "facility's", "region's", "merged", "▲ open", "conflicts show "+conflictstest.Quantity)
	if strings.Index(out, "A-10482") > strings.Index(out, "FFG-2") {
		t.Errorf("the newest is not first:\n%s", out)
	}
	var list []v1.Conflict
	if err := json.Unmarshal([]byte(s.ok("conflicts", "--table", "orders", "--kind", "update_deleted", "--since", "24h", "--json")), &list); err != nil || len(list) != 1 || list[0].ID != conflictstest.Deleted {
		t.Errorf("filtered: %+v, %v", list, err)
	}
	wants(t, s.ok("conflicts", "--text", "nobody"), "No open conflicts")
	if got := s.run("conflicts", "--facility", "nowhere"); got.code != exitNotFound {
		t.Errorf("a facility that is not there: exit code %d, %s%s", got.code, got.out, got.err)
	}

	out = s.ok("conflicts", "show", conflictstest.Quantity)
	wants(t, out, "the facility decides", "maria, ", "PST there", "transaction 4294967297:812", "FACILITY (stood)", "≠  quantity", "2500", "3000", "conflicts ack "+conflictstest.Quantity)
	wants(t, s.ok("conflicts", "show", conflictstest.Deleted), "(no row)", "stayed deleted")

	wants(t, s.ok("conflicts", "ack", conflictstest.Quantity, conflictstest.Stock, "--note", "asked maria"), "A-10482 of la stays as it is", "BOARD-EB")
	wants(t, s.ok("conflicts", "show", conflictstest.Quantity), "acknowledged by test operator", "asked maria", "conflicts reopen")
	wants(t, s.ok("conflicts", "reopen", conflictstest.Quantity), "open again")

	wants(t, s.ok("conflicts", "restore", conflictstest.Quantity, "--dry-run"), "The region's version will be written to public.orders", "quantity", "2500", "→", "3000")
	wants(t, s.ok("conflicts", "restore", conflictstest.Quantity, "--yes", "--note", "customer called"), "flows to the facility")
	wants(t, s.ok("conflicts", "restore", conflictstest.Stock, "--version", "facility", "--yes"), "400.000", "Done.")

	got := s.run("conflicts", "ack", "--all-matching", "--table", "public.orders")
	if got.code != exitRefused {
		t.Errorf("without a question: exit %d", got.code)
	}
	wants(t, got.err, "--yes")
	wants(t, s.ok("conflicts", "ack", "--all-matching", "--table", "public.orders", "--yes"), "Acknowledged 2 conflicts")
	wants(t, s.ok("conflicts", "--state", "all"), "● acknowledged", "● other version written", "▲ open")
	wants(t, s.ok("conflicts", "ack", "--all-matching", "--facility", "frankfurt"), "No open conflicts match")
}

func TestConflictErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	conflictstest.Fill(t, r.DB)
	if _, err := r.DB.Exec(t.Context(), `UPDATE orders SET quantity = 2600, notes = E'\x1b[31mred\nalert' WHERE id = $1`, conflictstest.QuantityOrder); err != nil {
		t.Fatal(err)
	}
	s := signedIn(t, r.URL, r.Operator.Token)
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"conflicts bogus", exitUsage, "show ID"},
		{"conflicts --since yesterday", exitUsage, "2026-11-26"},
		{"conflicts --table a.b.c", exitUsage, "not a table's name"},
		{"conflicts --state gone", exitUsage, "--state open, acknowledged, restored or all"},
		{"conflicts --kind gone", exitUsage, "insert_exists"},
		{"conflicts --decision gone", exitUsage, "edge, cloud or merged"},
		{"conflicts --table nope", exitNotFound, "tables list"},
		{"conflicts ack --all-matching --table nope", exitNotFound, "tables list"},
		{"conflicts --since 12h --until 20h", exitUsage, "--since 20h --until 12h"},
		{"conflicts --since 2099-01-01", exitUsage, "has not come yet"},
		{"conflicts show abc", exitUsage, "is not a conflict's id"},
		{"conflicts reopen abc", exitUsage, "is not a conflict's id"},
		{"conflicts ack abc", exitUsage, "is not a conflict's id"},
		{"conflicts restore abc", exitUsage, "is not a conflict's id"},
		{"conflicts ack", exitUsage, "--all-matching"},
		{"conflicts ack x --all-matching", exitUsage, "--all-matching"},
		{"conflicts restore x --version mine", exitUsage, "--version facility"},
		{"conflicts show 0d4b6f5e-0000-4000-8000-00000000ffff", exitNotFound, "conflicts --state all"},
		{"conflicts restore " + conflictstest.Quantity + " --yes", exitRefused, "add --force"},
		{"conflicts restore " + conflictstest.Stock + " --yes", exitRefused, "the facility's (edge) or the region's (cloud)"},
		{"conflicts restore " + conflictstest.Quantity + " --force", exitRefused, "--yes"},
	} {
		got := s.run(strings.Fields(c.args)...)
		if got.code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s", c.args, got.code, c.code, got.err)
		}
		wants(t, got.err, "error: ", "to do: ", c.text)
	}
	out := s.ok("conflicts", "show", conflictstest.Quantity)
	wants(t, out, "2600 (changed since)", "the row has changed since the decision")
	if strings.Contains(out, "\x1b") {
		t.Errorf("a row's text reaches the terminal as it is: %q", out)
	}
	wants(t, s.ok("conflicts", "restore", conflictstest.Quantity, "--force", "--yes"), "changed since the decision, in quantity and notes", "Done.")
}
