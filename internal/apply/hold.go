package apply

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// hold keeps others from making the rows of which is sent back that they are gone, where
// there is none to be locked: whoever made one and committed before this transaction
// would have it removed there. So the cloud's row is made here and removed, until the
// commit; triggers that fire for what is applied see that. And confirm asks whether
// anybody has been faster.
//
// A row that the database refuses, or of which not all is known, cannot be held. Whoever
// makes it between confirm's question and the commit is not met.
func (x *execution) hold(ctx context.Context, list []*work) error {
	for _, w := range list {
		var whole []int
		for _, i := range w.gonePlaces {
			if e := &w.entries[i]; e.state != rowGone && len(e.absent) == 0 {
				whole = append(whole, i)
			}
		}
		w.bornKeys = append(w.bornKeys, w.gonePlaces...)
		if err := x.holdRows(ctx, w, whole); err != nil {
			return err
		}
	}
	return nil
}

// maxUnheld is how many rows of one operation are found out that cannot be held. Where
// there are more the rest is not tried: rows are locked meanwhile.
const maxUnheld = 32

// holdRows makes the rows and removes them, by halves where one cannot be made.
func (x *execution) holdRows(ctx context.Context, w *work, places []int) error {
	if len(places) == 0 || w.unheld >= maxUnheld {
		return nil
	}
	rows, keys := make([]change.Row, len(places)), make([]change.Row, len(places))
	for n, i := range places {
		rows[n], keys[n] = w.entries[i].row, w.keys[i]
	}
	p, err := x.savepoint(ctx, "hold")
	if err != nil {
		return err
	}
	counts, err := x.pipeline(ctx, []call{w.shape.insertCall(conflictSkips, rows, callOther), w.shape.deleteCall(keys, x.facility)})
	if err == nil && counts[0] == int64(len(rows)) && counts[1] == counts[0] {
		return p.release(ctx)
	}
	if err != nil && (gone(ctx) || !refused(err)) {
		return err
	}
	if err := p.undo(ctx); err != nil {
		return err
	}
	if len(places) == 1 {
		w.unheld++ // if somebody has made it, confirm is told
		return nil
	}
	half := len(places) / 2
	if err := x.holdRows(ctx, w, places[:half]); err != nil {
		return err
	}
	return x.holdRows(ctx, w, places[half:])
}
