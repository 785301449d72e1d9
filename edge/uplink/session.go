package uplink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// Steps of a session: dial, Hello, Welcome, agree where to go on; then, side
// by side, send frames, receive words, tell table states, ping.

const (
	// dialTimeout and the wait between attempts bound how long after an outage
	// nothing is tried: TCP asks at 0 and 1 s of an attempt, so that at worst
	// it is 1.5 s and a redialWait, and the promise is 3 s.
	dialTimeout = 2500 * time.Millisecond
	redialWait  = time.Second
	// replacedWait is how long a box that was replaced waits before it asks again.
	replacedWait = time.Minute
	// stuckWait is how long frames that the region could not apply wait before
	// they are sent again.
	stuckWait = 5 * time.Second
)

var (
	errReplaced = errors.New("another box has taken this one's place; what this one has not sent stays in its queue, for review")
	errStuck    = errors.New("the region cannot apply the changes now")
)

// Transfer keeps a session with the region until ctx is done. The wait
// between attempts stays short: after an outage the first thing that a worker
// must see is that his rows have left.
func (u *Uplink) Transfer(ctx context.Context) error {
	return run.Loop(ctx, u.Log, run.Backoff{Min: 200 * time.Millisecond, Max: redialWait},
		func(ctx context.Context, up func()) error {
			err := u.session(ctx, up)
			if errors.Is(err, errReplaced) && !u.LinkState().Replaced {
				u.Log.Warn("this box is out of service", "err", err) // now, not after the wait
			}
			u.setLink(func(l *Link) {
				l.Up = false
				// It stays replaced: its tunnel ends, and nobody tells it again.
				l.Replaced = l.Replaced || errors.Is(err, errReplaced)
				if err != nil {
					l.Error = err.Error()
				}
				if !errors.Is(err, errStuck) {
					l.Problem = nil // told again once there is a link
				}
			})
			switch {
			case errors.Is(err, errReplaced):
				return errors.Join(err, sleep(ctx, replacedWait))
			case errors.Is(err, errStuck):
				return errors.Join(err, sleep(ctx, stuckWait))
			}
			return err
		})
}

func (u *Uplink) session(ctx context.Context, up func()) error {
	u.mu.Lock()
	renewed := u.renewed
	u.mu.Unlock()
	down := u.beginDown(ctx)
	asked := down != nil
	restored := asked && u.ready()
	// again ends a session that the region sends no rows in once it can.
	again := func() bool { return asked && !restored && u.ready() }
	link, welcome, err := u.open(ctx, down, restored)
	if err != nil {
		return err
	}
	defer link.Close()
	from, err := u.agree(change.Position{Epoch: welcome.Epoch, Seq: welcome.Seq}, welcome.WentBack)
	if err != nil {
		return err
	}
	if restored && welcome.Lacking {
		if err := u.notWhole(); err != nil {
			return err
		}
	}
	hold := u.judge(welcome, asked)
	listed := make(chan struct{})
	u.orders.give(order{tables: &welcome.Tables, settled: []chan<- struct{}{listed}})
	if err := u.Queue.Ack(from); err != nil {
		return err
	}
	if again() {
		return errDownReady
	}
	up()
	u.setLink(func(l *Link) {
		if l.Acked.Before(from) {
			l.Problem = nil
		}
		if restored && !welcome.Restoring {
			l.Problem = &proto.Problem{
				Text:   "this box's database was put back from a backup, and the region's build cannot send it what it lacks; what is changed here waits",
				Remedy: "Update the region.",
			}
		}
		l.Up, l.Replaced, l.Error, l.Acked, l.AckedAt = true, false, "", from, time.Now()
	})

	u.noteBegin(from)
	sender := transfer.NewSender(link, int64(welcome.WindowBytes))
	u.setPace(sender, welcome.BytesPerSecond)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return link.Keepalive(ctx) })
	g.Go(func() error { return untilRenewed(ctx, renewed) })
	g.Go(func() error { return u.send(ctx, sender, from, hold, again) })
	questions := make(chan *proto.Verify, questionsMax)
	decisions := make(chan *proto.ParkedOrder, questionsMax)
	g.Go(func() error { return u.answer(ctx, link, questions) })
	g.Go(func() error { return u.tellTables(ctx, link) })
	switch {
	case down != nil && welcome.Version < proto.StreamVersionDown:
		// An older region sends nothing down. What it has seen of the queue
		// nobody will ask for.
		down = nil
		u.Queue.Hold(change.Position{Epoch: math.MaxUint64})
	case down != nil && welcome.DownEpoch == 0:
		down = nil // not now: the region begins the stream anew when it can
	case down != nil:
		g.Go(func() error {
			// A change of a table that is not known yet would be parked, away from
			// the rest of its transaction.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-listed:
				return down.Run(ctx)
			}
		})
		g.Go(func() error { return acknowledge(ctx, link, down) })
		g.Go(func() error {
			return down.Report(ctx, func(p *proto.Parked) error { return link.Send(proto.TypeParked, p) })
		})
	case u.Down != nil:
		g.Go(func() error { return u.untilDown(ctx) })
	}
	g.Go(func() error { return u.decide(ctx, link, down, decisions) })
	g.Go(func() error { return u.receive(ctx, link, sender, down, questions, decisions, again) })
	return g.Wait()
}

