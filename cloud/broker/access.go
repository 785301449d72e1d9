package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

// ErrExternal is returned by Revoke when others run the broker.
var ErrExternal = errors.New("the broker is run by others")

// Allow lets a box in. An error means that the broker does not know yet; it
// learns it within half a minute of being reachable, if Devices says so.
func (b *Broker) Allow(ctx context.Context, d Device) error {
	if b.cfg.External != nil {
		return nil
	}
	if err := b.control.allow(ctx, d); err != nil {
		return fmt.Errorf("let %s into the broker: %w", d.ID(), err)
	}
	return nil
}

// Revoke throws a box out and keeps it out. Call it when Devices no longer
// returns the box, and CRL does. An error means that the box may still be in;
// it is put out within half a minute of the broker being reachable.
func (b *Broker) Revoke(ctx context.Context, d Device) error {
	if b.cfg.External != nil {
		return hint.Wrap(ErrExternal, "Remove the client %s there.", d.ID())
	}
	// The list first: a box that is thrown out comes back at once.
	errList := b.reload(ctx)
	errOut := b.control.revoke(ctx, d)
	if err := errors.Join(errList, errOut); err != nil {
		return fmt.Errorf("put %s out of the broker: %w", d.ID(), err)
	}
	return nil
}

// resync makes the broker's list of boxes equal to Devices.
func (b *Broker) resync(ctx context.Context) error {
	devices, err := b.cfg.Devices(ctx)
	if err != nil {
		return fmt.Errorf("list the boxes for the broker: %w", err)
	}
	return b.control.resync(ctx, devices)
}

func (b *Broker) resyncNowAndThen(ctx context.Context) {
	tick := time.NewTicker(resyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !b.control.connected() {
			continue
		}
		err := b.resync(ctx)
		if ctx.Err() != nil {
			return
		}
		b.mu.Lock()
		changed := (err == nil) != (b.state.Err == nil)
		b.state.Err = err
		b.mu.Unlock()
		if err != nil && changed {
			b.log.Warn("broker's list of boxes is stale", "err", err)
		}
	}
}
