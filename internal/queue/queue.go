// Package queue keeps sealed frames on disk until the other side has them.
//
// A frame that Append took is durable: the WAL slot may be acknowledged. Below
// is hashicorp/raft-wal, one log entry per frame; what that log lacks is in
// repair.go, files.go and meta.go, each with its reason.
//
// In:  internal/capture, which seals frames.
// Out: internal/transfer, which reads them with a Cursor.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Defaults and limits.
const (
	DefaultKeepBytes    = 256 << 20
	defaultSegmentBytes = 64 << 20
	// maxEntryBytes is what one log entry can hold of a frame; the log allows
	// 64 MiB with its own few bytes around it.
	maxEntryBytes = change.MaxFrameBytes - 4096
	ackNoteEvery  = time.Second
)

// Options shape a queue.
type Options struct {
	// Dir is created if missing. One process at a time may have it open.
	Dir string
	// MaxBytes is how many bytes of frames may be held; Append returns ErrFull
	// beyond it. 0 is no limit.
	MaxBytes int64
	// KeepBytes is how many bytes of acknowledged frames are kept for a region
	// that is restored from a backup. 0 is DefaultKeepBytes, negative is none.
	// Space is given back a segment at a time.
	KeepBytes int64
	// SegmentBytes is the size of a file of the log. 0 is 64 MiB.
	SegmentBytes int
	Log          *slog.Logger

	// WriteFault and SyncFault are the two steps to the disk; nil is fine.
	WriteFault, SyncFault *fault.Point
}

// Errors that a caller branches on.
var (
	// ErrFull says that MaxBytes of frames wait. Nothing was stored.
	ErrFull = errors.New("queue is full")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("queue is closed")
	// ErrOrder says that a frame does not follow the last one.
	ErrOrder = errors.New("frame out of order")
	// ErrBehind says that frames after the cursor's position are no longer
	// kept: raise the epoch and load the tables again.
	ErrBehind = errors.New("the queue no longer holds what follows")
	// ErrAhead says that the cursor's position is beyond everything that this
	// queue ever held: the queue is older than what the other side has seen.
	ErrAhead = errors.New("the other side has more than this queue ever held")
)

// LostError says that transactions First to Last cannot be read. The cursor
// that returned it goes on after them.
type LostError struct {
	Epoch, First, Last uint64
	Err                error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("transactions %d to %d of epoch %d are lost: %v", e.First, e.Last, e.Epoch, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Opened tells what Open found.
type Opened struct {
	// Damaged is why the log that was there could not be used, or "". It was
	// moved to MovedTo, the queue is empty and the epoch must be raised.
	Damaged, MovedTo string
	// Torn is true when an append that was never acknowledged was cut off.
	Torn bool
	// Repaired counts frames whose place in the log was damaged. They are read
	// as a LostError; those after them are whole.
	Repaired int
}

// Queue is a durable log of frames. All methods may be called at any time from
// any goroutine; Append is serial.
type Queue struct {
	o      Options
	opened Opened

	// appendMu is held by Append, Mark, Ack's dropping, and Close: one writer.
	appendMu sync.Mutex
	broken   bool // the log must be reopened before the next append; by appendMu
	noSpace  bool // that append failed because the disk is full; by appendMu
	closed   bool // by appendMu

	// walMu is held for writing only while the log is swapped.
	walMu sync.RWMutex
	log   *raftLog
	files *files

	// mu guards what follows; never held over I/O.
	mu       sync.Mutex
	ix       index
	acked    change.Position
	held     *change.Position // see Hold
	gaveWay  change.Position  // see GiveWay
	marked   uint64
	grown    chan struct{} // closed and replaced when the tail grows
	closing  bool
	ackNoted time.Time

	note *noteFile // marked and acked, durable; by appendMu
	lock *os.File  // one process at a time
}

// Open opens or creates the queue in o.Dir. A log that cannot be opened is
// moved aside and told in Opened; an error means that the folder itself cannot
// be used.
func Open(o Options) (*Queue, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = DefaultKeepBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	q := &Queue{o: o, grown: make(chan struct{})}
	err := q.open()
	if err == nil {
		return q, nil
	}
	if !errors.Is(err, errDamaged) {
		return nil, hint.Wrap(fmt.Errorf("open queue %s: %w", o.Dir, err),
			"Check that the folder %s exists, belongs to Holdfast's user, and that its disk has space.", o.Dir)
	}
	moved := o.Dir + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	if rerr := os.Rename(o.Dir, moved); rerr != nil {
		return nil, fmt.Errorf("move the damaged queue aside: %w", errors.Join(rerr, err))
	}
	if serr := durable.SyncDir(filepath.Dir(o.Dir)); serr != nil {
		return nil, fmt.Errorf("move the damaged queue aside: %w", errors.Join(serr, err))
	}
	o.Log.Error("queue is damaged and was moved aside", "part", "queue", "path", moved, "err", err)
	fresh := &Queue{o: o, grown: make(chan struct{})}
	if err := fresh.open(); err != nil {
		return nil, fmt.Errorf("open a new queue %s: %w", o.Dir, err)
	}
	fresh.opened = Opened{Damaged: err.Error(), MovedTo: moved}
	return fresh, nil
}

func (q *Queue) open() (err error) {
	if err := os.MkdirAll(q.o.Dir, 0o700); err != nil {
		return err
	}
	if q.lock, err = lockDir(q.o.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.lock.Close())
		}
	}()
	if q.note, err = openNote(q.o.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.note.p.close())
		}
	}()
	q.files = newFiles(q.o.Dir, q.o.WriteFault, q.o.SyncFault)
	log, err := openLog(q.o, q.files)
	if err != nil {
		return err
	}
	if err := q.ix.scan(log, q.o.Dir); err != nil {
		return errors.Join(err, log.close())
	}
	q.log, q.opened = log, Opened{Torn: log.torn, Repaired: log.repaired}
	q.marked = q.note.Mark
	if q.ix.tail.Before(q.note.Tail) {
		// A damaged last batch looks like one that was never acknowledged, and
		// was cut off. Without the mark the slot is found ahead of the queue.
		q.marked = 0
		q.o.Log.Error("the queue lost its end on disk", "part", "queue", "tail", q.ix.tail.String(), "was", q.note.Tail.String())
	}
	q.acked = q.ix.clampAck(q.note.Acked)
	q.moveAck(q.acked)
	q.gaveWay = q.note.GaveWay
	return q.finishGiveWay()
}

