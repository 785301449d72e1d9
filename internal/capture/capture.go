// Package capture reads what a database's transactions changed from a logical
// replication slot, in commit order, and hands it on in sealed frames. The slot
// is acknowledged only when the frames are durable.
//
// In:  PostgreSQL's WAL, by pgoutput.
// Out: internal/queue.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Prefixes of the transactional logical messages that mean something here.
const (
	// TagPrefix marks a transaction that came from the other side: it is not
	// sent back. The content is apply's own.
	TagPrefix = "holdfast"
	// RangePrefix carries a range of rows; see LoadTable.
	RangePrefix = "holdfast.range"
	// DigestPrefix carries what a range of rows comes to; see DigestTable.
	DigestPrefix = "holdfast.digest"
	// MendPrefix carries single rows that are sent again; see MendRows.
	MendPrefix = "holdfast.mend"
	// RowPrefix carries one row's change (change.EncodeRow), which takes its
	// place in the stream as if the transaction had made it.
	RowPrefix = "holdfast.row"
	// AuthorPrefix says who made the transaction, in the application's words.
	AuthorPrefix = "holdfast.author"
	// ToPrefix says that the transaction is for one facility only.
	ToPrefix = "holdfast.to"
	// WholePrefix says that a range says also which rows of its table there are not.
	WholePrefix = "holdfast.whole"
	// BarrierPrefix marks a place in commit order; see Settled.
	BarrierPrefix = "holdfast.barrier"
)

// maxWordBytes bounds what AuthorPrefix, ToPrefix and WholePrefix carry.
const maxWordBytes = 256

// Defaults of Config.
const (
	DefaultFrameChanges = 20_000
	DefaultFrameBytes   = 4 << 20
)

// Limits of one change, so that a frame can hold it behind what precedes it.
const (
	maxChangePacked = change.MaxFrameBytes - 2*DefaultFrameBytes
	maxChangeBytes  = change.MaxBodyBytes / 2
)

// Timing.
const (
	statusEvery = time.Second
	// statusBytes of WAL that became durable are told at once: until then the
	// server keeps them.
	statusBytes = 4 << 20
	// pingEvery and silenceLimit find a dead connection: the server answers a
	// status that asks for it.
	pingEvery    = 10 * time.Second
	silenceLimit = 45 * time.Second
	// markEvery holds while the WAL has nothing of ours, and markBytes of it.
	markEvery = 10 * time.Second
	markBytes = 8 << 20
	// urgentMarkEvery holds when the server asks for an answer, as it does while
	// it shuts down and waits until everything is acknowledged.
	urgentMarkEvery = 200 * time.Millisecond
	retryMin        = 100 * time.Millisecond
	retryMax        = 3 * time.Second
)

// Sink keeps frames. It is internal/queue.
type Sink interface {
	// Append makes frames durable before it returns nil. After an error none of
	// them counts, and the same frames are offered again.
	Append(frames ...change.Sealed) error
	// Mark notes durably that the WAL up to lsn holds nothing that is missing.
	Mark(lsn uint64) error
	// Marked returns what Mark noted last.
	Marked() uint64
	// Tail returns the last whole transaction and the end of its commit record.
	Tail() (pos change.Position, lsn uint64, ok bool)
}

// Config says what to read.
type Config struct {
	// ConnString is for a role with REPLICATION; replication mode is added here.
	ConnString string
	// Slot must exist; see EnsureSlot.
	Slot string
	// Next is the epoch, and the number of the first transaction that the sink
	// does not have of it.
	Next change.Position
	// Linger is how long a transaction may wait for more to be sealed with it.
	// nil or 0 seals as soon as the WAL has no more to give at once, with a
	// pause of a few milliseconds between frames.
	Linger func() time.Duration
	// MaxFrameChanges and MaxFrameBytes end a frame; 0 is the default.
	MaxFrameChanges int
	MaxFrameBytes   int
	// Origins makes a transaction of each that came from the other side: a Note
	// says where it came from, its rows are left out. Nobody waits for such
	// transactions, so that they may gather for up to a second.
	Origins bool
	// Keep names tables, as schema.name, whose changes stay in although their
	// transaction came from the other side. So do ranges and RowPrefix's rows.
	Keep []string
	// PastLSN and PastMicros leave out what committed before both: the sink had it
	// before the database was put back from a backup.
	PastLSN    uint64
	PastMicros int64
	// Beside names a column of a table (schema.name) that counts as part of its
	// key, if the table has REPLICA IDENTITY FULL, so that its value before a
	// change is told; see TellOwner. "" is none. May be nil.
	Beside func(table string) string
	// OnLeftOut is told of what is not sent. It must not block. May be nil.
	OnLeftOut func(LeftOut)
	Log       *slog.Logger
}

// GapError says that the slot no longer gives what follows the sink's end:
// changes are missing, or may be. The caller begins a new epoch: it drops the
// slot, makes it anew, marks the sink with where it starts, and loads the
// tables again.
type GapError struct {
	Reason string
	// Older is true when it is the database that went back, and the slot is as good as ever.
	Older bool
}

