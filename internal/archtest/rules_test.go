package archtest

import (
	"go/token"
	"strings"
	"testing"
)

// houseOf makes a house of files given by path.
func houseOf(t *testing.T, files map[string]string) *House {
	t.Helper()
	h := &House{Fset: token.NewFileSet()}
	rooms := make(map[string]*Room)
	for name, src := range files {
		if err := h.add(rooms, name, []byte(src)); err != nil {
			t.Fatal(err)
		}
	}
	h.finish(rooms)
	return h
}

// wrap puts statements into a file with a function.
func wrap(statements string) string {
	return "package x\nconst table = \"t\"\nfunc f(a int) {\n" + statements + "\n}\n"
}

func TestEachRuleCatchesWhatItForbids(t *testing.T) {
	t.Parallel()
	const header = "// Package x is.\n//\n// In:  y.\n// Out: z.\n"
	for _, tc := range []struct {
		rule, file, src string
		bad             bool
	}{
		{"imports", "edge/x/x.go", `package x; import "` + Module + `/cloud/hub"`, true},
		{"imports", "cloud/x/x.go", `package x; import "` + Module + `/edge"`, true},
		{"imports", "internal/x/x.go", `package x; import "` + Module + `/edge"`, true},
		{"imports", "proto/x.go", `package x; import "` + Module + `/cloud"`, true},
		{"imports", "edge/x/x.go", `package x; import "` + Module + `/internal/run"`, false},
		{"imports", "edge/x/x.go", `package x; import "` + Module + `/edge/uplink"`, false},
		{"imports", "edge/x/x.go", `package x; import "` + Module + `/test/rig"`, true},
		{"imports", "test/rig/x.go", `package x; import ("` + Module + `/edge"; "` + Module + `/cloud")`, false},
		{"imports", "edge/x/x.go", `package x; import "` + Module + `/internal/pgtest"`, true},
		{"imports", "cloud/x/xtest/x.go", `package xtest; import ("testing"; "` + Module + `/internal/pgtest")`, false},
		{"imports", "cloud/x/x.go", `package x; import "` + Module + `/cloud/x/xtest"`, true},
		{"imports", "cloud/x/x.go", `package x; import "testing"`, true},
		{"imports", "edge/x/x.go", `package x; import "github.com/fxamacker/cbor/v2"`, true},
		{"imports", "proto/x.go", `package x; import "github.com/fxamacker/cbor/v2"`, false},
		{"imports", "edge/x/x.go", `package x; import "log"`, true},
		{"imports", "edge/x/x.go", `package x; import "log/slog"`, false},
		{"imports", "edge/x/x.go", `package x; import "math/rand"`, true},
		{"imports", "edge/x/x.go", `package x; import "math/rand/v2"`, false},

		{"comments", "edge/x/x.go", "package x", true},
		{"comments", "edge/x/x.go", "// Package x is.\npackage x", true},
		{"comments", "edge/x/x.go", "// X is.\n//\n// In:  y.\n// Out: z.\npackage x", true},
		{"comments", "edge/x/x.go", header + "package x", false},
		{"comments", "edge/x/x.go", strings.Replace(header, "y.", "edge/x and\n//      edge/x/x.go.", 1) + "package x", false},
		{"comments", "edge/x/x.go", strings.Replace(header, "y.", "internal/gone.", 1) + "package x", true},
		{"comments", "edge/cmd/x/x.go", header + "package main", true},
		{"comments", "edge/cmd/x/x.go", strings.Replace(header, "Package", "Command", 1) + "package main", false},

		{"sql", "edge/x/x.go", wrap(`_ = fmt.Sprintf("SELECT 1 FROM %s", t)`), true},
		{"sql", "edge/x/x.go", wrap(`_ = "delete from " + t`), true},
		{"sql", "edge/x/x.go", wrap("_ = `-- why\n  update x set ` + y + ` where true`"), true},
		{"sql", "edge/x/x.go", wrap(`_ = "select * from " + table`), false},
		{"sql", "edge/x/x.go", wrap(`_ = fmt.Sprintf("select a file from the list of %d", n)`), true},
		{"sql", "edge/x/x.go", wrap(`_ = fmt.Sprintf("update of %s refused", t)`), false},
		{"sql", "internal/apply/x.go", wrap(`_ = "delete from " + t`), false},

		{"goroutines", "edge/x/x.go", wrap(`go g()`), true},
		{"goroutines", "edge/x/x.go", wrap(`go func() { <-c }()`), true},
		{"goroutines", "edge/x/x.go", wrap(`go g(); wg.Wait()`), false},
		{"goroutines", "edge/x/x.go", wrap(`defer func() { <-done }(); go g()`), false},
		{"goroutines", "edge/x/x.go", wrap(`go func() { cmd.Wait(); close(done) }()`), false},
		{"goroutines", "edge/x/x.go", wrap(`go func() { g(); close(done) }()`), true},
		{"goroutines", "internal/run/x.go", wrap(`go g()`), false},

		{"habits", "edge/x/x_test.go", wrap(`time.Sleep(1)`), true},
		{"habits", "edge/x/x_test.go", wrap(`t.Skip("no")`), true},
		{"habits", "edge/x/x_test.go", "package x\nimport _ \"testing/synctest\"\nfunc f() { time.Sleep(1) }", false},

		{"keys of a log", "edge/x/x.go", wrap(`log.Warn("bad", "error", err)`), true},
		{"keys of a log", "edge/x/x.go", wrap(`log.Warn("error", "err", err)`), false},

		{"replacements", "edge/x/x.go", wrap(`f, _ := os.CreateTemp("", "x"); os.Rename(f.Name(), "y")`), true},
		{"replacements", "edge/x/x.go", wrap(`os.WriteFile("x", nil, 0o600); os.Rename("x", "y")`), true},
		{"replacements", "edge/x/x.go", wrap(`os.Rename("x", "y")`), false},
		{"replacements", "edge/x/x_test.go", wrap(`os.WriteFile("x", nil, 0o600); os.Rename("x", "y")`), false},
		{"replacements", "internal/durable/x.go", wrap(`f, _ := os.CreateTemp("", "x"); os.Rename(f.Name(), "y")`), false},
	} {
		h := houseOf(t, map[string]string{tc.file: tc.src, strings.TrimSuffix(tc.file, "_test.go") + "_other.go": "package x"})
		if strings.Contains(tc.src, "package main") {
			h = houseOf(t, map[string]string{tc.file: tc.src})
		}
		found := rules[tc.rule](h)
		if (len(found) > 0) != tc.bad {
			t.Errorf("%s of %s:\n%s\nfound %v, want something: %t", tc.rule, tc.file, tc.src, found, tc.bad)
		}
	}
}

