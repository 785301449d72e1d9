package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Proc is one program that was started, and can be killed and started again.
type Proc struct {
	Name    string
	Path    string
	Args    []string
	Env     []string // added to this process's own
	LogFile string
	// Ready is the URL that answers 200 when the program works.
	Ready string
	// Wrap, when set, makes the command in another way, such as in a namespace.
	Wrap func(program string, args ...string) *exec.Cmd
	// Client asks Ready; default http.DefaultClient.
	Client *http.Client
	// Tied makes the program end with this process.
	Tied bool

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts the program; its output is added to LogFile.
func (p *Proc) Start() error {
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close()
	wrap := p.Wrap
	if wrap == nil {
		wrap = exec.Command
	}
	cmd := wrap(p.Path, p.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, p.Env...)
	// Ctrl-C in the terminal is for the supervisor, which stops things in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.Tied {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started, done := make(chan error, 1), make(chan struct{})
	// Pdeathsig means the death of the thread that started the program, so this
	// one stays on its thread until that has ended. Stop and Kill9 wait for it.
	go func() {
		defer close(done)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	return nil
}

// WaitReady waits until the program says that it works. When it ends instead,
// the error holds the last lines of its log.
func (p *Proc) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	_, done := p.current()
	for {
		if p.answers(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, ctx.Err(), p.Tail(20))
		case <-done:
			return fmt.Errorf("%s ended:\n%s", p.Name, p.Tail(20))
		case <-tick.C:
		}
	}
}

func (p *Proc) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Ready, nil)
	if err != nil {
		return false
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *Proc) current() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.done
}

// PID is the program's process id, 0 before Start.
func (p *Proc) PID() int {
	cmd, _ := p.current()
	if cmd == nil {
		return 0
	}
	return cmd.Process.Pid
}

// Running reports whether the program has been started and has not ended.
func (p *Proc) Running() bool {
	cmd, done := p.current()
	if cmd == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// Kill9 kills the program as a power cut would, and waits until it is gone.
func (p *Proc) Kill9() error { return p.end(syscall.SIGKILL, 10*time.Second) }

// Stop asks the program to stop, and kills it when it has not within 30 s.
func (p *Proc) Stop() error {
	err := p.end(syscall.SIGTERM, 30*time.Second)
	if p.Running() {
		return errors.Join(err, p.Kill9())
	}
	return err
}

func (p *Proc) end(sig syscall.Signal, wait time.Duration) error {
	cmd, done := p.current()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	select {
	case <-done:
		return nil
	case <-time.After(wait):
		return fmt.Errorf("%s did not end within %s of %s", p.Name, wait, sig)
	}
}

// Tail returns the last lines of the program's log.
func (p *Proc) Tail(lines int) string {
	b, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
