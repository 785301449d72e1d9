package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/internal/change"
)

const (
	// fanSlots is for how many facilities native slots are measured.
	fanSlots = 100
	// fanTx is how many changes of master rows the stream has that slots read.
	fanTx = 20_000
	// fanDecodeTx is the same for the stream that is only decoded.
	fanDecodeTx = 60_000
	// fanRate changes in a second for fanPaced seconds are made while all listen.
	fanRate, fanPaced = 200, 10
	// fanLive is how many changes are made one by one.
	fanLive = 100
)

// What it costs to send the region's changes to many facilities. They are
// simulated: none has a database. The region is the real router, with a
// PostgreSQL of its own, in the benchmark's process.

func benchFanDecoder(ctx context.Context, l *lab) ([]Figure, error) {
	return l.withCluster(ctx, l.fanDecoder)
}

func benchFanSlots(ctx context.Context, l *lab) ([]Figure, error) {
	return l.withCluster(ctx, l.fanAgainstSlots)
}

func benchFanLive(ctx context.Context, l *lab) ([]Figure, error) {
	return l.withCluster(ctx, l.fanLive)
}

func (l *lab) withCluster(ctx context.Context, fn func(context.Context, *cluster) (Figure, error)) (figures []Figure, err error) {
	c, err := l.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.server.Stop()) }()
	f, err := fn(ctx, c)
	return []Figure{f}, err
}

// decoded is what one stream of changes took.
type decoded struct {
	server, router, delivery time.Duration
	frames                   uint64
}

// decode writes a stream and has it decoded and routed while nobody reads, and
// then read by every facility.
func (f *fan) decode(ctx context.Context) (d decoded, err error) {
	if err := f.warm(ctx); err != nil {
		return d, err
	}
	lsn, err := f.write(ctx, fanDecodeTx)
	if err != nil {
		return d, err
	}
	server, err := f.cluster.busy()
	if err != nil {
		return d, err
	}
	runtime.GC() // what came before must not be cleared away on this account
	own := ownTime()
	err = f.during(ctx, func(ctx context.Context, r *router.Router) error {
		if err := f.routed(ctx, lsn); err != nil {
			return err
		}
		now, err := f.cluster.busy()
		if err != nil {
			return err
		}
		d.server, d.router = now-server, ownTime()-own
		own = ownTime()
		if err := f.readAll(ctx, r, lsn); err != nil {
			return err
		}
		d.delivery, d.frames = ownTime()-own, r.Stats().Sealed
		return nil
	})
	return d, err
}

// warm brings the slot and all facilities to the end of the WAL.
func (f *fan) warm(ctx context.Context) error {
	return f.during(ctx, func(ctx context.Context, r *router.Router) error {
		lsn, err := f.last(ctx)
		if err != nil {
			return err
		}
		return f.readAll(ctx, r, lsn)
	})
}

