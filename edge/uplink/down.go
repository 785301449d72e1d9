package uplink

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// versionWithoutDown is the newest version of the stream that has no way down.
const versionWithoutDown = proto.StreamVersionDown - 1

var errDownReady = errors.New("the stream begins anew with the way down")

// beginDown opens the way down for a session, or returns nil where the local
// database does not answer: what is safe in the queue leaves without it.
func (u *Uplink) beginDown(ctx context.Context) *downlink.Session {
	if u.Down == nil {
		return nil
	}
	s, err := u.Down.Begin(ctx)
	if err != nil {
		u.Log.Debug("the stream begins without the way down", "err", err)
		return nil
	}
	return s
}

// untilDown ends a session that began without the way down once there can be one.
func (u *Uplink) untilDown(ctx context.Context) error {
	if err := u.Down.Ready(ctx); err != nil {
		return err
	}
	return errDownReady
}

// acknowledge tells the region what of the way down is durable here.
func acknowledge(ctx context.Context, link *transfer.Link, down *downlink.Session) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-down.Durable():
			if err := link.Send(proto.TypeAck, &proto.Ack{Epoch: p.Epoch, Seq: p.Seq}); err != nil {
				return err
			}
		}
	}
}

// lookWithin bounds how long decisions wait for the tables to be looked at. Those that
// come meanwhile wait that long once more, and who asks gives up after 10 s.
const lookWithin = 2 * time.Second

// look has the tables looked at now, and waits until they have been, if that can
// be in time.
func (u *Uplink) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	settled := make(chan struct{})
	u.orders.give(order{settled: []chan<- struct{}{settled}})
	select {
	case <-ctx.Done():
	case <-settled:
	}
}

// decide does what people in the region decide about what is parked here. Who has
// something tried again has mended a table, perhaps, or put another in its place: the
// tables are looked at once for all that wait.
func (u *Uplink) decide(ctx context.Context, link *transfer.Link, down *downlink.Session, decisions <-chan *proto.ParkedOrder) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-decisions:
			orders := []*proto.ParkedOrder{o}
			for len(decisions) > 0 { // nobody else takes them
				orders = append(orders, <-decisions)
			}
			again := func(o *proto.ParkedOrder) bool { return o.Do == proto.ParkedRetry }
			if down != nil && slices.ContainsFunc(orders, again) {
				u.look(ctx)
			}
			for _, o := range orders {
				done := &proto.ParkedDone{ID: o.ID, Problem: &proto.Problem{Text: "the box takes nothing in from the region now", Remedy: "Try again when it does."}}
				if down != nil {
					done = down.Order(ctx, o)
				}
				if err := link.Send(proto.TypeParkedDone, done); err != nil {
					return err
				}
			}
		}
	}
}
