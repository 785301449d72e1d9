package pgtest

import (
	"os"
	"testing"
)

// Dir returns an empty folder for a test that lets the program under test
// make a cluster of its own. It is reachable for the server's user, its path
// is short enough for a unix socket, and a PostgreSQL server anywhere below it
// ends when the test binary does, however it ends. It goes with the test.
func Dir(t testing.TB) string {
	t.Helper()
	run, err := openRunDir()
	if err != nil {
		t.Fatalf("make a folder for a cluster: %v", err)
	}
	dir, err := os.MkdirTemp(run.path, "d")
	if err != nil {
		t.Fatalf("make a folder for a cluster: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("open the folder for a cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the cluster's folder: %v", err)
		}
	})
	return dir
}

// Port returns a TCP port on 127.0.0.1 that no other test uses until this one
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
