package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/site"
)

const (
	// shareEvery is the time between two commits of each way.
	shareEvery = 25 * time.Millisecond
	sharePoll  = 5 * time.Millisecond
	// shareWarmUp is how many commits each way makes before anything counts.
	shareWarmUp = 40
)

// way is one way that changes go while a backlog drains.
type way struct {
	name     string
	facility string // whose row it is
	from, to *pgxpool.Pool
	n        int       // rows so far
	lags     []float64 // in seconds
}

// benchShare measures what everybody else waits while a facility's backlog
// drains, from the moment that a commit has returned until its row is visible at
// the other side.
func benchShare(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	edge, err := l.site.AddEdge(ctx, site.EdgeOptions{ID: "frankfurt"})
	if err != nil {
		return nil, err
	}
	other, err := connect(ctx, edge.DSN(pgcluster.Superuser, pgcluster.Database))
	if err != nil {
		return nil, err
	}
	defer other.Close()
	readers, err := connect(ctx, l.site.RegionDSN(pgcluster.Superuser, pgcluster.Database)) // whoever writes waits for none
	if err != nil {
		return nil, err
	}
	defer readers.Close()
	table := func(name, columns string) error {
		sql := fmt.Sprintf(`CREATE TABLE public.%s (%s)`, name, columns)
		if _, err := other.Exec(ctx, `SET ROLE `+pgcluster.App+`; `+sql+`; RESET ROLE`); err != nil {
			return fmt.Errorf("prepare the tables: %w", err)
		}
		if err := l.everywhere(ctx, sql); err != nil {
			return err
		}
		return l.register(ctx, v1.TableAdd{Schema: "public", Table: name, Class: "fact"})
	}
	if err := table("share", `facility_id text, way text, n bigint, customer text, quantity int, PRIMARY KEY (facility_id, way, n)`); err != nil {
		return nil, err
	}
	toRegion := &way{name: "another facility's changes to the region", facility: "frankfurt", from: other, to: readers}
	toOther := &way{name: "the region's to another facility", facility: "frankfurt", from: l.region, to: other}
	down := &way{name: "the region's to the facility that drains", facility: facility, from: l.region, to: l.local}
	own := &way{name: "its own, behind its backlog", facility: facility, from: l.local, to: readers}
	ways := []*way{toRegion, toOther, down, own}
	if err := during(ctx, ways, func() error {
		return l.until(ctx, time.Minute, func(ctx context.Context) (there bool, err error) {
			err = l.region.QueryRow(ctx, `SELECT count(DISTINCT way) = 4 AND min(n) > $1 FROM (SELECT way, max(n) AS n FROM share GROUP BY way) w`, shareWarmUp).Scan(&there)
			return there, err
		})
	}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	for _, w := range ways {
		w.lags = nil
	}
	var took, load []float64
	for round := 1; round <= l.rounds; round++ {
		name := backlogTable(round)
		if err := table(name, `id uuid PRIMARY KEY, facility_id text NOT NULL, customer text, quantity int, created_at timestamptz, notes text`); err != nil {
			return nil, err
		}
		seconds, err := l.share(ctx, name, ways)
		if err != nil {
			return nil, err
		}
		if err := l.delivered(ctx); err != nil {
			return nil, fmt.Errorf("deliver the backlog: %w", err)
		}
		var n float64
		if _, err := fmt.Sscan(loadAverage(), &n); err != nil {
			return nil, fmt.Errorf("read the load average: %w", err)
		}
		took, load = append(took, seconds), append(load, n)
	}
	told := fmt.Sprintf("backlogs of %d changes, drained in %s s, load average %s", l.backlog, list(took), list(load))
	for _, w := range ways {
		told += fmt.Sprintf("; %s: p50 %.3g, p99 %.3g, longest %.3g s of %d", w.name, percentile(w.lags, 50), percentile(w.lags, 99), percentile(w.lags, 100), len(w.lags))
	}
	l.log.Info("shared", "told", told)
	return []Figure{
		atMost(1, Figure{
			ID: "share_others_p99_s", What: "while a facility's backlog of a million changes drains: commit → visible, of another facility and to it, 99 of 100",
			Measured: max(percentile(toRegion.lags, 99), percentile(toOther.lags, 99)), Unit: "s", Peer: told,
		}),
		atMost(1, Figure{
			ID: "share_down_p99_s", What: "meanwhile, the region's changes → visible at the facility that drains, 99 of 100",
			Measured: percentile(down.lags, 99), Unit: "s", Peer: "the same run",
		}),
	}, nil
}

// share makes a backlog while the cable is cut, and has all ways work until it
// is drained. It returns how long that took.
func (l *lab) share(ctx context.Context, table string, ways []*way) (seconds float64, err error) {
	if err := l.cut(ctx); err != nil {
		return 0, fmt.Errorf("cut the cable: %w", err)
	}
	txs := l.backlog * 2 / 7 // of three changes, or four
	_, err = l.pgbench(ctx, l.edgeDSN(), "-c synchronous_commit=off", fmt.Sprintf(backlogScript, table),
		"-n", "-c", fmt.Sprint(backlogClients), "-j", "2", "-t", fmt.Sprint(txs/backlogClients), "-D", "n=0")
	if err != nil {
		return 0, err
	}
	const last = `'ffffffff-ffff-ffff-ffff-ffffffffffff'`
	if _, err := l.finish(ctx, fmt.Sprintf(`INSERT INTO %s (id, facility_id) VALUES (%s, 'la')`, table, last)); err != nil {
		return 0, fmt.Errorf("wait for the capture: %w", err)
	}
	if err := l.settle(ctx); err != nil {
		return 0, err
	}
	if _, err := l.restore(ctx); err != nil {
		return 0, fmt.Errorf("restore the cable: %w", err)
	}
	began := time.Now()
	err = during(ctx, ways, func() error {
		err := l.visible(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s WHERE id = %s)`, table, last))
		seconds = time.Since(began).Seconds()
		return err
	})
	return seconds, err
}

// during has every way work until do has returned, and all that was committed
// until then is visible.
func during(ctx context.Context, ways []*way, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	done := make(chan struct{})
	errs := make([]error, len(ways))
	var wg sync.WaitGroup
	for i, w := range ways {
		wg.Go(func() {
			if errs[i] = w.work(ctx, done); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", w.name, errs[i])
				cancel()
			}
		})
	}
	err := do()
	close(done)
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// work commits rows until done is closed, and adds how long each took.
func (w *way) work(ctx context.Context, done <-chan struct{}) error {
	var committed, seen []time.Time
	written := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	first := w.n
	g.Go(func() (err error) {
		defer close(written)
		committed, err = w.write(ctx, done)
		return err
	})
	g.Go(func() error {
		for {
			var all bool
			select {
			case <-written:
				all = true
			default:
			}
			var last int
			err := w.to.QueryRow(ctx, `SELECT coalesce(max(n), 0) FROM share WHERE facility_id = $1 AND way = $2`, w.facility, w.name).Scan(&last)
			if err != nil {
				return err
			}
			for now := time.Now(); first+len(seen) < last; {
				seen = append(seen, now)
			}
			if all && len(seen) == len(committed) {
				return nil
			}
			if err := pause(ctx, sharePoll); err != nil {
				return err
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range committed {
		w.lags = append(w.lags, max(0, seen[i].Sub(committed[i]).Seconds()))
	}
	return nil
}

// write returns when each commit had returned.
func (w *way) write(ctx context.Context, done <-chan struct{}) (committed []time.Time, err error) {
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return committed, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		_, err := w.from.Exec(ctx, `INSERT INTO share VALUES ($1, $2, $3, 'Bluebird Coffee Roasters', 40)`, w.facility, w.name, w.n+1)
		if err != nil {
			return nil, err
		}
		w.n++
		committed = append(committed, time.Now())
	}
}
