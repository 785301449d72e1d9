package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/edge/uplink"
)

// A backlog is made while the cable is cut and the peer's subscription is
// disabled: the same transactions wait in Holdfast's queue and in the peer's
// slot. Then each drains them, alone, with both servers checkpointed before;
// who goes first changes with each round.

const (
	backlogTxs     = 160_000
	backlogClients = 4
)

// backlogScript is one transaction of three inserts, and every second time an
// update of a row that was inserted before.
const backlogScript = `\set n :n + 3
\set old random(1, :n)
BEGIN \; INSERT INTO %[1]s (id, facility_id, customer, quantity, created_at, notes) VALUES
 (md5(:client_id || '-' || :n)::uuid, 'la', 'customer ' || (:n %% 977), :n %% 50, clock_timestamp(), 'two pallets of corrugated boxes, ring before noon') \;
INSERT INTO %[1]s (id, facility_id, customer, quantity, created_at, notes) VALUES
 (md5(:client_id || '-' || (:n - 1))::uuid, 'la', 'customer ' || (:n %% 976), :n %% 50, clock_timestamp(), 'two pallets of corrugated boxes, ring before noon') \;
INSERT INTO %[1]s (id, facility_id, customer, quantity, created_at, notes) VALUES
 (md5(:client_id || '-' || (:n - 2))::uuid, 'la', 'customer ' || (:n %% 975), :n %% 50, clock_timestamp(), 'two pallets of corrugated boxes, ring before noon') \;
UPDATE %[1]s SET quantity = quantity + 1, notes = 'changed by a worker at the gate, ring before noon'
 WHERE :n %% 2 = 0 AND id = md5(:client_id || '-' || :old)::uuid \; COMMIT
`

func backlogTable(round int) string { return fmt.Sprintf("backlog_%d", round) }

