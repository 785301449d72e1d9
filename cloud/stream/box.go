package stream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// box is one connected stream.
type box struct {
	server   *Server
	facility string
	// enrolment counts the facility's boxes; this one is the newest.
	enrolment uint32
	link      *transfer.Link
	log       *slog.Logger
	problem   chan *proto.Problem // the latest that the box was not told yet
	behind    bool                // the region has less than it had acknowledged
	epoch     uint64              // the box's
	known     bool                // the region has something of this very box
	wentBack  bool                // and that has less than it had acknowledged
	lacking   bool                // what it is sent instead may not be all
	number    uint64              // of the stream, set when it joins
	left      chan struct{}       // closed when it is connected no more
	sender    *transfer.Sender    // of what goes down; nil when nothing does

	mu     sync.Mutex
	got    Received
	checks map[uint64]chan []proto.Problem
	orders map[uint64]chan *proto.ParkedDone
	parked chan *proto.Parked // the latest that was not kept yet
}

// run greets the box and serves it until either side ends.
func (b *box) run(ctx context.Context) error {
	hello, err := b.hello()
	if err != nil {
		return err
	}
	session, err := b.server.Open(ctx, b.facility)
	if err != nil {
		return b.stuck(ctx, fmt.Errorf("open the facility's session: %w", err))
	}
	defer session.Close(ctx) // the region's: what has come of a box that is gone need not come again
	tables, changed := b.server.Tables()
	at := session.Position()
	if at.Epoch>>32 > hello.Epoch>>32 {
		b.link.Goodbye(proto.GoodbyeFenced, fmt.Sprintf("a newer box (enrolment %d) has taken this facility over", at.Epoch>>32))
		return fmt.Errorf("a replaced box (enrolment %d) came", hello.Epoch>>32)
	}
	b.epoch = hello.Epoch
	b.known = at.Epoch>>32 == hello.Epoch>>32
	b.remark(ctx, hello, at)
	welcome := proto.Welcome{
		Version: min(hello.Version, b.server.version()), Epoch: at.Epoch, Seq: at.Seq,
		Tables: tables, WindowBytes: windowBytes, Region: b.server.Region,
	}
	down := b.openDown(ctx, hello, welcome.Version)
	if down != nil {
		defer down.Close()
		welcome.DownEpoch = down.Epoch()
	}
	welcome.WentBack, welcome.Restoring, welcome.Lacking = b.wentBack, hello.Restored && b.server.Restore != nil, b.lacking
	pace, paced := b.server.Pace(b.facility)
	welcome.BytesPerSecond = pace
	if err := b.link.Send(proto.TypeWelcome, &welcome); err != nil {
		return err
	}
	b.got.Position = at
	b.server.join(b)
	defer b.server.leave(b)
	b.log.Info("stream begins", "epoch", at.Epoch, "seq", at.Seq, "agent", hello.Agent)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.link.Keepalive(ctx) })
	switch {
	case down != nil:
		b.sender = transfer.NewSender(b.link, downWindowBytes)
		b.sender.Limit(pace)
		g.Go(func() error { return b.sendDown(ctx, down) })
	case welcome.Version >= proto.StreamVersionDown && !b.wentBack:
		g.Go(func() error { return b.untilDown(ctx, hello) })
	}
	g.Go(func() error { return b.receive(ctx, session, hello, down) })
	g.Go(func() error { return b.acknowledge(ctx, session) })
	g.Go(func() error { return b.tellTables(ctx, changed) })
	g.Go(func() error { return b.tellProblems(ctx) })
	g.Go(func() error { return b.keepParked(ctx) })
	g.Go(func() error { return b.keepPace(ctx, pace, paced) })
	return g.Wait()
}

