package pgcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ReadPostmasterPID returns the process number in a data directory's
// postmaster.pid, and 0 when there is no such file.
func ReadPostmasterPID(dataDir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read postmaster.pid: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, nil // half written before a crash: as good as none
	}
	if pid < 0 { // a stand-alone backend writes its number negated
		pid = -pid
	}
	return pid, nil
}

// IsOurs says whether a live process is a postmaster of this data directory.
// A process number alone proves nothing after a reboot. The postmaster's
// working directory is its data directory, whatever way it was started.
func IsOurs(pid int, dataDir string) bool {
	if pid <= 0 || Gone(pid) {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return false
	}
	return cwd == real
}

// serversOf returns the live processes of a data directory's server, whose
// working directory it is.
func serversOf(dataDir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && IsOurs(pid, dataDir) {
			found = append(found, pid)
		}
	}
	return found
}

// Gone says whether a process has ended. One that has ended but was not
// collected by its parent counts as gone.
func Gone(pid int) bool {
	_, state, err := statOf(pid)
	return err != nil || state == 'Z' || state == 'X'
}

// statOf returns the parent and the state letter of a process.
func statOf(pid int) (parent int, state byte, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name in brackets may hold anything, so parse behind its end.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("short stat of process %d", pid)
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, fields[0][0], err
}

// Children returns the direct children of a process.
func Children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var kids []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, _, err := statOf(n); err == nil && parent == pid {
			kids = append(kids, n)
		}
	}
	return kids
}

// KillAll ends a postmaster and all its children at once, as a power cut
// would. The postmaster is frozen first so that it cannot fork meanwhile; its
// children have sessions of their own, so a group signal would miss them.
func KillAll(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("freeze process %d: %w", pid, err)
	}
	all := append([]int{pid}, Children(pid)...)
	for _, p := range all {
		if err := syscall.Kill(p, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", p, err)
		}
	}
	return awaitGone(ctx, all...)
}

func awaitGone(ctx context.Context, pids ...int) error {
	for _, p := range pids {
		for !Gone(p) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for process %d to end: %w", p, context.Cause(ctx))
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}