// noteNow is what is to be remembered; mu is held.
func (q *Queue) noteNow() note {
	return note{Mark: q.marked, Acked: q.acked, Tail: q.ix.tail, GaveWay: q.gaveWay}
}

// Opened tells what Open found.
func (q *Queue) Opened() Opened { return q.opened }

// Append makes frames durable, with one fsync. When it returns nil they are;
// when it returns an error none of them counts, and a later Append may succeed
// once the cause (a full disk, say) is gone.
//
// Numbers are dense within an epoch, and a higher epoch starts at 1; what does
// not follow is refused with ErrOrder. Parts of a big transaction may start
// again at part 0: the parts before are forgotten.
func (q *Queue) Append(frames ...change.Sealed) error {
	if len(frames) == 0 {
		return nil
	}
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	var size int64
	for i := range frames {
		if len(frames[i].Bytes) > maxEntryBytes {
			return fmt.Errorf("frame of %d bytes is larger than %d", len(frames[i].Bytes), maxEntryBytes)
		}
		size += int64(len(frames[i].Bytes))
	}
	if err := q.room(size); err != nil {
		return err
	}
	q.mu.Lock()
	next, err := q.ix.check(frames)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	if q.broken {
		if err := q.reopen(); err != nil {
			return fmt.Errorf("reopen the log: %w", err)
		}
	}
	if q.noSpace {
		// What is kept for a region that goes back in time has to make way.
		q.noSpace = false
		if err := q.drop(0); err != nil {
			return err
		}
	}
	data := make([][]byte, len(frames))
	for i := range frames {
		data[i] = frames[i].Bytes
	}
	if err := q.log.append(next, data); err != nil {
		q.broken = true // what reached the disk is cut off by reopen
		q.noSpace = errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		return fmt.Errorf("append %d frames: %w", len(frames), err)
	}
	q.mu.Lock()
	for i := range frames {
		q.ix.add(&frames[i].Header, len(frames[i].Bytes))
	}
	close(q.grown)
	q.grown = make(chan struct{})
	q.mu.Unlock()
	return nil
}

// room makes sure that size more bytes fit under MaxBytes, if need be by
// giving up acknowledged frames.
func (q *Queue) room(size int64) error {
	if q.o.MaxBytes <= 0 || q.files.bytes.Load()+size <= q.o.MaxBytes {
		return nil
	}
	if err := q.drop(0); err != nil {
		return err
	}
	if q.files.bytes.Load()+size > q.o.MaxBytes {
		if err := q.dropHeld(); err != nil {
			return err
		}
	}
	q.mu.Lock()
	waiting := q.ix.waiting().bytes
	q.mu.Unlock()
	if waiting+size > q.o.MaxBytes {
		return hint.Wrap(fmt.Errorf("%w: %d bytes wait, the limit is %d", ErrFull, waiting, q.o.MaxBytes),
			"Bring the link to the region back, or raise queue_max.")
	}
	return nil
}

