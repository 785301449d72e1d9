package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbench runs it against the database that dsn names; script may be empty for
// its own transaction. It returns the transactions per second.
func (l *lab) pgbench(ctx context.Context, dsn, options, script string, args ...string) (tps float64, err error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return 0, fmt.Errorf("read the connection string: %w", err)
	}
	if script != "" {
		path := filepath.Join(l.dir, "script.sql")
		if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
			return 0, fmt.Errorf("write pgbench's script: %w", err)
		}
		args = append(args, "-f", path)
	}
	cmd := exec.CommandContext(ctx, "pgbench", args...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "PGHOST="+c.Host, "PGPORT="+strconv.Itoa(int(c.Port)), "PGUSER="+c.User,
		"PGPASSWORD="+c.Password, "PGDATABASE="+c.Database, "PGOPTIONS="+options)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, tail(string(out), 5))
	}
	if m := tpsLine.FindStringSubmatch(string(out)); m != nil {
		tps, err = strconv.ParseFloat(m[1], 64)
	}
	return tps, err
}

// latencies reads and removes the logs of `pgbench -l --log-prefix`; in
// milliseconds, from when the transaction should have begun, as pgbench says it.
func (l *lab) latencies(prefix string) ([]float64, error) {
	files, err := filepath.Glob(filepath.Join(l.dir, prefix+"*"))
	if err != nil {
		return nil, err
	}
	var all []float64
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			// client, transaction, time in µs, …
			fields := strings.Fields(s.Text())
			if len(fields) < 3 {
				continue
			}
			us, err := strconv.ParseFloat(fields[2], 64)
			if err != nil {
				continue // "skipped" or "failed"
			}
			all = append(all, us/1000)
		}
		_ = f.Close() // only read
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("pgbench left no log %s*", prefix)
	}
	return all, nil
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
