package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/change"
)

// One session has three parts, so that a full disk never looks like a dead
// client to the server and a slow server never delays a frame:
//
//	read    decodes messages into the pending builder (messages.go)
//	write   takes whole transactions out of it, seals and appends them
//	status  tells the server what is durable, and marks the sink when idle

// A frame costs milliseconds of processors' time on its way, whatever is in
// it: packing, an fsync, packets, a commit at the other side. So with Linger 0
// the first one leaves at once, and the next not before a pause in which more
// can gather: a short one, and a longer one while transactions come quickly.
// (Measured: docs/decisions/0008 and 0021.)
const (
	calmPause = 8 * time.Millisecond
	// busyPause is also how long transactions may gather while the WAL always
	// has more to give.
	busyPause = 40 * time.Millisecond
	// busyFrom transactions behind a calm pause (750 in a second) make the next
	// one long, fewer than calmBelow behind a long pause (250) a short one.
	busyFrom  = 6
	calmBelow = 10
	// originsPause is how long transactions that came from the other side may
	// gather while nothing else does.
	originsPause = time.Second
)

// stream is one session.
type stream struct {
	c  *Capture
	cn *conn

	// Owned by read.
	relations map[uint32]*relation
	now, old  tuple
	keyRow    change.Row
	have      uint64    // transactions that committed before it are in the sink
	txOpen    bool      // between Begin and Commit
	txSkip    bool      // this transaction is in the sink
	txTagged  bool      // it came from the other side: its rows are left out
	skipped   int       // rows of it that were passed over
	sent      time.Time // when the server sent the newest message, by its clock
	hurried   time.Time // when the last transaction was read that did not come from the other side
	txMicros  int64
	txNotes   [][2]string // what is to be said of it once it has changes
	txSaid    [][2]string // what is said of it in each of its parts
	txNames   []string    // the barriers in it
	txTo      string      // the only facility that it is for

	messageTable *change.Table // of the last range or row message in the pending builder
	messageBuild uint64        // that builder's number
	messagePos   int           // the table's place in it

	keep   map[string]bool // Config.Keep
	untold map[string]bool // tables without a key whose updates were reported

	wake   chan struct{} // something for write to look at
	room   chan struct{} // pending is no longer full
	urgent chan struct{} // the server asked for a status
	due    chan struct{} // much has become durable since the last one
	nudge  chan struct{} // much WAL has passed; see restart.go

	mu       sync.Mutex
	pending  *change.Builder
	spare    *change.Builder
	build    uint64          // number of the pending builder's list of tables
	next     change.Position // of the transaction that is open, or of the next one
	begun    bool            // the open transaction has changes, it is the last in pending
	part     uint32          // of the first transaction in pending
	whole    int             // finished transactions in pending
	real     int             // of these, the ones that somebody may wait for
	since    time.Time       // when the first of them was finished; of the real ones if there are any
	settling []barrier       // barriers that wait for the sink, in order
	busy     bool            // the pause behind the last frame is the long one
	pauseEnd time.Time       // when the next frame may leave if Linger is 0
	idle     bool            // the WAL has no more to give right now
	writing  bool            // frames are on their way to the sink
	received uint64
	read     uint64 // end of the last transaction that was read, or later if nothing was there
	durable  uint64
	told     uint64 // durable in the last status
	nudgeAt  uint64 // received when nudge was last notified
}

func newStream(c *Capture, cn *conn, next change.Position, have uint64) *stream {
	keep := make(map[string]bool, len(c.c.Keep))
	for _, id := range c.c.Keep {
		keep[id] = true
	}
	return &stream{
		c: c, cn: cn, keep: keep, relations: map[uint32]*relation{}, have: have, untold: map[string]bool{},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		due: make(chan struct{}, 1), nudge: make(chan struct{}, 1), nudgeAt: have, told: have,
		pending: new(change.Builder), spare: new(change.Builder), build: 1,
		next: next, received: have, read: have, durable: have,
	}
}

