package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/agogsaas/holdfast/internal/change"
)

// A change that was parked and is applied later comes to the receiver's rows at
// another place than its sender believes: what the receiver's people did to the
// row meanwhile counted as made after it, and is at the sender already. So what
// the row is now is sent to that side too:
//
//   - on the way up every fact row that was applied late goes down as an echo,
//     behind a note of how much of the facility's stream it is made of. At the
//     box it is no change of the region's, so that what people changed there
//     since then stands, and is no conflict. One that somebody corrected is a
//     change of his: it has an author, and what the facility has of the row does
//     not stand, unless it was changed there since;
//   - on the way down decide.go has sent what must be sent, and what is left is a
//     change that somebody corrected: the other side has it uncorrected.
//
// While a later change of the facility's is parked still, that is what it has, and it is
// told of nothing: what the row comes to is sent when the last of them is applied.
//
// It is in the transaction of the change itself, so that no crash parts them.

// ToPrefix is the prefix of the message that names the only facility that a
// transaction is for.
const ToPrefix = "holdfast.to"

// AuthorPrefix is the prefix of the message that says who made a transaction. An
// echo has one when it is of a correction.
const AuthorPrefix = "holdfast.author"

// late is a parked change that is being tried.
type late struct {
	shape *shape
	row   *parkedRow
	src   *source      // on the way down
	keys  []change.Row // of the rows that the other side may have to be told; nil for none
}

func newLate(sh *shape, p *parkedRow, d Direction) late {
	l := late{shape: sh, row: p}
	if d == Down {
		tx := &change.Tx{Seq: p.seq, CommitMicros: p.commitMicros}
		if p.by != "" {
			tx.Changes = []change.Change{{Op: change.Note, Row: change.Row{[]byte(change.NoteBy), []byte(p.by)}}}
		}
		l.src = &source{tx: tx, epoch: p.epoch, seen: p.seen}
	}
	if sh.class != Fact || len(sh.key) == 0 || d == Down && p.editedBy == "" {
		return l
	}
	l.keys = sh.rowsOf(p.change)
	return l
}

// rowsOf are the keys of the rows that a change is of: one, or two where it gives a row
// another key.
func (sh *shape) rowsOf(of *change.Change) (keys []change.Row) {
	c := sh.trim(of)
	if c.Key != nil {
		keys = append(keys, c.Key)
	}
	if c.Row != nil {
		row := c.Row
		if c.Key != nil {
			row, _, _ = sh.restoreKey(c)
		}
		if key := sh.rowKey(row); c.Key == nil || string(keyID(key)) != string(keyID(c.Key)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// but has the other side not told of rows.
func (l *late) but(rows []change.Row) {
	l.keys = slices.DeleteFunc(l.keys, func(key change.Row) bool {
		return slices.ContainsFunc(rows, func(r change.Row) bool { return string(keyID(r)) == string(keyID(key)) })
	})
}

// lateChange is the change as it is applied.
func (x *execution) lateChange(l *late) *change.Change {
	if l.row.ofRange && l.row.editedBy == "" && l.row.change.Row != nil {
		return x.asRange(l.shape, l.row.change)
	}
	return l.row.change
}

// rowAt names a row of the receiver's.
type rowAt struct {
	shape *shape
	id    string
}

// present locks the rows that the other side may have to be told of, and
// returns those that are there.
func (x *execution) present(ctx context.Context, list []late) (map[rowAt]change.Row, error) {
	out := map[rowAt]change.Row{}
	byShape := map[*shape][]change.Row{}
	for i := range list {
		for _, key := range list[i].keys {
			at := rowAt{list[i].shape, string(keyID(key))}
			if _, known := out[at]; !known {
				out[at] = nil
				byShape[at.shape] = append(byShape[at.shape], key)
			}
		}
	}
	for sh, keys := range byShape {
		rows, places, err := x.lockRows(ctx, sh, keys)
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			out[rowAt{sh, string(keyID(keys[places[i]]))}] = row
		}
	}
	return out, nil
}

// echo tells the other side what has become of the rows. A row that was not
// there before and is not there now is nobody's news.
func (x *execution) echo(ctx context.Context, list []late, before map[rowAt]change.Row) error {
	now, err := x.present(ctx, list)
	if err != nil || len(now) == 0 {
		return err
	}
	var calls []call
	if x.facts == nil {
		calls = append(calls, call{sql: "SELECT pg_logical_emit_message(true, '" + ToPrefix + "', $1::text)", args: []arg{textArg(x.facility)}})
		if by := corrector(list); by != "" {
			calls = append(calls, call{sql: "SELECT pg_logical_emit_message(true, '" + AuthorPrefix + "', $1::text)", args: []arg{textArg(by)}})
		}
	}
	told := map[rowAt]bool{}
	for i := range list {
		for _, key := range list[i].keys {
			at := rowAt{list[i].shape, string(keyID(key))}
			row := now[at]
			if told[at] || row == nil && before[at] == nil {
				continue
			}
			told[at] = true
			c := &change.Change{Op: change.Update, Row: row}
			if row == nil {
				c = &change.Change{Op: change.Delete, Key: key}
			}
			one, err := assertCall(at.shape, c)
			if err != nil {
				return fmt.Errorf("tell the other side of a row that was applied late: %w", err)
			}
			calls = append(calls, one)
		}
	}
	if len(told) == 0 {
		return nil
	}
	_, err = x.pipeline(ctx, calls)
	return err
}

// corrector is who corrected the changes last, empty when nobody did.
func corrector(list []late) (by string) {
	for i := range list {
		if p := list[i].row; p.editedBy != "" {
			by = p.editedBy
		}
	}
	return by
}
