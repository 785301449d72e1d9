package apply

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// hold sends back that rows are gone which the cloud has and nobody here. There is
// nothing to lock: whoever makes such a row here and commits before this transaction
// would have it removed there. So the cloud's row is made here and removed, which keeps
// others from making one until the commit, and confirm asks whether they did before.
//
// Where the database here refuses the cloud's rows nothing is sent back: then a row that
// the cloud made just as its removal was applied there stays there until it is compared.
func (x *execution) hold(ctx context.Context, list []*work) error {
	for _, w := range list {
		if len(w.held) == 0 {
			continue
		}
		held, err := x.holdKeys(ctx, w)
		if err != nil {
			return err
		}
		if !held {
			continue
		}
		var calls []call
		for _, i := range w.held {
			c, err := assertCall(w.shape, &change.Change{Op: change.Delete, Key: w.keys[i]})
			if err != nil {
				return err
			}
			calls = append(calls, c)
			x.facts.note(w.sentRow(i), true)
			w.bornKeys = append(w.bornKeys, i)
		}
		if _, err := x.pipeline(ctx, calls); err != nil {
			return err
		}
	}
	return nil
}

// holdKeys makes the rows and removes them; false where they are refused.
func (x *execution) holdKeys(ctx context.Context, w *work) (bool, error) {
	rows, keys := make([]change.Row, len(w.held)), make([]change.Row, len(w.held))
	for n, i := range w.held {
		rows[n], keys[n] = w.entries[i].row, w.keys[i]
	}
	s := x.session
	if err := s.exec(ctx, "SAVEPOINT hold"); err != nil {
		return false, err
	}
	calls := []call{w.shape.insertCall(conflictSkips, rows, callNew), w.shape.deleteCall(keys, x.facility)}
	counts, err := x.pipeline(ctx, calls)
	if err == nil {
		err = x.check(ctx, calls, counts)
	}
	switch {
	case err == nil:
		return true, s.exec(ctx, "RELEASE hold")
	case gone(ctx) || !refused(err):
		return false, err
	}
	return false, s.undo(ctx, "hold")
}
