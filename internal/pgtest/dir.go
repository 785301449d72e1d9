package pgtest

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// Dir returns an empty folder for a test that lets the program under test
// make a cluster of its own. It is reachable for the server's user, its path
// is short enough for a unix socket, and a PostgreSQL server anywhere below it
// ends when the test does, or the test binary, however it ends. The folder
// goes with the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir := SharedDir(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, pid := range postmasters(dir) {
			if err := pgcluster.KillAll(ctx, pid); err != nil {
				t.Errorf("end the server in the folder: %v", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the folder: %v", err)
		}
	})
	return dir
}

// SharedDir is Dir for what all tests of a test binary use: it goes when the
// binary ends.
func SharedDir(t testing.TB) string {
	t.Helper()
	run, err := openRunDir()
	if err != nil {
		t.Fatalf("make a folder: %v", err)
	}
	dir, err := os.MkdirTemp(run.path, "d")
	if err != nil {
		t.Fatalf("make a folder: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("open the folder: %v", err)
	}
	return dir
}

// postmasters returns the servers that run below a folder.
func postmasters(dir string) []int {
	var pids []int
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "postmaster.pid" {
			return nil // going on is all there is to do
		}
		data := filepath.Dir(path)
		if pid, err := pgcluster.ReadPostmasterPID(data); err == nil && pgcluster.IsOurs(pid, data) {
			pids = append(pids, pid)
		}
		return nil
	})
	return pids
}

// Port returns a TCP and UDP port on 127.0.0.1 that no other test uses until this one
// ends, and that the kernel does not give out of its own accord.
func Port(t testing.TB) int {
	t.Helper()
	run, err := openRunDir()
	if err != nil {
		t.Fatalf("take a port: %v", err)
	}
	port, lock, err := run.takePort()
	if err != nil {
		t.Fatalf("take a port: %v", err)
	}
	t.Cleanup(func() { lock.Close() })
	return port
}
