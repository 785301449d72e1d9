// Command bench measures what Holdfast promises, each figure beside its named
// peer in the same run, and writes docs/bench.md and docs/bench.json.
//
// In:  make bench.
// Out: docs/bench.md for people, docs/bench.json for programs.
package main

import (
	"context"
	"errors"
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
	{"drain of pgbench", []string{"drain_pgbench_ratio", "wal_retained_busy_mb"}, benchDrainPgbench},
	{"lag", []string{"lag_p50_ms", "lag_p99_ms"}, benchLag},
	{"share", []string{"share_others_p99_s", "share_down_p99_s"}, benchShare},
	{"cost to the workers", []string{"capture_p95_ratio", "capture_tps_ratio"}, benchCost},
	{"comparison", []string{"verify_bytes_mb", "verify_cpu_pct"}, benchVerify},
	{"first load", []string{"first_load_ratio", "first_load_kill_pct"}, benchFirstLoad},
	{"decoding for many", []string{"fanout_decoder_ratio"}, benchFanDecoder},
	{"against slots", []string{"fanout_slots_ratio"}, benchFanSlots},
	{"delivery to many", []string{"fanout_p99_s"}, benchFanLive},
	{"agent at rest", []string{"agent_rss_idle_mb", "agent_cpu_idle_pct"}, benchIdle},
	{"black hole", []string{"tunnel_recover_s"}, benchBlackHole},
	{"told", []string{"tell_p99_s", "tell_visible_p99_s"}, benchTold},
	{"never wrong", []string{"false_offline"}, benchCalm},
	{"storm", []string{"storm_commit_s"}, benchStorm},
	{"fleet", []string{"fleet_cores", "fleet_rss_gb", "fleet_ingest_p99_ms", "fleet_reconnect_s", "fleet_false_pages"}, benchFleet},
	{"cluster", []string{"cluster_reconnect_s", "cluster_false_pages"}, benchCluster},
	{"killed", []string{"tell_lost", "tell_duplicates"}, benchKilled},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == tunnelChild {
		if err := tunnelServe(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == clusterChild {
		if err := clusterServe(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "comma-separated ids or names of measurements; the others keep their last figures")
	out := flag.String("out", "docs", "folder of bench.md and bench.json")
	keep := flag.Bool("keep", false, "keep the work folder and its logs")
	rounds := flag.Int("rounds", 3, "how often each comparison is made; the median counts")
	verifyRows := int64(10_000_000)
	flag.Func("verify-rows", "rows of the table that is compared, such as 200k; 10M take 5 GB of disk (default 10M)", func(s string) (err error) {
		verifyRows, err = parseRows(s)
		return err
	})
	loadRows := int64(1_000_000)
	flag.Func("load-rows", "rows of the table that is loaded for the first time, such as 50k; 1M take 3 GB of disk (default 1M)", func(s string) (err error) {
		loadRows, err = parseRows(s)
		return err
	})
	backlog := int64(1_000_000)
	flag.Func("backlog", "changes that wait at a facility while others work, such as 100k (default 1M)", func(s string) (err error) {
		backlog, err = parseRows(s)
		return err
	})
	facilities := flag.Int("facilities", 1000, "simulated facilities")
	cuts := flag.Int("cuts", 200, "how many simulated facilities are cut off, each by its cable and by its death")
	soak := flag.Duration("soak", 30*time.Minute, "how long facilities on bad lines are watched")
	crowd := flag.Int("crowd", 19_000, "connections to the broker at once; each takes a descriptor here and there")
	kills := flag.Int("kills", 200, "how often the alerter is killed")
	flag.Parse()
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := bench(ctx, options{
		log: log, only: *only, out: *out, keep: *keep, rounds: *rounds, verifyRows: verifyRows, loadRows: loadRows, backlog: backlog, facilities: *facilities,
		cuts: *cuts, soak: *soak, crowd: *crowd, kills: *kills, bin: os.Getenv("HOLDFAST_BIN_DIR"),
	}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags, and where the programs are.
type options struct {
	log       *slog.Logger
	only, out string
	keep      bool
	rounds    int
	// verifyRows is for the comparison.
	verifyRows int64
	// loadRows is for the first load, backlog for what others wait meanwhile,
	// facilities for the way down.
	loadRows, backlog int64
	facilities        int
	// cuts, soak, crowd and kills are for detection and alerts.
	cuts, crowd, kills int
	soak               time.Duration
	bin                string
}

func bench(ctx context.Context, o options) error {
	report, err := loadReport(o.out)
	if err != nil {
		return err
	}
	if o.bin == "" {
		if o.bin, err = os.MkdirTemp("", "holdfast-bench-bin-"); err != nil {
			return fmt.Errorf("make a folder for the programs: %w", err)
		}
		defer os.RemoveAll(o.bin)
		if err := build(ctx, o.bin); err != nil {
			return err
		}
	}
	for _, m := range measurements {
		if o.only != "" && !chosen(m, strings.Split(o.only, ",")) {
			continue
		}
		o.log.Info("measuring", "what", m.name)
		began := time.Now()
		figures, err := measure(ctx, m, o)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for _, f := range figures {
			fmt.Printf("%-22s %10.3f %-8s goal %-10s met %-5v %s\n", f.ID, f.Measured, f.Unit, f.Goal, f.Met, f.Peer)
		}
		o.log.Info("measured", "what", m.name, "took", time.Since(began).Round(time.Second))
		if err := report.add(figures); err != nil {
			return err
		}
	}
	return report.write()
}

// measure gives each measurement a laboratory of its own.
func measure(ctx context.Context, m measurement, o options) ([]Figure, error) {
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	figures, err := m.run(ctx, l)
	return figures, errors.Join(err, l.close())
}

func chosen(m measurement, only []string) bool {
	return slices.ContainsFunc(only, func(o string) bool {
		return o == m.name || slices.Contains(m.ids, o)
	})
}
