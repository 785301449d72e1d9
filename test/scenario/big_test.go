package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/test/rig/compare"
)

const (
	bigRows = 1_000_000
	// What the programs may need at most, without the race detector.
	edgeMaxBytes   = 160 << 20
	regionMaxBytes = 320 << 20
)

// TestAHugeTransactionAppearsAtOnceInBoundedMemory sends one commit of a million rows.
func TestAHugeTransactionAppearsAtOnceInBoundedMemory(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	g, ctx := errgroup.WithContext(within(t))
	g.Go(func() error {
		_, err := edge.Exec(ctx, `INSERT INTO floor_part (facility_id, code, writer, n, drawing, stock)
			SELECT 'la', 'big-' || i, 9, i, md5(i::text), i FROM generate_series(1, $1::int) i`, bigRows)
		return err
	})
	g.Go(func() error {
		for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
			var n int
			if err := region.QueryRow(ctx, `SELECT count(*) FROM floor_part`).Scan(&n); err != nil {
				return err
			}
			switch n {
			case 0:
			case bigRows:
				return nil
			default:
				return fmt.Errorf("%d of %d rows are visible", n, bigRows)
			}
		}
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		name     string
		pid      int
		maxBytes int64
	}{{"agent", la.Agent.PID(), edgeMaxBytes}, {"region", s.Cloud.PID(), regionMaxBytes}} {
		peak, err := peakMemory(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the %s needed at most %d MiB", p.name, peak>>20)
		if os.Getenv("HOLDFAST_RACE") == "" && peak > p.maxBytes {
			t.Errorf("the %s needed %d MiB, at most %d are allowed", p.name, peak>>20, p.maxBytes>>20)
		}
	}
	// It may be changed and taken away as one, too.
	if _, err := edge.Exec(t.Context(), `UPDATE floor_part SET n = n + 1 WHERE n % 33 = 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Exec(t.Context(), `DELETE FROM floor_part WHERE n % 10 = 0`); err != nil {
		t.Fatal(err)
	}
	// Comparing is dear: first the last of it must be there.
	eventually(t, func(ctx context.Context) error {
		var n int
		err := region.QueryRow(ctx, `SELECT count(*) FROM floor_part`).Scan(&n)
		if err == nil && n == bigRows {
			err = errors.New("nothing has been taken away yet")
		}
		return err
	})
	if err := compare.Tables(t.Context(), edge, region, floor...); err != nil {
		t.Fatal(err)
	}
}

// peakMemory is the most that a process has held, in bytes.
func peakMemory(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int64
		if strings.HasPrefix(lines.Text(), "VmHWM:") {
			_, err := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell")
}
