package apply

import (
	"context"
	"fmt"

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
// then undone what it did of it if it made a savepoint.
func (x *execution) applyOne(ctx context.Context, c single, savepoint bool) (*cause, error) {
	s := x.session
	lacking := len(x.lacking)
	if savepoint {
		if err := s.exec(ctx, "SAVEPOINT park"); err != nil {
			return nil, fmt.Errorf("begin a row: %w", err)
		}
	}
	err := x.applyChange(ctx, c)
	if err == nil {
		if savepoint {
			err = s.exec(ctx, "RELEASE park")
		}
		return nil, err
	}
	why, ok := causeOf(err, c.shape.name, x.direction())
	if !ok || gone(ctx) {
		return nil, err
	}
	x.lacking = x.lacking[:lacking]
	if savepoint {
		return &why, s.undo(ctx, "park")
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

// undo goes back to the savepoint and ends it, after a statement may have failed.
func (s *session) undo(ctx context.Context, savepoint string) error {
	if err := s.exec(ctx, "ROLLBACK TO "+savepoint+"; RELEASE "+savepoint); err != nil {
		return fmt.Errorf("undo a row: %w", err)
	}
	if s.stmts.dirty {
		if err := s.forget(ctx); err != nil {
			return fmt.Errorf("undo a row: %w", err)
		}
	}
	return nil
}
