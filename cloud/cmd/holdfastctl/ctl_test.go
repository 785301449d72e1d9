package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/proto"
)

// shell runs command lines as one person with a home of their own.
type shell struct {
	t   *testing.T
	env map[string]string
	dir string
	in  string
}

type result struct {
	code     int
	out, err string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	return &shell{t: t, env: map[string]string{"HOME": t.TempDir()}, dir: t.TempDir()}
}

// signedIn is a shell that is known to a region.
func signedIn(t *testing.T, url, token string) *shell {
	t.Helper()
	s := newShell(t)
	file := filepath.Join(s.env["HOME"], "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env["HOLDFAST_URL"], s.env["HOLDFAST_TOKEN_FILE"] = url, file
	return s
}

func (s *shell) run(args ...string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(s.in), out: &out, err: &errs, dir: s.dir,
		env: func(k string) string { return s.env[k] },
	}
	code := execute(s.t.Context(), a, args)
	return result{code, out.String(), errs.String()}
}

// ok runs a command line that must succeed.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != exitOK || r.err != "" {
		s.t.Fatalf("holdfastctl %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

func TestEveryFailureHasItsExitCodeAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la")
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"fleet --bogus", exitUsage, "unknown flag"},
		{"bogus", exitUsage, "unknown command"},
		{"facility bogus", exitUsage, `no command "bogus"`},
		{"facility show", exitUsage, "takes 1 argument"},
		{"facility add Bad_Name!", exitUsage, "body.id"},
		{"facility add x --time-zone Mars", exitUsage, "Europe/Berlin"},
		{"tables add public.orders", exitUsage, "--class"},
		{"tables add a.b.c --class fact", exitUsage, "not a table's name"},
		{"tables add public.orders --class evnt", exitUsage, "Give --class fact, event or master."},
		{"tables add public.orders --class fact --policy god", exitUsage, "Give --policy edge, cloud or columns."},
		{"token add shop --role god", exitUsage, "Give --role viewer, operator or admin."},
		{"account add maria --role god", exitUsage, "Give --role viewer, operator or admin."},
		{"facility show nowhere", exitNotFound, "facility list"},
		{"sync status nowhere", exitNotFound, "facility list"},
		{"tables remove public.nothing --yes", exitNotFound, "tables list"},
		{"demo cut la", exitNotFound, "make demo"},
		{"resync", exitUsage, "1 argument"},
		{"resync nowhere", exitNotFound, "facility list"},
		{"resync la public.nothing", exitNotFound, "tables list"},
		{"resync la --up", exitRefused, "not connected"},
		{"resync la --up --down", exitUsage, "exclude each other"},
		{"facility add la", exitRefused, "facility token la"},
		{"facility remove la --yes", exitRefused, "role admin"},
		{"facility revoke la", exitRefused, "--yes"},
		{"facility revoke la --yes", exitRefused, "no box"},
		{"--url http://127.0.0.1:1 fleet", exitUnreachable, "Check the address"},
		{"--url ftp://somewhere fleet", exitUsage, "http://host:port"},
		{"--token-file /nonexistent fleet", exitUsage, "token add"},
	} {
		got := s.run(strings.Fields(c.args)...)
		if got.code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s", c.args, got.code, c.code, got.err)
		}
		wants(t, got.err, "error: ", "to do: ", c.text)
		asJSON := s.run(append(strings.Fields(c.args), "--json")...)
		var doc struct {
			Error, Remedy string
			Exit          int
		}
		if err := json.Unmarshal([]byte(asJSON.err), &doc); err != nil || doc.Exit != c.code || doc.Remedy == "" {
			t.Errorf("%s --json: %v %q", c.args, err, asJSON.err)
		}
	}
}

