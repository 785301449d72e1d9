package router

import (
	"context"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// What a facility was sent again mends what the region had changed and lost, and
// leaves alone what the region had removed: a range removes no fact rows,
// because they may be missing here for a worse reason. So the facility's own
// rows come up behind it, and both sides are equal. They must not come before
// the facility has what it was sent.
//
// A box that took another's place removes no rows here by its ranges, as it may lack
// what the box before had written. Once it has all of a table that it was sent, it is
// told so, and its ranges from then on do, as those of a first box. That it was told is
// noted here before, and its ranges are believed only where that is (internal/apply).
//
// What waits for that is in holdfast.down_load, with the load: it outlives this
// process, and there is no more of it than of loads.

// mendHeard is how long a facility must have stayed connected since it was asked to
// have heard it. One that was not is asked once more, and goes on where it was.
const mendHeard = 10 * time.Second

// mendSettle is how long a facility must have been connected to be asked: what is
// said sooner may go to the stream that it had before.
const mendSettle = 2 * time.Second

// mend is a table that comes up once the facility has all up to a position.
type mend struct {
	Facility, Table string
	no              int64 // of the load
	at              change.Position
	done            int64 // when it was sent, in microseconds
	whole, heal     bool  // tell it that it has all of the table; ask it for the table
}

// occasion tells a mend from all others of its table, also from one of a database
// that was put in this one's place.
func (m mend) occasion() string { return fmt.Sprintf("%d@%d", m.no, m.done) }

// askedMend is when a facility was asked for a mend, and since when it was connected.
type askedMend struct{ at, attached time.Time }

// mendAt is where the facility must be before a table that it has been sent is
// asked for: at what is in the WAL now. It is zero where nobody wants to be told.
func (r *Router) mendAt(ctx context.Context, facility string) (change.Position, error) {
	if r.c.Mended == nil && r.c.Whole == nil {
		return change.Position{}, nil
	}
	at, err := r.end(ctx, facility)
	if err == nil && at == (change.Position{}) {
		err = errPaused
	}
	return at, err
}

// end is the last that a facility gets of what is in the WAL now; zero while
// the WAL is not read.
func (r *Router) end(ctx context.Context, facility string) (at change.Position, err error) {
	if read, err := r.upToNow(ctx); err != nil || !read {
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

// upToNow waits until all that is committed in the region has been read; false while
// nobody reads its WAL.
func (r *Router) upToNow(ctx context.Context) (read bool, err error) {
	r.mu.Lock()
	reading := r.reading
	r.mu.Unlock()
	if reading == nil {
		return false, nil
	}
	conn, err := r.c.DB.Acquire(ctx)
	if err != nil {
		return false, fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Release()
	return true, reading.Settled(ctx, conn.Conn())
}

// mend asks facilities for the tables that are due.
func (r *Router) mend(ctx context.Context) error {
	if r.c.Mended == nil && r.c.Whole == nil {
		return nil
	}
	list, err := r.store.mends(ctx)
	if err != nil {
		return err
	}
	asked := map[mend]askedMend{}
	for _, m := range list {
		r.mu.Lock()
		attached := r.attached[m.Facility]
		due := r.online[m.Facility] > 0 && !r.acked[m.Facility].Before(m.at) && time.Since(attached) >= r.c.mendSettle
		r.mu.Unlock()
		last, was := r.asked[m]
		switch was = was && last.attached.Equal(attached); {
		case !due:
		case was && time.Since(last.at) >= r.c.mendHeard:
			if err := r.store.mended(ctx, m); err != nil {
				return err
			}
		case was:
			asked[m] = last
		default:
			told, err := r.tellWhole(ctx, m)
			if err != nil {
				return err
			}
			if told && (!m.heal || r.c.Mended == nil || r.c.Mended(m.Facility, m.Table, m.occasion())) {
				asked[m] = askedMend{time.Now(), attached}
			}
		}
	}
	r.asked = asked
	return nil
}

// tellWhole tells a box that it has all of a table, if it is to be told, and reports
// whether that is done. The box is who is connected before it is asked for the last time
// whether it is so: whatever is sent from a later place than what it has is begun
// anew as it connects.
func (r *Router) tellWhole(ctx context.Context, m mend) (bool, error) {
	if !m.whole || r.c.Whole == nil {
		return true, nil
	}
	enrolment, tell := r.c.Whole(m.Facility)
	if tell == nil {
		return false, nil
	}
	return r.store.whole(ctx, m, enrolment, func() error { return tell(m.Table, m.at) })
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
