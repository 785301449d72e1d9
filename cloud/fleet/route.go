package fleet

import (
	"context"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/progress"
)

// Route is what the log of the way down has of the region's WAL (cloud/router).
type Route struct {
	Slot string // that the WAL is read from
	// LSN is the end in the WAL of what the log has, Tail its last transaction, and
	// Frames how many were put in, the parts of a big transaction too.
	LSN    uint64
	Tail   change.Position
	Frames uint64
	// Err is why the WAL is not read, as the router says; it is shown, not believed.
	Err string
}

// routed is what the region's database says of the way from its WAL into the log.
type routed struct {
	Behind    int64 // bytes of WAL that the log does not have
	Retained  int64 // bytes of WAL that are kept for it
	Confirmed int64
}

// route is the watch over that way. It is the same for all facilities. Guarded
// by Fleet.mu.
type route struct {
	watch  progress.Watch
	stalls []progress.Stall
	known  bool
	last   routed
}

// watchRoute looks whether the region's WAL still gets into the log of the way
// down. Otherwise nothing would: as long as it does not, nothing waits for any
// facility.
func (f *Fleet) watchRoute(ctx context.Context) error {
	if f.cfg.Route == nil {
		return nil
	}
	r := f.cfg.Route()
	w, err := f.store.routed(ctx, r)
	if err == nil {
		f.lookRoute(time.Now(), r, w)
	}
	return err
}

func (f *Fleet) lookRoute(now time.Time, r Route, w routed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.route.watch.After, f.route.known, f.route.last = f.cfg.StalledAfter, true, w
	was := f.route.stalls
	f.route.stalls = f.route.watch.Look(now, map[progress.Stage]progress.Sample{progress.RouteDown: {
		Work: uint64(max(0, w.Behind)),
		Done: progress.Mark{uint64(w.Confirmed), r.Tail.Epoch, r.Tail.Seq, r.Frames},
	}})
	log := f.log
	if r.Err != "" {
		log = log.With("err", r.Err)
	}
	logStalls(log, now, was, f.route.stalls)
	for fac := range f.eachLocked() {
		fac.shared = nil
		for _, s := range f.route.stalls {
			one := stallSeen(s)
			if r.Err != "" {
				one.Text += ": " + r.Err
			}
			fac.shared = append(fac.shared, one)
		}
		if len(was) != len(f.route.stalls) {
			f.changedLocked(fac, false)
		}
	}
}

// routed is what was seen last, false before the first look.
func (f *Fleet) routed() (routed, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.route.last, f.route.known
}
