package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// A table with rows is loaded for the first time by having it synced, while its
// facility works on. The peer is a dump of the same table into another database
// of the same cluster. Who goes first changes with each round.

const loadTables = `CREATE TABLE public.%s (facility_id text NOT NULL, id bigint NOT NULL, customer text, quantity int, created_at timestamptz, notes text, PRIMARY KEY (facility_id, id))`

// loadFill makes rows of about 200 bytes as a dump writes them.
const loadFill = `INSERT INTO %s SELECT 'la', i, 'customer ' || i %% 977, i %% 50, '2026-01-01'::timestamptz + i * interval '1 second',
  md5(i::text) || ' two pallets of corrugated boxes, ring before noon ' || md5((i + 1)::text) FROM generate_series(1, $1::bigint) i`

// load is one first load, beside its peer's.
type load struct {
	seconds, cpu, peerSeconds, peerCPU float64
	// parts of cpu: the facility's server, the region's, the agent, the region's program.
	parts [4]float64
	// wire is all that went through the tunnel, in MB.
	wire float64
	// killed: the agent was killed in the middle and started at once. down is how
	// long it took until it was connected again, killedWire what all of it took.
	down, killed, killedWire float64
	// queued and killedQueued are what the frames take in the queue's files, in
	// MB: how well they pack differs from load to load.
	queued, killedQueued float64
}

// again is how much more went over the wire for what the queue held, with the
// kill, in per cent.
func (x load) again() float64 {
	return 100 * (x.killedWire/x.killedQueued/(x.wire/x.queued) - 1)
}

// benchFirstLoad measures a facility's first load of a large table.
func benchFirstLoad(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	var all []load
	for round := 1; round <= l.rounds; round++ {
		one, err := l.firstLoad(ctx, round)
		if err != nil {
			return nil, err
		}
		l.log.Info("first load", "holdfast_s", one.seconds, "holdfast_cpu_s", one.cpu, "parts", one.parts, "peer_s", one.peerSeconds, "peer_cpu_s", one.peerCPU,
			"wire_mb", one.wire, "killed_s", one.killed, "down_s", one.down, "killed_wire_mb", one.killedWire, "queued_mb", one.queued, "killed_queued_mb", one.killedQueued, "again_pct", one.again(), "load", loadAverage())
		all = append(all, one)
	}
	pick := func(f func(load) float64) []float64 {
		var v []float64
		for _, x := range all {
			v = append(v, f(x))
		}
		return v
	}
	rows := fmt.Sprintf("%d rows of about 200 bytes with one index", l.loadRows)
	return []Figure{
		atMost(1.5, Figure{
			ID: "first_load_ratio", What: "a facility's first load of a table, until the region has all of it durably, against a dump",
			Measured: median(pick(func(x load) float64 { return x.seconds / x.peerSeconds })), Unit: "×",
			Peer: fmt.Sprintf("pg_dump | psql from the facility's server into another database of the region's cluster, without a tunnel, %s: %s s. Holdfast, through the tunnel and by "+
				"ranges, with the table left to workers who wait in between: %s s, %s MB on the wire. Processor time of all programs: %s s against %s s. Median of %d rounds, order alternating, load average %s",
				rows, list(pick(func(x load) float64 { return x.peerSeconds })), list(pick(func(x load) float64 { return x.seconds })), list(pick(func(x load) float64 { return x.wire })),
				list(pick(func(x load) float64 { return x.peerCPU })), list(pick(func(x load) float64 { return x.cpu })), len(all), loadAverage()),
		}),
		atMost(5, Figure{
			ID: "first_load_kill_pct", What: "what is sent again when the agent is killed in the middle of that load, of all that is sent",
			Measured: median(pick(load.again)), Unit: "%",
			Peer: fmt.Sprintf("all bytes through the tunnel, both ways, the new handshake included: %s MB with the kill, for frames of %s MB, and %s MB for frames of %s MB without. In time: %s s with the kill, without the %s s until the agent "+
				"was connected again, against %s s; load average %s",
				list(pick(func(x load) float64 { return x.killedWire })), list(pick(func(x load) float64 { return x.killedQueued })),
				list(pick(func(x load) float64 { return x.wire })), list(pick(func(x load) float64 { return x.queued })), list(pick(func(x load) float64 { return x.killed - x.down })),
				list(pick(func(x load) float64 { return x.down })), list(pick(func(x load) float64 { return x.seconds })), loadAverage()),
		}),
	}, nil
}