func TestFacilityIsAddedShownAndRemoved(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Admin.Token)
	file := filepath.Join(t.TempDir(), "la.token")
	out := s.ok("facility", "add", "la", "--name", "Los Angeles", "--time-zone", "America/Los_Angeles", "--token-out", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, out, "Added facility la of tenant foo", strings.TrimSpace(string(raw)), "holdfast-edge enrol")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	wants(t, s.ok("facility", "list"), "FACILITY", "Los Angeles", "token waits")
	wants(t, s.ok("facility", "show", "la"), "America/Los_Angeles", "○ new", "Enrolment token")
	var f v1.Facility
	if err := json.Unmarshal([]byte(s.ok("facility", "show", "la", "--json")), &f); err != nil || f.ID != "la" {
		t.Errorf("show --json: %+v, %v", f, err)
	}
	s.ok("facility", "token", "la", "--ttl", "1h")
	wants(t, s.run("__complete", "facility", "show", "").out, "la\tLos Angeles")
	s.ok("facility", "remove", "la", "--yes")
	if list := s.ok("facility", "list", "--json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("list after removal: %s", list)
	}
	wants(t, s.ok("audit"), "facility.remove", "test admin", "facility=la")
}

func TestFleetIsShownWithWordsAndWithoutColourInPipes(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Viewer.Token)
	wants(t, s.ok("fleet"), "No facilities yet")
	now := time.Now()
	lag := int64(7)
	r.Below.Show(
		v1.FacilityStatus{ID: "frankfurt", Name: "Frankfurt", State: v1.StateOffline, Reason: "nothing was heard", LastHeardAt: &now, ReportedAt: &now, Queue: v1.Queue{Transactions: 12345, Bytes: 3 << 20}},
		v1.FacilityStatus{ID: "la", Name: "Los Angeles", State: v1.StateOnline, Heartbeat: true, Tunnel: true, Stream: true, LastHeardAt: &now, ReportedAt: &now, Lag: &lag},
	)
	out := s.ok("fleet")
	wants(t, out, "✖ offline", "● online", "not known; 12 345 tx, 3.0 MiB at ", "7 ms", "1 of 2 facilities online in region us-east", "nothing was heard")
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
	s2 := signedIn(t, r.URL, r.Operator.Token)
	s2.ok("facility", "add", "la")
	since, full := now.Add(-3*time.Minute), now.Add(31*time.Hour+30*time.Minute)
	r.Below.Show(v1.FacilityStatus{
		ID: "la", State: v1.StateOnline, Heartbeat: true, Tunnel: true, Stream: true, LastHeardAt: &now, ReportedAt: &now,
		Queue:    v1.Queue{Transactions: 5, Bytes: 1 << 30, LimitBytes: 8 << 30, FillRate: 1 << 16, FullAt: &full},
		Stalled:  []v1.Stall{{Side: "region", Stage: "apply", Since: since, Work: 5, Text: "5 transactions have arrived, and none is applied"}},
		Watchdog: "unarmed",
	})
	wants(t, s.ok("facility", "show", "la"), "Watchdog", "unarmed")
	wants(t, s.ok("fleet"), "5 transactions have arrived, and none is applied")
	wants(t, s.ok("sync", "status", "la"), "Full", "in about 31 h at this rate (225.0 MiB/h of 8.0 GiB)", "Stands still", "✖ 5 transactions have arrived", "(3 min ago)")
	r.Below.Show(v1.FacilityStatus{ID: "frankfurt"}, v1.FacilityStatus{ID: "la"})
	var f v1.Fleet
	if err := json.Unmarshal([]byte(s.ok("fleet", "--json")), &f); err != nil || len(f.Facilities) != 2 {
		t.Errorf("--json: %+v, %v", f, err)
	}
}

// While there is no stream no table streams, and what only the region changes is
// not compared at all.
func TestATablesStateIsNotSaidBetterThanItIs(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la")
	if _, err := r.DB.Exec(t.Context(), `
		INSERT INTO holdfast.synced_table (schema_name, table_name, class, added_by) VALUES ('public', 'customers', 'master', 'olga'), ('public', 'orders', 'fact', 'olga');
		INSERT INTO holdfast.facility_table (facility, schema_name, table_name, state) VALUES ('la', 'public', 'customers', 'streaming'), ('la', 'public', 'orders', 'streaming')`); err != nil {
		t.Fatal(err)
	}
	r.Below.Show(v1.FacilityStatus{ID: "la", State: v1.StateOffline})
	off := s.ok("sync", "status", "la")
	wants(t, off, "○ waits for the stream", "– not compared", "○ not yet")
	if strings.Contains(off, "● streaming") {
		t.Errorf("a table streams without a stream:\n%s", off)
	}
	wants(t, s.ok("tables", "list"), "– not compared", "○ not yet")
}