// reopen swaps the log for one that was opened anew from the disk, cut back to
// what the last successful append left. Readers keep the old one until then.
// appendMu is held.
func (q *Queue) reopen() error {
	if err := q.files.cutBack(); err != nil {
		return err
	}
	log, err := openLog(q.o, q.files)
	if err != nil {
		return err
	}
	q.mu.Lock()
	want := q.ix.last
	q.mu.Unlock()
	if log.last != want {
		return errors.Join(fmt.Errorf("%w: it ends at entry %d, it ended at %d", errDamaged, log.last, want), log.close())
	}
	q.walMu.Lock()
	old := q.log
	q.log, q.broken = log, false
	q.walMu.Unlock()
	if err := old.close(); err != nil {
		q.o.Log.Warn("closing the log that was replaced", "part", "queue", "err", err)
	}
	q.o.Log.Info("log reopened after an error", "part", "queue")
	return nil
}

// Tail returns the last whole transaction, the end of its commit in the WAL,
// and false when the queue never held one.
func (q *Queue) Tail() (change.Position, uint64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ix.tail, q.ix.tailLSN, q.ix.tail.Seq > 0
}

// Mark notes durably that the WAL up to lsn holds nothing that is not in the
// queue, so that an idle slot may advance. It costs two fsyncs.
func (q *Queue) Mark(lsn uint64) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.mu.Lock()
	n := q.noteNow()
	n.Mark = max(lsn, q.marked)
	q.mu.Unlock()
	if err := q.note.save(n); err != nil {
		return fmt.Errorf("mark the queue: %w", err)
	}
	q.mu.Lock()
	q.marked = n.Mark
	q.mu.Unlock()
	return nil
}

// Marked returns the highest marked position.
func (q *Queue) Marked() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.marked
}

// Ack notes that the other side has everything up to p. Frames before it may
// be dropped once more than KeepBytes of them are held. A position that goes
// back is ignored. It is written to disk at most once a second.
func (q *Queue) Ack(p change.Position) error {
	q.mu.Lock()
	p = q.ix.clampAck(p)
	if !q.acked.Before(p) {
		q.mu.Unlock()
		return nil
	}
	q.acked = p
	q.mu.Unlock()

	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.moveAck(p)
	if err := q.drop(max(q.o.KeepBytes, 0)); err != nil {
		return err
	}
	q.mu.Lock()
	n, due := q.noteNow(), time.Since(q.ackNoted) >= ackNoteEvery
	if due {
		q.ackNoted = time.Now()
	}
	q.mu.Unlock()
	if !due {
		return nil
	}
	if err := q.note.save(n); err != nil {
		return fmt.Errorf("note the acknowledgement: %w", err)
	}
	return nil
}

// drop gives up acknowledged frames beyond keep bytes; appendMu is held.
func (q *Queue) drop(keep int64) error {
	if q.broken {
		if err := q.reopen(); err != nil {
			return nil // Append tells; dropping can wait for it
		}
	}
	q.mu.Lock()
	min := q.ix.droppable(keep, int64(q.o.SegmentBytes))
	if q.held != nil && min > 0 {
		min = q.ix.upTo(min, *q.held)
	}
	q.mu.Unlock()
	return q.dropBefore(min)
}

// dropHeld gives up acknowledged frames although somebody still reads them here
// (see Hold): the facility's own changes need the room. appendMu is held.
func (q *Queue) dropHeld() error {
	q.mu.Lock()
	held, min := q.held != nil, q.ix.droppable(0, int64(q.o.SegmentBytes))
	q.mu.Unlock()
	if !held || q.broken {
		return nil
	}
	return q.dropBefore(min)
}

func (q *Queue) dropBefore(min uint64) error {
	q.mu.Lock()
	first := q.ix.first
	q.mu.Unlock()
	if min <= first {
		return nil
	}
	if err := q.log.wal.DeleteRange(first, min-1); err != nil {
		return fmt.Errorf("drop acknowledged frames: %w", err)
	}
	q.mu.Lock()
	q.ix.dropBefore(min)
	q.mu.Unlock()
	return nil
}

// Close notes the acknowledgement and closes the log. Cursors return ErrClosed.
func (q *Queue) Close() error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	q.mu.Lock()
	q.closing = true
	close(q.grown)
	q.grown = make(chan struct{})
	n := q.noteNow()
	q.mu.Unlock()
	err := q.note.save(n)
	q.walMu.Lock()
	defer q.walMu.Unlock()
	return errors.Join(err, q.log.close(), q.note.p.close(), q.lock.Close())
}

// wait blocks until ch closes or ctx ends.
func wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
