package router

import (
	"context"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// What a facility was sent again mends what the region had changed and lost, and
// leaves alone what the region had removed: a range removes no fact rows,
// because they may be missing here for a worse reason. So the facility's own
// rows come up behind it, and both sides are equal. They must not come before
// the facility has what it was sent.

// mend is a table that comes up once the facility has all up to a position.
type mend struct {
	at    change.Position
	table string
}

// mendLater has the table asked for when the facility has what is in the WAL now.
func (r *Router) mendLater(ctx context.Context, facility, table string) error {
	if r.c.Mended == nil {
		return nil
	}
	at, err := r.end(ctx, facility)
	switch {
	case err != nil:
		return err
	case at == (change.Position{}):
		return errPaused
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mends[facility] = append(r.mends[facility], mend{at, table})
	notify(r.loadLook)
	return nil
}

// end is the last that a facility gets of what is in the WAL now; zero while
// the WAL is not read.
func (r *Router) end(ctx context.Context, facility string) (at change.Position, err error) {
	r.mu.Lock()
	reading := r.reading
	r.mu.Unlock()
	if reading == nil {
		return at, nil
	}
	conn, err := r.c.DB.Acquire(ctx)
	if err != nil {
		return at, fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Release()
	if err := reading.Settled(ctx, conn.Conn()); err != nil {
		return at, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at.Epoch = r.index.epoch
	if b := r.index.buckets[facilityBucket(facility)]; b != nil && len(b.refs) > 0 {
		at.Seq = b.refs[len(b.refs)-1].seq
	}
	return at, nil
}

// mended returns the tables that are due.
func (r *Router) mended() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[string][]string{}
	for facility, list := range r.mends {
		var wait []mend
		for _, m := range list {
			if r.online[facility] > 0 && !r.acked[facility].Before(m.at) {
				due[facility] = append(due[facility], m.table)
			} else {
				wait = append(wait, m)
			}
		}
		r.mends[facility] = wait
		if len(wait) == 0 {
			delete(r.mends, facility)
		}
	}
	return due
}

// Behind notes, before a facility attaches, whether the region has less of it
// than the facility was told: it was restored from a backup. Then it has old
// rows to send, and sends no fact rows: the facility's own come up.
func (r *Router) Behind(facility string, behind bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if behind {
		r.behind[facility] = true
	} else {
		delete(r.behind, facility)
	}
}

func (r *Router) isBehind(facility string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.behind[facility]
}
