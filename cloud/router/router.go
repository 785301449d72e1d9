// Package router sends the region's own changes to the facilities. It reads the
// region's WAL once, puts each change into the bucket of those who get it (a
// facility, a tenant, everybody), seals each bucket's part once and keeps all of
// them in one log on disk, from which each facility is served the same bytes.
//
// In:  internal/capture, which reads the region's database; rows that are loaded take the same way.
// Out: internal/queue, which is the log; cloud/stream reads it for each connected facility.
package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// Slot is the usual replication slot on the region's database.
const Slot = "holdfast_down"

// Defaults and limits.
const (
	// DefaultLogMaxBytes bounds what is kept for facilities that are away.
	DefaultLogMaxBytes = 4 << 30
	defaultSegment     = 16 << 20
	defaultEvery       = 5 * time.Second
	noteEvery          = time.Second
	// loadAheadBytes is how much of a facility's rows may be on their way
	// before its loading waits for the facility.
	defaultLoadAhead = 16 << 20
	// lately is for how long somebody's change says how late the next will be.
	lately     = time.Second
	loadersMax = 2 // each takes a connection while it loads
)

// Errors that a session branches on.
var (
	// ErrBehind says that the log does not hold what follows, or never will
	// again: attach anew.
	ErrBehind = errors.New("the way down no longer holds what follows")
	// ErrAhead says that the box has more than this region ever sent. A new
	// epoch begins; come again.
	ErrAhead = errors.New("the box is ahead of the region's changes")
)

// Facility is what the router has to know of one.
type Facility struct {
	ID, Tenant string
	// Enrolments counts the boxes that the facility has had, up to this one.
	Enrolments int
}

// Config is what a Router needs. Zero limits mean the defaults.
type Config struct {
	// ConnString is for a role with REPLICATION on the region's database.
	ConnString string
	// DB connects a role that owns the synced tables and Holdfast's schema.
	DB *pgxpool.Pool
	// Slot is the replication slot; the default is Slot.
	Slot string
	// Dir keeps the log and the epoch.
	Dir string
	// Tables returns what is synced, and a channel that is closed when that
	// changes. Facilities returns who is there; it is asked every few seconds.
	Tables     func() (proto.Tables, <-chan struct{})
	Facilities func(ctx context.Context) ([]Facility, error)
	// Mended is told of a fact table that a connected facility was sent again
	// because something on the way down was lost: what was removed meanwhile
	// does not show in what it was sent, so the facility's own rows must come
	// up behind it. It reports whether the facility could be asked for them. It is told
	// again, of the same occasion, until the facility has heard it for sure. May be nil.
	Mended func(facility, table, occasion string) bool
	// Whole returns how to tell the box that is connected that it has all rows of a table
	// once it has come to a position, and which of its facility's boxes it is; nil when
	// none is. What is told must reach no box that connects later. May be nil.
	Whole func(facility string) (enrolment uint32, tell func(table string, at change.Position) error)
	// Restored is told of a connected facility whose database had been put back,
	// once it has all that the region has of it. It is needed where Restore is called.
	Restored func(facility string)
	// LogMaxBytes is how much of the log is kept for the slowest facility.
	// Whoever is behind that is sent its tables again.
	LogMaxBytes  int64
	SegmentBytes int
	// LoadAheadBytes is how much of a facility's load may wait for it.
	LoadAheadBytes int64
	// Every is how often tables and facilities are looked at without being told.
	Every time.Duration
	Log   *slog.Logger

	// AppendFault is the step to the log; nil is fine.
	AppendFault *fault.Point

	frameChanges int           // of capture; tests make it small
	mendHeard    time.Duration // as well
	mendSettle   time.Duration // as well
}

// Router is the region's end of the way down. Make it with New.
type Router struct {
	c     Config
	log   *slog.Logger
	store store
	queue *queue.Queue
	epoch epoch.File
	cache frames
	sink  *sink

	settled   chan struct{} // closed when the publications were first right
	look      chan struct{} // tables or facilities changed
	loadLook  chan struct{} // something about loads or who is connected changed
	noteLook  chan struct{} // acknowledgements wait to be written
	pruneLook chan struct{} // the log grew

	untold map[string]bool    // owned by publish: tables whose rows' owners the WAL does not tell
	taken  bool               // owned by capture: somebody else was reading from the slot
	asked  map[mend]askedMend // owned by load

	mu     sync.Mutex
	routes *routes
	index  index
	split  splitState // written by Append alone
	gap    gap
	// open is true while the stream of the current epoch can be read; opened is
	// closed then, and replaced when it ends.
	open    bool
	opened  chan struct{}
	recap   context.CancelCauseFunc
	reading *capture.Capture // nil while nothing reads the WAL
	heard   map[string]bool  // facilities that have acknowledged something
	behind  map[string]bool  // facilities of which this region has less than it had
	// restoring are the facilities that came last with a database that was put back.
	restoring map[string]*restoring
	// replacing are the facilities whose new box has not begun.
	replacing map[string]replacing
	// announced is what the facilities are told of tables.
	announced announced
	acked     map[string]change.Position // positions in the current epoch
	dirty     map[string]bool            // of these, not written yet
	online    map[string]int             // connected facilities: readers
	// attached is when a facility did so last.
	attached map[string]time.Time
	// tenants is what facilities attached with: the list may not have them yet.
	tenants map[string]string
	stats   Stats
	leftOut []leftOut // events that wait to be written
}

// gap is why a new epoch must begin.
type gap struct {
	reason string
	above  uint64 // its number must be above this
	spoilt bool   // the slot must be made anew
}

