package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// orderTimeout is how long a box has to do what was decided.
const orderTimeout = 10 * time.Second

// Errors of OrderParked.
var (
	ErrNotConnected = hint.Wrap(errors.New("the facility is not connected"), "Its own changes wait at the facility: try again when it is back.")
	errSilent       = hint.Wrap(errors.New("the box did not answer"), "Try again. A box that is one release older does not know how: update it.")
)

// OrderParked has a connected box do what somebody has decided about what is
// parked there, and returns its answer.
func (s *Server) OrderParked(ctx context.Context, facility string, o *proto.ParkedOrder) (*proto.ParkedDone, error) {
	s.mu.Lock()
	s.asked++
	o.ID = s.asked
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return nil, ErrNotConnected
	}
	answer := make(chan *proto.ParkedDone, 1)
	b.mu.Lock()
	if b.orders == nil {
		b.orders = map[uint64]chan *proto.ParkedDone{}
	}
	b.orders[o.ID] = answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.orders, o.ID)
	}()
	if err := b.link.Send(proto.TypeParkedOrder, o); err != nil {
		return nil, fmt.Errorf("tell the box: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	select {
	case d := <-answer:
		if p := d.Problem; p != nil {
			return nil, hint.Wrap(errors.New(cut(p.Text)), "%s", cut(p.Remedy))
		}
		return d, nil
	case <-b.left:
		return nil, ErrNotConnected
	case <-ctx.Done():
		return nil, errSilent
	}
}

func (b *box) done(d *proto.ParkedDone) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if answer, ok := b.orders[d.ID]; ok {
		delete(b.orders, d.ID)
		answer <- d
	}
}

// toldParked takes a box's word on what is parked there, in place of an older one
// that nobody has looked at yet: the stream does not wait for the database.
func (b *box) toldParked(p *proto.Parked) {
	select {
	case <-b.parked:
	default:
	}
	select {
	case b.parked <- p:
	default: // receive is the only one that puts some in
	}
}

// parkedAgain is how long what could not be kept waits to be tried again: the box tells
// it once.
const parkedAgain = 2 * time.Second

func (b *box) keepParked(ctx context.Context) error {
	var p *proto.Parked
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p = <-b.parked:
		case <-again.C:
		}
		if p == nil {
			continue
		}
		err := b.server.Parked(ctx, b.facility, p)
		if err == nil {
			p = nil
			continue
		}
		if ctx.Err() == nil {
			b.log.Warn("could not store what is parked at the box", "err", err)
		}
		again.Reset(parkedAgain)
	}
}
