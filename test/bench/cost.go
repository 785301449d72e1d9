package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	workspace "github.com/agogsaas/holdfast/internal/workspace/migrations"
)

const (
	costSeconds = "15"
	costItems   = 500
	// costPairs is how many pairs of runs are made in a round.
	costPairs = 2
)

// workerScript is what a worker does: an order with two lines, and the stock
// that it takes.
const workerScript = `\set item random(1, 500)
\set q random(1, 50)
BEGIN;
INSERT INTO orders (facility_id, number, customer, product, quantity, created_by)
 VALUES ('la', 'A-' || :q::int, 'Bluebird Coffee Roasters', 'corrugated box B 40x30x20', :q::int, 'worker') RETURNING id AS order_id \gset
INSERT INTO order_lines (facility_id, order_id, position, description, quantity) VALUES
 ('la', :order_id::uuid, 1, 'B flute board 40x30x20', :q::int), ('la', :order_id::uuid, 2, 'two-colour print', :q::int);
UPDATE inventory_items SET quantity = quantity - :q::int, updated_at = now() WHERE id = md5(:item::int::text)::uuid;
INSERT INTO inventory_transactions (facility_id, item_id, delta, reason, worker) VALUES ('la', md5(:item::int::text)::uuid, 0 - :q::int, 'order', 'worker');
COMMIT;
`

var workerTables = []string{"orders", "order_lines", "inventory_items", "inventory_transactions"}

// benchCost measures what the facility's people pay for being synced.
func benchCost(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.openWorkspace(ctx); err != nil {
		return nil, err
	}
	// In idle time only: the region would run on another machine.
	if err := l.yieldRegion(ctx, onlyIdle); err != nil {
		return nil, err
	}
	p95, err := l.costAtWork(ctx)
	if err != nil {
		return nil, err
	}
	// The workers leave no idle time here, and both ways of syncing must go on.
	if err := l.yieldRegion(ctx, lowest); err != nil {
		return nil, err
	}
	tps, err := l.costAtSaturation(ctx)
	if err != nil {
		return nil, err
	}
	return []Figure{p95, tps}, nil
}

// openWorkspace fills the stock and has the workspace's tables synced; the
// peer's database gets the same tables.
func (l *lab) openWorkspace(ctx context.Context) error {
	db := stdlib.OpenDBFromPool(l.native)
	defer db.Close()
	if err := workspace.Up(ctx, db); err != nil {
		return err
	}
	for _, t := range workerTables {
		class := "fact"
		if t == "inventory_transactions" {
			class = "event"
		}
		if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: t, Class: class}); err != nil {
			return err
		}
	}
	const stock = `INSERT INTO inventory_items (id, facility_id, sku, name, quantity)
		SELECT md5(i::text)::uuid, 'la', 'SKU-' || i, 'bubble wrap ' || i || ' cm', 100000 FROM generate_series(1, $1::int) i`
	if _, err := l.local.Exec(ctx, stock, costItems); err != nil {
		return fmt.Errorf("fill the stock: %w", err)
	}
	if _, err := l.native.Exec(ctx, stock, costItems); err != nil {
		return fmt.Errorf("fill the peer's stock: %w", err)
	}
	return l.delivered(ctx)
}

// without kills the agent as a power cut would, which leaves its PostgreSQL
// alone; with starts it again and waits until it has caught up.
func (l *lab) without() error { return l.edge.Agent.Kill9() }

func (l *lab) with(ctx context.Context) error {
	if err := l.edge.Start(ctx); err != nil {
		return err
	}
	if err := l.linkIs(ctx, 1); err != nil {
		return err
	}
	return l.caughtUp(ctx)
}

// touchStock commits something small.
const touchStock = `UPDATE inventory_items SET location = location WHERE id = md5('1')::uuid`

// caughtUp waits until the region has all that is committed now.
func (l *lab) caughtUp(ctx context.Context) error {
	if _, err := l.finish(ctx, touchStock); err != nil {
		return err
	}
	return l.delivered(ctx)
}