func TestTheAuditIsReadable(t *testing.T) {
	t.Parallel()
	var detail map[string]any
	if err := json.Unmarshal([]byte(`{"name": "night", "wait": 1500000, "note": "", "tenant": null, "on": true, "steps": [{"after_s": 0, "contacts": [4, 5]}, {"after_s": 120, "offer": ""}]}`), &detail); err != nil {
		t.Fatal(err)
	}
	want := "name=night on=true steps=(after_s 0, contacts 4, 5), (after_s 120) wait=1500000"
	if got := detailText(detail); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestATokenThatIsOverSaysSo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Admin.Token)
	s.ok("token", "add", "shop", "--ttl", "90d")
	wants(t, s.ok("token", "list"), "(in 89 days)")
	if _, err := r.DB.Exec(t.Context(), `UPDATE holdfast.api_token SET expires_at = now() - interval '3 days' WHERE name = 'shop'`); err != nil {
		t.Fatal(err)
	}
	wants(t, s.ok("token", "list"), "over since 2", "(3 days ago)")
}

func TestUnsuitableTableIsRefusedWithEveryRemedy(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	r.Below.Refuse(
		proto.Problem{Text: "it has no primary key", Remedy: "Add one: ALTER TABLE …"},
		proto.Problem{Text: "there is no column facility_id", Remedy: "Name another with --facility-column."})
	got := s.run("tables", "add", "public.orders", "--class", "fact")
	if got.code != exitRefused {
		t.Errorf("exit %d", got.code)
	}
	wants(t, got.err, "public.orders cannot be synced as it is", "no primary key", "ALTER TABLE", "no column facility_id", "--facility-column", "nothing was changed")
	r.Below.Refuse()
	wants(t, s.ok("tables", "add", "public.orders", "--class", "fact", "--dry-run"), "Could add public.orders")
	wants(t, s.ok("tables", "list"), "No tables are synced")
	wants(t, s.ok("tables", "add", `sales."Order Lines"`, "--class", "event", "--region-schema", "{facility}_{schema}"), `Added sales."Order Lines" as event table`)
	s.ok("facility", "add", "la")
	wants(t, s.ok("tables", "list"), `sales."Order Lines"`, "la", "○ waiting")
	wants(t, s.ok("sync", "status", "la"), "nothing has arrived yet", `sales."Order Lines"`)
	wants(t, s.ok("events", "la"), "Nothing has happened")
	s.ok("tables", "remove", `sales."Order Lines"`, "--yes")
	wants(t, s.ok("tables", "add", "customers", "--class", "master", "--tenant-column", "tenant"), "Added public.customers as master table", "only be read")
	wants(t, s.ok("tables", "add", "orders", "--class", "fact", "--cloud-columns", "price,discount"), "Added public.orders")
	wants(t, s.ok("tables", "list"), "master", "fact, cloud owns price, discount")
	wants(t, s.ok("tables", "list", "--system"), "holdfast.conflict")
	wants(t, s.ok("resync", "la", "--dry-run"), "la would send again: holdfast.conflict, public.orders", "The region would send to la again: public.customers")
	if up, down := r.Below.Resynced(); up != nil || down != nil {
		t.Errorf("a dry run asked for %v, %v", up, down)
	}
	wants(t, s.ok("resync", "la", "--down", "orders"), "The region sends to la again: public.orders", "sync status la")
	if _, down := r.Below.Resynced(); strings.Join(down, " ") != "la public.orders" {
		t.Errorf("asked for %v", down)
	}
	if _, err := r.DB.Exec(t.Context(), `INSERT INTO holdfast.down_position (facility, epoch, seq) VALUES ('la', 3, 41);
		INSERT INTO holdfast.down_load (facility, schema_name, table_name, reason, rows_sent) VALUES ('la', 'public', 'orders', 'resync', 12)`); err != nil {
		t.Fatal(err)
	}
	wants(t, s.ok("sync", "status", "la"), "the facility has 3:41", "SENT DOWN", "on its way")
}

