package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
)

func (s *shell) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestMigrateCheckExitsByItsVerdict(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	safe := s.file("safe.sql", "-- +goose Up\nALTER TABLE orders ADD COLUMN a int;\n-- +goose Down\nALTER TABLE orders DROP COLUMN a;\n")
	bad := s.file("bad.sql", "ALTER TABLE orders ADD COLUMN a int;\nALTER TABLE orders DROP COLUMN b;\n")
	block := s.file("block.sql", "DO $$ BEGIN END $$")
	broken := s.file("broken.sql", "ALTER TABEL x")
	wants(t, s.ok("migrate", "check", "--offline", safe), "safe.sql:2:31: safe:", "all safe for a fleet")
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{bad}, exitFailed, []string{"bad.sql:2:13: unsafe:", "ALTER TABLE public.orders DROP COLUMN b;", "Region: ", "Each facility: ", "1 command is not safe"}},
		{[]string{block}, exitFailed, []string{"block.sql:1:1: cannot tell:", "DO block"}},
		{[]string{safe, broken}, exitUsage, []string{"broken.sql", "line 1, column 7"}},
		{[]string{filepath.Join(s.dir, "gone.sql")}, exitUsage, []string{"gone.sql"}},
		{nil, exitUsage, []string{"takes 1 argument or more", "FILE..."}},
	} {
		got := s.run(append([]string{"migrate", "check", "--offline"}, c.args...)...)
		if got.code != c.code {
			t.Errorf("%v: exit %d, want %d\n%s%s", c.args, got.code, c.code, got.out, got.err)
		}
		wants(t, got.out+got.err, c.want...)
	}
	if out := s.run("migrate", "check", "--offline", "-q", bad).out; strings.Contains(out, ": safe:") {
		t.Errorf("-q prints what is safe:\n%s", out)
	}
	s.in = "DROP TABLE x"
	wants(t, s.run("migrate", "check", "--offline", "-").out, "-:1:1: unsafe:")
}

func TestMigrateCheckWithoutARegionSaysSo(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	file := s.file("m.sql", "ALTER TABLE never_heard_of DROP COLUMN a")
	got := s.run("migrate", "check", file)
	if got.code != exitFailed {
		t.Errorf("exit %d", got.code)
	}
	wants(t, got.err, "note: the region was not asked", "every table counts as synced")
}

func TestMigrateCheckAsksTheRegion(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	if _, err := r.DB.Exec(t.Context(), `CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text NOT NULL, n int, code varchar(20))`); err != nil {
		t.Fatal(err)
	}
	s.ok("tables", "add", "public.orders", "--class", "fact")
	s.ok("migrate", "check", s.file("other.sql", "DROP TABLE not_synced"))
	s.ok("migrate", "check", s.file("wide.sql", "ALTER TABLE orders ALTER code TYPE varchar(40); ALTER TABLE orders ALTER n TYPE bigint"))
	got := s.run("migrate", "check", "--json", s.file("narrow.sql", "ALTER TABLE orders ALTER code TYPE varchar(5)"))
	var report migrateReport
	if err := json.Unmarshal([]byte(got.out), &report); err != nil {
		t.Fatal(err)
	}
	if got.code != exitFailed || report.Safe || report.Known != "region" || len(report.Findings) != 1 || len(report.Findings[0].Recipe) == 0 {
		t.Errorf("exit %d, %+v", got.code, report)
	}
}