// open dials and exchanges Hello and Welcome.
func (u *Uplink) open(ctx context.Context, down *downlink.Session, restored bool) (*transfer.Link, *proto.Welcome, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	link, err := transfer.Dial(dialCtx, "ws://"+u.Hub+proto.StreamPath, u.Dial)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, link.Close)
	defer stop()
	s, acked, now := u.Queue.Stats(), u.Queue.Acked(), u.epoch.Get()
	u.mu.Lock()
	hello := proto.Hello{
		Version: versionWithoutDown, VersionMin: proto.StreamVersionMin, Facility: u.Facility,
		Epoch: now.Number, First: s.First, Last: s.Last, Agent: u.Agent, Boot: u.Boot, TablesVersion: u.version,
		AckedEpoch: acked.Epoch, AckedSeq: acked.Seq, Reason: now.Reason,
	}
	u.mu.Unlock()
	if down != nil {
		hello.Version = proto.StreamVersion
		hello.DownEpoch, hello.DownSeq = down.Position().Epoch, down.Position().Seq
		hello.Restores, hello.Restored = true, restored
	}
	if err := link.Send(proto.TypeHello, &hello); err != nil {
		link.Close()
		return nil, nil, err
	}
	typ, msg, err := link.Receive()
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	switch m := msg.(type) {
	case *proto.Welcome:
		return link, m, nil
	case *proto.Goodbye:
		link.Close()
		if m.Code == proto.GoodbyeFenced {
			return nil, nil, fmt.Errorf("%w: %s", errReplaced, m.Text)
		}
		return nil, nil, fmt.Errorf("the region refused the stream: %s", m.Text)
	}
	link.Close()
	return nil, nil, fmt.Errorf("%w: type %d where a welcome belongs", proto.ErrMalformed, typ)
}

// agree decides where to go on, given what the region has. Where the two do
// not fit together a new epoch begins. wentBack is the region's word on the
// local database. It is not needed where the queue went back with the database:
// the region had acknowledged something of this very epoch.
func (u *Uplink) agree(theirs change.Position, wentBack bool) (change.Position, error) {
	ours := u.next()
	restored := wentBack
	if acked := u.Queue.Acked(); acked.Epoch == ours.Epoch && acked.Seq > 0 {
		restored = true
	}
	switch {
	case theirs.Epoch>>32 > ours.Epoch>>32:
		return theirs, fmt.Errorf("%w: the region knows enrolment %d, this box has %d", errReplaced, theirs.Epoch>>32, ours.Epoch>>32)
	case theirs.Epoch > ours.Epoch:
		return theirs, u.askEpoch(wanted{reason: "the region knows a later epoch than this box: its state was restored from a backup", above: theirs.Epoch, restored: restored})
	case theirs.Epoch == ours.Epoch && theirs.Seq >= ours.Seq:
		return theirs, u.askEpoch(wanted{reason: fmt.Sprintf(
			"the region has transaction %d, this box's queue ends at %d: the box was restored from a backup", theirs.Seq, ours.Seq-1), above: ours.Epoch, restored: restored})
	case u.found != (change.Position{}) && theirs.Epoch == ours.Epoch && theirs.Seq > 0 && u.found.Before(theirs):
		return theirs, u.askEpoch(wanted{reason: fmt.Sprintf(
			"the region has transaction %s, this box's queue ended at %s: the box was restored from a backup", theirs, u.found), above: ours.Epoch, restored: restored, after: theirs})
	case wentBack && u.Down != nil && !u.epoch.Get().Restored:
		return theirs, u.askEpoch(wanted{reason: "the box had more of the region's changes than it has now: its database was restored from a backup", above: ours.Epoch, restored: true})
	}
	return theirs, u.forgetFound()
}

