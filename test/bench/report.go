package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Figure is one promised figure beside the measured one.
type Figure struct {
	ID       string  `json:"id"`
	What     string  `json:"what"`
	Goal     string  `json:"goal"`
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit"`
	// Peer is what it was measured against, with the peer's own figure.
	Peer string `json:"peer"`
	Met  bool   `json:"met"`
	// At is when it was measured, UTC.
	At string `json:"at"`
}

// atLeast and atMost fill in what follows from the goal.
func atLeast(goal float64, f Figure) Figure {
	f.Goal, f.Met = fmt.Sprintf("≥ %g", goal), f.Measured >= goal
	return f
}

func atMost(goal float64, f Figure) Figure {
	f.Goal, f.Met = fmt.Sprintf("≤ %g", goal), f.Measured <= goal
	return f
}

// report keeps the figures of earlier runs that this one does not measure.
type report struct {
	dir     string
	figures []Figure
}

func loadReport(dir string) (*report, error) {
	r := &report{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last figures: %w", err)
	}
	if err := json.Unmarshal(b, &r.figures); err != nil {
		return nil, fmt.Errorf("read the last figures: %w", err)
	}
	return r, nil
}

// add replaces figures and writes at once: a later failure loses nothing.
func (r *report) add(figures []Figure) error {
	for _, f := range figures {
		f.At = time.Now().UTC().Format("2006-01-02 15:04")
		if i := slices.IndexFunc(r.figures, func(o Figure) bool { return o.ID == f.ID }); i >= 0 {
			r.figures[i] = f
		} else {
			r.figures = append(r.figures, f)
		}
	}
	return r.write()
}

func (r *report) write() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	b, err := json.MarshalIndent(r.figures, "", "  ")
	if err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "bench.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return os.WriteFile(filepath.Join(r.dir, "bench.md"), []byte(r.markdown()), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures\n\nWritten by `make bench`; `go run ./test/bench -only ID` measures one again. Machines differ and are\n"+
		"shared: ratios against the named peer, taken in the same run, are what counts.\n\n")
	fmt.Fprintf(&b, "Measured on %s. The load average is that of the whole machine: on two cores, much\nmore than 4 means that other work took most of them.\n\n", machine())
	b.WriteString("| id | what | goal | measured | met | at, UTC | beside |\n|---|---|---|---|---|---|---|\n")
	for _, f := range r.figures {
		met := "yes"
		if !f.Met {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s %s | %.3g %s | %s | %s | %s |\n", f.ID, f.What, f.Goal, f.Unit, f.Measured, f.Unit, met, f.At, f.Peer)
	}
	return b.String()
}

func machine() string {
	cpu := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	pg := "PostgreSQL"
	if out, err := exec.Command("psql", "--version").Output(); err == nil {
		pg = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), cpu, runtime.Version(), pg)
}