// readAll has every facility read what there is up to lsn.
func (f *fan) readAll(ctx context.Context, r *router.Router, lsn string) error {
	if err := f.routed(ctx, lsn); err != nil {
		return err
	}
	readers, err := f.attach(ctx, r)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	tail := r.Tail()
	var wg sync.WaitGroup
	errs := make([]error, f.n)
	for i, d := range readers {
		wg.Go(func() {
			for f.has[i].Before(tail) && errs[i] == nil {
				p, err := d.Next(ctx)
				f.has[i], errs[i] = change.Position{Epoch: p.Frame.Header.Epoch, Seq: p.Frame.Header.Last}, err
			}
			r.Acked(fanFacility(i), f.has[i])
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *lab) fanDecoder(ctx context.Context, c *cluster) (Figure, error) {
	one, err := l.newFan(ctx, c, "one", 1)
	if err != nil {
		return Figure{}, err
	}
	defer one.pool.Close()
	many, err := l.newFan(ctx, c, "many", l.facilities)
	if err != nil {
		return Figure{}, err
	}
	defer many.pool.Close()
	var a, b, ratios, delivery []float64
	var frames uint64
	for round := range 3 * l.rounds {
		var x, y decoded
		steps := []func() error{
			func() (err error) { x, err = one.decode(ctx); return err },
			func() (err error) { y, err = many.decode(ctx); return err },
		}
		for i := range steps {
			if err := steps[(i+round)%2](); err != nil {
				return Figure{}, err
			}
		}
		l.log.Info("decoded", "one_server", x.server, "one_router", x.router, "many_server", y.server, "many_router", y.router,
			"many_delivery", y.delivery, "frames", y.frames, "one_frames", x.frames, "load", loadAverage())
		a, b = append(a, (x.server+x.router).Seconds()), append(b, (y.server+y.router).Seconds())
		ratios = append(ratios, b[round]/a[round])
		delivery, frames = append(delivery, y.delivery.Seconds()), y.frames
	}
	return atMost(1.1, Figure{
		ID: "fanout_decoder_ratio", What: fmt.Sprintf("processor time to decode and route %d changes of master rows for %d facilities, against one", fanDecodeTx, l.facilities), Measured: median(ratios), Unit: "×",
		Peer: fmt.Sprintf("the region's PostgreSQL and the router, with its log on disk, from its start until all is in the log: %s s for one facility, %s s for %d. To hand the %d frames to each of them then "+
			"took %s s more, of all together, without a network; median of %d rounds, order alternating, load average %s",
			list(a), list(b), l.facilities, frames, list(delivery), len(ratios), loadAverage()),
	}), nil
}

// fanAgainstSlots has the same stream read through the router by simulated
// facilities with streams over loopback, and by as many readers of native slots.
func (l *lab) fanAgainstSlots(ctx context.Context, c *cluster) (Figure, error) {
	f, err := l.newFan(ctx, c, "slots", fanSlots)
	if err != nil {
		return Figure{}, err
	}
	defer f.pool.Close()
	if err := f.warm(ctx); err != nil {
		return Figure{}, err
	}
	var ours, native, ratios []float64
	for round := range l.rounds {
		slots, err := f.makeSlots(ctx)
		if err != nil {
			return Figure{}, err
		}
		lsn, err := f.write(ctx, fanTx)
		if err != nil {
			return Figure{}, err
		}
		var x, y time.Duration
		steps := []func() error{
			func() (err error) { x, err = f.stream(ctx, lsn); return err },
			func() (err error) { y, err = f.readSlots(ctx, slots, lsn); return err },
		}
		for i := range steps {
			if err := steps[(i+round)%2](); err != nil {
				return Figure{}, err
			}
		}
		if err := f.dropSlots(ctx); err != nil {
			return Figure{}, err
		}
		l.log.Info("against slots", "holdfast", x, "native", y, "load", loadAverage())
		ours, native = append(ours, x.Seconds()), append(native, y.Seconds())
		ratios = append(ratios, native[round]/ours[round])
	}
	idle, ourPace, nativePace, err := f.paced(ctx)
	if err != nil {
		return Figure{}, err
	}
	l.log.Info("at a pace", "nobody", idle, "holdfast", ourPace, "native", nativePace)
	return atLeast(20, Figure{
		ID: "fanout_slots_ratio", What: fmt.Sprintf("processor time of %d native logical slots for one stream of %d changes, against ours for as many facilities", fanSlots, fanTx), Measured: median(ratios), Unit: "×",
		Peer: fmt.Sprintf("PostgreSQL's own slots (pgoutput, one publication, all at once), the server's processes only, without their readers: %s s. Holdfast: %s s, of the region's server, the router, the streams "+
			"over loopback TCP and their far ends, which take, check and acknowledge each frame, and the handshakes; without tunnels on both sides; median of %d rounds, order alternating. "+
			"While %d changes in a second are made instead of waiting there: %.3g s against %.3g s in %d s; load average %s",
			list(native), list(ours), len(ratios), fanRate, (nativePace - idle).Seconds(), (ourPace - idle).Seconds(), fanPaced, loadAverage()),
	}), nil
}

// paced makes changes at a rate, while nobody listens, while all facilities have
// their streams, and while all slots are read, and returns the processor time
// of each: without the one that makes the changes, which is a program of its own.
func (f *fan) paced(ctx context.Context) (nobody, ours, native time.Duration, err error) {
	work := func() error {
		_, err := f.l.pgbench(ctx, f.cluster.dsn(f.database), "", `\set id random(1, 5000)
UPDATE price SET price = price + 0.01, changed_at = now() WHERE id = :id;
`, "-n", "-M", "prepared", "-c", "1", "-R", strconv.Itoa(fanRate), "-T", strconv.Itoa(fanPaced))
		if err == nil {
			err = pause(ctx, time.Second) // until all have it, and its processes are collected
		}
		return err
	}
	count := func(own bool, took *time.Duration) error {
		server, err := f.cluster.busy()
		if err != nil {
			return err
		}
		mine := ownTime()
		if err := work(); err != nil {
			return err
		}
		now, err := f.cluster.busy()
		if *took = now - server; own {
			*took += ownTime() - mine
		}
		return err
	}
	if err := count(false, &nobody); err != nil {
		return 0, 0, 0, err
	}
	err = f.during(ctx, func(ctx context.Context, r *router.Router) error {
		return f.plants(ctx, r, func(int, change.Position) {}, func() error { return f.afterwards(ctx, func() error { return count(true, &ours) }) })
	})
	if err != nil {
		return 0, 0, 0, err
	}
	slots, err := f.makeSlots(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	reading, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, slot := range slots {
		wg.Go(func() { _ = f.readSlot(reading, slot, math.MaxUint64) }) // it ends with reading
	}
	err = f.afterwards(ctx, func() error { return count(false, &native) })
	stop()
	wg.Wait()
	return nobody, ours, native, errors.Join(err, f.dropSlots(ctx))
}

// afterwards calls fn when what has begun to listen has settled.
func (f *fan) afterwards(ctx context.Context, fn func() error) error {
	if _, err := f.last(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	return fn()
}

// stream has all facilities take what was committed up to lsn over streams, and
// returns the processor time of the server and of this process.
func (f *fan) stream(ctx context.Context, lsn string) (time.Duration, error) {
	server, err := f.cluster.busy()
	if err != nil {
		return 0, err
	}
	runtime.GC() // what came before must not be cleared away on this account
	own := ownTime()
	err = f.during(ctx, func(ctx context.Context, r *router.Router) error {
		seen := make([]atomic.Uint64, f.n)
		return f.plants(ctx, r, func(i int, at change.Position) { seen[i].Store(at.Seq) }, func() error {
			if err := f.routed(ctx, lsn); err != nil {
				return err
			}
			tail := r.Tail().Seq
			return f.l.until(ctx, 5*time.Minute, func(context.Context) (bool, error) {
				for i := range seen {
					if seen[i].Load() < tail {
						return false, nil
					}
				}
				return true, nil
			})
		})
	})
	if err != nil {
		return 0, err
	}
	now, err := f.cluster.busy()
	return now - server + ownTime() - own, err
}

// fanLive makes one change of a master row after the other and waits until
// every facility has it.
func (l *lab) fanLive(ctx context.Context, c *cluster) (Figure, error) {
	f, err := l.newFan(ctx, c, "live", l.facilities)
	if err != nil {
		return Figure{}, err
	}
	defer f.pool.Close()
	if err := f.warm(ctx); err != nil {
		return Figure{}, err
	}
	type arrival struct {
		at  change.Position
		now time.Time
	}
	var all, worst []float64
	var cpu time.Duration
	err = f.during(ctx, func(ctx context.Context, r *router.Router) error {
		arrivals := make(chan arrival, f.n)
		return f.plants(ctx, r, func(_ int, at change.Position) { arrivals <- arrival{at, time.Now()} }, func() error {
			for i := range fanLive {
				own := ownTime()
				if _, err := f.last(ctx); err != nil {
					return err
				}
				committed, last := time.Now(), 0.0
				for range f.n {
					select {
					case a := <-arrivals:
						last = max(last, a.now.Sub(committed).Seconds())
						all = append(all, a.now.Sub(committed).Seconds())
					case <-time.After(time.Minute):
						return fmt.Errorf("change %d has not come to everybody within a minute", i)
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				cpu += ownTime() - own
				worst = append(worst, last)
				if err := pause(ctx, 20*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return Figure{}, err
	}
	l.log.Info("delivered", "p50_s", percentile(all, 50), "p99_s", percentile(all, 99), "max_s", percentile(all, 100), "last_p50_s", percentile(worst, 50), "load", loadAverage())
	return atMost(1, Figure{
		ID: "fanout_p99_s", What: fmt.Sprintf("one change of a master row, committed → delivered to %d facilities, 99 of 100 deliveries", f.n), Measured: percentile(all, 99), Unit: "s",
		Peer: fmt.Sprintf("real streams over loopback TCP, both ends in this process, without tunnels and without databases behind them; %d changes, one after the other. Half of the deliveries within %.3g s, all within %.3g s; "+
			"to all facilities within %.3g s for half of the changes; %.3g ms of processor time of both ends for a change; load average %s",
			fanLive, percentile(all, 50), percentile(all, 100), percentile(worst, 50), cpu.Seconds()*1e3/fanLive, loadAverage()),
	}), nil
}
