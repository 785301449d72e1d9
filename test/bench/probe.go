package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// metric reads one value of the agent's /metrics.
func (l *lab) metric(ctx context.Context, name string) (float64, error) {
	return metricOf(ctx, l.edge.URL(), name)
}

func metricOf(ctx context.Context, url, name string) (float64, error) {
	values, err := metricsOf(ctx, url, name)
	return values[name], err
}

// metricsOf reads several values of a program's /metrics.
func metricsOf(ctx context.Context, url string, names ...string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	defer resp.Body.Close()
	values := make(map[string]float64)
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		if k, v, ok := strings.Cut(in.Text(), " "); ok && slices.Contains(names, k) {
			if values[k], err = strconv.ParseFloat(v, 64); err != nil {
				return nil, fmt.Errorf("read %s: %w", k, err)
			}
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	for _, name := range names {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("%s has no %s", url, name)
		}
	}
	return values, nil
}

// memory returns a line of /proc/PID/status in MiB: VmRSS, or VmHWM for the
// highest since forgetPeak.
func memory(pid int, line string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for s := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(s, line+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, line)
}

func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// cpuTime is the processor time that a process has used.
func cpuTime(pid int) (time.Duration, error) { return ticksOf(pid, 11, 13) } // utime, stime

// allTime is cpuTime with that of the processes that it has started and
// collected, or that still run.
func allTime(pid int) (time.Duration, error) {
	sum, err := ticksOf(pid, 11, 15) // and cutime, cstime
	if err != nil {
		return 0, err
	}
	for _, child := range pgcluster.Children(pid) {
		if d, err := cpuTime(child); err == nil { // it may have ended
			sum += d
		}
	}
	return sum, nil
}

func ticksOf(pid, from, to int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < to {
		return 0, fmt.Errorf("short stat of process %d", pid)
	}
	var ticks int64
	for _, s := range f[from:to] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil // USER_HZ
}

// busy is what the agent, the region and their servers have used so far.
func (l *lab) busy(ctx context.Context) (time.Duration, error) {
	parts, err := l.busyParts(ctx)
	return parts[0] + parts[1] + parts[2] + parts[3], err
}

// busyParts is busy of the facility's server, the region's, the agent and the
// region's program.
func (l *lab) busyParts(ctx context.Context) (parts [4]time.Duration, err error) {
	for i, db := range []*pgxpool.Pool{l.local, l.region} {
		var dir string
		if err := db.QueryRow(ctx, `SHOW data_directory`).Scan(&dir); err != nil {
			return parts, fmt.Errorf("ask for the data directory: %w", err)
		}
		pid, err := pgcluster.ReadPostmasterPID(dir)
		if err != nil {
			return parts, err
		}
		d, err := allTime(pid)
		if err != nil {
			return parts, fmt.Errorf("read the server's processor time: %w", err)
		}
		parts[i] = d
	}
	for i, pid := range []int{l.edge.Agent.PID(), l.site.Cloud.PID()} {
		d, err := cpuTime(pid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the agent is dead while only its peer works
			return parts, fmt.Errorf("read the processor time: %w", err)
		}
		parts[2+i] = d
	}
	return parts, nil
}

// What the region's processes may take of the facility's processors: they would
// run on another machine.
var (
	lowest   = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: 19}
	onlyIdle = unix.SchedAttr{Policy: unix.SCHED_IDLE}
)

// yieldRegion has the region's processes, and those that they start, make way.
func (l *lab) yieldRegion(ctx context.Context, way unix.SchedAttr) error {
	var dir string
	if err := l.region.QueryRow(ctx, `SHOW data_directory`).Scan(&dir); err != nil {
		return fmt.Errorf("ask for the data directory: %w", err)
	}
	server, err := pgcluster.ReadPostmasterPID(dir)
	if err != nil {
		return err
	}
	pids := append(pgcluster.Children(server), server, l.site.Cloud.PID())
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return err
			}
			// One that has just ended needs no priority.
			if err := unix.SchedSetAttr(tid, &way, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("lower the region's priority: %w", err)
			}
		}
	}
	return nil
}

// loadAverage says how busy the machine is with other things.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// diskUse is what a folder takes on the disk, in bytes.
func diskUse(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// median of an even number is the mean of the middle two.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// percentile p (0 to 100) by the nearest rank.
func percentile(v []float64, p float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return s[min(int(p/100*float64(len(s))), len(s)-1)]
}

// list writes numbers for the column "beside".
func list(v []float64) string {
	var parts []string
	for _, x := range v {
		parts = append(parts, strconv.FormatFloat(x, 'g', 3, 64))
	}
	return strings.Join(parts, ", ")
}
