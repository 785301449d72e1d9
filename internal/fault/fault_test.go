package fault_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/agogsaas/holdfast/internal/fault"
)

// ledger is something external: effects counts what really took place.
type ledger struct {
	point   fault.Point
	effects int
}

func (l *ledger) write() error {
	return l.point.Do(func() error { l.effects++; return nil })
}

func TestBothOutcomesOfAFailedStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		arm     func(*fault.Point)
		fails   []bool
		effects int
	}{
		{"nothing armed", func(*fault.Point) {}, []bool{false, false, false}, 3},
		{"did not happen", func(p *fault.Point) { p.FailBefore(2) }, []bool{false, true, false}, 2},
		{"do not know", func(p *fault.Point) { p.FailAfter(2) }, []bool{false, true, false}, 3},
		{"one of each", func(p *fault.Point) { p.FailBefore(1); p.FailAfter(1) }, []bool{true, true, false}, 2},
		{"broken", func(p *fault.Point) { p.Break(nil) }, []bool{true, true, true}, 0},
		{"healed", func(p *fault.Point) { p.Break(nil); p.FailAfter(1); p.Heal() }, []bool{false, false, false}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := ledger{point: fault.Point{Name: "ledger.write"}}
			defer l.point.Heal()
			tc.arm(&l.point)
			for i, want := range tc.fails {
				if err := l.write(); (err != nil) != want || err != nil && !errors.Is(err, fault.Err) {
					t.Errorf("call %d: %v, want a failure: %t", i+1, err, want)
				}
			}
			if l.effects != tc.effects {
				t.Errorf("%d effects, want %d", l.effects, tc.effects)
			}
		})
	}
}

func TestBreakFailsWithTheGivenError(t *testing.T) {
	t.Parallel()
	var l ledger
	l.point.Break(syscall.ENOSPC)
	if err := l.write(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v, want %v", err, syscall.ENOSPC)
	}
	l.point.Heal()
}

func TestOwnErrorOfTheStepIsKept(t *testing.T) {
	t.Parallel()
	var p fault.Point
	own := errors.New("own")
	if err := p.Do(func() error { return own }); err != own {
		t.Errorf("Do: %v, want %v", err, own)
	}
}

func TestNilPointDoesNothing(t *testing.T) {
	t.Parallel()
	var p *fault.Point
	done := false
	if err := p.Do(func() error { done = true; return nil }); err != nil || !done {
		t.Errorf("Do: %v, effect took place: %t", err, done)
	}
}

func TestEachPointGetsAName(t *testing.T) {
	t.Parallel()
	given := &fault.Point{}
	named := &fault.Point{Name: "own"}
	for want, p := range map[string]*fault.Point{"a": fault.Or(nil, "a"), "b": fault.Or(given, "b"), "own": fault.Or(named, "c")} {
		if p.Name != want {
			t.Errorf("the point is called %q, want %q", p.Name, want)
		}
	}
	if fault.Or(given, "d") != given {
		t.Error("the point that was given is not the one that is used")
	}
}

const childEnv = "FAULT_TEST_CHILD"

// TestMain lets the test binary be the process that kills itself.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	l := ledger{point: fault.Point{Name: "ledger.write"}}
	for range 3 {
		_ = l.point.Do(func() error { _, err := os.Stdout.WriteString("x"); return err })
	}
	os.Exit(0)
}

func TestEnvironmentKillsARealProcess(t *testing.T) {
	t.Parallel()
	for plan, want := range map[string]string{
		"ledger.write=crash:2":                     "x",
		"other=crash:1,ledger.write=crash:3":       "xx",
		"ledger.write=crash-after:2":               "xx",
		"ledger.write=crash:4,other=crash-after:1": "xxx",
	} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			out, err := child(t, plan).Output()
			killed := false
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				ws := exit.Sys().(syscall.WaitStatus)
				killed = ws.Signaled() && ws.Signal() == syscall.SIGKILL
			}
			if string(out) != want || killed != (want != "xxx") {
				t.Errorf("%d effects, killed: %t (%v), want %d", len(out), killed, err, len(want))
			}
		})
	}
}

func TestWrongPlanIsRefused(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{"x", "x=crash", "x=crash:0", "x=crash:two", "=crash:1", "x=explode:1", "x=crash:1,"} {
		cmd := child(t, plan)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 || !bytes.Contains(stderr.Bytes(), []byte("is not of the form")) {
			t.Errorf("%s=%s: %v, said %q", fault.Env, plan, err, &stderr)
		}
	}
}

func child(t *testing.T, plan string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", fault.Env+"="+plan)
	return cmd
}

func BenchmarkNothingArmed(b *testing.B) {
	var p fault.Point
	for b.Loop() {
		if err := p.Before(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHeldStepWaitsUntilHealed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p fault.Point
		p.Hold()
		done := make(chan error, 1)
		go func() { done <- p.Do(func() error { return nil }) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it went on: %v", err)
		default:
		}
		p.Heal()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
