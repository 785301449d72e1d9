package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

const (
	verifyWrong  = 100
	verifyRate   = 500 // changes in a second
	verifyFor    = 300 // seconds in which that is measured
	verifyWarm   = 20  // seconds for which people work longer, half of them before
	verifyFillTx = 100_000
)

const verifyTables = `
CREATE TABLE public.big (facility_id text NOT NULL, id bigint NOT NULL, v text, quantity int, PRIMARY KEY (facility_id, id));
CREATE TABLE public.small (facility_id text NOT NULL, id int NOT NULL, n bigint NOT NULL, PRIMARY KEY (facility_id, id))`

const verifyScript = `\set id random(1, 2000)
UPDATE small SET n = n + 1 WHERE facility_id = 'la' AND id = :id;
`

// benchVerify has a large table with a few differences compared, and counts
// what goes over the network for it; then it measures what the continuous
// comparison takes while people work.
func benchVerify(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.everywhere(ctx, verifyTables); err != nil {
		return nil, err
	}
	for _, t := range []string{"big", "small"} {
		if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: t, Class: "fact"}); err != nil {
			return nil, err
		}
	}
	if _, err := l.local.Exec(ctx, `INSERT INTO small SELECT 'la', i, 0 FROM generate_series(1, 2000) i`); err != nil {
		return nil, fmt.Errorf("fill the table that people work on: %w", err)
	}
	if err := l.delivered(ctx); err != nil {
		return nil, err
	}
	bytes, took, err := l.compareBig(ctx)
	if err != nil {
		return nil, err
	}
	// The next pass over the large table begins by itself.
	err = l.until(ctx, 15*time.Minute, func(ctx context.Context) (under bool, err error) {
		return under, l.region.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.verified WHERE table_name = 'big' AND began_at IS NOT NULL)`).Scan(&under)
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the next pass: %w", err)
	}
	c, err := l.comparing(ctx)
	if err != nil {
		return nil, err
	}
	rows := fmt.Sprintf("%d rows on each side, %d of them not the same", l.verifyRows, verifyWrong)
	return []Figure{
		atMost(2, Figure{
			ID: "verify_bytes_mb", What: "to find 100 rows that differ: all that goes over the network, both ways", Measured: bytes / 1e6, Unit: "MB",
			Peer: fmt.Sprintf("%s; all were found, after %s; the tunnel's own traffic counts too, load average %s", rows, took.Round(time.Second), loadAverage()),
		}),
		atMost(3, Figure{
			ID: "verify_cpu_pct", What: "processor time of the continuous comparison, of one core, at 500 changes/s", Measured: c.percent, Unit: "%",
			Peer: fmt.Sprintf("all programs and servers of both ends, second by second for %d s: what they used within a second of one of %d answers (%d rows compared) above the %.3g s that they used in each other second; "+
				"standard error %.2g %%; load average %s", verifyFor, c.answers, c.rows, c.calm, c.within, loadAverage()),
		}),
	}, nil
}

// comparison is what the continuous comparison took.
type comparison struct {
	answers int
	rows    int64
	percent float64 // of one core
	within  float64 // the standard error of percent, if each second is by itself
	calm    float64 // processor time in a second without
}

// comparing has people work while the pass goes on. A question comes every few
// seconds and takes a fraction of one, so that what else happens in the run, and
// differs from one run to the next by far more, is in the seconds between them too.
func (l *lab) comparing(ctx context.Context) (c comparison, err error) {
	if err := l.settle(ctx); err != nil {
		return c, err
	}
	var list []sample
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := l.pgbench(ctx, l.edgeDSN(), "", verifyScript, "-n", "-M", "prepared", "-c", "2", "-j", "1", "-R", strconv.Itoa(verifyRate), "-T", strconv.Itoa(verifyFor+verifyWarm))
		return err
	})
	g.Go(func() (err error) {
		if err := pause(ctx, verifyWarm/2*time.Second); err != nil {
			return err
		}
		for end := time.Now().Add(verifyFor * time.Second); time.Now().Before(end); {
			s := sample{at: time.Now()}
			if s.busy, err = l.busy(ctx); err != nil {
				return err
			}
			if err := l.region.QueryRow(ctx, `SELECT rows_done FROM holdfast.verified WHERE table_name = 'big'`).Scan(&s.rows); err != nil {
				return fmt.Errorf("read how far the pass is: %w", err)
			}
			if n := len(list); n > 0 && s.rows < list[n-1].rows {
				return errors.New("the pass ended while it was measured: compare more rows (-verify-rows)")
			}
			list = append(list, s)
			if err := pause(ctx, time.Until(s.at.Add(time.Second))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return c, err
	}
	if c = excess(list); c.answers == 0 || math.IsNaN(c.within) {
		return c, errors.New("too little was compared in that time, or too much, to tell what it takes")
	}
	return c, nil
}

// sample is what all programs had used at a moment, and how many rows were compared.
type sample struct {
	at   time.Time
	busy time.Duration
	rows int64
}

// excess is what the seconds near an answer took above the others.
func excess(list []sample) (c comparison) {
	var near, calm []float64 // processor time per second
	for i := 2; i+1 < len(list); i++ {
		answered := func(i int) bool { return list[i].rows > list[i-1].rows }
		if answered(i) {
			c.answers++
			c.rows += list[i].rows - list[i-1].rows
		}
		rate := (list[i].busy - list[i-1].busy).Seconds() / list[i].at.Sub(list[i-1].at).Seconds()
		if answered(i-1) || answered(i) || answered(i+1) {
			near = append(near, rate)
		} else {
			calm = append(calm, rate)
		}
	}
	m, v := meanAndVariance(near)
	base, bv := meanAndVariance(calm)
	share := float64(len(near)) / float64(len(near)+len(calm))
	c.calm = base
	c.percent = 100 * share * (m - base)
	c.within = 100 * share * math.Sqrt(v/float64(len(near))+bv/float64(len(calm)))
	return c
}

func meanAndVariance(v []float64) (mean, variance float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v)-1)
	}
	return mean, variance
}

// compareBig fills the large table on both sides, makes rows differ, and has
// them found.
func (l *lab) compareBig(ctx context.Context) (bytes float64, took time.Duration, err error) {
	for _, db := range []*pgxpool.Pool{l.local, l.region} {
		for from := int64(1); from <= l.verifyRows; from += verifyFillTx {
			err := behind(ctx, db, `INSERT INTO big SELECT 'la', i, 'part ' || md5(i::text), i % 1000 FROM generate_series($1::bigint, $2) i`,
				from, min(from+verifyFillTx-1, l.verifyRows))
			if err != nil {
				return 0, 0, fmt.Errorf("fill the large table: %w", err)
			}
		}
		if _, err := db.Exec(ctx, `VACUUM ANALYZE big`); err != nil {
			return 0, 0, fmt.Errorf("vacuum the large table: %w", err)
		}
	}
	if err := l.delivered(ctx); err != nil {
		return 0, 0, err
	}
	if err := behind(ctx, l.region, `UPDATE big SET quantity = quantity + 1 WHERE facility_id = 'la' AND id % $1 = 0`, l.verifyRows/verifyWrong); err != nil {
		return 0, 0, fmt.Errorf("make rows differ: %w", err)
	}
	before, err := l.onTheNetwork(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	r, err := l.site.API.StartVerify(ctx, facility, v1.VerifyRequest{Schema: "public", Table: "big"})
	if err != nil {
		return 0, 0, fmt.Errorf("begin to compare: %w", err)
	}
	err = l.until(ctx, time.Hour, func(ctx context.Context) (bool, error) {
		if err := pause(ctx, time.Second); err != nil {
			return false, err
		}
		var err error
		r, err = l.site.API.VerifyStatus(ctx, facility)
		return r.State != v1.VerifyRunning, err
	})
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := l.onTheNetwork(ctx)
	if err != nil {
		return 0, 0, err
	}
	if t := r.Tables[0]; t.Differing != verifyWrong {
		return 0, 0, fmt.Errorf("%d rows were found to differ, made were %d: %s %s", t.Differing, verifyWrong, r.Problem, t.Problem)
	}
	l.log.Info("compared", "rows", l.verifyRows, "bytes", after-before, "took", took)
	return after - before, took, nil
}

// behind changes rows behind the back of capture, as if they had come from the
// other side.
func behind(ctx context.Context, db *pgxpool.Pool, sql string, args ...any) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, 'holdfast', 'up `+facility+` 4294967296:1')`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

// onTheNetwork is how many bytes have gone through the facility's tunnel.
func (l *lab) onTheNetwork(ctx context.Context) (sum float64, err error) {
	for _, name := range []string{"holdfast_hub_received_bytes_total", "holdfast_hub_sent_bytes_total"} {
		v, err := metricOf(ctx, l.site.URL(), name+`{facility="`+facility+`"}`)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// parseRows reads a number of rows, such as 10M.
func parseRows(s string) (int64, error) {
	factor := int64(1)
	for suffix, f := range map[string]int64{"k": 1000, "M": 1_000_000} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, factor = rest, f
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n*factor < 10*verifyWrong {
		return 0, fmt.Errorf("%q is not a number of at least %d rows", s, 10*verifyWrong)
	}
	return n * factor, nil
}
