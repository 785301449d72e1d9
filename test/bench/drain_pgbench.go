package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

const (
	pgbenchScale   = "100" // ten million accounts
	pgbenchSeconds = "60"
	// regionSchema holds the facility's tables in the region: integer keys
	// would collide with those of other facilities.
	regionSchema = facility + "_public"
)

// benchDrainPgbench drains a minute of pgbench's own transactions.
func benchDrainPgbench(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.fillPgbench(ctx); err != nil {
		return nil, err
	}
	tables := []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"}
	none, class := "", map[string]string{"pgbench_history": "event"} // it has no key
	for _, t := range tables {
		if class[t] == "" {
			class[t] = "fact"
		}
		if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: t, Class: class[t], FacilityColumn: &none, RegionSchema: "{facility}_{schema}"}); err != nil {
			return nil, err
		}
	}
	for _, db := range []*pgxpool.Pool{l.local, l.region, l.native} {
		if _, err := db.Exec(ctx, `VACUUM ANALYZE`); err != nil {
			return nil, fmt.Errorf("vacuum: %w", err)
		}
	}
	var all drains
	for round := 1; round <= l.rounds; round++ {
		d, err := l.drain(ctx, backlog{
			round: round, tables: tables,
			// Found by its key: the history has none, and to search all of it every
			// few milliseconds took more than half a core from the drain.
			last: fmt.Sprintf(`UPDATE pgbench_branches SET filler = 'round %d' WHERE bid = 1`, round),
			seen: fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s.pgbench_branches WHERE bid = 1 AND filler = 'round %d')`, regionSchema, round),
			work: func() error {
				_, err := l.pgbench(ctx, l.edgeDSN(), "", "", "-n", "-c", "4", "-j", "2", "-T", pgbenchSeconds)
				return err
			},
		})
		if err != nil {
			return nil, err
		}
		for _, t := range tables {
			if err := l.same(ctx, "public."+t, regionSchema+"."+t); err != nil {
				return nil, err
			}
		}
		all = append(all, d)
	}
	return []Figure{
		atLeast(3, Figure{
			ID: "drain_pgbench_ratio", What: "pgbench's own transactions (scale 100, 4 clients, 60 s offline), drained, against native",
			Measured: median(all.pick(drain.ratio)), Unit: "×", Peer: all.peer(),
		}),
		// PostgreSQL moves a slot's restart_lsn only to where it has logged its
		// running transactions, which it does every 15 s: how much that holds back
		// depends on how busy the server is.
		atMost(64, Figure{
			ID: "wal_retained_busy_mb", What: "most WAL that Holdfast's slot holds back while pgbench works as fast as it can",
			Measured: maximum(all.pick(func(d drain) float64 { return d.ourWALMB })), Unit: "MB",
			Peer: fmt.Sprintf("the native slot: %s MB, growing as long as the outage", list(all.pick(func(d drain) float64 { return d.nativeMB }))),
		}),
	}, nil
}

// fillPgbench makes pgbench's tables on every side, and fills the facility's
// and the peer's: the region gets the content by being registered.
func (l *lab) fillPgbench(ctx context.Context) error {
	if _, err := l.region.Exec(ctx, `CREATE SCHEMA `+regionSchema+` AUTHORIZATION `+pgcluster.Owner); err != nil {
		return fmt.Errorf("make the facility's schema: %w", err)
	}
	for _, side := range []struct{ dsn, options, steps string }{
		{l.edge.DSN(pgcluster.App, pgcluster.Database), "", "dtGvp"},
		{l.site.RegionDSN(pgcluster.Owner, pgcluster.Database), "-c search_path=" + regionSchema, "dtp"},
		{l.site.RegionDSN(pgcluster.Superuser, "native"), "", "dtGvp"},
	} {
		if _, err := l.pgbench(ctx, side.dsn, side.options, "", "-i", "-I", side.steps, "-q", "-s", pgbenchScale); err != nil {
			return err
		}
	}
	return nil
}
