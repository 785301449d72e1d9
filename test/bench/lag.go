package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

const (
	lagPerSecond = 200
	lagSamples   = 30 * lagPerSecond
	// lagPoll is the pause of the reader between two looks: a part of what is
	// measured, and too much for a core that is shared if it were none.
	lagPoll = 500 * time.Microsecond
)

// benchLag measures from the moment that a worker's commit has returned until
// a reader in the region sees its row.
func benchLag(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	err := l.everywhere(ctx, `CREATE TABLE public.lag (facility_id text, n bigint, customer text, quantity int, created_at timestamptz DEFAULT now(), notes text, PRIMARY KEY (facility_id, n));
		CREATE INDEX ON public.lag (facility_id, created_at)`)
	if err != nil {
		return nil, err
	}
	if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: "lag", Class: "fact"}); err != nil {
		return nil, err
	}
	if _, err := l.lags(ctx, l.region, 0, 5*lagPerSecond); err != nil { // warm up
		return nil, err
	}
	from := int64(5 * lagPerSecond)
	var p50, p99, load []float64
	for range l.rounds {
		all, err := l.lags(ctx, l.region, from, lagSamples)
		if err != nil {
			return nil, err
		}
		from += lagSamples
		p50, p99 = append(p50, percentile(all, 50)), append(p99, percentile(all, 99))
		var n float64
		fmt.Sscan(loadAverage(), &n)
		load = append(load, n)
		l.log.Info("lag", "p50_ms", percentile(all, 50), "p90_ms", percentile(all, 90), "p99_ms", percentile(all, 99), "max_ms", percentile(all, 100), "load", n)
	}
	native, err := l.nativeLag(ctx, from)
	if err != nil {
		return nil, err
	}
	peer := func(ours []float64, p float64) string {
		return fmt.Sprintf("median of %s; PostgreSQL's own subscription in the same lab, without a tunnel: %.3g ms; %d commits each, load average %s",
			list(ours), percentile(native, p), lagSamples, list(load))
	}
	return []Figure{
		atMost(10, Figure{
			ID: "lag_p50_ms", What: "commit at the facility → visible in the region, through the tunnel, at 200 tx/s, half of them",
			Measured: median(p50), Unit: "ms", Peer: peer(p50, 50),
		}),
		atMost(50, Figure{ID: "lag_p99_ms", What: "the same, 99 of 100", Measured: median(p99), Unit: "ms", Peer: peer(p99, 99)}),
	}, nil
}

// nativeLag is the same with a native subscription, while the agent idles along.
func (l *lab) nativeLag(ctx context.Context, from int64) ([]float64, error) {
	s, err := l.subscribe(ctx, "lag")
	if err != nil {
		return nil, err
	}
	if err := l.edge.Agent.Kill9(); err != nil { // its PostgreSQL stays
		return nil, err
	}
	if err := s.enable(ctx); err != nil {
		return nil, err
	}
	if _, err := l.lags(ctx, l.native, from, 2*lagPerSecond); err != nil {
		return nil, err
	}
	all, err := l.lags(ctx, l.native, from+2*lagPerSecond, lagSamples)
	if err != nil {
		return nil, err
	}
	if err := s.drop(ctx); err != nil {
		return nil, err
	}
	return all, l.edge.Start(ctx)
}

// lags writes count rows after from and returns how long each took, in ms.
func (l *lab) lags(ctx context.Context, reader *pgxpool.Pool, from int64, count int) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	committed := make([]time.Time, count)
	seen := make([]time.Time, count)
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		if readErr = l.watchLag(ctx, reader, from, seen); readErr != nil {
			cancel()
		}
	})
	writeErr := l.writeLag(ctx, from, committed)
	if writeErr != nil {
		cancel()
	}
	wg.Wait()
	if writeErr != nil {
		return nil, fmt.Errorf("write: %w", writeErr)
	}
	if readErr != nil {
		return nil, fmt.Errorf("read in the region: %w", readErr)
	}
	out := make([]float64, count)
	for i := range out {
		out[i] = float64(seen[i].Sub(committed[i]).Microseconds()) / 1000
	}
	return out, nil
}

func (l *lab) writeLag(ctx context.Context, from int64, committed []time.Time) error {
	tick := time.NewTicker(time.Second / lagPerSecond)
	defer tick.Stop()
	for i := range committed {
		_, err := l.local.Exec(ctx, `INSERT INTO lag (n, facility_id, customer, quantity, notes) VALUES ($1, 'la', 'Bluebird Coffee Roasters', 40, 'ring before noon')`, from+int64(i)+1)
		if err != nil {
			return err
		}
		committed[i] = time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (l *lab) watchLag(ctx context.Context, db *pgxpool.Pool, from int64, seen []time.Time) error {
	for done := 0; done < len(seen); {
		var last *int64
		if err := db.QueryRow(ctx, `SELECT max(n) FROM lag WHERE facility_id = 'la'`).Scan(&last); err != nil {
			return err
		}
		now := time.Now()
		for last != nil && done < len(seen) && from+int64(done)+1 <= *last {
			seen[done] = now
			done++
		}
		if err := pause(ctx, lagPoll); err != nil {
			return err
		}
	}
	return nil
}
