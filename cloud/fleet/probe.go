package fleet

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	probeWorkers = 16
	probeTimeout = 2 * time.Second
	probeAgain   = 3 * time.Second // the shortest time between two probes of one facility
)

// probing asks silent facilities through the tunnel whether they are there. A
// facility that is heard needs no probe.
func (f *Fleet) probing(ctx context.Context) error {
	if f.cfg.Probe == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	work := make(chan string, probeWorkers)
	g, ctx := errgroup.WithContext(ctx)
	for range probeWorkers {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case id := <-work:
					f.probe(ctx, id)
				}
			}
		})
	}
	g.Go(func() error {
		tick := time.NewTicker(judgeEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				f.pickSilent(time.Now(), work)
			}
		}
	})
	return g.Wait()
}

// pickSilent hands on as many silent facilities as there are idle workers; the
// others have their turn later.
func (f *Fleet) pickSilent(now time.Time, work chan<- string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fac := range f.facilities {
		if fac.probing || now.Sub(fac.probeBegan) < probeAgain || !fac.silent(now) {
			continue
		}
		select {
		case work <- fac.id:
			fac.probing = true
		default:
			return
		}
	}
}

// silent is true half a deadline before the facility could be taken for
// offline, so that the probe's answer is there in time.
func (fac *facility) silent(now time.Time) bool {
	if !fac.left.IsZero() || !fac.heardHere {
		return true
	}
	every := time.Duration(fac.beat.EverySeconds) * time.Second
	return now.Sub(fac.heardAt) > max(heartbeatDeadline/2, every*5/4)
}

func (f *Fleet) probe(ctx context.Context, id string) {
	began := time.Now()
	pctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := f.cfg.Probe(pctx, id)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	fac := f.facilities[id]
	if fac == nil {
		return
	}
	fac.probing, fac.probeBegan, fac.probeFailed = false, began, time.Time{}
	if err != nil {
		fac.probeFailed = now
	} else {
		fac.tunnelAt, fac.tunnelHere, fac.dirty = now, true, true
	}
	f.counts.probed(err == nil)
	f.judgeLocked(fac, now)
}