func TestTableFollowsTheStory(t *testing.T) {
	t.Parallel()
	room := func(name string) string {
		return "// Package " + name + " is " + name + ". More.\n//\n// In:  a|b,\n//      c.\n// Out: d.\npackage " + name
	}
	h := houseOf(t, map[string]string{
		"internal/queue/q.go": room("queue"), "internal/capture/c.go": room("capture"),
		"internal/apply/a.go": room("apply"), "edge/e.go": room("edge"),
	})
	text := "# Plan\n`internal/capture` and **`internal/queue`**.\n\n<!-- rooms -->\n| `internal/gone` | | | |\n<!-- /rooms -->\n\n`internal/apply`\n"
	want := "# Plan\n`internal/capture` and **`internal/queue`**.\n\n<!-- rooms -->\n" + tableHead +
		"| `internal/capture` | is capture | a\\|b, c. | d. |\n" +
		"| `internal/queue` | is queue | a\\|b, c. | d. |\n" +
		"| `internal/apply` | is apply | a\\|b, c. | d. |\n" +
		"| `edge` | is edge | a\\|b, c. | d. |\n" +
		"<!-- /rooms -->\n\n`internal/apply`\n"
	for range 2 { // a second run changes nothing
		got, err := h.Table(text)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
		text = got
	}
	for _, text := range []string{"# no table\n", "<!-- rooms -->\n", "<!-- /rooms -->\n"} {
		if _, err := h.Table(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
