package change

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Reasons of a frame of Changes from which the sender left out rows for want of
// space. Its numbers are whole: transactions of which nothing is left are there
// and empty.
const (
	// Folded: rows that change again further on are left out. What is there of a
	// row is its last image.
	Folded = "folded"
	// Thinned: all rows of some tables are left out, and follow as Range changes.
	// Whoever asks what such a frame touched must take it for everything.
	Thinned = "thinned"
)

// Thin returns a frame with the same numbers and without the changes of the
// tables for which drop says so. The frame itself comes back when there are none.
func Thin(f Sealed, drop func(*Table) bool) (Sealed, error) {
	var dropped []bool
	return without(f, Thinned, func(b *Body) {
		for i := range b.Tables {
			dropped = append(dropped, drop(&b.Tables[i]))
		}
	}, func(_ *Body, c *Change, _ place) bool { return dropped[c.Table] })
}

// without leaves changes out of a frame.
func without(f Sealed, reason string, begin func(*Body), drop func(*Body, *Change, place) bool) (Sealed, error) {
	if f.Header.Kind != Changes || f.Header.Reason == Thinned {
		return f, nil
	}
	b, err := f.Open()
	if err != nil {
		return f, fmt.Errorf("thin transactions from %d on: %w", f.Header.First, err)
	}
	begin(b)
	left := 0
	for i := range b.Txs {
		tx := &b.Txs[i]
		kept := tx.Changes[:0]
		for j := range tx.Changes {
			if c := &tx.Changes[j]; c.Op == Note || !drop(b, c, placeOf(&f.Header, tx.Seq, j)) {
				kept = append(kept, *c)
			}
		}
		left += len(tx.Changes) - len(kept)
		tx.Changes = kept
	}
	if left == 0 {
		return f, nil
	}
	h := f.Header
	h.Reason = reason
	return Seal(h, b)
}

// place is where in a stream a change stands.
type place struct {
	epoch, seq uint64
	part       uint32
	change     int
}

func placeOf(h *Header, seq uint64, change int) place {
	return place{h.Epoch, seq, h.Part, change}
}

func (p place) before(q place) bool {
	return cmp.Or(cmp.Compare(p.epoch, q.epoch), cmp.Compare(p.seq, q.seq), cmp.Compare(p.part, q.part), cmp.Compare(p.change, q.change)) < 0
}

// foldMaxKeys bounds the memory of a Fold: some 200 MB. Changes of further keys
// stay.
const foldMaxKeys = 1 << 20

// Fold leaves out the changes of rows that are written whole again further on.
// Look is given all frames in order, then Fold each of them.
type Fold struct {
	// Of says which tables' rows may be folded.
	Of   func(*Table) bool
	keys map[rowID]*lasting
	// barred is the last change of a table that was about more than one row.
	barred map[string]place
}

// rowID is a hash of table and key.
type rowID [16]byte

// lasting is where a row was last written whole, and where its key last was another's.
type lasting struct{ whole, moved place }

// Look takes in a frame.
func (x *Fold) Look(f *Sealed) error {
	if f.Header.Kind != Changes {
		return nil
	}
	b, err := f.Open()
	if err != nil {
		return fmt.Errorf("fold transactions from %d on: %w", f.Header.First, err)
	}
	if x.keys == nil {
		x.keys, x.barred = map[rowID]*lasting{}, map[string]place{}
	}
	for i := range b.Txs {
		for j := range b.Txs[i].Changes {
			c := &b.Txs[i].Changes[j]
			if c.Op == Note || !x.Of(&b.Tables[c.Table]) {
				continue
			}
			x.look(&b.Tables[c.Table], c, placeOf(&f.Header, b.Txs[i].Seq, j))
		}
	}
	return nil
}

func (x *Fold) look(t *Table, c *Change, at place) {
	id, old, one := rowsOf(t, c)
	switch {
	case !one:
		x.barred[t.ID()] = at
	case old != nil:
		x.row(*old).moved, x.row(id).moved = at, at
	case len(c.Absent) == 0:
		x.row(id).whole = at
	}
}

// row returns what is kept of a row; of one too many, nothing is.
func (x *Fold) row(id rowID) *lasting {
	l := x.keys[id]
	if l == nil {
		l = new(lasting)
		if len(x.keys) < foldMaxKeys {
			x.keys[id] = l
		}
	}
	return l
}

// Fold returns a frame without what is written again further on.
func (x *Fold) Fold(f Sealed) (Sealed, error) {
	return without(f, Folded, func(*Body) {}, func(b *Body, c *Change, at place) bool {
		t := &b.Tables[c.Table]
		if !x.Of(t) {
			return false
		}
		id, old, one := rowsOf(t, c)
		l := x.keys[id]
		return one && old == nil && l != nil && at.before(l.whole) && !at.before(l.moved) && !at.before(x.barred[t.ID()])
	})
}

// rowsOf returns which row a change is about, and which other when it changed the
// key; one is false when it may be about more.
func rowsOf(t *Table, c *Change) (id rowID, old *rowID, one bool) {
	keys := t.KeyColumns()
	if c.Op != Insert && c.Op != Update && c.Op != Delete || len(keys) == 0 {
		return id, nil, false
	}
	if c.Op == Delete {
		return idOf(t, c.Key), nil, true
	}
	key := make(Row, len(keys))
	for i, k := range keys {
		key[i] = c.Row[k]
	}
	id = idOf(t, key)
	if c.Key != nil {
		if o := idOf(t, c.Key); o != id {
			return id, &o, true
		}
	}
	return id, nil, true
}

func idOf(t *Table, key Row) (id rowID) {
	h := sha256.New()
	var n [8]byte
	for _, part := range append(Row{[]byte(t.Schema), []byte(t.Name)}, key...) {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	copy(id[:], h.Sum(nil))
	return id
}