func TestLoginKeepsATokenForThisPersonOnly(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := newShell(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(apitest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.ok("login", "--url", r.URL, "--user", "root", "--password-file", password)
	path := filepath.Join(s.env["HOME"], ".config", "holdfast", "ctl.yaml")
	wants(t, out, "as root (admin)", path)
	if strings.Contains(out, "hf_") {
		t.Errorf("the token is shown: %s", out)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	wants(t, s.ok("version"), "us-east v0-test", path)
	s.ok("account", "add", "maria", "--role", "operator", "--password-file", password)
	wants(t, s.ok("account", "list"), "maria", "operator")
	s.ok("account", "role", "maria", "viewer")
	s.ok("token", "add", "grafana", "--out", filepath.Join(t.TempDir(), "token"))
	wants(t, s.ok("token", "list"), "grafana", "login:root:")

	// The token goes to no other region than the one that gave it.
	got := s.run("fleet", "--url", "http://127.0.0.1:1")
	if got.code != exitUsage || !strings.Contains(got.err, "no API token for") {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	// A file that others can read is not used.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	got = s.run("fleet")
	if got.code != exitUsage || !strings.Contains(got.err, "chmod 600") {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
}

func TestAllThatIsWrongWithTheConfigurationIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	path := filepath.Join(s.env["HOME"], ".config", "holdfast", "ctl.yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("url: us-east.example.com\ntoken: hf_a\ntoken_file: token\n  \ntokens: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := s.run("fleet")
	if got.code != exitUsage {
		t.Errorf("exit %d", got.code)
	}
	wants(t, got.err, "ctl.yaml has 3 problems", "ctl.yaml:1:6: url: must be", "ctl.yaml:3:13: token_file: cannot", "ctl.yaml:5:1: tokens: is not a setting; did you mean token?")

	if err := os.WriteFile(path, []byte("url: http://127.0.0.1:1\ntoken_file: gone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = s.run("fleet")
	if got.code != exitUsage {
		t.Errorf("exit %d", got.code)
	}
	wants(t, got.err, "read the API token", filepath.Join(filepath.Dir(path), "gone"))
}

func TestDemoOfTheCheckoutIsFound(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := newShell(t)
	root := s.dir
	s.dir = filepath.Join(root, "docs")
	for _, dir := range []string{s.dir, filepath.Join(root, ".demo")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, ".demo", "ctl.yaml"), []byte("url: "+r.URL+"\ntoken: "+r.Viewer.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A .demo in just any folder is not believed.
	if got := s.run("fleet"); got.code != exitUsage || !strings.Contains(got.err, "no region is known") {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module github.com/agogsaas/holdfast\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("fleet")
}

func TestTableNamesAreReadAsSQLReadsThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, schema, table string }{
		{"orders", "public", "orders"},
		{"public.orders", "public", "orders"},
		{"Public.Orders", "public", "orders"},
		{`public."Orders"`, "public", "Orders"},
		{`"My Schema"."a.b"`, "My Schema", "a.b"},
		{`"say ""hi"""`, "public", `say "hi"`},
	} {
		schema, table, err := parseTable(c.in)
		if err != nil || schema != c.schema || table != c.table {
			t.Errorf("%s: %q %q %v", c.in, schema, table, err)
		}
		again, table2, err := parseTable(tableName(schema, table))
		if err != nil || again != schema || table2 != table {
			t.Errorf("%s does not come back from %s: %q %q %v", c.in, tableName(schema, table), again, table2, err)
		}
	}
	for _, in := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `""`, `a"b"`, "a b", `"a"b`, `a.""`} {
		if schema, table, err := parseTable(in); err == nil {
			t.Errorf("%q was read as %q %q", in, schema, table)
		}
	}
}

func TestSizesAndSpansAreReadable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1536), "1.5 KiB"},
		{size(5 << 40), "5.0 TiB"},
		{span(7 * time.Millisecond), "7 ms"},
		{span(90 * time.Second), "90 s"},
		{span(3 * time.Hour), "3 h"},
		{span(72 * time.Hour), "3 days"},
		{count(0), "0"},
		{count(999), "999"},
		{count(1000), "1 000"},
		{count(1234567), "1 234 567"},
		{count(-1234), "-1 234"},
		{relative(time.Unix(100, 0), time.Unix(40, 0)), "in 60 s"},
		{relative(time.Unix(40, 0), time.Unix(100, 0)), "60 s ago"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
