package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// Piece is one frame on its way to a facility.
type Piece struct {
	// Prev is where the facility must be to take it.
	Prev  change.Position
	Frame change.Sealed
	// More is true when the next piece stems from the same transactions of the
	// region, so that nobody may see the one without the other. It is there.
	More bool
}

// Down is the piece as it goes over the wire.
func (p *Piece) Down() *proto.Down {
	return &proto.Down{PrevEpoch: p.Prev.Epoch, PrevSeq: p.Prev.Seq, Frame: p.Frame.Bytes, More: p.More}
}

// Reader reads what one facility gets. It belongs to one goroutine.
type Reader struct {
	r        *Router
	facility string
	names    [3]string
	prev     change.Position // what the facility has
	at       change.Position // what was read
	closed   bool
}

// Attach returns a reader for a facility whose box is connected and has the
// way down up to has (zero: nothing). It waits until there is a way down. A
// facility that is new, or that lacks what the log no longer holds, gets its
// tables loaded beside what follows now: its reader begins at the end of the
// log, and the first piece's Prev is what the box has all the same.
//
// ErrAhead says that the box has more than this region ever sent: a new epoch
// begins, and the box should come again. Close the reader when the box goes.
func (r *Router) Attach(ctx context.Context, f Facility, has change.Position) (*Reader, error) {
	for {
		if err := r.waitOpen(ctx); err != nil {
			return nil, err
		}
		start, again, err := r.start(ctx, f, has)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		r.mu.Lock()
		r.online[f.ID]++
		r.attached[f.ID] = time.Now()
		time.AfterFunc(r.c.mendSettle, func() { notify(r.loadLook) })
		r.tenants[f.ID] = f.Tenant
		if _, listed := r.routes.tenants[f.ID]; !listed {
			notify(r.look)
		}
		r.mu.Unlock()
		notify(r.loadLook)
		return &Reader{r: r, facility: f.ID, names: names(f.ID, f.Tenant), prev: has, at: start}, nil
	}
}

