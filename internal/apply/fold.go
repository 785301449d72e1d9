package apply

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/agogsaas/holdfast/internal/change"
)

// Folding: what several transactions did to one row becomes what is to be done
// to it once. The result is the same as applying each change by itself, in
// order, because
//
//   - changes of different rows of a table do not depend on each other, save
//     through constraints; where those are in the way, rows.go takes over;
//   - a column that a later change did not send keeps what an earlier one sent;
//   - what cannot be merged into single rows (a rename of a row that is not
//     here, some columns of a row that was removed, a key range, another shape of
//     the table) ends the set and begins a new one behind it.

// folded is what one target transaction is to do.
type folded struct {
	facility string
	tables   []*tableOps // in the order in which they were first touched
	byTarget map[*target]*tableOps
	source   *source // of what is folded next

	// seen is the least that the senders of fact rows had seen on the way down;
	// mixed when some had seen more.
	seen  change.Position
	any   bool
	mixed bool
}

// tableOps are the operations on one table, in order.
type tableOps struct {
	shape   *shape // of the first change, for its names
	ops     []*op
	changes int64
	source  *source // of the change that is folded
}

// op is one operation: exactly one of set, rename, truncate and keyRange.
type op struct {
	shape    *shape
	set      *set
	rename   *change.Change
	truncate bool
	keyRange *change.KeyRange
	// parts are what keyRange was joined of, nil if it is one change's.
	parts []*op
	src   *source // of all but a set
}

// joinMaxRows is how many rows ranges that are joined may have together.
const joinMaxRows = 20_000

// set is a set of rows with different keys.
type set struct {
	index   *keyIndex // nil for a table without a key
	entries []entry
	plan    *plan   // made of the entries, once
	src     *source // of the change that is folded
}

type rowState uint8

const (
	rowGone  rowState = iota // there is no such row
	rowPatch                 // these columns of the row have these values
	rowPut                   // the row is this
)

type entry struct {
	state rowState
	// born: the first thing that happened to the key was an insert, so that
	// the target most likely has no such row.
	born bool
	// fresh: the row was deleted, and is another one now.
	fresh bool
	// moved: the row had another key.
	moved bool
	// owned: row and absent are ours, not the frame's.
	owned  bool
	row    change.Row // the key's values when gone
	absent []int      // the columns of a patch that are not known, ascending
	id     []byte     // the key as one string of bytes
	src    *source    // of the last change, on the way down
}

// made reports whether the row is another one than was there before, if any was.
func (e *entry) made() bool { return e.state != rowGone && (e.born || e.fresh || e.moved) }

func newFolded(facility string) *folded {
	return &folded{facility: facility, byTarget: map[*target]*tableOps{}}
}

// check refuses rows of other facilities before anything of tx is folded.
func (f *folded) check(tx *change.Tx, shapes []*shape) error {
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if !c.Op.OfRows() {
			continue
		}
		sh := shapes[c.Table]
		fc := sh.facilityColumn
		if fc < 0 {
			continue
		}
		if c.Row != nil && !slices.Contains(c.Absent, fc) && !sh.isFacility(c.Row[fc], f.facility) {
			return describe(sh.foreign(c.Row[fc]), Up, f.facility, change.Position{Seq: tx.Seq}, sh, c)
		}
		if c.Range != nil {
			for _, row := range c.Range.Rows {
				if !sh.isFacility(row[fc], f.facility) {
					return describe(sh.foreign(row[fc]), Up, f.facility, change.Position{Seq: tx.Seq}, sh, &change.Change{Row: row})
				}
			}
		}
	}
	return nil
}

// add folds one transaction in. check must have passed.
func (f *folded) add(tx *change.Tx, shapes []*shape) {
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op.OfRows() {
			f.change(shapes[c.Table], c)
		}
	}
}

func (f *folded) change(sh *shape, c *change.Change) {
	if sh.passedOver {
		return
	}
	c = sh.trim(c)
	t := f.table(sh)
	t.changes++
	t.source = f.source
	f.saw(sh)
	if sh.class == Event && (c.Op == change.Delete || c.Op == change.Truncate) {
		return // history stays, whatever the facility prunes
	}
	switch c.Op {
	case change.Insert:
		t.current(sh).insert(sh, c)
	case change.Update:
		t.update(sh, c)
	case change.Delete:
		t.current(sh).remove(sh, c.Key)
	case change.Truncate:
		// What came before is removed as well.
		t.ops = []*op{{shape: sh, truncate: true, src: f.source}}
	case change.Range:
		t.keyRange(&op{shape: sh, keyRange: c.Range, src: f.source})
	}
}