func (l *lab) costAtWork(ctx context.Context) (Figure, error) {
	run := func() (float64, error) {
		if err := l.settle(ctx); err != nil {
			return 0, err
		}
		_, err := l.pgbench(ctx, l.edgeDSN(), "", workerScript, "-n", "-M", "prepared", "-c", "4", "-j", "2", "-R", "200", "-T", costSeconds, "-l", "--log-prefix=cost")
		if err != nil {
			return 0, err
		}
		all, err := l.latencies("cost")
		return percentile(all, 95), err
	}
	if _, err := run(); err != nil { // warm up
		return Figure{}, err
	}
	var on, off, native, ratios, nativeRatios []float64
	if err := l.without(); err != nil {
		return Figure{}, err
	}
	for round := range costPairs * l.rounds {
		var a, b, c float64
		with := func() (err error) {
			if err := l.with(ctx); err != nil {
				return err
			}
			if a, err = run(); err != nil {
				return err
			}
			return l.without()
		}
		alone := func() (err error) { b, err = run(); return err }
		peer := func() error {
			return l.withNative(ctx, func(*subscription) (err error) { c, err = run(); return err })
		}
		// The tables grow from run to run, so that each comes first, second and third.
		steps := []func() error{with, alone, peer}
		for i := range steps {
			if err := steps[(i+round)%len(steps)](); err != nil {
				return Figure{}, err
			}
		}
		on, off, native = append(on, a), append(off, b), append(native, c)
		ratios, nativeRatios = append(ratios, a/b), append(nativeRatios, c/b)
		l.log.Info("cost at work", "with_p95_ms", a, "without_p95_ms", b, "native_p95_ms", c, "ratio", a/b, "native_ratio", c/b, "load", loadAverage())
	}
	if err := l.with(ctx); err != nil {
		return Figure{}, err
	}
	return atMost(1.1, Figure{
		ID: "capture_p95_ratio", What: "p95 latency of the workers' transactions at 200 tx/s, with the agent against without",
		Measured: median(ratios), Unit: "×", Peer: fmt.Sprintf("pgbench -R 200, 4 clients, workspace tables: without the agent %s ms, with it %s ms; median of %d pairs, interleaved; "+
			"PostgreSQL's own subscription in the agent's stead: %s ms, %.3g × of without; the regions are on the same cores, and run where nobody else wants them; load average %s",
			list(off), list(on), len(ratios), list(native), median(nativeRatios), loadAverage()),
	}), nil
}

func (l *lab) costAtSaturation(ctx context.Context) (Figure, error) {
	// A run ends when the region has all of it, so that its processor time
	// counts all that the transactions cost.
	run := func(after func() error, micros *[]float64) (tps float64, err error) {
		if err := l.settle(ctx); err != nil {
			return 0, err
		}
		var seconds float64
		stop := l.stopwatch(ctx, &seconds)
		began := time.Now()
		if tps, err = l.pgbench(ctx, l.edgeDSN(), "", workerScript, "-n", "-M", "prepared", "-c", "4", "-j", "2", "-T", costSeconds); err != nil {
			return 0, err
		}
		txs := tps * time.Since(began).Seconds()
		if err := after(); err != nil {
			return 0, err
		}
		err = stop()
		*micros = append(*micros, seconds/txs*1e6)
		return tps, err
	}
	var ours, native, ratios, ourCPU, nativeCPU []float64
	for pair := range costPairs * l.rounds {
		var a, b float64
		measureOurs := func() (err error) {
			a, err = run(func() error { return l.caughtUp(ctx) }, &ourCPU)
			return err
		}
		measureNative := func() error {
			if err := l.without(); err != nil {
				return err
			}
			err := l.withNative(ctx, func(s *subscription) (err error) {
				b, err = run(func() error { return l.nativeCaughtUp(ctx, s) }, &nativeCPU)
				return err
			})
			if err != nil {
				return err
			}
			return l.with(ctx)
		}
		steps := []func() error{measureOurs, measureNative}
		if pair%2 == 1 {
			steps = []func() error{measureNative, measureOurs}
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return Figure{}, err
			}
		}
		ours, native, ratios = append(ours, a), append(native, b), append(ratios, a/b)
		l.log.Info("cost at saturation", "holdfast_tps", a, "native_tps", b, "ratio", a/b, "holdfast_us", ourCPU[pair], "native_us", nativeCPU[pair], "load", loadAverage())
	}
	return atLeast(1, Figure{
		ID: "capture_tps_ratio", What: "transactions per second of 4 busy workers, with the agent against with a native subscription",
		Measured: median(ratios), Unit: "×", Peer: fmt.Sprintf("%s: %s tps, with Holdfast %s tps; processor time of all servers and programs of both ends for a transaction: %s µs against %s µs; "+
			"median of %d pairs, interleaved; the regions are on the same cores, at the lowest priority; load average %s", nativePeer, list(native), list(ours), list(nativeCPU), list(ourCPU), len(ratios), loadAverage()),
	}), nil
}

// withNative measures with a native subscription in the agent's stead, which
// runs no more.
func (l *lab) withNative(ctx context.Context, measure func(*subscription) error) error {
	s, err := l.subscribe(ctx, workerTables...)
	if err != nil {
		return err
	}
	if err := s.enable(ctx); err != nil {
		return err
	}
	if err := l.nativeCaughtUp(ctx, s); err != nil { // its worker runs
		return err
	}
	if err := measure(s); err != nil {
		return err
	}
	return s.drop(ctx)
}

// nativeCaughtUp is caughtUp of the peer.
func (l *lab) nativeCaughtUp(ctx context.Context, s *subscription) error {
	lsn, err := l.lastRow(ctx, touchStock)
	if err != nil {
		return err
	}
	return s.replayed(ctx, lsn)
}