func (r *Router) waitOpen(ctx context.Context) error {
	for {
		r.mu.Lock()
		open, opened := r.open, r.opened
		r.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// start says where a facility's reader begins, and makes what it lacks be
// loaded. again is true when a new epoch came in between.
func (r *Router) start(ctx context.Context, f Facility, has change.Position) (at change.Position, again bool, err error) {
	facility := f.ID
	r.mu.Lock()
	x := &r.index
	epoch, first := x.epoch, x.first
	tail := change.Position{Epoch: epoch, Seq: x.tail}
	row, known := r.acked[facility]
	open, heard, restoring := r.open, r.heard[facility], r.restoring[facility] != nil
	r.mu.Unlock()
	anew := false
	if known && has == (change.Position{}) {
		if anew, err = r.isNewBox(ctx, f); err != nil {
			return at, false, err
		}
	}
	switch {
	case !open:
		return at, true, nil
	case tail.Before(has):
		r.needEpoch(epoch, gap{reason: fmt.Sprintf("facility %s has %s, this region has sent no more than %s: it was restored from a backup", facility, has, tail), above: has.Epoch})
		return at, false, ErrAhead
	case known && restoring && !heard && row.Epoch == epoch && row.Seq+1 >= first && has.Before(row):
		return row, false, nil // what it lacks before is in what it is sent
	case known && !heard && has == (change.Position{Epoch: epoch}) && row.Epoch == epoch && row.Seq > 0:
		return row, false, nil // it knows that the epoch has begun, and has nothing of it
	case known && has.Epoch == epoch && (!has.Before(row) || has.Seq+1 >= first):
		return has, false, nil
	case anew:
	case known && !heard && has == (change.Position{}) && (row.Seq > 0 || first <= 1): // what it lacks is held for it
		return row, false, nil // what it lacks begins where it joined
	case known && row.Seq == 0 && has.Epoch < epoch:
		return row, false, nil // all of it is marked to be loaded in this epoch
	}
	reason := reasonJoined
	if known {
		reason = reasonResync
	}
	all := known || has.Epoch != 0 // one that was here before lacks what came since
	if f.Enrolments > 1 && has.Epoch == 0 {
		reason, all = reasonReplaced, true
		// What the box before it sent is not sent down to its facility. So what was
		// changed here before that must not come to this box by the log: it would
		// have the rows, and nobody would take them from it again.
		if tail, err = r.readUntilNow(ctx, f); err != nil {
			return at, false, err
		}
		if tail.Epoch != epoch {
			return at, true, nil
		}
	}
	if err := r.restartAt(ctx, facility, f.Enrolments, tail, all, reason); err != nil {
		return at, false, err
	}
	if known {
		r.log.Warn("a facility's tables are sent again: the log no longer holds what it lacks", "facility", facility, "seq", has.Seq)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index.epoch != epoch {
		return at, true, nil
	}
	r.acked[facility], r.heard[facility] = tail, false
	return tail, false, nil
}

// Join notes that a facility is about to hear what is synced, unless it has been
// here before: what changes for it from now on waits for it. It does not wait
// for a way down.
func (r *Router) Join(ctx context.Context, facility string) error {
	r.mu.Lock()
	_, known := r.acked[facility]
	tail, open := change.Position{Epoch: r.index.epoch, Seq: r.index.tail}, r.open
	r.mu.Unlock()
	if known || !open {
		return nil
	}
	f, err := r.facility(ctx, facility)
	if err != nil {
		return err
	}
	if f.Enrolments > 1 {
		return nil // it is no beginning; Attach sees to it
	}
	if err := r.restartAt(ctx, facility, f.Enrolments, tail, false, reasonJoined); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index.epoch == tail.Epoch {
		r.acked[facility], r.heard[facility] = tail, false
	}
	return nil
}

// isNewBox reports whether a box that has nothing of the way down took the place
// of the one whose position is known, and is here for the first time.
func (r *Router) isNewBox(ctx context.Context, f Facility) (bool, error) {
	if f.Enrolments <= 1 {
		return false, nil
	}
	begun, err := r.store.enrolment(ctx, f.ID)
	return begun < f.Enrolments, err
}

// errUnread is returned while nobody reads the region's WAL.
var errUnread = errors.New("the region's WAL is not read now")

// replacing is where the WAL ended when a box first came that took another's place.
type replacing struct {
	enrolments int
	lsn        uint64
}

// readUntilNow waits until all has been read that was committed when the box of f first
// asked for it, and returns the end of the log. A box that is let in no sooner than that
// comes again and again while the WAL is read late.
func (r *Router) readUntilNow(ctx context.Context, f Facility) (at change.Position, err error) {
	r.mu.Lock()
	from := r.replacing[f.ID]
	r.mu.Unlock()
	if from.enrolments != f.Enrolments {
		from.enrolments = f.Enrolments
		if from.lsn, err = r.store.walEnd(ctx); err != nil {
			return at, err
		}
		r.mu.Lock()
		r.replacing[f.ID] = from
		r.mu.Unlock()
	}
	if r.Stats().LSN < from.lsn {
		if read, err := r.upToNow(ctx); err != nil {
			return at, err
		} else if !read {
			return at, errUnread
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.replacing, f.ID)
	return change.Position{Epoch: r.index.epoch, Seq: r.index.tail}, nil
}

func (r *Router) facility(ctx context.Context, id string) (Facility, error) {
	list, err := r.c.Facilities(ctx)
	if err != nil {
		return Facility{}, fmt.Errorf("list the facilities: %w", err)
	}
	if i := slices.IndexFunc(list, func(f Facility) bool { return f.ID == id }); i >= 0 {
		return list[i], nil
	}
	return Facility{}, fmt.Errorf("there is no facility %s", id)
}

// Next returns the next piece, and waits for it. ErrBehind is final: attach
// anew. Other errors are ctx's, or say that the router has stopped.
func (d *Reader) Next(ctx context.Context) (Piece, error) {
	for {
		now, more, wait, err := d.look()
		if err != nil {
			return Piece{}, err
		}
		if now.entry == 0 {
			select {
			case <-wait[0]:
			case <-wait[1]:
			case <-wait[2]:
			case <-ctx.Done():
				return Piece{}, context.Cause(ctx)
			}
			continue
		}
		f, err := d.r.frame(now.entry, d.at.Epoch)
		if err != nil {
			return Piece{}, err
		}
		p := Piece{Prev: d.prev, Frame: f, More: more}
		d.at.Seq = f.Header.Last
		d.prev = d.at
		return p, nil
	}
}

// look finds the next frame, or what to wait for.
func (d *Reader) look() (now ref, more bool, wait [3]chan struct{}, err error) {
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.index
	// What is dropped had been acknowledged, unless this facility was given up.
	if row := r.acked[d.facility]; !r.open || x.epoch != d.at.Epoch || d.at.Before(row) && d.at.Seq+1 < x.first {
		return now, false, wait, ErrBehind
	}
	now, then := x.next(&d.names, d.at.Seq)
	if now.entry == 0 {
		for i, name := range d.names {
			wait[i] = x.bucket(name).grown
		}
		return now, false, wait, nil
	}
	return now, then.entry != 0 && then.group == now.group, wait, nil
}

// Position is the last transaction that Next returned.
func (d *Reader) Position() change.Position { return d.at }

// Close says that the box is gone.
func (d *Reader) Close() {
	if d.closed {
		return
	}
	d.closed = true
	r := d.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.online[d.facility]--; r.online[d.facility] <= 0 {
		delete(r.online, d.facility)
	}
	notify(r.loadLook)
}
