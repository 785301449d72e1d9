package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ClusterDir is the folder of the box's own PostgreSQL; its data is in data/.
func (e *Edge) ClusterDir() string { return filepath.Join(e.StateDir(), "postgres") }

// ClusterDir is the folder of the region's own PostgreSQL; its data is in data/.
func (s *Site) ClusterDir() string { return filepath.Join(s.Dir, "region", "state", "postgres") }

// KillPostgres kills the box's PostgreSQL as a power cut would.
func (e *Edge) KillPostgres() error { return killPostgres(e.ClusterDir()) }

// KillPostgres kills the region's PostgreSQL as a power cut would.
func (s *Site) KillPostgres() error { return killPostgres(s.ClusterDir()) }

// KillBroker kills the region's broker. One that the region is just starting is
// waited for: without an error a broker was killed.
func (s *Site) KillBroker(ctx context.Context) error {
	for {
		pids, err := processes(filepath.Join(s.Dir, "region", "state", "mosquitto"))
		if err != nil {
			return err
		}
		for _, pid := range pids {
			switch err := syscall.Kill(pid, syscall.SIGKILL); {
			case err == nil:
				return waitGone(pid)
			case !errors.Is(err, syscall.ESRCH):
				return fmt.Errorf("kill the broker: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("there is no broker to kill: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// killPostgres kills a postmaster; the others of its processes see that and end.
func killPostgres(cluster string) error {
	pid, err := postmaster(cluster)
	if err != nil {
		return err
	}
	return kill9(pid)
}

// postmaster reads the process id of a cluster that runs, or seems to.
func postmaster(cluster string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(cluster, "data", "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find PostgreSQL's process: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("find PostgreSQL's process: %w", err)
	}
	return pid, nil
}

// endPostgres stops a cluster that its program left running because it was killed.
func endPostgres(cluster string) error {
	pid, err := postmaster(cluster)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); !bytes.Contains(cmd, []byte(cluster)) {
		return nil // it is gone; its number may be somebody else's
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return waitGone(pid)
}

func kill9(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return waitGone(pid)
}

// waitGone waits until a process has ended; its parent may take its time to
// collect it.
func waitGone(pid int) error {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil
		}
		if _, rest, ok := bytes.Cut(raw, []byte(") ")); ok && len(rest) > 0 && (rest[0] == 'Z' || rest[0] == 'X') {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// processes lists those that have a word in their command line.
func processes(word string) ([]int, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []int
	for _, p := range all {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmd, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err == nil && bytes.Contains(cmd, []byte(word)) {
			found = append(found, pid)
		}
	}
	return found, nil
}
