// Package procs runs the project's programs as real processes: builds them,
// starts them, kills them, waits until they are ready, and shows their output
// when a test fails. No process outlives the test binary.
//
// In:  test scenarios.
// Out: the built programs, or any other.
package procs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	readyWithin = 60 * time.Second
	stopWithin  = 2 * time.Minute
	outputMax   = 256 << 10 // bytes of output kept, the last ones
)

// Spec says how to run a program.
type Spec struct {
	Name string // for messages
	Path string // of the program
	Args []string
	Env  []string // added to the test's own environment
	Dir  string   // working directory; default the test's
	// Ready is a URL that answers 200 when the program is ready, such as its
	// /readyz. Without it Start does not wait.
	Ready string
	// Wrap, when set, makes the command in another way, such as in a network
	// namespace: netns.Net.Command.
	Wrap func(ctx context.Context, program string, args ...string) *exec.Cmd
}

// Proc is a program that was started at least once.
type Proc struct {
	spec   Spec
	output *tail
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process was collected
	err    error         // how it ended; valid after done
}

// Start runs the program and waits until it is ready. When the test ends, the
// program is stopped; when the test has failed, the end of its output is
// shown.
func Start(t testing.TB, s Spec) *Proc {
	t.Helper()
	p := &Proc{spec: s, output: &tail{max: outputMax}}
	t.Cleanup(func() {
		p.Stop(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", s.Name, p.output)
		}
	})
	p.Start(t)
	return p
}

// Start runs the program again after it has ended, and waits until it is
// ready.
func (p *Proc) Start(t testing.TB) {
	t.Helper()
	if p.Running() {
		t.Fatalf("%s runs already", p.spec.Name)
	}
	if err := p.start(); err != nil {
		t.Fatalf("start %s: %v", p.spec.Name, err)
	}
	if p.spec.Ready != "" {
		p.WaitReady(t)
	}
}

func (p *Proc) start() error {
	wrap := p.spec.Wrap
	if wrap == nil {
		wrap = exec.CommandContext
	}
	cmd := wrap(context.Background(), p.spec.Path, p.spec.Args...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, p.spec.Env...)
	cmd.Dir = p.spec.Dir
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// A child of the program that keeps the output open must not hold us up.
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	done := make(chan struct{})
	// Pdeathsig means the death of the thread that started the child, so this
	// one stays on its thread until the child has ended. Stop waits for done.
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.done = cmd, done
	return nil
}

// Running says whether the process is there.
func (p *Proc) Running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// PID returns the process number of the last start.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Output returns the end of what the program has written, over all starts.
func (p *Proc) Output() string { return p.output.String() }

// WaitReady waits until the ready URL answers 200.
func (p *Proc) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	last := errors.New("not asked yet")
	for {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it was ready: %v", p.spec.Name, p.err)
		case <-ctx.Done():
			t.Fatalf("%s is not ready within %s: %v", p.spec.Name, readyWithin, last)
		case <-time.After(20 * time.Millisecond):
		}
		if last = ready(ctx, p.spec.Ready); last == nil {
			return
		}
	}
}

func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// Kill9 ends the process without warning. It does nothing to one that has
// ended.
func (p *Proc) Kill9(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.await(t)
}

// Stop asks the process to end (SIGTERM) and waits. One that does not within
// two minutes fails the test and is killed.
func (p *Proc) Stop(t testing.TB) {
	t.Helper()
	if !p.Running() {
		return
	}
	p.Signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopWithin):
		t.Errorf("%s does not stop within %s; its goroutines are in its output", p.spec.Name, stopWithin)
		p.Signal(t, syscall.SIGQUIT) // a Go program tells where it hangs
		select {
		case <-p.done:
		case <-time.After(time.Second):
			p.Kill9(t)
		}
	}
}

// Signal sends a signal. A process that has ended is no error.
func (p *Proc) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if !p.Running() {
		return
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal %s: %v", p.spec.Name, err)
	}
}

// Wait waits for the process to end by itself and returns how it ended.
func (p *Proc) Wait(t testing.TB) error {
	t.Helper()
	p.await(t)
	return p.err
}

func (p *Proc) await(t testing.TB) {
	t.Helper()
	if p.done == nil {
		return
	}
	select {
	case <-p.done:
	case <-time.After(stopWithin):
		t.Fatalf("%s has not ended within %s", p.spec.Name, stopWithin)
	}
}

// RSS returns how much memory the process holds, in bytes.
func (p *Proc) RSS(t testing.TB) int64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatalf("memory of %s: %v", p.spec.Name, err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("memory of %s is not known", p.spec.Name)
	return 0
}
