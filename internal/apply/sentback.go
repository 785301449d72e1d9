package apply

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// What the other side must be sent back beside what decide.go says of single
// rows: rows that are sent back already, and rows that got another key here.

// sentBack has a row sent back again that was sent back before, in the same
// transaction or in one before: the cloud's later change of it had not seen that, and
// has been, or will be, overwritten by it there.
func (x *execution) sentBack(w *work, i int, t *Touch, v *verdict, again bool) {
	at := w.sentRow(i)
	if _, sent := x.facts.sent[at]; (sent || again) && v.assert == nil && t == nil {
		switch {
		case v.row != nil && v.do != doDelete:
			v.assert = &change.Change{Op: change.Update, Row: v.row}
		case v.do == doNothing && w.local[i] != nil:
			v.assert = &change.Change{Op: change.Update, Row: w.local[i]}
		case v.do == doNothing && !sent: // gone on both sides, as what was sent back says
		default:
			v.assert = &change.Change{Op: change.Delete, Key: w.keys[i]}
		}
	}
	if v.assert != nil {
		x.facts.note(at, len(v.assert.Absent) == 0)
	}
}

// sentWhole is the touch of a row that was sent back before in the same
// transaction, with all of its columns: none of them is the cloud's any more.
func (x *execution) sentWhole(w *work, i int, t *Touch) *Touch {
	if t == nil || len(t.Unsent) == 0 || !x.facts.sent[w.sentRow(i)] {
		return t
	}
	sent := *t
	sent.Unsent = nil
	return &sent
}

func (w *work) sentRow(i int) sentRow {
	return sentRow{w.shape.target.schema, w.shape.target.name, string(keyID(w.keys[i]))}
}

// assertMoved sends the rows back that got another key here. What was not sent
// with it the other side takes from the row that the cloud changed or deleted.
func (x *execution) assertMoved(ctx context.Context, list []*work, seen change.Position) error {
	var calls []call
	for _, w := range list {
		if len(w.elsewhere) == 0 {
			continue
		}
		keys, err := x.follow(ctx, w.shape, w.elsewhere, seen)
		if err != nil {
			return err
		}
		rows, _, err := x.lockRows(ctx, w.shape, keys)
		if err != nil {
			return err
		}
		for _, row := range rows {
			c, err := assertCall(w.shape, &change.Change{Op: change.Update, Row: row})
			if err != nil {
				return err
			}
			calls = append(calls, c)
			x.facts.note(sentRow{w.shape.target.schema, w.shape.target.name, string(keyID(w.shape.rowKey(row)))}, true)
		}
	}
	_, err := x.pipeline(ctx, calls)
	return err
}

// follow returns the keys, and those that rows got from there on.
func (x *execution) follow(ctx context.Context, sh *shape, next []change.Row, seen change.Position) (keys []change.Row, err error) {
	known := map[string]bool{}
	for len(next) > 0 {
		var fresh []change.Row
		for _, key := range next {
			if id := string(keyID(key)); !known[id] {
				known[id] = true
				fresh = append(fresh, key)
			}
		}
		keys = append(keys, fresh...)
		touched, err := x.touched(ctx, sh, seen, fresh)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, t := range touched {
			next = append(next, t.Moved...)
		}
	}
	return keys, nil
}
