package apply

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
)

// Limits of one facility's stream inside the receiver.
const (
	// inboxMaxBytes is how many sealed bytes may wait to be unpacked; Push
	// blocks above it, but always takes one frame. It holds what a sender may have
	// on the way, so that whoever pushes goes on hearing what comes behind: the
	// acknowledgements of the other direction.
	inboxMaxBytes = 16 << 20
	// batchMaxChanges and batchMaxBytes (of unpacked values) end a batch.
	// Larger batches fold more and hold readers of hot rows up longer; beyond
	// this they were measured to be slower.
	batchMaxChanges = 20_000
	batchMaxBytes   = 32 << 20
)

// Config configures the applying of one facility's stream.
type Config struct {
	Facility string
	// Direction is written to the WAL with each transaction. Default Up.
	Direction Direction
	// Registry returns the tables that are synced now.
	Registry func() *Registry
	// Local tells what the receiver's own applications did meanwhile. It must
	// be given when the Direction is Down, and only then: the other way nobody
	// else may write.
	Local Local
	// Restored tells, on the way down, while the receiver's database was put back
	// from a backup: key ranges are then what its fact rows must become, save what
	// Local knows to be changed since. whole is true when Local knows all of that,
	// but for tables that are Unread: rows that a range does not have are removed then.
	// Otherwise they stay, and what a range overwrites is recorded. May be nil.
	Restored func() (restored, whole bool)
	// Whole reports, on the way up, whether the receiver itself knows that a box, which is
	// not the facility's first, has all rows of a table (change.NoteWhole): what it does
	// not have may be what the box before it wrote. Until both say so its ranges add and
	// correct rows and remove none. It is asked in order, from one goroutine. nil is never.
	Whole func(ctx context.Context, enrolment uint32, schema, table string) (bool, error)
	// OnSeen is called with each position of the receiver's own stream that the
	// sender had seen, once no crash can take that back: nobody will ask Local
	// for what changed before it. Like OnDurable it must not block.
	OnSeen func(change.Position)
	// NotesEvery is how long transactions that say only what the sender has
	// seen may wait for company, so that they do not cost a commit each.
	// Default 10 s.
	NotesEvery time.Duration
	// GiveWay reports that somebody waits behind what is applied. A large batch
	// then waits for him, a moment and not for ever; nil never does.
	GiveWay func() bool
	// OnApplied is called after each commit, in order, from one goroutine. It
	// must not block. What it reports is visible, and not yet durable.
	OnApplied func(Progress)
	// OnDurable is called with each position that no crash can take back any
	// more: this, and not what is applied, may be acknowledged to the sender.
	// It grows strictly, must not block, and is not called after Run.
	OnDurable func(change.Position)
	// OnDigest is called with what each digest in the stream came to, in order,
	// after the commit that compared it. It must not block. nil leaves digests
	// uncompared.
	OnDigest func(Verdict)
	// OnStuck is called when a transaction cannot be applied, and with nil
	// when it could be after all.
	OnStuck func(error)
	// Patience is how long a transaction that cannot be applied is tried again
	// before Run ends with its error; zero is for ever.
	Patience time.Duration
	// Park keeps changes that the target refuses in holdfast.parked and lets
	// the rest flow; see parked.go. Without it the stream waits for them.
	Park bool
	Log  *slog.Logger
}

// Progress is one commit at the receiver.
type Progress struct {
	Position            change.Position
	LSN                 uint64    // of the sender's last transaction in it
	Committed           time.Time // when the sender committed that; zero if nothing was applied
	At                  time.Time // when the receiver had it committed
	Txs, Changes, Bytes int
	// Parked is how many of the changes were parked.
	Parked int
	Tables []TableCount
	// Missing counts the partial updates that found no row, by table; with Park
	// see lacking.go for what becomes of them.
	Missing map[string]int64
}

// TableCount is how many changes of the sender's table a commit had.
type TableCount struct {
	Schema, Name string
	Changes      int64
}

// Faults are the steps that a test can break.
type Faults struct {
	// Commit is the commit of a batch.
	Commit fault.Point
}

// Applier applies one facility's stream. Push and Run may be called from
// different goroutines; Run once.
type Applier struct {
	Faults Faults

	cfg  Config
	pool *Pool
	log  *slog.Logger

	inbox *inbox
	lost  chan struct{}   // holds a token when the position went back
	next  change.Position // owned by gather: the position behind all it has taken

	lastCall *opCall          // owned by upsert: the statement that failed last
	big      Progress         // owned by upsert: of the big transaction that is open
	bigTo    change.Position  // owned by upsert: where that has moved the position
	parked   *parkset         // owned by upsert; nil without Config.Park
	bigDraft *draft           // owned by upsert: what the big transaction that is open parks
	bigSent  map[sentRow]bool // owned by upsert: what it sends back

	mu      sync.Mutex
	applied change.Position
	durable change.Position
	seen    change.Position // what OnSeen was called with last
	toTell  []seenAt        // what it will be called with, in order

	telling sync.Mutex // held while OnDurable is called
	ended   bool       // OnDurable is not called any more
}