// send sends what the queue holds after from, and then what is added to it.
func (u *Uplink) send(ctx context.Context, s *transfer.Sender, from change.Position, hold holdsBack, again func() bool) error {
	cursor := u.Queue.Cursor(from)
	for {
		f, err := cursor.Next(ctx)
		var lost *queue.LostError
		switch {
		case errors.As(err, &lost):
			if f, err = u.gap(ctx, lost); err != nil {
				return err
			}
		case errors.Is(err, queue.ErrBehind), errors.Is(err, queue.ErrAhead):
			at, now := cursor.Position(), u.epoch.Get()
			if at.Epoch >= now.Number || now.Opening {
				return u.askEpoch(wanted{reason: "the region lacks transactions that this box's queue no longer keeps: the region was restored from a backup", above: now.Number})
			}
			if u.losePast(); again() {
				return errDownReady
			}
			// What follows in the old epoch is gone; the current one begins with all tables.
			u.Log.Warn("the rest of an epoch is not kept; the stream goes on with the next", "epoch", at.Epoch, "seq", at.Seq)
			cursor = u.Queue.Cursor(change.Position{Epoch: now.Number})
			continue
		case err != nil:
			return err
		}
		if err := hold.wait(ctx, &f.Header); err != nil {
			return err
		}
		if err := s.Send(ctx, f); err != nil {
			return err
		}
		u.noteSent(f)
	}
}

// gap stands in for frames that the disk has lost, or that gave way: the region
// moves on past them, and every table is sent again behind it. The tables are marked first:
// a crash in between only loads them once more.
func (u *Uplink) gap(ctx context.Context, lost *queue.LostError) (change.Sealed, error) {
	reason := "the box's queue was damaged on disk; its tables follow"
	if errors.Is(lost, queue.ErrGaveWay) {
		reason = "the box's queue was full and these gave way; its tables follow"
	}
	u.Log.Error("changes are lost; the tables are sent again", "seq", lost.First, "last", lost.Last, "err", lost)
	if err := u.loseUnread(ctx); err != nil {
		return change.Sealed{}, err
	}
	u.orders.give(order{})
	return change.Seal(change.Header{
		Kind: change.Gap, Epoch: lost.Epoch, First: lost.First, Last: lost.Last,
		Reason: reason,
	}, &change.Body{})
}

// receive hears acknowledgements, orders and questions, and passes on what comes
// down. The region's window is smaller than what the downlink takes in without
// waiting, so that a change that cannot be applied here does not keep the
// acknowledgements of the way up from being heard.
func (u *Uplink) receive(ctx context.Context, link *transfer.Link, s *transfer.Sender, down *downlink.Session, questions chan<- *proto.Verify, decisions chan<- *proto.ParkedOrder, again func() bool) error {
	for {
		_, msg, err := link.Receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *proto.Ack:
			p := change.Position{Epoch: m.Epoch, Seq: m.Seq}
			s.Acked(p)
			if err := u.Queue.Ack(p); err != nil {
				return err
			}
			u.setLink(func(l *Link) { l.Acked, l.AckedAt, l.Problem = p, time.Now(), nil })
			if again() {
				return errDownReady // and with the region's rows
			}
		case *proto.Down:
			if down == nil {
				continue
			}
			if err := down.Push(ctx, m); err != nil {
				return err
			}
		case *proto.Tables:
			u.orders.give(order{tables: m})
		case *proto.Heal:
			if err := u.heal(ctx, m); err != nil {
				return err
			}
		case *proto.Whole:
			again, err := u.store.whole(ctx, u.Facility, m)
			if err != nil {
				return err // the region tells it again
			}
			if again {
				u.orders.give(order{})
			}
		case *proto.Check:
			u.orders.give(order{checks: []check{{m.Table, func(p []proto.Problem) {
				// The asker gives up by itself; a broken link ends the session.
				_ = link.Send(proto.TypeChecked, &proto.Checked{ID: m.ID, Problems: p})
			}}}})
		case *proto.Pace:
			u.setPace(s, m.BytesPerSecond)
		case *proto.Verify:
			heard(questions, m)
		case *proto.ParkedOrder:
			heard(decisions, m)
		case *proto.Problem:
			if m.Text == "" {
				u.setLink(func(l *Link) { l.Problem = nil })
				continue
			}
			u.Log.Warn("the region cannot apply the changes now; they wait here", "reason", m.Text)
			u.setLink(func(l *Link) { l.Problem = m })
		case *proto.Goodbye:
			switch m.Code {
			case proto.GoodbyeStuck:
				return fmt.Errorf("%w: %s", errStuck, m.Text)
			case proto.GoodbyeFenced:
				return fmt.Errorf("%w: %s", errReplaced, m.Text)
			}
			return fmt.Errorf("the region ended the stream (%s): %s", m.Code, m.Text)
		}
	}
}

// tellTables tells the region how each table fares, now and at each change.
func (u *Uplink) tellTables(ctx context.Context, link *transfer.Link) error {
	told := shapesTold{}
	for {
		states, changed := u.tablesChanged()
		told.news(states)
		if err := link.Send(proto.TypeTableStates, &proto.TableStates{Tables: states}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		// A load moves its progress many times a second; once is enough.
		if err := sleep(ctx, time.Second/2); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