// run works until ctx ends or the connection does.
func (s *stream) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	// Closing the socket is what ends a blocked read.
	stop := context.AfterFunc(ctx, func() { _ = s.cn.repl.Conn().Close() })
	defer stop()
	g.Go(func() error { return s.readLoop(ctx) })
	g.Go(func() error { return s.writeLoop(ctx) })
	g.Go(func() error { return s.statusLoop(ctx) })
	g.Go(func() error { return s.nudgeLoop(ctx) })
	return g.Wait()
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (s *stream) readLoop(ctx context.Context) error {
	asleep := true // the next message is the first behind a silence
	var l, passed lull
	for n := 0; ; n++ {
		switch {
		case s.cn.buffered() > 0:
			if n%4096 == 0 {
				s.cn.awaitUntil(time.Now().Add(silenceLimit))
			}
		case s.skipped >= skippedFrom:
			if err := pause(ctx, passed.passing(n, s.sent.Sub(time.UnixMicro(s.txMicros)), time.Since(s.hurried) < atWorkFor)); err != nil {
				return err
			}
		case s.cn.waiting() == 0:
			s.rest()
			s.cn.awaitUntil(time.Now().Add(silenceLimit))
			asleep = true
		}
		data, err := s.cn.receive()
		if err != nil {
			return err
		}
		if s.passOver(data) {
			continue
		}
		s.mu.Lock()
		s.idle = false
		err = s.message(ctx, data)
		s.passed()
		full := s.full()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if full {
			if err := s.awaitRoom(ctx); err != nil {
				return err
			}
		}
		if asleep {
			asleep = false
			if err := pause(ctx, l.next(n, s.untilDue())); err != nil {
				return err
			}
		}
	}
}

// rest says that the WAL has no more to give right now.
func (s *stream) rest() {
	s.mu.Lock()
	s.idle = true
	tell := s.whole > 0
	s.mu.Unlock()
	if tell {
		notify(s.wake)
	}
}

// passOver reports whether the message is a row's change that is left out,
// which is all there is to do about it. The other side may write a hundred
// thousand rows a second, and the server hands over each by itself.
func (s *stream) passOver(data []byte) bool {
	const kind = 1 + 3*8 // behind the head of WAL data
	if !s.txTagged && !s.txSkip || len(data) < kind+5 || data[0] != 'w' {
		return false
	}
	switch data[kind] {
	case 'I', 'U', 'D':
	default:
		return false
	}
	if !s.txSkip && len(s.keep) > 0 {
		rel := s.relations[binary.BigEndian.Uint32(data[kind+1:])]
		if rel == nil || rel.keep {
			return false
		}
	}
	s.skipped++
	s.sent = time.UnixMicro(int64(binary.BigEndian.Uint64(data[kind-8:])) + pgEpochMicros)
	return true
}

// full is true when pending must not grow; mu is held.
func (s *stream) full() bool {
	return s.pending.Bytes() >= s.c.c.MaxFrameBytes || s.pending.Changes() >= s.c.c.MaxFrameChanges
}

func (s *stream) awaitRoom(ctx context.Context) error {
	for {
		notify(s.wake)
		s.mu.Lock()
		full := s.full()
		s.mu.Unlock()
		if !full {
			s.cn.awaitUntil(time.Now().Add(silenceLimit))
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.room:
		}
	}
}

// batch is what write took out of pending.
type batch struct {
	b     *change.Builder
	whole int    // transactions that end in it
	part  uint32 // of the first one
	more  bool   // the only transaction in it goes on
	lsn   uint64 // end of the last transaction that ends in it
}

// take returns what is due, or how long to wait for something to be; mu is not
// held.
func (s *stream) take(now time.Time) (*batch, time.Duration) {
	linger := s.c.c.Linger()
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.full()
	switch {
	case s.whole > 0:
		if wait := s.hold(now, linger); wait > 0 && !full {
			return nil, wait
		}
	case !full:
		return nil, time.Hour
	}
	t := &batch{b: s.pending, whole: s.whole, part: s.part, more: s.whole == 0}
	real := s.real
	s.pending, s.spare, s.writing = s.spare, nil, true
	if t.more {
		// The open transaction is a frame's worth by itself.
		t.b.MoveTail(s.pending, 1)
		s.pending.Begin(s.next.Seq, s.txMicros)
		for _, n := range s.txSaid {
			s.pending.AddNote(n[:]...)
		}
		s.part++
		return t, 0
	}
	t.lsn = t.b.Tx(t.whole - 1).LSN
	s.busy = real >= busyFrom && (!s.busy || real >= calmBelow)
	s.pauseEnd = now.Add(calmPause)
	if s.busy {
		s.pauseEnd = now.Add(busyPause)
	}
	s.whole, s.real, s.part = 0, 0, 0
	if s.begun {
		t.b.MoveTail(s.pending, t.whole)
	} else {
		s.build++ // a frame lists only its own tables
	}
	return t, 0
}

