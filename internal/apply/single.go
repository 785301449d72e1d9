package apply

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// single is one change to be applied by itself.
type single struct {
	shape  *shape
	change *change.Change
	src    *source // on the way down
	// bare: a range takes no other row out of its way.
	bare bool
}

// direction is which way the changes came.
func (x *execution) direction() Direction {
	if x.facts != nil {
		return Down
	}
	return Up
}

// applyOne applies one change. It returns why the target refuses it, and has
// then undone what it did of it if it did it behind a savepoint.
func (x *execution) applyOne(ctx context.Context, c single, behind bool) (*cause, error) {
	if !behind {
		return x.refusal(ctx, c, x.applyChange(ctx, c))
	}
	p, err := x.savepoint(ctx, "park")
	if err != nil {
		return nil, err
	}
	why, err := x.refusal(ctx, c, x.applyChange(ctx, c))
	switch {
	case err != nil:
		return nil, err
	case why != nil:
		return why, p.undo(ctx)
	}
	return nil, p.release(ctx)
}

// refusal tells why the target refuses a change from other errors.
func (x *execution) refusal(ctx context.Context, c single, err error) (*cause, error) {
	if err == nil {
		return nil, nil
	}
	why, ok := causeOf(err, c.shape.name, x.direction())
	if !ok || gone(ctx) {
		return nil, err
	}
	return &why, nil
}

// applyChange applies one change as it was made.
func (x *execution) applyChange(ctx context.Context, one single) error {
	sh, c := one.shape, one.change
	f := newFolded(x.facility)
	f.source = one.src
	if x.facts != nil {
		x.facts.source = one.src
	}
	f.change(sh, c)
	if c.Op == change.Range && !sh.passedOver && !one.bare {
		if err := x.unblock(ctx, sh, sh.trim(c).Range); err != nil {
			return err
		}
	}
	if c.Op == change.Update && c.Key != nil {
		if err := x.makeWay(ctx, sh, c); err != nil {
			return err
		}
	}
	return x.run(ctx, f, nil, nil)
}
