package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// facility is the one that is measured.
const facility = "la"

// lab is a region and one facility, as the real programs on this machine. It
// starts nothing until start is called.
type lab struct {
	log    *slog.Logger
	keep   bool
	rounds int
	// verifyRows is the size of the table that is compared.
	verifyRows int64
	// loadRows is the size of the table that is loaded.
	loadRows int64
	// backlog is how many changes wait at the facility while others work.
	backlog int64
	// facilities are those that are simulated.
	facilities int
	// cuts is how many simulated facilities are cut off, soak how long it is tried
	// to have one taken for offline, crowd how many connections there are at once,
	// and kills how often the alerter is killed.
	cuts, crowd, kills int
	soak               time.Duration
	dir                string
	bin                string

	site   *site.Site
	edge   *site.Edge
	local  *pgxpool.Pool // the facility's database, as superuser
	region *pgxpool.Pool // the region's database, as superuser
	native *pgxpool.Pool // the peer's: another database of the region's cluster
	made   int           // subscriptions so far, for their names
}

func newLab(o options) (*lab, error) {
	// Not below TMPDIR of one user: PostgreSQL's user must be able to reach it.
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, fmt.Errorf("make the laboratory's folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the laboratory's folder: %w", err)
	}
	return &lab{
		log: o.log, keep: o.keep, rounds: o.rounds, verifyRows: o.verifyRows, loadRows: o.loadRows, backlog: o.backlog, facilities: o.facilities,
		cuts: o.cuts, crowd: o.crowd, kills: o.kills, soak: o.soak, dir: dir, bin: o.bin,
	}, nil
}

// build makes the programs as they are delivered.
func build(ctx context.Context, dir string) error {
	for _, p := range []string{"./edge/cmd/holdfast-edge", "./cloud/cmd/holdfast-cloud"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", p, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// start starts the region and the facility.
func (l *lab) start(ctx context.Context) error {
	s, err := site.Start(ctx, site.Options{Dir: l.dir, Bin: l.bin, LogLevel: "info", Log: l.log})
	if err != nil {
		return err
	}
	l.site = s
	if l.edge, err = s.AddEdge(ctx, site.EdgeOptions{ID: facility}); err != nil {
		return err
	}
	if l.local, err = connect(ctx, l.edge.DSN(pgcluster.Superuser, pgcluster.Database)); err != nil {
		return err
	}
	if l.region, err = connect(ctx, s.RegionDSN(pgcluster.Superuser, pgcluster.Database)); err != nil {
		return err
	}
	if _, err := l.region.Exec(ctx, `CREATE DATABASE native`); err != nil {
		return fmt.Errorf("make the peer's database: %w", err)
	}
	if l.native, err = connect(ctx, s.RegionDSN(pgcluster.Superuser, "native")); err != nil {
		return err
	}
	return l.linkIs(ctx, 1)
}

func connect(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	p, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return p, nil
}

// everywhere makes tables in the facility's, the region's and the peer's
// database, as the role that owns such tables there.
func (l *lab) everywhere(ctx context.Context, sql string) error {
	for _, side := range []struct {
		db    *pgxpool.Pool
		owner string
	}{{l.local, pgcluster.App}, {l.region, pgcluster.Owner}, {l.native, pgcluster.Superuser}} {
		if _, err := side.db.Exec(ctx, `SET ROLE `+side.owner+`; `+sql+`; RESET ROLE`); err != nil {
			return fmt.Errorf("prepare the tables: %w", err)
		}
	}
	return nil
}

// settle brings both servers to the same state before a clock starts: what is
// dirty is written, so that neither side inherits the other's checkpoint.
func (l *lab) settle(ctx context.Context) error {
	for _, db := range []*pgxpool.Pool{l.local, l.region} {
		if _, err := db.Exec(ctx, `CHECKPOINT`); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return pause(ctx, time.Second)
}

// register has a table synced, and returns when the region has its rows and the
// facility captures what comes.
func (l *lab) register(ctx context.Context, t v1.TableAdd) error {
	if _, err := l.site.API.AddTable(ctx, t); err != nil {
		return fmt.Errorf("register %s.%s: %w", t.Schema, t.Table, err)
	}
	return l.streaming(ctx, t.Schema, t.Table)
}

// streaming waits until the facility has written its rows of a table to the
// stream and captures what comes.
func (l *lab) streaming(ctx context.Context, schema, table string) error {
	return l.until(ctx, 20*time.Minute, func(ctx context.Context) (bool, error) {
		var state string
		err := l.local.QueryRow(ctx, `SELECT coalesce((SELECT state FROM holdfast.synced_table WHERE schema_name = $1 AND table_name = $2), '')`,
			schema, table).Scan(&state)
		if state == "refused" {
			return false, fmt.Errorf("%s.%s was refused", schema, table)
		}
		if err != nil || state != "streaming" {
			return false, err
		}
		var published bool
		err = l.local.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_publication_tables WHERE pubname LIKE 'holdfast%' AND schemaname = $1 AND tablename = $2)`,
			schema, table).Scan(&published)
		return published, err
	})
}

// cut cuts the cable and returns when the box has noticed.
func (l *lab) cut(ctx context.Context) error {
	l.edge.Cut()
	return l.linkIs(ctx, 0)
}

// restore puts the cable back and returns when the stream is up again, with
// how long that took.
func (l *lab) restore(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	l.edge.Restore()
	err := l.linkIs(ctx, 1)
	return time.Since(began), err
}

func (l *lab) linkIs(ctx context.Context, up float64) error {
	return l.until(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		v, err := l.metric(ctx, "holdfast_link_up")
		return err == nil && v == up, err
	})
}

// delivered waits until the region has everything durably, as the box was told.
func (l *lab) delivered(ctx context.Context) error {
	return l.until(ctx, 10*time.Minute, func(ctx context.Context) (bool, error) {
		n, err := l.metric(ctx, "holdfast_queue_changes")
		return err == nil && n == 0, err
	})
}

// until asks every few milliseconds.
func (l *lab) until(ctx context.Context, limit time.Duration, ok func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	for {
		done, err := ok(ctx)
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if done || err != nil {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return context.Cause(ctx)
		}
	}
}

// close stops everything and removes the folder.
func (l *lab) close() error {
	for _, p := range []*pgxpool.Pool{l.local, l.region, l.native} {
		if p != nil {
			p.Close()
		}
	}
	var err error
	if l.site != nil {
		err = l.site.Close()
	}
	if l.keep {
		l.log.Info("kept", "dir", l.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// edgeDSN is for programs that write as the facility's people do.
func (l *lab) edgeDSN() string { return l.edge.DSN(pgcluster.Superuser, pgcluster.Database) }

func (l *lab) queueDir() string { return filepath.Join(l.edge.StateDir(), "queue") }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