func (b *box) hello() (*proto.Hello, error) {
	_, msg, err := b.link.ReceiveHello()
	if err != nil {
		return nil, err
	}
	h, ok := msg.(*proto.Hello)
	switch {
	case !ok:
		b.link.Goodbye(proto.GoodbyeRefused, "a stream begins with a Hello")
		return nil, fmt.Errorf("%w: no hello", proto.ErrMalformed)
	case h.Facility != b.facility:
		b.link.Goodbye(proto.GoodbyeRefused, fmt.Sprintf("this tunnel belongs to %s, not to %s", b.facility, h.Facility))
		return nil, fmt.Errorf("the box calls itself %q", h.Facility)
	case h.Epoch>>32 > uint64(b.enrolment):
		b.link.Goodbye(proto.GoodbyeRefused, fmt.Sprintf("this tunnel belongs to enrolment %d, not to %d", b.enrolment, h.Epoch>>32))
		return nil, fmt.Errorf("the box claims enrolment %d, it has %d", h.Epoch>>32, b.enrolment)
	case h.Epoch>>32 < uint64(b.enrolment):
		// It comes once more while its tunnel is on its way out.
		b.link.Goodbye(proto.GoodbyeFenced, fmt.Sprintf("a newer box (enrolment %d) takes this facility over", b.enrolment))
		return nil, fmt.Errorf("a replaced box (enrolment %d) came", h.Epoch>>32)
	case h.VersionMin > proto.StreamVersion || h.Version < proto.StreamVersionMin:
		b.link.Goodbye(proto.GoodbyeVersion, fmt.Sprintf("the region speaks stream versions %d to %d: update the older side",
			proto.StreamVersionMin, proto.StreamVersion))
		return nil, fmt.Errorf("the box speaks stream versions %d to %d", h.VersionMin, h.Version)
	}
	return h, nil
}

// remark keeps what the box says of the past that people should know.
func (b *box) remark(ctx context.Context, h *proto.Hello, at change.Position) {
	acked := change.Position{Epoch: h.AckedEpoch, Seq: h.AckedSeq}
	if b.behind = at.Before(acked); b.behind {
		b.server.Event(ctx, b.facility, "region_restored", fmt.Sprintf(
			"the region has less than it had acknowledged (%s): its database was restored from an older backup; the box sends what is missing again", acked))
	}
	if h.Reason != "" && at.Epoch < h.Epoch && !h.Restored { // that is an event of its own
		b.server.Event(ctx, b.facility, "epoch", fmt.Sprintf("the box begins epoch %d and sends every table that has a key again: %s", h.Epoch, cut(h.Reason)))
	}
}

// cut bounds a text that came from a box.
func cut(s string) string {
	if len(s) <= textMax {
		return s
	}
	return strings.ToValidUTF8(s[:textMax], "") + "…"
}

// textMax is how many bytes of a box's own words are kept.
const textMax = 2000

func (b *box) receive(ctx context.Context, session Session, hello *proto.Hello, down Down) error {
	for {
		typ, msg, err := b.link.Receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case []byte:
			f, err := change.Parse(m)
			if err != nil {
				return b.refuse(ctx, err)
			}
			if f.Header.Epoch>>32 > hello.Epoch>>32 {
				return b.refuse(ctx, fmt.Errorf("%w: a frame of enrolment %d from a box of enrolment %d",
					proto.ErrMalformed, f.Header.Epoch>>32, hello.Epoch>>32))
			}
			b.note(f.Header)
			if err := session.Push(ctx, f); err != nil {
				return b.stuck(ctx, err)
			}
		case *proto.Ack:
			if down == nil {
				return b.refuse(ctx, fmt.Errorf("%w: an acknowledgement of what was not sent", proto.ErrMalformed))
			}
			p := change.Position{Epoch: m.Epoch, Seq: m.Seq}
			b.sender.Acked(p)
			down.Acked(p)
		case *proto.TableStates:
			if err := b.server.TableStates(ctx, b.facility, m.Tables); err != nil {
				b.log.Warn("could not store the facility's table states", "err", err)
			}
		case *proto.Checked:
			b.answered(m)
		case *proto.Unverified:
			m.Problem.Text, m.Problem.Remedy = cut(m.Problem.Text), cut(m.Problem.Remedy)
			b.server.Unverified(b.facility, m)
		case *proto.Parked:
			b.toldParked(m)
		case *proto.ParkedDone:
			b.done(m)
		case *proto.Goodbye:
			return fmt.Errorf("the box ended the stream (%s): %s", m.Code, m.Text)
		case nil: // a newer box says something that this build does not know
		default:
			return b.refuse(ctx, fmt.Errorf("%w: type %d is not a box's to send", proto.ErrMalformed, typ))
		}
	}
}