// keyRange adds a range, to the one before it if it begins where that ends.
func (t *tableOps) keyRange(o *op) {
	n, r := len(t.ops), o.keyRange
	if n > 0 && r.After != nil && o.src == nil {
		last := t.ops[n-1]
		if k := last.keyRange; k != nil && last.shape == o.shape && k.Partial == r.Partial && len(k.Rows)+len(r.Rows) <= joinMaxRows && slices.EqualFunc(k.UpTo, r.After, bytes.Equal) {
			if last.parts == nil {
				// What the frame has is not ours to change.
				whole := &change.KeyRange{After: k.After, Rows: slices.Clone(k.Rows), Partial: k.Partial}
				last = &op{shape: o.shape, keyRange: whole, parts: []*op{last}}
				t.ops[n-1] = last
			}
			last.parts = append(last.parts, o)
			last.keyRange.UpTo, last.keyRange.Rows = r.UpTo, append(last.keyRange.Rows, r.Rows...)
			return
		}
	}
	t.ops = append(t.ops, o)
}

// table returns the operations on sh's table. The catalog may have been read anew
// between two frames: then one table has two targets, and still one order.
func (f *folded) table(sh *shape) *tableOps {
	if t := f.byTarget[sh.target]; t != nil {
		return t
	}
	i := slices.IndexFunc(f.tables, func(t *tableOps) bool { return t.shape.target.is(sh.target) })
	if i < 0 {
		i = len(f.tables)
		f.tables = append(f.tables, &tableOps{shape: sh})
	}
	f.byTarget[sh.target] = f.tables[i]
	return f.tables[i]
}

// saw notes what the sender of a fact row had seen.
func (f *folded) saw(sh *shape) {
	switch {
	case f.source == nil || sh.class != Fact:
	case !f.any:
		f.seen, f.any = f.source.seen, true
	case f.source.seen != f.seen:
		f.mixed = true
		if f.source.seen.Before(f.seen) {
			f.seen = f.source.seen
		}
	}
}

// split parts the tables into those that only the sender writes, and those of
// fact rows on the way down.
func (f *folded) split() (others, facts []*tableOps) {
	if !f.any {
		return f.tables, nil
	}
	for _, t := range f.tables {
		if t.shape.class == Fact {
			facts = append(facts, t)
		} else {
			others = append(others, t)
		}
	}
	return others, facts
}

// current returns the set at the end of the operations.
func (t *tableOps) current(sh *shape) *set {
	if n := len(t.ops); n > 0 && t.ops[n-1].set != nil && t.ops[n-1].shape == sh {
		t.ops[n-1].set.src = t.source
		return t.ops[n-1].set
	}
	return t.next(sh, int(sh.lastSize.Load()))
}

// next begins another set behind the operations, with room for n rows at first.
func (t *tableOps) next(sh *shape, n int) *set {
	s := &set{entries: make([]entry, 0, n), src: t.source}
	if len(sh.key) > 0 {
		s.index = newKeyIndex(n)
	}
	t.ops = append(t.ops, &op{shape: sh, set: s})
	return s
}

// find returns the key's entry, or nil and what push needs to add it.
func (s *set) find(id []byte) (e *entry, hash uint64) {
	n, hash := s.index.find(s.entries, id)
	if n < 0 {
		return nil, hash
	}
	return &s.entries[n], hash
}

func (s *set) push(hash uint64, e entry) {
	e.src = s.src
	s.entries = append(s.entries, e)
	s.index.add(s.entries, len(s.entries)-1, hash)
}

func (s *set) insert(sh *shape, c *change.Change) {
	if s.index == nil {
		s.entries = append(s.entries, entry{state: rowPut, born: true, row: c.Row})
		return
	}
	s.put(sh.rowID(c.Row), c.Row, false)
}

// put makes the key's row exactly row.
func (s *set) put(id []byte, row change.Row, owned bool) {
	e, hash := s.find(id)
	if e == nil {
		s.push(hash, entry{state: rowPut, born: true, row: row, owned: owned, id: id})
		return
	}
	*e = entry{state: rowPut, born: e.born, fresh: e.fresh || e.state == rowGone, row: row, owned: owned, id: e.id, src: s.src}
}