func (e *GapError) Error() string { return "the change stream has a gap: " + e.Reason }

// State is what a Capture is doing.
type State string

// The states.
const (
	Connecting State = "connecting"
	Streaming  State = "streaming"
	// Blocked means that the sink takes nothing, because the disk is full, say.
	Blocked State = "blocked"
)

// Stats is where a Capture is.
type Stats struct {
	State State
	// Err is why it is not streaming, nil if it is.
	Err error
	// LSN is what the server has given up to; Durable is what it may forget.
	LSN, Durable uint64
	// LastCommit is the commit time of the newest transaction that was read.
	LastCommit time.Time
	// Late is how long ago, by the server's clock, the newest transaction that did
	// not come from the other side had been committed when the server gave it, and
	// LateAt when that was.
	Late   time.Duration
	LateAt time.Time
	// Transactions and Changes were made durable since New.
	Transactions, Changes uint64
	// LeftOut counts what was left out; see Config.OnLeftOut.
	LeftOut uint64
	// Connects counts how often streaming began.
	Connects int
}

// Capture reads one slot. Make it with New.
type Capture struct {
	c    Config
	sink Sink
	// maxChangePacked is that of the constant; tests make it small.
	maxChangePacked int
	// nudgeBytes likewise.
	nudgeBytes uint64

	ended chan struct{} // closed when Run has returned

	mu       sync.Mutex
	stats    Stats
	barriers map[string]chan struct{} // closed when the barrier of that name is settled
	begun    chan struct{}            // closed and replaced when a connection begins to stream
}

// New checks the configuration; it does not connect.
func New(c Config, sink Sink) (*Capture, error) {
	if c.ConnString == "" || c.Slot == "" || c.Next.Epoch == 0 || c.Next.Seq == 0 || sink == nil {
		return nil, errors.New("capture needs a connection, a slot, the next position and a sink")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Linger == nil {
		c.Linger = func() time.Duration { return 0 }
	}
	if c.MaxFrameChanges <= 0 {
		c.MaxFrameChanges = DefaultFrameChanges
	}
	if c.MaxFrameBytes <= 0 {
		c.MaxFrameBytes = DefaultFrameBytes
	}
	return &Capture{
		c: c, sink: sink, maxChangePacked: maxChangePacked, nudgeBytes: nudgeBytes, stats: Stats{State: Connecting},
		ended: make(chan struct{}), barriers: map[string]chan struct{}{}, begun: make(chan struct{}),
	}, nil
}

// Stats is cheap and safe from any goroutine.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Run reads until ctx ends, whatever becomes of the database or the sink's
// disk meanwhile: it connects again and retries by itself. It returns ctx's
// error, a *GapError, or an error that trying again cannot mend. Call it once.
func (c *Capture) Run(ctx context.Context) error {
	defer close(c.ended)
	wait := retryMin
	for {
		streamed, err := c.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var gap *GapError
		if errors.As(err, &gap) || errors.Is(err, errFatal) {
			return err
		}
		if streamed {
			wait = retryMin
		}
		if c.setState(Connecting, err) {
			c.c.Log.Warn("capture is interrupted", "part", "capture", "wait", wait, "err", err, "hint", hint.Of(err))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// errFatal is in the chain of errors that a new connection would only repeat.
var errFatal = errors.New("capture cannot go on")

// setState returns true when the state changed.
func (c *Capture) setState(s State, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.stats.State != s || (c.stats.Err == nil) != (err == nil)
	c.stats.State, c.stats.Err = s, err
	return changed
}

// next returns the position of the first transaction that the sink does not
// have, and the end of what it has in the WAL.
func (c *Capture) next() (change.Position, uint64) {
	tail, lsn, ok := c.sink.Tail()
	if !ok || tail.Epoch != c.c.Next.Epoch {
		// What is there is of another stream; only the mark tells about this one.
		return change.Position{Epoch: c.c.Next.Epoch, Seq: 1}, c.sink.Marked()
	}
	return change.Position{Epoch: tail.Epoch, Seq: tail.Seq + 1}, max(lsn, c.sink.Marked())
}

// session is one connection's life. streamed is true if it came to streaming.
func (c *Capture) session(ctx context.Context) (streamed bool, err error) {
	next, have := c.next()
	cn, err := connect(ctx, c.c.ConnString, c.c.Slot, have)
	if err != nil {
		return false, err
	}
	defer cn.close()
	s := newStream(c, cn, next, have)
	if c.setState(Streaming, nil) || c.Stats().Connects == 0 {
		c.c.Log.Info("capture is streaming", "part", "capture", "lsn", LSN(have).String(), "seq", next.Seq)
	}
	c.mu.Lock()
	close(c.begun)
	c.begun = make(chan struct{})
	c.stats.Connects++
	c.stats.Durable = have
	c.mu.Unlock()
	return true, fmt.Errorf("read slot %s: %w", c.c.Slot, s.run(ctx))
}