// acknowledge passes on what is durable. A session that ends by itself ends
// the stream, with the reason.
func (b *box) acknowledge(ctx context.Context, session Session) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p, ok := <-session.Durable():
			if !ok {
				return b.stuck(ctx, session.Err())
			}
			if err := b.link.Send(proto.TypeAck, &proto.Ack{Epoch: p.Epoch, Seq: p.Seq}); err != nil {
				return err
			}
		}
	}
}

// stuck tells the box why its frames cannot be applied now. It comes again.
func (b *box) stuck(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p := b.server.Explain(err)
	if p == nil {
		b.link.Goodbye(proto.GoodbyeShutdown, "the region's database went away")
		return err
	}
	b.server.Event(ctx, b.facility, "stuck", p.String())
	if sendErr := b.link.Send(proto.TypeProblem, p); sendErr == nil {
		b.link.Goodbye(proto.GoodbyeStuck, p.Text)
	}
	return err
}

// refuse ends a stream that breaks a rule.
func (b *box) refuse(ctx context.Context, err error) error {
	b.server.Event(ctx, b.facility, "refused", err.Error())
	b.link.Goodbye(proto.GoodbyeRefused, err.Error())
	return err
}

// tellProblems tells the box why its frames wait, while the stream stays open.
func (b *box) tellProblems(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-b.problem:
			if p.Text != "" {
				b.server.Event(ctx, b.facility, "stuck", p.String())
			}
			if err := b.link.Send(proto.TypeProblem, p); err != nil {
				return err
			}
		}
	}
}

func (b *box) tellTables(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		var t proto.Tables
		t, changed = b.server.Tables()
		if err := b.link.Send(proto.TypeTables, &t); err != nil {
			return err
		}
	}
}

// Check asks every connected facility whether its database could serve a
// table. It returns their problems, and who did not answer in time.
func (s *Server) Check(ctx context.Context, t proto.SyncedTable) (problems map[string][]proto.Problem, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s.mu.Lock()
	s.asked++
	id := s.asked
	boxes := make([]*box, 0, len(s.boxes))
	for _, b := range s.boxes {
		boxes = append(boxes, b)
	}
	s.mu.Unlock()
	problems = make(map[string][]proto.Problem)
	answers := make([]<-chan []proto.Problem, len(boxes))
	for i, b := range boxes {
		answers[i] = b.ask(id, t)
	}
	for i, b := range boxes {
		select {
		case p := <-answers[i]:
			if len(p) > 0 {
				problems[b.facility] = p
			}
		case <-ctx.Done():
			silent = append(silent, b.facility)
		}
		b.forget(id)
	}
	return problems, silent
}

func (b *box) ask(id uint64, t proto.SyncedTable) <-chan []proto.Problem {
	answer := make(chan []proto.Problem, 1)
	b.mu.Lock()
	if b.checks == nil {
		b.checks = make(map[uint64]chan []proto.Problem)
	}
	b.checks[id] = answer
	b.mu.Unlock()
	if err := b.link.Send(proto.TypeCheck, &proto.Check{ID: id, Table: t}); err != nil {
		b.log.Debug("could not ask the facility about a table", "err", err)
	}
	return answer
}

func (b *box) answered(c *proto.Checked) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if answer, ok := b.checks[c.ID]; ok {
		delete(b.checks, c.ID)
		answer <- c.Problems
	}
}

func (b *box) forget(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.checks, id)
}
