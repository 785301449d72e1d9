package router

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// A box whose database was put back from a backup has old rows. It says so when
// it comes, or is found out: it has less of the way down than it had told to be
// durable. It is then sent all that the region has of it, from the end of the
// log on and not from where its database is, and sends nothing of its own until
// it hears that this was all. Where the load is is on disk; that it goes on the
// box says each time that it comes.

// restoring is a connected facility that is sent all of its rows.
type restoring struct {
	end  change.Position // the last of them; zero while it is not known
	told bool
}

// WentBack reports whether a facility has less than it had acknowledged. It
// waits until that can be told.
func (r *Router) WentBack(ctx context.Context, facility string, has change.Position) (bool, error) {
	if err := r.waitOpen(ctx); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.restoring, facility)
	return r.wentBack(facility, has), nil
}

// wentBack does that; mu is held.
func (r *Router) wentBack(facility string, has change.Position) bool {
	acked := r.acked[facility]
	return r.heard[facility] && acked.Seq > 0 && has.Before(acked)
}

// Restore notes, before it attaches, that a facility whose box is in the given
// epoch is to be sent all of its rows, and begins with that unless it has.
// lacking is true when this region passed over changes of the facility.
func (r *Router) Restore(ctx context.Context, facility string, epoch uint64, has change.Position) (lacking bool, err error) {
	if err := r.waitOpen(ctx); err != nil {
		return false, err
	}
	r.mu.Lock()
	tail, back := change.Position{Epoch: r.index.epoch, Seq: r.index.tail}, r.wentBack(facility, has)
	r.mu.Unlock()
	begun, lacking, err := r.store.restoredIn(ctx, facility)
	if err != nil {
		return false, err
	}
	if begun != epoch || back {
		if err := r.restartAt(ctx, facility, anyBox, tail, true, reasonRestored); err != nil {
			return false, err
		}
		r.mu.Lock()
		if r.index.epoch == tail.Epoch {
			r.acked[facility], r.heard[facility] = tail, false
		}
		r.mu.Unlock()
		// Last: until then it is begun again.
		if err := r.store.restore(ctx, facility, epoch, tail); err != nil {
			return false, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restoring[facility] = &restoring{}
	notify(r.loadLook)
	return lacking, nil
}

// restored tells the facilities that have all that they were to be sent.
func (r *Router) restored(ctx context.Context) error {
	r.mu.Lock()
	waits := map[string]*restoring{}
	for f, s := range r.restoring {
		if !s.told && r.online[f] > 0 {
			waits[f] = s
		}
	}
	r.mu.Unlock()
	for f, s := range waits {
		list, err := r.store.loads(ctx, []string{f}, true)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			s.end = change.Position{} // it was asked for more
			continue
		}
		if s.end == (change.Position{}) {
			if s.end, err = r.end(ctx, f); err != nil {
				return err
			}
		}
		r.mu.Lock()
		done := s.end != (change.Position{}) && !r.acked[f].Before(s.end) && r.restoring[f] == s
		s.told = s.told || done
		r.mu.Unlock()
		if done {
			r.log.Warn("a facility whose database was put back has all that the region has of it", "facility", f, "seq", s.end.Seq)
			r.c.Restored(f)
		}
	}
	return nil
}