// New reads the facility's position. The Applier does nothing until Run.
func New(ctx context.Context, p *Pool, c Config) (*Applier, error) {
	if c.Direction == "" {
		c.Direction = Up
	}
	if c.Log == nil {
		c.Log = p.log
	}
	if c.OnApplied == nil {
		c.OnApplied = func(Progress) {}
	}
	if c.OnDurable == nil {
		c.OnDurable = func(change.Position) {}
	}
	if c.OnStuck == nil {
		c.OnStuck = func(error) {}
	}
	if c.GiveWay == nil {
		c.GiveWay = func() bool { return false }
	}
	if c.OnSeen == nil {
		c.OnSeen = func(change.Position) {}
	}
	if c.NotesEvery <= 0 {
		c.NotesEvery = 10 * time.Second
	}
	if (c.Direction == Down) != (c.Local != nil) {
		return nil, fmt.Errorf("apply %s for %s: who else writes there must be told when, and only when, changes come down", c.Direction, c.Facility)
	}
	a := &Applier{cfg: c, pool: p, log: c.Log.With("facility", c.Facility), inbox: newInbox(), lost: make(chan struct{}, 1)}
	pos, err := p.Position(ctx, c.Facility)
	if err != nil {
		return nil, err
	}
	a.next, a.applied, a.durable = pos, pos, pos
	if c.Park {
		if err := a.openParked(ctx); err != nil {
			return nil, err
		}
	}
	if c.Direction == Down {
		if a.seen, err = p.readSeen(ctx, c.Facility); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Applied is the newest position that is visible at the receiver.
func (a *Applier) Applied() change.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.applied
}

// Durable is the newest position that may be acknowledged to the sender.
func (a *Applier) Durable() change.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// Seen is how much of the receiver's own stream the sender had seen at the
// durable position.
func (a *Applier) Seen() change.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// Push takes the next frame. It blocks while too much waits, and returns the
// error of Run when that has ended. The frame must not be changed after.
func (a *Applier) Push(ctx context.Context, s change.Sealed) error {
	return a.inbox.push(ctx, arrived{Sealed: s})
}

// PushSparse is Push for a stream whose numbers have gaps, because its sender
// numbers what it sends to all receivers together: prev is the last transaction
// of this stream before the frame. With more, the next frame belongs to the same
// transactions of the sender, and nobody will see the one without the other.
func (a *Applier) PushSparse(ctx context.Context, s change.Sealed, prev change.Position, more bool) error {
	return a.inbox.push(ctx, arrived{Sealed: s, sparse: true, prev: prev, more: more})
}

// Run applies what is pushed until ctx ends or the stream cannot go on: a
// frame that does not fit the position, a broken connection. The sender must
// then begin again at Position. What a row or table is in the way of is tried
// again until it works.
func (a *Applier) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	frames := make(chan opened)
	batches := make(chan *batch)
	g.Go(func() error { return a.open(ctx, frames) })
	g.Go(func() error { return a.gather(ctx, frames, batches) })
	g.Go(func() error { return a.upsert(ctx, batches) })
	g.Go(func() error {
		select {
		case <-a.lost:
			return fmt.Errorf("%w: the target database went back before %s of %s", ErrFenced, a.Applied(), a.cfg.Facility)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	err := g.Wait()
	a.telling.Lock()
	a.ended = true
	a.telling.Unlock()
	a.inbox.end(err)
	return err
}

// opened is an unpacked frame.
type opened struct {
	arrived
	header change.Header
	body   *change.Body
	bytes  int
}

// open unpacks frames, one ahead of what is gathered.
func (a *Applier) open(ctx context.Context, out chan<- opened) error {
	for {
		s, err := a.inbox.pop(ctx)
		if err != nil {
			return err
		}
		body, err := s.Open()
		if err != nil {
			return fmt.Errorf("open frame %d:%d of %s: %w", s.Header.Epoch, s.Header.First, a.cfg.Facility, err)
		}
		select {
		case out <- opened{arrived{sparse: s.sparse, more: s.more, prev: s.prev}, s.Header, body, len(s.Bytes)}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// report passes on what has been committed.
func (a *Applier) report(p Progress) {
	a.mu.Lock()
	a.applied = p.Position
	a.mu.Unlock()
	a.cfg.OnApplied(p)
	a.pool.flusher.want(a.cfg.Facility, func(at change.Position) { a.flushed(p.Position, at) })
}

// flushed is called by the flusher with the position that it found, after the
// commit of one at least as late.
func (a *Applier) flushed(committed, pos change.Position) {
	if pos.Before(committed) {
		// A crash took commits back that were not on disk. Nobody may be
		// sending, so this is how the sender learns to send them again.
		signal(a.lost)
		return
	}
	a.telling.Lock()
	defer a.telling.Unlock()
	if a.ended {
		return
	}
	a.mu.Lock()
	news := a.durable.Before(pos) && !a.applied.Before(pos)
	before := a.seen
	if news {
		a.durable = pos
		for len(a.toTell) > 0 && !pos.Before(a.toTell[0].at) {
			a.seen, a.toTell = a.toTell[0].seen, a.toTell[1:]
		}
	}
	seen := a.seen
	a.mu.Unlock()
	if news {
		a.cfg.OnDurable(pos)
	}
	if seen != before {
		a.cfg.OnSeen(seen)
	}
}
