package fleet

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// probesAtOnce is how many facilities may be asked at the same time: each takes
	// a moment of the network stack and a few KiB, and a thousand may fall silent at
	// once.
	probesAtOnce = 1024
	// probeTimeout is long enough for a packet to be lost, and sent again a second later.
	probeTimeout = 1500 * time.Millisecond
)

// asker returns what asks a facility through the tunnel whether it is there,
// unless too many are being asked, and what waits for all that were. Who is to be
// asked, and when, is cloud/detect's to say.
func (f *Fleet) asker(ctx context.Context) (ask func(*facility) bool, wait func()) {
	if f.cfg.Probe == nil {
		return func(*facility) bool { return false }, func() {}
	}
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	ask = func(fac *facility) bool {
		// The caller holds f.mu.
		fac.probing = g.TryGo(func() error {
			f.probe(ctx, fac)
			return nil
		})
		return fac.probing
	}
	return ask, func() { _ = g.Wait() }
}

func (f *Fleet) probe(ctx context.Context, fac *facility) {
	began := time.Now()
	pctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := f.cfg.Probe(pctx, fac.ID)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	fac.probing, fac.Asked, fac.Unanswered = false, began, err != nil
	if err == nil {
		fac.Answered, fac.dirty = now, true
		if now.After(fac.Tunnel) {
			fac.Tunnel, fac.TunnelHere = now, true
		}
	}
	f.counts.probed(err == nil)
	f.hurryUp() // what follows from it, or the next question
}
