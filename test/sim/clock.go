package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a server's, which a step moves: what time it is there, for all of its
// processes at once, and not how much of it passes.
type clock struct {
	file  *os.File // which the server reads
	ahead time.Duration
}

// disk is where files can be run from, which may not be so in memory: what servers
// are started with, and their clocks. TestMain makes and removes it.
var disk string

// newClock returns a clock, and what a server must have in its environment to go by it.
func newClock(t *testing.T) (*clock, []string) {
	t.Helper()
	preload, err := buildClock()
	if err != nil {
		t.Fatalf("build the clock: %v", err)
	}
	c, now := &clock{}, filepath.Join(disk, fmt.Sprint("ahead-", clocks.Add(1)))
	if c.file, err = os.Create(now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.file.Close() })
	if err := c.set(0); err != nil {
		t.Fatal(err)
	}
	return c, []string{"LD_PRELOAD=" + preload, "CLOCK=" + now}
}

// clocks numbers the clocks of this process.
var clocks atomic.Uint64

// buildClock returns what servers are started with so that they go by their clocks.
var buildClock = sync.OnceValues(func() (string, error) {
	file := filepath.Join(disk, "clock.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O2", "-o", file, filepath.Join("testdata", "clock.c"), "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// set puts the clock ahead of this machine's, or behind it.
func (c *clock) set(ahead time.Duration) error {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(int64(ahead/time.Second)))
	if _, err := c.file.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	c.ahead = ahead
	return nil
}

// jumpMax is how far a clock jumps, in either direction.
const jumpMax = 4 * 24 * time.Hour

// clockJumps moves the clock of one of the databases by minutes to days, or puts it
// right.
func (w *world) clockJumps(context.Context) error {
	all := []*database{w.region.database, w.edges[0].database, w.edges[1].database}
	n := w.rand.IntN(len(all))
	d, to := all[n], time.Duration(0)
	if d.clock.ahead == 0 || w.rand.IntN(2) == 0 {
		to = d.clock.ahead + jumpMax>>w.rand.IntN(12) // at least two minutes
		if w.rand.IntN(2) == 0 {
			to = d.clock.ahead - jumpMax>>w.rand.IntN(12)
		}
	}
	w.tell("%s: %s after it was %s", []string{"region", w.edges[0].id, w.edges[1].id}[n], to, d.clock.ahead)
	return d.clock.set(to)
}