func (l *lab) firstLoad(ctx context.Context, round int) (one load, err error) {
	table, killed := fmt.Sprintf("load_%d", round), fmt.Sprintf("killed_%d", round)
	for _, t := range []string{table, killed} {
		if err := l.everywhere(ctx, fmt.Sprintf(loadTables, t)); err != nil {
			return one, err
		}
		if _, err := l.local.Exec(ctx, fmt.Sprintf(loadFill, t), l.loadRows); err != nil {
			return one, fmt.Errorf("fill the table: %w", err)
		}
		if _, err := l.local.Exec(ctx, `VACUUM ANALYZE `+t); err != nil {
			return one, fmt.Errorf("vacuum the table: %w", err)
		}
	}
	ours := func() error { return l.loadOurs(ctx, table, &one) }
	theirs := func() error { return l.loadTheirs(ctx, table, &one) }
	steps := []func() error{theirs, ours}
	if round%2 == 0 {
		steps = []func() error{ours, theirs}
	}
	for _, step := range append(steps, func() error { return l.loadKilled(ctx, killed, &one) }) {
		if err := step(); err != nil {
			return one, err
		}
	}
	if err := l.same(ctx, "public."+table, "public."+table); err != nil {
		return one, err
	}
	for _, t := range []string{table, killed} {
		if err := l.site.API.RemoveTable(ctx, "public", t); err != nil {
			return one, fmt.Errorf("stop syncing %s: %w", t, err)
		}
		if err := l.everywhere(ctx, `DROP TABLE public.`+t); err != nil {
			return one, err
		}
	}
	return one, nil
}

// loadOurs has the table synced and waits until the region has it.
func (l *lab) loadOurs(ctx context.Context, table string, one *load) error {
	if err := l.settle(ctx); err != nil {
		return err
	}
	wire, queued, err := l.sent(ctx)
	if err != nil {
		return err
	}
	before, err := l.busyParts(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: table, Class: "fact"}); err != nil {
		return err
	}
	if err := l.lastDelivered(ctx, table); err != nil {
		return err
	}
	one.seconds = time.Since(began).Seconds()
	busy, err := l.busyParts(ctx)
	after, queuedAfter, err2 := l.sent(ctx)
	one.wire, one.queued = after-wire, queuedAfter-queued
	for i := range busy {
		one.parts[i] = (busy[i] - before[i]).Seconds()
		one.cpu += one.parts[i]
	}
	return errors.Join(err, err2, l.loaded(ctx, table))
}

// linksRead is how long it takes at most until the hub has read its links once
// more: a short load is over before.
const linksRead = 2500 * time.Millisecond

// sent is what has gone through the tunnel, and what the queue's files have
// taken; both in MB.
func (l *lab) sent(ctx context.Context) (wire, queued float64, err error) {
	if err := pause(ctx, linksRead); err != nil {
		return 0, 0, err
	}
	wire, err = l.onTheNetwork(ctx)
	if err != nil {
		return 0, 0, err
	}
	disk, err := diskUse(l.queueDir())
	return wire / 1e6, float64(disk) / 1e6, err
}

