package unseen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

// asked is one question and what has been found so far, oldest first.
type asked struct {
	id      string
	columns []string     // of the key, sorted
	sent    []string     // the other columns that the region sends
	rows    []change.Row // the keys, in the order of columns
	places  []int        // of columns in Keys.Columns
	byText  map[string]int
	found   map[int]apply.Touch
	whole   map[int]bool // a change sent all of the row
	last    struct {
		table *change.Table
		lacks []string // of the columns sent
	}
	// swept: what happened last was that all rows but those listed were removed.
	swept map[int]bool
}

func newAsked(k apply.Keys) *asked {
	a := &asked{
		id: k.Schema + "." + k.Table, columns: slices.Sorted(slices.Values(k.Columns)), sent: k.Sent,
		byText: make(map[string]int, len(k.Rows)), found: map[int]apply.Touch{}, whole: map[int]bool{}, swept: map[int]bool{},
	}
	places := make([]int, len(a.columns))
	for i, name := range a.columns {
		places[i] = slices.Index(k.Columns, name)
	}
	a.places = places
	for i, row := range k.Rows {
		key := make(change.Row, len(places))
		for j, p := range places {
			key[j] = row[p]
		}
		a.rows = append(a.rows, key)
		a.byText[text(key)] = i
	}
	return a
}

// search adds what a block knows.
func (x *Index) search(ctx context.Context, b *block, seen change.Position, a *asked) error {
	if b.lost {
		a.everything(b.end, 0)
		return nil
	}
	var frames []uint16
	t := x.tables[a.id]
	switch {
	case t == nil && !b.opaque:
		// The table is in no frame.
	case b.opaque || t.odd || !slices.Equal(t.columns, a.columns):
		for n := range b.frames {
			frames = append(frames, uint16(n))
		}
	default:
		for _, key := range a.rows {
			p := t.print(key)
			for i, _ := slices.BinarySearch(b.prints, p); i < len(b.prints) && b.prints[i] == p; i++ {
				frames = append(frames, b.in[i])
			}
		}
	}
	for i := range b.wide {
		if w := &b.wide[i]; w.all || w.table == a.id && a.within(w, t) {
			frames = append(frames, w.frame)
		}
	}
	slices.Sort(frames)
	for _, n := range slices.Compact(frames) {
		if b.first.Epoch == seen.Epoch && b.last(n) <= seen.Seq {
			continue
		}
		if err := x.look(ctx, b, n, seen, a); err != nil {
			return err
		}
	}
	return nil
}

// within reports whether a wide change may be about one of the keys.
func (a *asked) within(w *wide, t *tableKeys) bool {
	if !w.keyed || !slices.Equal(t.columns, a.columns) {
		return true
	}
	for _, key := range a.rows {
		if in, _ := w.holds(t.inOrder(key)); in {
			return true
		}
	}
	return false
}

// inOrder brings the values of a key from the order of the columns' names into
// that of the columns.
func (t *tableKeys) inOrder(key change.Row) change.Row {
	out := make(change.Row, len(key))
	for i, n := range t.inKey {
		out[n] = key[i]
	}
	return out
}

// look opens a frame.
func (x *Index) look(ctx context.Context, b *block, n uint16, seen change.Position, a *asked) error {
	p := b.frames[n]
	first := change.Position{Epoch: b.first.Epoch, Seq: b.first.Seq + uint64(p.seq)}
	f, err := x.open(ctx, first, p.part)
	if errors.Is(err, errLost) {
		a.everything(change.Position{Epoch: first.Epoch, Seq: b.last(n)}, 0)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what the region has not seen: %w", err)
	}
	tables := make([]*tableKeys, len(f.body.Tables))
	for i := range f.body.Tables {
		if f.body.Tables[i].ID() == a.id {
			tables[i] = x.table(&f.body.Tables[i])
		}
	}
	for i := range f.body.Txs {
		tx := &f.body.Txs[i]
		at := change.Position{Epoch: first.Epoch, Seq: tx.Seq}
		if !seen.Before(at) {
			continue
		}
		if !tx.Whole(at.Epoch) {
			tx.OnlyAdd()
		}
		by, back := "", false
		for j := range tx.Changes {
			c := &tx.Changes[j]
			if c.Op == change.Note {
				switch string(c.Row[0]) {
				case change.NoteBy:
					by = string(c.Row[1])
				case change.NoteBack:
					back = true
				}
			}
			if !c.Op.OfRows() {
				continue
			}
			if t := tables[c.Table]; t != nil {
				a.change(t, &f.body.Tables[c.Table], c, apply.Touch{Position: at, CommitMicros: tx.CommitMicros, By: by, SentBack: back})
			}
		}
	}
	return nil
}

