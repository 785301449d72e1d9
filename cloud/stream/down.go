package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// downWindowBytes is how much may be on its way down to a box ahead of its
// acknowledgement. It is smaller than what a box takes in without waiting, so
// that a change that it cannot apply does not keep it from hearing the rest.
const downWindowBytes = 4 << 20

// downAgain is how often a way down that could not be opened is tried again.
const downAgain = time.Second

var errDownReady = errors.New("the stream begins anew with the way down")

// version is the newest version of the stream that this region speaks.
func (s *Server) version() uint8 {
	if s.Down == nil {
		return proto.StreamVersionDown - 1
	}
	return proto.StreamVersion
}

// openDown opens the way down for a box that knows it, or returns nil.
func (b *box) openDown(ctx context.Context, h *proto.Hello, version uint8) Down {
	if version < proto.StreamVersionDown {
		return nil
	}
	down, err := b.tryDown(ctx, h)
	if err != nil {
		b.log.Warn("the stream begins without the way down", "err", err)
		return nil
	}
	return down
}

// tryDown opens the way down, unless the box's database went back and the box is
// still to learn of it.
func (b *box) tryDown(ctx context.Context, h *proto.Hello) (Down, error) {
	from := change.Position{Epoch: h.DownEpoch, Seq: h.DownSeq}
	if h.Restores && b.server.WentBack != nil {
		if h.Restored {
			lacking, err := b.server.Restore(ctx, b.facility, h.Epoch, from)
			if err != nil {
				return nil, err
			}
			b.lacking = lacking
		} else if b.known {
			back, err := b.server.WentBack(ctx, b.facility, from)
			if err != nil || back {
				b.wentBack = back
				return nil, err
			}
		}
	}
	return b.server.Down(ctx, b.facility, b.enrolment, from, b.behind)
}

// untilDown ends a stream that began without the way down once there is one.
func (b *box) untilDown(ctx context.Context, h *proto.Hello) error {
	tick := time.NewTicker(downAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		down, err := b.tryDown(ctx, h)
		if err == nil {
			if down != nil {
				down.Close()
			}
			b.link.Goodbye(proto.GoodbyeShutdown, errDownReady.Error())
			return errDownReady
		}
	}
}

// sendDown sends what follows, as far ahead of the acknowledgements as the
// window allows.
func (b *box) sendDown(ctx context.Context, down Down) error {
	for {
		f, err := down.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				b.link.Goodbye(proto.GoodbyeShutdown, "the way down begins anew")
			}
			return fmt.Errorf("read the way down: %w", err)
		}
		if err := b.sender.SendDown(ctx, f.Frame, f.Prev, f.More); err != nil {
			return err
		}
	}
}
