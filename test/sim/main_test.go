package sim

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// memory is where files are that go with the process, and memoryMin how much
// must be free there: a lane's three servers take about 300 MB.
const (
	memory    = "/dev/shm"
	memoryMin = 8 << 30
)

// TestMain has the servers and the queues in memory where there is room: to make
// and remove their many small files takes longer than all that is in them.
func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if disk, err = os.MkdirTemp("", "holdfast-sim-"); err == nil {
		defer os.RemoveAll(disk)
		err = os.Chmod(disk, 0o755) // the servers are another user's
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(memory, &st); err == nil && st.Bavail*uint64(st.Bsize) >= memoryMin {
		if err := os.Setenv("TMPDIR", memory); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