func (s *set) remove(sh *shape, key change.Row) {
	id := keyID(key)
	e, hash := s.find(id)
	if e == nil {
		s.push(hash, entry{state: rowGone, row: key, id: id})
		return
	}
	*e = entry{state: rowGone, born: e.born, row: key, id: e.id, src: s.src}
}

func (t *tableOps) update(sh *shape, c *change.Change) {
	row, absent, owned := c.Row, c.Absent, false
	if len(sh.key) == 0 {
		// An event table without a key: history is only added to.
		return
	}
	if c.Key != nil {
		row, absent, owned = sh.restoreKey(c)
		if !bytes.Equal(keyID(c.Key), sh.rowID(row)) {
			t.rename(sh, c, row, absent, owned)
			return
		}
	}
	id := sh.rowID(row)
	s := t.current(sh)
	if e, hash := s.find(id); e != nil && e.state == rowGone && len(absent) > 0 {
		// Another facility's row that is this one's now has taken the key of one that
		// was removed. Behind the removal the target finds that it lacks the row, and
		// asks for it.
		t.next(sh, minSlots/2).push(hash, entry{state: rowPatch, fresh: true, row: row, absent: absent, owned: owned, id: id})
		return
	}
	s.patch(id, row, absent, owned)
}

// restoreKey returns the row with the key columns that were not sent taken
// from the old key: what was not sent has not changed.
func (sh *shape) restoreKey(c *change.Change) (row change.Row, absent []int, owned bool) {
	if len(c.Absent) == 0 {
		return c.Row, c.Absent, false
	}
	row = slices.Clone(c.Row)
	for i, k := range sh.key {
		if slices.Contains(c.Absent, k) {
			row[k] = c.Key[i]
		}
	}
	absent = slices.DeleteFunc(slices.Clone(c.Absent), func(a int) bool { return slices.Contains(sh.key, a) })
	return row, absent, true
}

// patch sets the columns that were sent. Of a row that is gone that must be all.
func (s *set) patch(id []byte, row change.Row, absent []int, owned bool) {
	e, hash := s.find(id)
	if e == nil {
		s.push(hash, entry{state: rowPatch, row: row, absent: absent, owned: owned, id: id})
		return
	}
	e.src = s.src
	switch {
	case e.state == rowGone:
		*e = entry{src: s.src, state: rowPut, born: e.born, fresh: true, row: row, owned: owned, id: e.id}
	case len(absent) == 0:
		if e.row, e.absent, e.owned = row, nil, owned; e.fresh {
			e.state = rowPut
		}
	default:
		e.merge(row, absent)
	}
}

// merge takes over the columns that were sent.
func (e *entry) merge(row change.Row, absent []int) {
	if !e.owned {
		e.row, e.absent, e.owned = slices.Clone(e.row), slices.Clone(e.absent), true
	}
	for i, v := range row {
		if !slices.Contains(absent, i) {
			e.row[i] = v
		}
	}
	if e.state == rowPatch {
		e.absent = slices.DeleteFunc(e.absent, func(a int) bool { return !slices.Contains(absent, a) })
	}
}

// rename moves a row to another key. Where all of the row is known it is a
// delete and an insert; otherwise only the target can carry the rest over.
func (t *tableOps) rename(sh *shape, c *change.Change, row change.Row, absent []int, owned bool) {
	s := t.current(sh)
	old, _ := s.find(keyID(c.Key))
	known := len(absent) == 0
	if !known && old != nil && old.state == rowPut {
		full := slices.Clone(old.row)
		for i, v := range row {
			if !slices.Contains(absent, i) {
				full[i] = v
			}
		}
		row, known, owned = full, true, true
	}
	if !known || sh.keepsMore || old != nil && old.state == rowGone {
		t.ops = append(t.ops, &op{shape: sh, rename: c, src: t.source})
		return
	}
	s.remove(sh, c.Key)
	s.put(sh.rowID(row), row, owned)
}

// rowID returns the row's key as one string of bytes.
func (sh *shape) rowID(row change.Row) []byte {
	if len(sh.key) == 1 {
		return row[sh.key[0]]
	}
	var b []byte
	for _, k := range sh.key {
		b = binary.AppendUvarint(b, uint64(len(row[k])))
		b = append(b, row[k]...)
	}
	return b
}

func keyID(key change.Row) []byte {
	if len(key) == 1 {
		return key[0]
	}
	var b []byte
	for _, v := range key {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	return b
}
