package unseen

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"

	"github.com/agogsaas/holdfast/internal/change"
)

// Limits of a block.
const (
	blockFrames = math.MaxUint16
	blockPrints = 128 << 10
)

// block is what is known of some frames that follow each other in one epoch.
type block struct {
	first change.Position // of its first frame
	end   change.Position // of its last
	// frames are where each begins, counted from first, and which part it is.
	frames []place
	// prints are fingerprints of table and key, sorted; in is the frame of each.
	prints []uint32
	in     []uint16
	wide   []wide
	opaque bool // prints are forgotten
	lost   bool // the frames are
}

type place struct{ seq, part uint32 }

// wide is a change of more than one key.
type wide struct {
	frame uint16
	table string
	all   bool // every table, as far as one knows
	// keyed: only keys after after up to upTo.
	keyed       bool
	after, upTo change.Row
	order       []order
}

func newBlock(h *change.Header) *block {
	return &block{first: change.Position{Epoch: h.Epoch, Seq: h.First}}
}

func lostBlock(first, last change.Position) *block {
	return &block{first: first, end: last, lost: true}
}

// takes reports whether the frame may be added.
func (b *block) takes(h *change.Header) bool {
	return h.Epoch == b.first.Epoch && len(b.frames) < blockFrames && len(b.prints)+int(h.Changes) <= blockPrints &&
		h.First-b.first.Seq <= math.MaxUint32
}

func (b *block) frame(h *change.Header) uint16 {
	b.frames = append(b.frames, place{uint32(h.First - b.first.Seq), h.Part})
	return uint16(len(b.frames) - 1)
}

func (b *block) add(print uint32, frame uint16) {
	b.prints, b.in = append(b.prints, print), append(b.in, frame)
}

// sort sorts the fingerprints and drops those that a frame has twice.
func (b *block) sort() {
	all := make([]uint64, len(b.prints))
	for i, p := range b.prints {
		all[i] = uint64(p)<<16 | uint64(b.in[i])
	}
	slices.Sort(all)
	all = slices.Compact(all)
	b.prints, b.in = make([]uint32, len(all)), make([]uint16, len(all))
	for i, v := range all {
		b.prints[i], b.in[i] = uint32(v>>16), uint16(v)
	}
}

// joins reports whether b and the block behind it may become one.
func (b *block) joins(c *block) bool {
	return b.first.Epoch == c.first.Epoch && !b.lost && !c.lost && !b.opaque && !c.opaque &&
		len(b.frames)+len(c.frames) <= blockFrames && len(b.prints)+len(c.prints) <= blockPrints &&
		c.first.Seq-b.first.Seq+uint64(c.frames[len(c.frames)-1].seq) <= math.MaxUint32
}

func (b *block) join(c *block) *block {
	shift, n := uint32(c.first.Seq-b.first.Seq), uint16(len(b.frames))
	for _, p := range c.frames {
		b.frames = append(b.frames, place{p.seq + shift, p.part})
	}
	for _, w := range c.wide {
		w.frame += n
		b.wide = append(b.wide, w)
	}
	prints, in := make([]uint32, 0, len(b.prints)+len(c.prints)), make([]uint16, 0, len(b.prints)+len(c.prints))
	for i, j := 0, 0; i < len(b.prints) || j < len(c.prints); {
		if j == len(c.prints) || i < len(b.prints) && b.prints[i] <= c.prints[j] {
			prints, in = append(prints, b.prints[i]), append(in, b.in[i])
			i++
			continue
		}
		prints, in = append(prints, c.prints[j]), append(in, c.in[j]+n)
		j++
	}
	b.prints, b.in, b.end = prints, in, c.end
	return b
}

// forget keeps only where the frames are.
func (b *block) forget() {
	if !b.lost {
		b.prints, b.in, b.opaque = nil, nil, true
	}
}

// last returns the number of the frame's last transaction.
func (b *block) last(n uint16) uint64 {
	// A part of a transaction ends with it, and so does the frame of those before.
	for i := int(n) + 1; i < len(b.frames); i++ {
		if b.frames[i].part == 0 {
			return b.first.Seq + uint64(b.frames[i].seq) - 1
		}
	}
	return b.end.Seq
}

// tableKeys is a table as a frame has it: where its key is.
type tableKeys struct {
	id      string
	columns []string // of the key, sorted
	inRow   []int    // their places in a row
	inKey   []int    // and in a key
	order   []order  // of the key's columns in column order
	seed    uint64
	// odd: the table had another key in another frame.
	odd bool
}

var seed = maphash.MakeSeed()

// table returns what is known of the frame's table, made once for equal ones.
func (x *Index) table(t *change.Table) *tableKeys {
	k := &tableKeys{id: t.ID()}
	type col struct {
		name       string
		row, place int
	}
	var cols []col
	for i, c := range t.KeyColumns() {
		cols = append(cols, col{t.Columns[c].Name, c, i})
		k.order = append(k.order, orderOf(t.Columns[c].Type))
	}
	slices.SortFunc(cols, func(a, b col) int { return cmp.Compare(a.name, b.name) })
	for _, c := range cols {
		k.columns, k.inRow, k.inKey = append(k.columns, c.name), append(k.inRow, c.row), append(k.inKey, c.place)
	}
	k.seed = maphash.String(seed, k.id)
	have := x.tables[k.id]
	if have == nil {
		x.tables[k.id] = k
	} else if !slices.Equal(have.columns, k.columns) {
		have.odd = true
	}
	return k
}

// print is the fingerprint of the table's key, whose values are in the order of
// the columns' names.
func (t *tableKeys) print(key change.Row) uint32 { return fingerprint(t.seed, key) }

func fingerprint(table uint64, key change.Row) uint32 {
	h := table
	for _, v := range key {
		h = h*0x9e3779b97f4a7c15 ^ maphash.Bytes(seed, v)
	}
	return uint32(h ^ h>>32)
}

func (t *tableKeys) fromKey(key change.Row) change.Row {
	out := make(change.Row, len(t.inKey))
	for i, n := range t.inKey {
		out[i] = key[n]
	}
	return out
}

// fromRow returns the key of a row. What was not sent of it is as it was before.
func (t *tableKeys) fromRow(row change.Row, absent []int, before change.Row) change.Row {
	out := make(change.Row, len(t.inRow))
	for i, n := range t.inRow {
		out[i] = row[n]
		if before != nil && slices.Contains(absent, n) {
			out[i] = before[t.inKey[i]]
		}
	}
	return out
}