// Stats says what a Router does.
type Stats struct {
	// Opened counts captured frames that were decoded, Sealed the frames of
	// buckets that were encoded, Read the frames that came from the disk.
	Opened, Sealed, Read uint64
	// Wide counts those of Sealed that are for more than one facility.
	Wide uint64
	// LeftOut counts rows that no frame can hold and that nobody got.
	LeftOut uint64
	// LogBytes waits for the slowest facility.
	LogBytes int64
	// CaptureErr is why the region's WAL is not read, or "".
	CaptureErr string
	// Slot is what the WAL is read from, LSN the end in it of what the log has,
	// and Tail the last transaction of that.
	Slot string
	LSN  uint64
	Tail change.Position
}

// New opens the log. It does not connect.
func New(c Config) (*Router, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.LogMaxBytes <= 0 {
		c.LogMaxBytes = DefaultLogMaxBytes
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = defaultSegment
	}
	if c.LoadAheadBytes <= 0 {
		c.LoadAheadBytes = defaultLoadAhead
	}
	if c.Every <= 0 {
		c.Every = defaultEvery
	}
	c.mendHeard, c.mendSettle = cmp.Or(c.mendHeard, mendHeard), cmp.Or(c.mendSettle, mendSettle)
	c.Slot = cmp.Or(c.Slot, Slot)
	c.AppendFault = fault.Or(c.AppendFault, "router.append")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the way down: %w", err)
	}
	e, err := epoch.Open(filepath.Join(c.Dir, "epoch"), 1)
	if err != nil {
		return nil, err
	}
	q, err := queue.Open(queue.Options{Dir: filepath.Join(c.Dir, "log"), KeepBytes: -1, SegmentBytes: c.SegmentBytes, Log: c.Log})
	if err != nil {
		return nil, err
	}
	r := &Router{
		c: c, log: c.Log.With("part", "router"), store: store{c.DB}, queue: q, epoch: e,
		settled: make(chan struct{}), look: make(chan struct{}, 1), loadLook: make(chan struct{}, 1),
		noteLook: make(chan struct{}, 1), pruneLook: make(chan struct{}, 1), opened: make(chan struct{}), untold: map[string]bool{},
		announced: announced{changed: make(chan struct{})}, behind: map[string]bool{}, restoring: map[string]*restoring{}, replacing: map[string]replacing{}, heard: map[string]bool{},
		routes: newRoutes(nil, nil), acked: map[string]change.Position{}, dirty: map[string]bool{}, online: map[string]int{}, attached: map[string]time.Time{}, tenants: map[string]string{},
	}
	r.sink = newSink(r)
	if err := r.findEnd(); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return r, nil
}

// findEnd builds the index from the log, and sees what is wrong with it.
func (r *Router) findEnd() error {
	now := r.epoch.Get()
	r.index.reset(now.Number)
	damaged := ""
	err := r.queue.Headers(func(i uint64, h *change.Header, size int) {
		switch {
		case h == nil:
			damaged = fmt.Sprintf("entry %d of the log cannot be read", i)
		case h.Epoch == now.Number:
			r.index.add(i, h, size)
		}
	})
	if err != nil {
		return err
	}
	switch o, tail := r.queue.Opened(), r.queue; {
	case o.Damaged != "":
		r.gap = gap{reason: "the log of the way down was damaged on disk: " + o.Damaged}
	case damaged != "":
		r.gap = gap{reason: "the log of the way down was damaged on disk: " + damaged}
	default:
		if pos, _, ok := tail.Tail(); ok && pos.Epoch > now.Number {
			r.gap = gap{reason: "the note of the epoch is older than the log", above: pos.Epoch}
		}
	}
	r.split.restart(&r.index)
	return nil
}

// Run reads the region's WAL, keeps publications and loads right and prunes the
// log, until ctx is done. Then it closes the log.
func (r *Router) Run(ctx context.Context) error {
	defer func() {
		if err := r.queue.Close(); err != nil {
			r.log.Warn("closing the log of the way down", "err", err)
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	backoff := run.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	g.Go(func() error { return run.Loop(gctx, r.log.With("step", "publish"), backoff, r.publish) })
	g.Go(func() error { return run.Loop(gctx, r.log.With("step", "capture"), backoff, r.capture) })
	g.Go(func() error { return run.Loop(gctx, r.log.With("step", "positions"), backoff, r.keepPositions) })
	g.Go(func() error { return run.Loop(gctx, r.log.With("step", "load"), backoff, r.load) })
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Refresh has tables and facilities looked at now.
func (r *Router) Refresh() { notify(r.look) }

// Epoch is the current epoch of the way down, 0 while there is none.
func (r *Router) Epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return 0
	}
	return r.index.epoch
}

// Tail is the last transaction that facilities can be sent.
func (r *Router) Tail() change.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return change.Position{Epoch: r.index.epoch, Seq: r.index.tail}
}

// Late is how long what people change in the region waits behind what is applied
// there, until its WAL is read so far; 0 when nobody has changed anything lately.
func (r *Router) Late() time.Duration {
	r.mu.Lock()
	reading := r.reading
	r.mu.Unlock()
	if reading == nil {
		return 0
	}
	s := reading.Stats()
	if time.Since(s.LateAt) > lately {
		return 0
	}
	return s.Late
}

// Stats is cheap and safe from any goroutine; it does not wait for the log's disk.
func (r *Router) Stats() Stats {
	q := r.queue.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.LogBytes, s.Slot, s.LSN = q.Bytes, r.c.Slot, max(r.split.lsn, q.Marked)
	s.Tail = change.Position{Epoch: r.index.epoch, Seq: r.index.tail}
	if r.reading != nil {
		if err := r.reading.Stats().Err; err != nil { // it connects again by itself
			s.CaptureErr = err.Error()
		}
	}
	return s
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
