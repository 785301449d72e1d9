package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	startTimeout   = 10 * time.Second
	stopTimeout    = 5 * time.Second
	controlTimeout = 10 * time.Second
	waitAfterStart = 50 * time.Millisecond
	lastLines      = 10  // of the broker's log, for the error
	lineMaxBytes   = 512 // of one line of it
)

// once runs the broker until it ends or ctx is done.
//
//  1. Make the folder and write what the broker reads.
//  2. Start it and wait until it answers where it should.
//  3. Wait for its end.
func (b *Broker) once(ctx context.Context, up func()) (err error) {
	defer func() { b.setRunning(false, 0, err) }()
	user, err := brokerUser(b.cfg.OSUser)
	if err != nil {
		return err
	}
	dir, cleanup, err := makeDir(b.cfg.Dir, user)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	if err := b.writeFiles(ctx, dir, user); err != nil {
		return err
	}
	b.mu.Lock()
	b.dir = dir
	b.mu.Unlock()

	binary, err := findBinary(b.cfg.Binary)
	if err != nil {
		return err
	}
	// The child is killed with the thread that started it, which must hence
	// live as long as the child: a region that is killed leaves no broker behind.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	raiseFileLimit()
	cmd := exec.Command(binary, "-c", filepath.Join(dir, fileConf))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user.credential(), Pdeathsig: syscall.SIGTERM, Setpgid: true}
	logs, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}

	var wg sync.WaitGroup
	ended := make(chan struct{})
	tail := &tail{ended: make(chan struct{})}
	var unfit error // why it was stopped although it ran; valid after wg.Wait
	wg.Go(func() { b.follow(logs, tail) })
	wg.Go(func() {
		unfit = b.watch(ctx, cmd.Process.Pid, ended, up)
		// Also the way out when the broker does not come up, or ctx is done.
		stop(cmd.Process, ended)
	})
	// Wait in this thread, see above. The pipe is read to its end first, as
	// Wait closes it.
	<-tail.ended
	err = cmd.Wait()
	close(ended)
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if unfit != nil {
		return unfit
	}
	err = fmt.Errorf("mosquitto ended: %w%s", orEnded(err), tail.text())
	if strings.Contains(err.Error(), "Address already in use") {
		err = hint.Wrap(err, "Another program listens at %s or %s. Stop it, or give the region other addresses.", b.cfg.LocalAddr, b.cfg.TLSAddr)
	}
	return err
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// watch waits until the broker answers, says so, and returns when it should be
// stopped or has ended.
func (b *Broker) watch(ctx context.Context, pid int, ended <-chan struct{}, up func()) error {
	if err := b.ready(ctx, pid, ended); err != nil {
		select {
		case <-ended:
			return nil // its own log says why
		default:
			return err
		}
	}
	b.setRunning(true, pid, nil)
	b.log.Info("broker runs", "local", b.cfg.LocalAddr, "tls", b.cfg.TLSAddr, "pid", pid)
	up()
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return nil
}

// ready waits until the broker accepts connections, and checks that it listens
// where it was told to and nowhere else.
func (b *Broker) ready(ctx context.Context, pid int, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, addr := range []string{b.cfg.LocalAddr, b.cfg.TLSAddr} {
		if addr == "" {
			continue
		}
		for {
			err := listensAt(addr, pid)
			if err == nil {
				break
			}
			if errors.Is(err, errElsewhere) {
				return err
			}
			select {
			case <-ended:
				return errors.New("mosquitto ended")
			case <-ctx.Done():
				return fmt.Errorf("wait for mosquitto to listen at %s: %w", addr, ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

// stop asks the broker to end, and makes it.
func stop(p *os.Process, ended <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM) // an error means that it has ended
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = p.Kill()
	}
}

// reload makes the broker read its certificates and the list of revoked ones
// again. Connections stay.
func (b *Broker) reload(ctx context.Context) error {
	b.mu.Lock()
	pid, dir := b.state.PID, b.dir
	b.mu.Unlock()
	if pid == 0 || b.cfg.TLSAddr == "" {
		return nil // they are read at the next start
	}
	user, err := brokerUser(b.cfg.OSUser)
	if err != nil {
		return err
	}
	if err := b.writeCertificates(ctx, dir, user); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("tell mosquitto to reload: %w", err)
	}
	return nil
}

// Reload makes the broker use renewed certificates. Connections stay.
func (b *Broker) Reload(ctx context.Context) error {
	if b.cfg.External != nil {
		return nil
	}
	return b.reload(ctx)
}

// follow reads the broker's log until it ends.
func (b *Broker) follow(r io.Reader, t *tail) {
	defer close(t.ended)
	lines := bufio.NewReaderSize(r, lineMaxBytes)
	for {
		raw, cut, err := lines.ReadLine()
		if err != nil {
			return
		}
		line := string(raw)
		if cut {
			line += "…"
		}
		t.add(line)
		if strings.HasPrefix(line, "Error") {
			b.log.Warn("broker says", "text", line)
		} else {
			b.log.Debug("broker says", "text", line)
		}
	}
}

// tail keeps the last lines of a log.
type tail struct {
	ended chan struct{} // closed at the log's end

	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > lastLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return ": " + strings.Join(t.lines, " | ")
}

// findBinary finds mosquitto, which distributions put where ordinary users'
// paths do not lead.
func findBinary(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", hint.Wrap(errors.New("mosquitto is not installed"),
		"Install the package mosquitto, or give an external broker.")
}

func findPlugin(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	const name = "mosquitto_dynamic_security.so"
	for _, pattern := range []string{"/usr/lib/*/" + name, "/usr/lib/" + name, "/usr/local/lib/" + name} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", hint.Wrap(fmt.Errorf("mosquitto's plugin %s is not installed", name),
		"Install the package mosquitto, version 2 or later.")
}

// raiseFileLimit lets the broker have as many connections as the system
// allows. Go raises its own limit at start, but hands children the old one
// unless it is set by name.
func raiseFileLimit() {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return
	}
	lim.Cur = lim.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim) // best effort: fewer boxes fit
}
