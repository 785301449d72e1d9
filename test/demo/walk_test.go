package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/netns"
	"github.com/agogsaas/holdfast/test/rig/procs"
)

// demoFolder is a folder that a demo can run in, in a network of its own, where
// its fixed ports are free.
type demoFolder struct {
	t   *testing.T
	dir string
	net *netns.Net
}

func newDemoFolder(t *testing.T) *demoFolder {
	t.Helper()
	dir := pgtest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/agogsaas/holdfast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{procs.Cloud, procs.Edge, procs.Ctl, "test/demo"} {
		name := filepath.Base(p)
		if name == "demo" {
			name = "holdfast-demo"
		}
		if err := os.Symlink(procs.Build(t, p), filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return &demoFolder{t: t, dir: dir, net: netns.New(t, "machine")}
}

// command runs one of the programs with the checkout as its working directory.
func (c *demoFolder) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := c.net.Command(ctx, "machine", filepath.Join(c.dir, "bin", program), args...)
	cmd.Dir = c.dir
	return cmd
}

func (c *demoFolder) run(program string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := c.command(ctx, program, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (c *demoFolder) nothingRuns() {
	c.t.Helper()
	p, err := findPlace(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	if left := leftovers(p); len(left) > 0 || p.holder() != 0 {
		c.t.Errorf("still there: %v, held by %d", left, p.holder())
	}
}

// TestTheDemoComesUpAndGoesDown is the README's first command in the background
// and in the foreground: it says where to click, a cut makes the phone ring and is
// told on every channel, its second start goes on where
// the first was, and nothing of it stays behind.
func TestTheDemoComesUpAndGoesDown(t *testing.T) {
	t.Parallel()
	c := newDemoFolder(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if out, err := c.command(ctx, "holdfast-demo", "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})

	out := c.run("holdfast-demo", "up")
	for _, want := range []string{"http://127.0.0.1:8080", "http://127.0.0.1:4010", "http://127.0.0.1:4011", "http://127.0.0.1:4020", "demo cut la", "make demo-down"} {
		if !strings.Contains(out, want) {
			t.Errorf("up does not say %q:\n%s", want, out)
		}
	}
	fleet := func() map[string]string {
		var f struct {
			Facilities []struct{ ID, State string }
		}
		if err := json.Unmarshal([]byte(c.run("holdfastctl", "fleet", "--json")), &f); err != nil {
			t.Fatal(err)
		}
		states := map[string]string{}
		for _, x := range f.Facilities {
			states[x.ID] = x.State
		}
		return states
	}
	if got := fleet(); got["la"] != "online" || got["frankfurt"] != "online" {
		t.Errorf("right after up: %v", got)
	}
	c.run("holdfastctl", "demo", "conflict", "la")
	if list := c.run("holdfastctl", "conflicts", "--json"); !strings.Contains(list, `"la"`) {
		t.Errorf("no conflict after demo conflict la:\n%s", list)
	}
	c.outage()
	if again := c.run("holdfast-demo", "up"); !strings.Contains(again, "runs already") {
		t.Errorf("a second up: %s", again)
	}
	told := func() (list string, n int) {
		for _, what := range []string{"contacts", "schedules", "policies"} {
			list += c.run("holdfastctl", what, "list", "--json")
		}
		return list, strings.Count(list, `"id":`)
	}
	people, count := told()
	if !strings.Contains(people, "Pat, shift lead") {
		t.Errorf("nobody is told of an outage:\n%s", people)
	}
	c.run("holdfast-demo", "down")
	c.nothingRuns()

	// In the foreground, with the data of before; Ctrl-C stops it.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var said bytes.Buffer
	front := c.command(ctx, "holdfast-demo")
	front.Stdout, front.Stderr = &said, &said
	began := time.Now()
	if err := front.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := findPlace(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for pid == 0 {
		if s, err := askStatus(ctx, p); err == nil && s.Ready {
			pid = s.PID
		}
		if ctx.Err() != nil {
			t.Fatalf("not ready:\n%s", said.String())
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Logf("second start ready after %s", time.Since(began).Round(100*time.Millisecond))
	if after, n := told(); n != count {
		t.Errorf("who is told, before the second start:\n%s\nand after it:\n%s", people, after)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := front.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v\n%s", err, said.String())
	}
	c.nothingRuns()
}
