package stream

import (
	"context"

	"github.com/agogsaas/holdfast/proto"
)

// keepPace tells the box how fast it may send, each time that this changes, and
// holds what goes down to the same.
func (b *box) keepPace(ctx context.Context, now uint64, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		was := now
		if now, changed = b.server.Pace(b.facility); now == was {
			continue
		}
		if b.sender != nil {
			b.sender.Limit(now)
		}
		if err := b.link.Send(proto.TypePace, &proto.Pace{BytesPerSecond: now}); err != nil {
			return err
		}
	}
}