// change adds what one change did. is has the transaction's fields.
func (a *asked) change(t *tableKeys, table *change.Table, c *change.Change, is apply.Touch) {
	if c.Op == change.Truncate {
		for i := range a.rows {
			a.touch(i, is, false, nil)
			a.swept[i] = true
		}
		return
	}
	if !slices.Equal(t.columns, a.columns) {
		// The key was another one then.
		is.Unsure = true
		for i := range a.rows {
			a.touch(i, is, false, nil)
		}
		return
	}
	if c.Op == change.Range {
		a.keyRange(t, table, c.Range, is)
		return
	}
	if c.Row == nil {
		if i, ok := a.byText[text(t.fromKey(c.Key))]; ok {
			a.touch(i, is, false, nil)
		}
		return
	}
	absent := a.lacking(table)
	for _, n := range c.Absent {
		if !slices.Contains(t.inRow, n) {
			absent = append(absent, table.Columns[n].Name)
		}
	}
	key := t.fromRow(c.Row, c.Absent, c.Key)
	moved := c.Key != nil && text(t.fromKey(c.Key)) != text(key)
	if moved {
		if i, ok := a.byText[text(t.fromKey(c.Key))]; ok {
			old := is
			if len(absent) > 0 {
				to := make(change.Row, len(key))
				for j, p := range a.places {
					to[p] = key[j]
				}
				old.Moved = []change.Row{to}
			}
			a.touch(i, old, false, nil)
		}
		// What was not sent is that of the row with the old key, there as here.
		is.Unsure = is.Unsure || len(absent) > 0
		absent = nil
	}
	i, ok := a.byText[text(key)]
	if !ok {
		return
	}
	a.touch(i, is, c.Op == change.Insert || moved, absent)
}

// lacking are the columns that the table did not have when the frame was made. A
// frame has many changes, and asks again and again.
func (a *asked) lacking(table *change.Table) []string {
	if a.last.table == table {
		return a.last.lacks
	}
	var names []string
	for _, name := range a.sent {
		if !slices.ContainsFunc(table.Columns, func(c change.Column) bool { return c.Name == name }) {
			names = append(names, name)
		}
	}
	a.last.table, a.last.lacks = table, slices.Clip(names)
	return a.last.lacks
}

func (a *asked) keyRange(t *tableKeys, table *change.Table, r *change.KeyRange, is apply.Touch) {
	listed, lacking := map[int]bool{}, a.lacking(table)
	for _, row := range r.Rows {
		if i, ok := a.byText[text(t.fromRow(row, nil, nil))]; ok {
			listed[i] = true
			a.touch(i, is, true, lacking)
		}
	}
	if r.Partial {
		// A box that took another's place and may lack rows does not say by a range what
		// there is not: the region keeps what the box before wrote, and sends it down.
		return
	}
	w := &wide{keyed: true, after: r.After, upTo: r.UpTo, order: t.order}
	for i, key := range a.rows {
		if listed[i] {
			continue
		}
		if in, sure := w.holds(t.inOrder(key)); in {
			not := is
			not.Unsure = !sure
			a.touch(i, not, false, nil)
			a.swept[i] = true
		}
	}
}

// touched returns what was found. To remove the rows that are there locks no key:
// the region may have made the row while it did, unseen by it, and have committed it
// before. So it cannot be known that the row is gone there.
func (a *asked) touched() map[int]apply.Touch {
	for i := range a.swept {
		t := a.found[i]
		t.Unsure = true
		a.found[i] = t
	}
	return a.found
}

// touch adds a change of the i-th key. made: there was no such row before, as
// far as one knows. absent are the columns that were not sent.
func (a *asked) touch(i int, is apply.Touch, made bool, absent []string) {
	t, known := a.found[i]
	delete(a.swept, i)
	is.Inserted = made
	if known {
		is.Inserted, is.Unsure, is.SentBack = t.Inserted, is.Unsure || t.Unsure, is.SentBack && t.SentBack
		is.Moved = append(slices.Clip(t.Moved), is.Moved...)
		if is.Position == t.Position {
			is.By = cmp.Or(is.By, t.By) // the parts of a transaction share its author
		}
		absent = slices.DeleteFunc(slices.Clone(absent), func(name string) bool { return !slices.Contains(t.Unsent, name) })
	}
	switch {
	case len(absent) == 0 || a.whole[i]:
		a.whole[i] = true
	default:
		is.Unsent = absent
	}
	a.found[i] = is
}

// everything says that all keys may have been changed.
func (a *asked) everything(at change.Position, micros int64) {
	for i := range a.rows {
		a.touch(i, apply.Touch{Position: at, CommitMicros: micros, Unsure: true}, false, nil)
	}
}

// cached is a frame that was opened.
type cached struct {
	first change.Position
	part  uint32
	body  *change.Body
}

// errLost says that a frame cannot be read any more.
var errLost = errors.New("frame is lost")

// open returns the frame that begins with the transaction.
func (x *Index) open(ctx context.Context, first change.Position, part uint32) (cached, error) {
	for _, c := range x.cache {
		if c.first == first && c.part == part {
			return c, nil
		}
	}
	cursor := x.q.Cursor(change.Position{Epoch: first.Epoch, Seq: first.Seq - 1})
	for {
		f, err := cursor.Next(ctx)
		var lost *queue.LostError
		switch {
		case errors.As(err, &lost), errors.Is(err, queue.ErrBehind):
			return cached{}, errLost
		case err != nil:
			return cached{}, err
		case f.Header.Epoch != first.Epoch || f.Header.First != first.Seq || f.Header.Part > part || f.Header.Kind == change.Gap:
			return cached{}, errLost
		case f.Header.Part < part:
			continue
		}
		body, err := f.Open()
		if err != nil {
			return cached{}, fmt.Errorf("transaction %s: %w", first, err)
		}
		c := cached{first, part, body}
		if len(x.cache) >= cachedBodies {
			x.cache = slices.Delete(x.cache, 0, 1)
		}
		x.cache = append(x.cache, c)
		return c, nil
	}
}

// text is a key as the key of a map.
func text(key change.Row) string {
	if len(key) == 1 {
		return string(key[0])
	}
	var b []byte
	for _, v := range key {
		b = append(strconv.AppendInt(b, int64(len(v)), 10), ':')
		b = append(b, v...)
	}
	return string(b)
}
