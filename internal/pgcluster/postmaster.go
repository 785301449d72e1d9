package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	probeTimeout = 5 * time.Second
	// immediateGrace is how long a server may take to end without a
	// checkpoint before it is killed.
	immediateGrace = 2 * time.Second
)

// adoptOrLaunch returns the running postmaster of this data directory, or
// starts one. Called with starting held.
func (c *Cluster) adoptOrLaunch() (pid int, adopted bool, err error) {
	data := c.cfg.dataDir()
	pid, err = ReadPostmasterPID(data)
	if err != nil {
		return 0, false, err
	}
	switch {
	case pid == 0:
	case !IsOurs(pid, data):
		if err := c.clearStale(pid); err != nil {
			return 0, false, err
		}
	case c.portOf() != c.cfg.Port:
		c.log.Info("restarting PostgreSQL for its new port", "pid", pid, "port", c.cfg.Port)
		if err := c.end(pid); err != nil {
			return 0, false, err
		}
	default:
		ours := c.proc != nil && c.proc.Pid == pid
		return pid, !ours, nil
	}
	if pid != 0 {
		if err := c.clearDead(pid); err != nil {
			return 0, false, err
		}
	}
	if err := c.clearSockets(); err != nil {
		return 0, false, err
	}
	pid, err = c.launch()
	return pid, false, err
}

// clearStale removes a postmaster.pid that names no server of ours. The server
// does that itself unless the number now belongs to another process, which is
// likely after a reboot of a box that always boots alike.
func (c *Cluster) clearStale(pid int) error {
	if Gone(pid) {
		return nil
	}
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); errors.Is(err, fs.ErrPermission) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if strings.HasPrefix(string(name), "postgres") {
			return hint.Wrap(fmt.Errorf("process %d of another user may be serving %s", pid, c.cfg.dataDir()),
				"Stop that server, or start Holdfast as the user that it runs as.")
		}
	}
	c.log.Warn("postmaster.pid names a process that is not PostgreSQL; removing it", "pid", pid)
	err := os.Remove(filepath.Join(c.cfg.dataDir(), "postmaster.pid"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale postmaster.pid: %w", err)
	}
	return nil
}

// deadGrace is how long the processes of a server that was killed may take to
// notice that their postmaster is gone.
const deadGrace = 10 * time.Second

// clearDead waits for what is left of a server that was killed a moment ago:
// a new one refuses to start beside it. A postmaster that has ended and that
// nobody collects keeps its number, and with it the lock file, which is then
// removed.
func (c *Cluster) clearDead(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadGrace)
	defer cancel()
	if err := awaitGone(ctx, serversOf(c.cfg.dataDir())...); err != nil {
		return fmt.Errorf("wait for the processes of a server that was killed: %w", err)
	}
	if _, _, err := statOf(pid); err != nil || !Gone(pid) {
		return nil
	}
	if err := os.Remove(filepath.Join(c.cfg.dataDir(), "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the lock file of a server that was killed: %w", err)
	}
	return nil
}

// clearSockets removes a dead server's socket and its lock file, which names a
// process number just as postmaster.pid does. The folder is ours alone.
func (c *Cluster) clearSockets() error {
	old, _ := filepath.Glob(filepath.Join(c.cfg.socketDir(), ".s.PGSQL.*"))
	for _, f := range old {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a dead server's socket: %w", err)
		}
	}
	return nil
}

