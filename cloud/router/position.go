package router

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// Acked notes that a facility has everything up to p on its disk. It is
// written down about once a second; what all facilities have is dropped.
func (r *Router) Acked(facility string, p change.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.acked[facility]
	if !known || p.Epoch != r.index.epoch || !was.Before(p) || p.Seq > r.index.tail {
		return
	}
	r.acked[facility], r.dirty[facility], r.heard[facility] = p, true, true
	notify(r.noteLook)
	notify(r.loadLook)
}

// Waiting is how many frames a connected facility has not acknowledged, and how
// far it has; ok is false when it takes nothing from the way down now.
func (r *Router) Waiting(facility string) (frames uint64, acked change.Position, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acked, known := r.acked[facility]
	if !r.open || !known || r.online[facility] == 0 {
		return 0, acked, false
	}
	for _, name := range names(facility, r.tenant(facility)) {
		if b := r.index.buckets[name]; b != nil {
			frames += uint64(len(b.refs) - b.after(acked.Seq))
		}
	}
	return frames, acked, true
}

// keepPositions writes acknowledgements down and prunes the log.
func (r *Router) keepPositions(ctx context.Context, up func()) error {
	if err := r.waitOpen(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-r.pruneLook:
			if r.queue.Stats().Bytes <= r.c.LogMaxBytes {
				continue
			}
		}
		if err := r.writePositions(ctx); err != nil {
			return err
		}
		if err := r.prune(ctx); err != nil {
			return err
		}
		if err := r.writeLeftOut(ctx); err != nil {
			return err
		}
		up()
	}
}

func (r *Router) writePositions(ctx context.Context) error {
	r.mu.Lock()
	list := map[string]change.Position{}
	for f := range r.dirty {
		list[f] = r.acked[f]
	}
	clear(r.dirty)
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	err := r.store.ack(ctx, list)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for f := range list {
			r.dirty[f] = true
		}
	}
	return err
}

// prune drops what all facilities have. While more than the bound is held for
// the slowest one, that one is given up: it gets its tables again instead.
func (r *Router) prune(ctx context.Context) error {
	for {
		r.mu.Lock()
		slowest, upTo := r.slowest()
		r.mu.Unlock()
		if err := r.queue.Ack(upTo); err != nil {
			return err
		}
		first, _ := r.queue.Entries()
		waiting := r.queue.Stats().Bytes
		r.mu.Lock()
		r.index.dropBefore(first)
		tail := change.Position{Epoch: r.index.epoch, Seq: r.index.tail}
		r.mu.Unlock()
		if waiting <= r.c.LogMaxBytes || slowest == "" {
			return nil
		}
		if err := r.restartAt(ctx, slowest, anyBox, tail, true, reasonResync); err != nil {
			return err
		}
		detail := fmt.Sprintf("more than %d bytes of changes waited for the facility; its tables are sent again instead", r.c.LogMaxBytes)
		if err := r.store.event(ctx, slowest, "resync", tail, detail); err != nil {
			return err
		}
		r.log.Warn("a facility is given up until it comes back: more changes wait for it than are kept", "facility", slowest, "seq", tail.Seq)
		r.mu.Lock()
		if r.index.epoch == tail.Epoch {
			r.acked[slowest], r.heard[slowest] = tail, false
			for _, name := range names(slowest, r.tenant(slowest)) {
				r.index.wake(name) // its reader learns of it
			}
		}
		r.mu.Unlock()
	}
}

// slowest returns the facility for which most is held, "" if nothing is held
// for any, and up to where all have what is theirs; mu is held.
func (r *Router) slowest() (string, change.Position) {
	x := &r.index
	who, upTo := "", x.kept
	for _, f := range slices.Sorted(maps.Keys(r.acked)) {
		n := names(f, r.tenant(f))
		now, _ := x.next(&n, r.acked[f].Seq)
		if now.entry == 0 {
			continue // nothing waits for it
		}
		if before := now.first - 1; before < upTo {
			who, upTo = f, before
		}
	}
	return who, change.Position{Epoch: x.epoch, Seq: upTo}
}

// tenant is a facility's; mu is held.
func (r *Router) tenant(facility string) string {
	if t, listed := r.routes.tenants[facility]; listed {
		return t
	}
	return r.tenants[facility]
}