// lastDelivered waits until the region has the last row, and the facility knows.
func (l *lab) lastDelivered(ctx context.Context, table string) error {
	err := l.visible(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s WHERE facility_id = 'la' AND id = %d)`, table, l.loadRows))
	if err != nil {
		return fmt.Errorf("wait for the last row: %w", err)
	}
	return l.delivered(ctx)
}

// loaded checks that the region has all rows.
func (l *lab) loaded(ctx context.Context, table string) error {
	var n int64
	if err := l.region.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		return fmt.Errorf("count the rows: %w", err)
	}
	if n != l.loadRows {
		return fmt.Errorf("%s: %d rows of %d were loaded", table, n, l.loadRows)
	}
	return nil
}

// loadKilled is loadOurs with the agent killed when half of the table is sent.
func (l *lab) loadKilled(ctx context.Context, table string, one *load) error {
	if err := l.settle(ctx); err != nil {
		return err
	}
	wire, queued, err := l.sent(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := l.site.API.AddTable(ctx, v1.TableAdd{Schema: "public", Table: table, Class: "fact"}); err != nil {
		return fmt.Errorf("register %s: %w", table, err)
	}
	err = l.until(ctx, 10*time.Minute, func(ctx context.Context) (half bool, err error) {
		err = l.local.QueryRow(ctx, `SELECT coalesce((SELECT rows_loaded >= $2 FROM holdfast.synced_table WHERE schema_name = 'public' AND table_name = $1), false)`,
			table, l.loadRows/2).Scan(&half)
		return half, err
	})
	if err != nil {
		return fmt.Errorf("wait for half of the load: %w", err)
	}
	kill := time.Now()
	if err := l.edge.Agent.Kill9(); err != nil {
		return err
	}
	if err := l.edge.Start(ctx); err != nil {
		return err
	}
	if err := l.linkIs(ctx, 1); err != nil {
		return err
	}
	one.down = time.Since(kill).Seconds()
	if err := l.streaming(ctx, "public", table); err != nil {
		return err
	}
	if err := l.lastDelivered(ctx, table); err != nil {
		return err
	}
	one.killed = time.Since(began).Seconds()
	after, queuedAfter, err := l.sent(ctx)
	one.killedWire, one.killedQueued = after-wire, queuedAfter-queued
	return errors.Join(err, l.loaded(ctx, table))
}

// loadTheirs dumps the table into the peer's database.
func (l *lab) loadTheirs(ctx context.Context, table string, one *load) error {
	if _, err := l.native.Exec(ctx, `DROP TABLE public.`+table); err != nil {
		return fmt.Errorf("make room for the dump: %w", err)
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	from, err := pgx.ParseConfig(l.edgeDSN())
	if err != nil {
		return fmt.Errorf("read the facility's connection string: %w", err)
	}
	to, err := pgx.ParseConfig(l.site.RegionDSN(pgcluster.Superuser, "native"))
	if err != nil {
		return fmt.Errorf("read the peer's connection string: %w", err)
	}
	dump := exec.CommandContext(ctx, "pg_dump", "--no-owner", "--no-privileges", "-t", "public."+table)
	dump.Env, dump.Stderr = pgEnv(from), os.Stderr
	read := exec.CommandContext(ctx, "psql", "-q", "-X", "-o", os.DevNull, "-v", "ON_ERROR_STOP=1")
	read.Env, read.Stderr = pgEnv(to), os.Stderr
	if read.Stdin, err = dump.StdoutPipe(); err != nil {
		return err
	}
	var servers float64
	cpu := l.stopwatch(ctx, &servers)
	began := time.Now()
	if err := dump.Start(); err != nil {
		return fmt.Errorf("start pg_dump: %w", err)
	}
	err = read.Run()
	if err = errors.Join(err, dump.Wait()); err != nil {
		return fmt.Errorf("pg_dump | psql: %w", err)
	}
	one.peerSeconds = time.Since(began).Seconds()
	err = cpu()
	one.peerCPU = servers
	for _, c := range []*exec.Cmd{dump, read} {
		one.peerCPU += (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	}
	return err
}

// pgEnv tells PostgreSQL's programs where to connect.
func pgEnv(c *pgx.ConnConfig) []string {
	return append(os.Environ(), "PGHOST="+c.Host, "PGPORT="+strconv.Itoa(int(c.Port)), "PGUSER="+c.User, "PGPASSWORD="+c.Password, "PGDATABASE="+c.Database)
}