func benchDrainInsert(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	var all drains
	for round := 1; round <= l.rounds; round++ {
		table := backlogTable(round)
		err := l.everywhere(ctx, fmt.Sprintf(`CREATE TABLE public.%[1]s (id uuid PRIMARY KEY, facility_id text NOT NULL, customer text, quantity int, created_at timestamptz, notes text);
			CREATE INDEX ON public.%[1]s (facility_id, created_at)`, table))
		if err != nil {
			return nil, err
		}
		if err := l.register(ctx, v1.TableAdd{Schema: "public", Table: table, Class: "fact"}); err != nil {
			return nil, err
		}
		d, err := l.drain(ctx, backlog{
			round: round, tables: []string{table},
			last: fmt.Sprintf(`INSERT INTO %s (id, facility_id) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'la')`, table),
			seen: fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s WHERE id = 'ffffffff-ffff-ffff-ffff-ffffffffffff')`, table),
			work: func() error {
				_, err := l.pgbench(ctx, l.edgeDSN(), "-c synchronous_commit=off", fmt.Sprintf(backlogScript, table),
					"-n", "-c", fmt.Sprint(backlogClients), "-j", "2", "-t", fmt.Sprint(backlogTxs/backlogClients), "-D", "n=0")
				return err
			},
		})
		if err != nil {
			return nil, err
		}
		if err := l.same(ctx, "public."+table, "public."+table); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return []Figure{
		atLeast(1.8, Figure{
			ID: "drain_insert_ratio", What: "480 k inserts and 80 k updates in 160 k transactions, drained, against native (moonshot 2.5)",
			Measured: median(all.pick(drain.ratio)), Unit: "×", Peer: all.peer(),
		}),
		atMost(0.2, Figure{
			ID: "queue_disk_ratio", What: "disk for that backlog, against the WAL that a waiting slot retains",
			Measured: median(all.pick(func(d drain) float64 { return d.queueMB / d.nativeMB })), Unit: "×",
			Peer: fmt.Sprintf("the native slot retains %s MB; the queue's files take %s MB", list(all.pick(func(d drain) float64 { return d.nativeMB })),
				list(all.pick(func(d drain) float64 { return d.queueMB }))),
		}),
		atMost(64, Figure{
			ID: "wal_retained_mb", What: "most WAL that Holdfast's slot holds back during the outage",
			Measured: maximum(all.pick(func(d drain) float64 { return d.ourWALMB })), Unit: "MB",
			Peer: fmt.Sprintf("the native slot: %s MB, growing as long as the outage", list(all.pick(func(d drain) float64 { return d.nativeMB }))),
		}),
		atMost(160, Figure{
			ID: "agent_rss_drain_mb", What: "most memory of the agent while it drains",
			Measured: maximum(all.pick(func(d drain) float64 { return d.rssMB })), Unit: "MiB", Peer: "VmHWM of the agent, reset before the outage, so the gathering counts too",
		}),
	}, nil
}

// drain is one backlog, drained by both.
type drain struct {
	nativeSeconds, ourSeconds, visibleSeconds, reconnect float64
	nativeMB, queueMB, ourWALMB                          float64
	nativeCPU, ourCPU                                    float64 // seconds, of all processes of both ends
	rssMB, load                                          float64
}

func (d drain) ratio() float64 { return d.nativeSeconds / d.ourSeconds }

// peer tells how a drain went beside the peer's.
func (d drains) peer() string {
	return fmt.Sprintf("%s: %s s. Holdfast %s s until durable in the region (visible after %s s), reconnected within %s s before that. Processor time of all programs: %s s against %s s. Median of %d rounds, order alternating, load average %s",
		nativePeer, list(d.pick(func(d drain) float64 { return d.nativeSeconds })), list(d.pick(func(d drain) float64 { return d.ourSeconds })),
		list(d.pick(func(d drain) float64 { return d.visibleSeconds })), list(d.pick(func(d drain) float64 { return d.reconnect })),
		list(d.pick(func(d drain) float64 { return d.nativeCPU })), list(d.pick(func(d drain) float64 { return d.ourCPU })),
		len(d), list(d.pick(func(d drain) float64 { return d.load })))
}

type drains []drain

func (d drains) pick(f func(drain) float64) []float64 {
	var v []float64
	for _, x := range d {
		v = append(v, f(x))
	}
	return v
}

func maximum(v []float64) float64 {
	m := 0.0
	for _, x := range v {
		m = max(m, x)
	}
	return m
}

// backlog is what a round makes wait.
type backlog struct {
	round  int
	tables []string
	work   func() error
	last   string // SQL that adds a last row
	seen   string // SQL that says whether the region has it
}

// drain cuts the cable, makes the backlog, and has both sides drain it.
func (l *lab) drain(ctx context.Context, b backlog) (d drain, err error) {
	if err := l.delivered(ctx); err != nil {
		return d, err
	}
	sub, err := l.subscribe(ctx, b.tables...)
	if err != nil {
		return d, err
	}
	if err := l.cut(ctx); err != nil {
		return d, fmt.Errorf("cut the cable: %w", err)
	}
	if err := l.settle(ctx); err != nil {
		return d, err
	}
	if err := forgetPeak(l.edge.Agent.PID()); err != nil {
		return d, fmt.Errorf("forget the agent's peak: %w", err)
	}
	held0, err := diskUse(l.queueDir())
	if err != nil {
		return d, fmt.Errorf("measure the queue: %w", err)
	}
	if d.ourWALMB, err = l.watchSlot(ctx, b.work); err != nil {
		return d, err
	}
	end, err := l.finish(ctx, b.last)
	if err != nil {
		return d, fmt.Errorf("wait for the capture: %w", err)
	}
	held, err := diskUse(l.queueDir())
	if err != nil {
		return d, fmt.Errorf("measure the queue: %w", err)
	}
	d.queueMB = float64(held-held0) / 1e6
	native, err := sub.retained(ctx)
	if err != nil {
		return d, err
	}
	d.nativeMB = float64(native) / 1e6

	ours := func() error {
		if err := l.settle(ctx); err != nil {
			return err
		}
		took, err := l.restore(ctx)
		if err != nil {
			return fmt.Errorf("restore the cable: %w", err)
		}
		cpu := l.stopwatch(ctx, &d.ourCPU)
		began := time.Now()
		if err := l.visible(ctx, b.seen); err != nil {
			return fmt.Errorf("wait for the region: %w", err)
		}
		d.visibleSeconds = time.Since(began).Seconds()
		if err := l.delivered(ctx); err != nil {
			return fmt.Errorf("deliver the backlog: %w", err)
		}
		d.reconnect, d.ourSeconds = took.Seconds(), time.Since(began).Seconds()
		return cpu()
	}
	theirs := func() error {
		if err := l.settle(ctx); err != nil {
			return err
		}
		cpu := l.stopwatch(ctx, &d.nativeCPU)
		began := time.Now()
		if err := sub.enable(ctx); err != nil {
			return err
		}
		if err := sub.replayed(ctx, end); err != nil {
			return fmt.Errorf("wait for the peer: %w", err)
		}
		d.nativeSeconds = time.Since(began).Seconds()
		return errors.Join(cpu(), sub.drop(ctx))
	}
	steps := []func() error{theirs, ours}
	if b.round%2 == 0 {
		steps = []func() error{ours, theirs}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return d, err
		}
	}
	if d.rssMB, err = memory(l.edge.Agent.PID(), "VmHWM"); err != nil {
		return d, err
	}
	fmt.Sscan(loadAverage(), &d.load)
	l.log.Info("drained", "round", b.round, "native_s", d.nativeSeconds, "holdfast_s", d.ourSeconds, "visible_s", d.visibleSeconds, "ratio", d.ratio(), "native_cpu_s", d.nativeCPU, "holdfast_cpu_s", d.ourCPU, "reconnect_s", d.reconnect,
		"queue_mb", d.queueMB, "slot_mb", d.nativeMB, "wal_mb", d.ourWALMB, "rss_mb", d.rssMB, "load", d.load)
	return d, nil
}

// stopwatch begins to count processor time; what it returns ends that.
func (l *lab) stopwatch(ctx context.Context, seconds *float64) func() error {
	before, err := l.busy(ctx)
	return func() error {
		after, err2 := l.busy(ctx)
		*seconds = (after - before).Seconds()
		return errors.Join(err, err2)
	}
}

// watchSlot runs work and returns the most that Holdfast's slot held back
// meanwhile, in MB.
func (l *lab) watchSlot(ctx context.Context, work func() error) (float64, error) {
	var most int64
	var failed error
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			n, err := l.retained(ctx, uplink.Slot)
			most, failed = max(most, n), errors.Join(failed, err)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	err := work()
	close(done)
	wg.Wait()
	return float64(most) / 1e6, errors.Join(err, failed)
}

// lastRow commits a last row and returns where the WAL is then: a place before
// the end of that commit and behind all others, so that the peer's replay_lsn
// passes it exactly when the row is applied.
func (l *lab) lastRow(ctx context.Context, sql string) (lsn string, err error) {
	err = pgx.BeginFunc(ctx, l.local, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn)
	})
	if err != nil {
		return "", fmt.Errorf("write the last row: %w", err)
	}
	return lsn, nil
}

// finish is lastRow, and returns when Holdfast's queue has the row.
func (l *lab) finish(ctx context.Context, sql string) (lsn string, err error) {
	if lsn, err = l.lastRow(ctx, sql); err != nil {
		return "", err
	}
	err = l.until(ctx, 5*time.Minute, func(ctx context.Context) (bool, error) {
		var there bool
		err := l.local.QueryRow(ctx, `SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1`, uplink.Slot, lsn).Scan(&there)
		return there, err
	})
	return lsn, err
}

// visible waits until a query in the region says true.
func (l *lab) visible(ctx context.Context, query string) error {
	return l.until(ctx, 20*time.Minute, func(ctx context.Context) (bool, error) {
		var there bool
		err := l.region.QueryRow(ctx, query).Scan(&there)
		return there, err
	})
}

// same compares a table of the facility with its copies.
func (l *lab) same(ctx context.Context, here, there string) error {
	digest := func(table string) string {
		return fmt.Sprintf(`SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM %s t`, table)
	}
	var want, region, native string
	if err := l.local.QueryRow(ctx, digest(here)).Scan(&want); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if err := l.region.QueryRow(ctx, digest(there)).Scan(&region); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if err := l.native.QueryRow(ctx, digest(here)).Scan(&native); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if want != region || want != native {
		return fmt.Errorf("%s differs: the facility has %s, the region %s, the peer %s", here, want, region, native)
	}
	return nil
}
