// Command bench measures what Holdfast promises, each figure beside its named
// peer in the same run, and writes docs/bench.md and docs/bench.json.
//
// In:  make bench.
// Out: docs/bench.md for people, docs/bench.json for programs.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/run"
)

// measurement is one benchmark: it may yield several figures.
type measurement struct {
	name string
	ids  []string
	run  func(ctx context.Context, l *lab) ([]Figure, error)
}

// measurements, in the order in which they run.
var measurements = []measurement{
	{"tunnel", []string{"tunnel_gib_s"}, benchTunnel},
	{"drain of inserts", []string{"drain_insert_ratio", "queue_disk_ratio", "wal_retained_mb", "agent_rss_drain_mb"}, benchDrainInsert},
	{"drain of pgbench", []string{"drain_pgbench_ratio"}, benchDrainPgbench},
	{"lag", []string{"lag_p50_ms", "lag_p99_ms"}, benchLag},
	{"cost to the workers", []string{"capture_p95_ratio", "capture_tps_ratio"}, benchCost},
	{"agent at rest", []string{"agent_rss_idle_mb", "agent_cpu_idle_pct"}, benchIdle},
	{"black hole", []string{"tunnel_recover_s"}, benchBlackHole},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == tunnelChild {
		tunnelServe()
		return
	}
	only := flag.String("only", "", "comma-separated ids or names of measurements; the others keep their last figures")
	out := flag.String("out", "docs", "folder of bench.md and bench.json")
	keep := flag.Bool("keep", false, "keep the work folder and its logs")
	flag.Parse()
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	if err := bench(ctx, *only, *out, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, only, out string, keep bool) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	report, err := loadReport(out)
	if err != nil {
		return err
	}
	for _, m := range measurements {
		if only != "" && !chosen(m, strings.Split(only, ",")) {
			continue
		}
		log.Info("measuring", "what", m.name)
		began := time.Now()
		figures, err := measure(ctx, m, log, keep)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for _, f := range figures {
			fmt.Printf("%-22s %10.3f %-8s goal %-10s met %-5v %s\n", f.ID, f.Measured, f.Unit, f.Goal, f.Met, f.Peer)
		}
		log.Info("measured", "what", m.name, "took", time.Since(began).Round(time.Second))
		if err := report.add(figures); err != nil {
			return err
		}
	}
	return report.write()
}

// measure gives each measurement a laboratory of its own.
func measure(ctx context.Context, m measurement, log *slog.Logger, keep bool) ([]Figure, error) {
	l, err := newLab(log, keep)
	if err != nil {
		return nil, err
	}
	figures, err := m.run(ctx, l)
	return figures, join(err, l.close())
}

func chosen(m measurement, only []string) bool {
	return slices.ContainsFunc(only, func(o string) bool {
		return o == m.name || slices.Contains(m.ids, o)
	})
}