// hold is how much longer finished transactions may gather; mu is held.
func (s *stream) hold(now time.Time, linger time.Duration) time.Duration {
	switch {
	case len(s.settling) > 0:
		return 0 // somebody waits for just this
	case s.real == 0:
		return s.since.Add(max(linger, originsPause)).Sub(now)
	}
	wait := s.since.Add(max(linger, busyPause)).Sub(now)
	if linger == 0 && s.idle {
		wait = min(wait, s.pauseEnd.Sub(now))
	}
	return wait
}

// seal makes the frames of a batch: one, or two when its first transaction has
// earlier parts.
func (s *stream) seal(t *batch) ([]change.Sealed, error) {
	h := change.Header{Kind: change.Changes, Epoch: s.next.Epoch}
	var frames []change.Sealed
	from := 0
	if t.more || t.part > 0 {
		h.Part, h.More = t.part, t.more
		f, err := t.b.Seal(h, 0, 1)
		if err != nil {
			return nil, err
		}
		frames, from = append(frames, f), 1
		h.Part, h.More = 0, false
	}
	if from < t.whole {
		f, err := t.b.Seal(h, from, t.whole)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func (s *stream) writeLoop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t, wait := s.take(time.Now())
		if t == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.wake:
			case <-timer.C:
			}
			continue
		}
		frames, err := s.seal(t)
		if err != nil {
			return fmt.Errorf("seal transactions from %d on: %w", t.b.Tx(0).Seq, err)
		}
		s.recycle(t.b)
		if err := s.append(ctx, frames); err != nil {
			return err
		}
		s.done(t, frames)
	}
}

// recycle gives a builder's memory to the next batch, unless a large row made
// it large, and lets read go on.
func (s *stream) recycle(b *change.Builder) {
	if b.Bytes() > 4*s.c.c.MaxFrameBytes {
		b = new(change.Builder)
	}
	b.Reset()
	s.mu.Lock()
	s.spare = b
	s.mu.Unlock()
	notify(s.room)
}

// append offers frames to the sink until it takes them.
func (s *stream) append(ctx context.Context, frames []change.Sealed) error {
	wait := retryMin
	for {
		err := s.c.sink.Append(frames...)
		if err == nil {
			if s.c.setState(Streaming, nil) {
				s.c.c.Log.Info("the queue takes changes again", "part", "capture")
			}
			return nil
		}
		if next, _ := s.c.next(); next.Seq != frames[0].Header.First {
			return fmt.Errorf("append transactions from %d on, the sink is at %s: %w", frames[0].Header.First, next, err)
		}
		if s.c.setState(Blocked, err) {
			s.c.c.Log.Error("the queue takes no changes; the WAL keeps them meanwhile", "part", "capture", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// done counts what is durable.
func (s *stream) done(t *batch, frames []change.Sealed) {
	s.mu.Lock()
	s.writing = false
	if t.lsn > 0 {
		s.durable = max(s.durable, t.lsn)
	}
	durable := s.durable
	s.settle()
	due := durable >= s.told+statusBytes
	s.mu.Unlock()
	if due {
		notify(s.due)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.stats.Durable = durable
	s.c.stats.Transactions += uint64(t.whole)
	for i := range frames {
		s.c.stats.Changes += uint64(frames[i].Header.Changes)
	}
}

func (s *stream) statusLoop(ctx context.Context) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	var marked, pinged time.Time
	for {
		urgent := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-s.due:
		case <-s.urgent:
			urgent = true
		}
		s.mu.Lock()
		quiet := s.whole == 0 && !s.begun && !s.writing
		read, received, durable := s.read, s.received, s.durable
		s.mu.Unlock()
		now := time.Now()
		age := now.Sub(marked)
		if quiet && read > durable && (age >= markEvery || read-durable >= markBytes || urgent && age >= urgentMarkEvery) {
			marked = now
			if err := s.c.sink.Mark(read); err != nil {
				s.c.c.Log.Debug("the queue cannot be marked; the slot stays where it is", "part", "capture", "err", err)
			} else {
				durable = read
				s.mu.Lock()
				s.durable = max(s.durable, read)
				s.mu.Unlock()
			}
		}
		s.c.mu.Lock()
		s.c.stats.LSN, s.c.stats.Durable = received, durable
		s.c.mu.Unlock()
		ping := now.Sub(pinged) >= pingEvery
		if ping {
			pinged = now
		}
		if err := s.cn.status(received, durable, ping); err != nil {
			return fmt.Errorf("send status: %w", err)
		}
		s.mu.Lock()
		s.told = durable
		s.mu.Unlock()
	}
}
