package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/test/rig/site"
)

// smallDisk runs a program with a file system of its own, of so many megabytes,
// on a folder. It goes with the program.
func smallDisk(folder string, megabytes int) func(program string, args ...string) *exec.Cmd {
	return func(program string, args ...string) *exec.Cmd {
		enter, again := []string{"unshare", "-m"}, ""
		if os.Geteuid() != 0 {
			// Inside, the test's user is root, as which PostgreSQL does not run; go
			// one namespace deeper, where it has its own number again.
			enter = []string{"unshare", "-Urm"}
			again = fmt.Sprintf("unshare -U --map-user=%d --map-group=%d -- ", os.Geteuid(), os.Getegid())
		}
		script := fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=0777 tmpfs "$0" && exec %s"$@"`, megabytes, again)
		all := append(enter, "sh", "-ec", script, folder, program)
		all = append(all, args...)
		cmd := exec.Command(all[0], all[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		return cmd
	}
}

// TestAFacilityWorksOnWhileItsQueuesDiskIsFull fills the disk with another
// program's file and takes it away again.
func TestAFacilityWorksOnWhileItsQueuesDiskIsFull(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	folder := filepath.Join(s.Dir, "queue-disk")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	la := addEdgeWith(t, s, site.EdgeOptions{ID: "la", Extra: "queue: {dir: " + folder + "/queue}\n", Wrap: smallDisk(folder, 32)})
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	work(t, crew, 20)
	sameFloor(t, crew, edge, region)
	eventually(t, func(ctx context.Context) error { return wantState(ctx, s, "la", "online") })

	// What the agent sees of its disk is behind its own root.
	filler := filepath.Join("/proc", strconv.Itoa(agentPID(t, la)), "root", folder, "filler")
	fill(t, filler)
	work(t, crew, 50) // nobody is held up
	eventually(t, func(ctx context.Context) error {
		v, err := metric(ctx, la.URL(), "holdfast_capture_up")
		if err == nil && v != 0 {
			err = fmt.Errorf("capture is up")
		}
		return err
	})
	eventually(t, func(ctx context.Context) error { return wantStalled(ctx, region, true) })
	if log := la.Agent.Tail(100); !strings.Contains(log, "the WAL keeps them meanwhile") {
		t.Errorf("the agent's log does not say that the queue takes nothing:\n%s", log)
	}
	work(t, crew, 50)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	sameFloor(t, crew, edge, region)
	eventually(t, func(ctx context.Context) error {
		v, err := metric(ctx, la.URL(), "holdfast_capture_up")
		if err == nil && v != 1 {
			err = fmt.Errorf("capture is not up again")
		}
		return err
	})
	// The region, too, sees that it is over.
	eventually(t, func(ctx context.Context) error { return wantStalled(ctx, region, false) })
	eventually(t, func(ctx context.Context) error {
		f, err := s.API.FacilityStatus(ctx, "la")
		if err == nil && (f.State != "online" || len(f.Stalled) > 0) {
			err = fmt.Errorf("la is %s, stalled %+v", f.State, f.Stalled)
		}
		return err
	})
}

// wantStalled asks whether the region was told that capture at la makes no progress.
func wantStalled(ctx context.Context, region *pgxpool.Pool, stalled bool) error {
	var faults string
	err := region.QueryRow(ctx, `SELECT coalesce(status->>'faults', '') FROM holdfast.facility_seen WHERE facility = 'la'`).Scan(&faults)
	if err == nil && strings.Contains(faults, "capture_stalled") != stalled {
		err = fmt.Errorf("the region knows of the faults %q", faults)
	}
	return err
}

// agentPID is the agent's own process, without what wraps it.
func agentPID(t *testing.T, e *site.Edge) int {
	t.Helper()
	return e.Agent.PID() // every wrapper replaces itself by what it runs
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