// portOf returns the port that a running postmaster was started with, the
// fourth line of its pid file.
func (c *Cluster) portOf() int {
	raw, err := os.ReadFile(filepath.Join(c.cfg.dataDir(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) < 4 {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(lines[3]))
	if err != nil {
		return 0
	}
	return port
}

func (c *Cluster) startupLog() string { return filepath.Join(c.cfg.logDir(), "startup.log") }

// launch starts a postmaster that outlives us: in a session of its own, and
// writing to a file, because a pipe would break with our death.
func (c *Cluster) launch() (int, error) {
	for _, a := range c.cfg.Listen {
		l, err := net.Listen("tcp", net.JoinHostPort(a, strconv.Itoa(c.cfg.Port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			return 0, portTaken(c.cfg.Port, err)
		}
		if err == nil {
			l.Close()
		}
	}
	if err := os.Remove(c.startupLog()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("clear the startup log: %w", err)
	}
	log, err := os.OpenFile(c.startupLog(), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return 0, fmt.Errorf("open the startup log: %w", err)
	}
	defer log.Close()
	if err := c.account.Own(c.startupLog()); err != nil {
		return 0, err
	}
	cmd := c.command(context.Background(), "postgres", "-D", c.cfg.dataDir())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", c.binaries.Path("postgres"), err)
	}
	c.proc = cmd.Process
	return cmd.Process.Pid, nil
}

// reap collects our child after it has ended and says how it did. A zombie
// that is left would keep its process number, and the server's lock files
// with it.
func (c *Cluster) reap() string {
	if c.proc == nil || !Gone(c.proc.Pid) {
		return ""
	}
	state, err := c.proc.Wait() // returns at once
	c.proc = nil
	if err != nil {
		return ""
	}
	return state.String()
}

// Stop shuts the server down: open transactions are rolled back, the last
// checkpoint is written. What is not done after Config.StopGrace is cut short;
// the next start then replays the WAL, nothing committed is lost. Stopping a
// server that does not run does nothing. Call it after Run has returned.
func (c *Cluster) Stop() error {
	c.starting.Lock()
	defer c.starting.Unlock()
	pid, err := ReadPostmasterPID(c.cfg.dataDir())
	if err != nil {
		return err
	}
	if IsOurs(pid, c.cfg.dataDir()) {
		if err := c.end(pid); err != nil {
			return fmt.Errorf("stop the local PostgreSQL: %w", err)
		}
	}
	c.reap()
	c.setPID(0, false)
	c.setState(Stopped, "")
	return nil
}

// end stops a postmaster: fast, then immediate, then by force.
func (c *Cluster) end(pid int) error {
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGINT, c.cfg.StopGrace}, {syscall.SIGQUIT, immediateGrace}} {
		if err := syscall.Kill(pid, step.signal); errors.Is(err, syscall.ESRCH) {
			break
		} else if err != nil {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), step.grace)
		err := awaitGone(ctx, pid)
		cancel()
		if err == nil {
			c.reap()
			return nil
		}
		c.log.Warn("PostgreSQL is slow to stop", "pid", pid, "signal", step.signal.String(), "wait", step.grace)
	}
	ctx, cancel := context.WithTimeout(context.Background(), immediateGrace)
	defer cancel()
	err := KillAll(ctx, pid)
	c.reap()
	return err
}

// lastWords returns why the server ended: its last fatal message, or how the
// process ended.
func (c *Cluster) lastWords(how string) string {
	files, _ := filepath.Glob(filepath.Join(c.cfg.logDir(), "postgresql-*.log"))
	slices.Sort(files)
	newest := ""
	if len(files) > 0 {
		newest = files[len(files)-1]
	}
	for _, f := range []string{c.startupLog(), newest} {
		if line := fatalLine(f); line != "" {
			return line
		}
	}
	return strings.TrimPrefix(how+"; it left no message in "+c.cfg.logDir(), "; ")
}

// fatalLine returns the last FATAL or PANIC message near a log's end. FATAL
// messages for clients carry user@database before the level.
func fatalLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	raw = raw[max(0, len(raw)-16*int(kib)):]
	lines := strings.Split(string(raw), "\n")
	for _, line := range slices.Backward(lines) {
		for _, level := range []string{"] FATAL:", "] PANIC:"} {
			if _, text, ok := strings.Cut(line, level); ok {
				return strings.TrimSpace(text)
			}
		}
	}
	return ""
}
