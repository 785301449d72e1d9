package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// Builder collects transactions in the encoding of a frame's body, without a
// Body in between: a change costs a copy of its values and no allocation. What
// it seals is what Seal makes of the same Body. It is not for use by many
// goroutines at once; Reset makes it empty and keeps its memory.
type Builder struct {
	tables []Table
	txs    []builtTx
	buf    []byte // the changes of all transactions, encoded, one after the other
	total  int    // changes
	last   int    // where the last change starts in buf
}

type builtTx struct {
	Tx      // without Changes
	changes int
	from    int // in buf; it ends where the next one starts
}

// Reset makes b empty.
func (b *Builder) Reset() { b.tables, b.txs, b.buf, b.total = b.tables[:0], b.txs[:0], b.buf[:0], 0 }

// Bytes is the size of the encoded changes, and Txs the number of transactions.
func (b *Builder) Bytes() int { return len(b.buf) }

// Txs returns the number of transactions, the unfinished one included.
func (b *Builder) Txs() int { return len(b.txs) }

// Changes returns the number of changes in all transactions.
func (b *Builder) Changes() int { return b.total }

// Tx returns transaction i without its changes.
func (b *Builder) Tx(i int) Tx { return b.txs[i].Tx }

// AddTable adds a table and returns its position. The caller keeps track of
// which tables it added.
func (b *Builder) AddTable(t Table) int {
	b.tables = append(b.tables, t)
	return len(b.tables) - 1
}

// Begin starts a transaction.
func (b *Builder) Begin(seq uint64, commitMicros int64) {
	b.txs = append(b.txs, builtTx{Tx: Tx{Seq: seq, CommitMicros: commitMicros}, from: len(b.buf)})
}

// Commit says where the last transaction's commit record ends.
func (b *Builder) Commit(lsn uint64) { b.txs[len(b.txs)-1].LSN = lsn }

// Abandon takes the last transaction back.
func (b *Builder) Abandon() {
	last := len(b.txs) - 1
	b.total -= b.txs[last].changes
	b.buf = b.buf[:b.txs[last].from]
	b.txs = b.txs[:last]
}

// Add adds a change to the last transaction. Nothing of it is kept.
func (b *Builder) Add(op Op, table int, key, row Row, absent []int) {
	b.txs[len(b.txs)-1].changes++
	b.total++
	b.last = len(b.buf)
	p := append(b.buf, cborArray|6)
	p = appendHead(p, cborUint, uint64(op))
	p = appendHead(p, cborUint, uint64(table))
	p = appendRow(p, key)
	p = appendRow(p, row)
	if absent == nil {
		p = append(p, cborNull)
	} else {
		p = appendHead(p, cborArray, uint64(len(absent)))
		for _, a := range absent {
			p = appendHead(p, cborUint, uint64(a))
		}
	}
	b.buf = append(p, cborNull)
}

// AddNote adds a Note to the last transaction.
func (b *Builder) AddNote(words ...string) {
	row := make(Row, len(words))
	for i, w := range words {
		row[i] = []byte(w)
	}
	b.Add(Note, 0, nil, row, nil)
}

// AddRange adds a Range change to the last transaction.
func (b *Builder) AddRange(table int, r *KeyRange) {
	p := appendRow(appendRow(append(b.rangeHead(table), cborArray|3), r.After), r.UpTo)
	if r.Rows == nil {
		p = append(p, cborNull)
	} else {
		p = appendHead(p, cborArray, uint64(len(r.Rows)))
		for _, row := range r.Rows {
			p = appendRow(p, row)
		}
	}
	b.buf = p
}

// AddRawRange is AddRange for a range that ScanRange has checked.
func (b *Builder) AddRawRange(table int, r RawRange) {
	b.buf = append(b.rangeHead(table), r...)
}

// rangeHead counts a Range change and returns the buffer with all of it but the range.
func (b *Builder) rangeHead(table int) []byte {
	b.txs[len(b.txs)-1].changes++
	b.total++
	b.last = len(b.buf)
	p := append(b.buf, cborArray|6)
	p = appendHead(p, cborUint, uint64(Range))
	p = appendHead(p, cborUint, uint64(table))
	return append(p, cborNull, cborNull, cborNull)
}

// Fits reports whether the last change that was added takes no more than packed
// bytes when it is packed, and no more than unpacked bytes before. It is cheap
// for all but huge ones.
func (b *Builder) Fits(packed, unpacked int) bool {
	n := len(b.buf) - b.last
	return n <= packed || n <= unpacked && len(zenc().EncodeAll(b.buf[b.last:], nil)) <= packed
}

// Undo takes the last change back. It must not be called twice in a row.
func (b *Builder) Undo() {
	b.txs[len(b.txs)-1].changes--
	b.total--
	b.buf = b.buf[:b.last]
}

// MoveTail makes dst, which is empty, hold the tables and the transactions from
// i on; b keeps the ones before.
func (b *Builder) MoveTail(dst *Builder, i int) {
	dst.tables = append(dst.tables, b.tables...)
	if i == len(b.txs) {
		return
	}
	from := b.txs[i].from
	dst.buf = append(dst.buf, b.buf[from:]...)
	for _, tx := range b.txs[i:] {
		tx.from -= from
		dst.txs = append(dst.txs, tx)
		dst.total += tx.changes
		b.total -= tx.changes
	}
	b.txs, b.buf = b.txs[:i], b.buf[:from]
}

// bodies are the buffers that bodies are put together in.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// keepBodyBytes is the largest buffer that is kept for the next frame.
const keepBodyBytes = 16 << 20

// Seal packs the transactions from to to-1 as Seal does. Of h it fills in
// First, Last, LSN and CommitMicros too; LSN stays 0 when h.More.
func (b *Builder) Seal(h Header, from, to int) (Sealed, error) {
	if from < 0 || from >= to || to > len(b.txs) {
		return Sealed{}, errors.New("seal a frame without transactions")
	}
	p := bodies.Get().(*[]byte)
	defer func() {
		if cap(*p) <= keepBodyBytes {
			bodies.Put(p)
		}
	}()
	body := append((*p)[:0], cborArray|2)
	tables, err := encMode.Marshal(b.tables)
	if err != nil {
		return Sealed{}, fmt.Errorf("encode tables: %w", err)
	}
	body = append(body, tables...)
	body = appendHead(body, cborArray, uint64(to-from))
	h.Changes = 0
	for i := from; i < to; i++ {
		tx, end := &b.txs[i], len(b.buf)
		if i+1 < len(b.txs) {
			end = b.txs[i+1].from
		}
		body = slices.Grow(body, 48+end-tx.from)
		body = append(body, cborArray|4)
		body = appendHead(body, cborUint, tx.Seq)
		body = appendHead(body, cborUint, tx.LSN)
		if tx.CommitMicros < 0 {
			body = appendHead(body, cborNegative, uint64(-1-tx.CommitMicros))
		} else {
			body = appendHead(body, cborUint, uint64(tx.CommitMicros))
		}
		body = appendHead(body, cborArray, uint64(tx.changes))
		body = append(body, b.buf[tx.from:end]...)
		h.Changes += uint32(tx.changes)
	}
	*p = body
	h.First, h.Last = b.txs[from].Seq, b.txs[to-1].Seq
	h.CommitMicros = b.txs[from].CommitMicros
	if !h.More {
		h.LSN = b.txs[to-1].LSN
	}
	return seal(h, body)
}

// seal packs an encoded body. Of h it fills in Version and BodyBytes.
func seal(h Header, body []byte) (Sealed, error) {
	if len(body) > MaxBodyBytes {
		return Sealed{}, fmt.Errorf("frame of %d bytes is larger than %d", len(body), MaxBodyBytes)
	}
	h.Version, h.BodyBytes = FormatVersion, uint32(len(body))
	head, err := encMode.Marshal(&h)
	if err != nil {
		return Sealed{}, fmt.Errorf("encode frame header: %w", err)
	}
	if len(head) > 0xffff {
		return Sealed{}, fmt.Errorf("frame header of %d bytes is larger than 65535", len(head))
	}
	out := make([]byte, prefixBytes, prefixBytes+len(head)+len(body)/3+64)
	binary.BigEndian.PutUint16(out[4:], uint16(len(head)))
	out = append(out, head...)
	out = zenc().EncodeAll(body, out)
	if len(out) > MaxFrameBytes {
		return Sealed{}, fmt.Errorf("sealed frame of %d bytes is larger than %d", len(out), MaxFrameBytes)
	}
	binary.BigEndian.PutUint32(out, crc32.Checksum(out[4:], castagnoli))
	return Sealed{Header: h, Bytes: out}, nil
}

// CBOR's major types, shifted to where they stand in a head.
const (
	cborUint     = majorUint << 5
	cborNegative = majorNint << 5
	cborBytes    = majorBytes << 5
	cborArray    = majorArray << 5
)

func appendHead(p []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(p, major|byte(n))
	case n <= 0xff:
		return append(p, major|24, byte(n))
	case n <= 0xffff:
		return append(p, major|25, byte(n>>8), byte(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(p, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(p, major|27), n)
}

func appendRow(p []byte, r Row) []byte {
	if r == nil {
		return append(p, cborNull)
	}
	p = appendHead(p, cborArray, uint64(len(r)))
	for _, v := range r {
		if v == nil {
			p = append(p, cborNull)
			continue
		}
		p = appendHead(p, cborBytes, uint64(len(v)))
		p = append(p, v...)
	}
	return p
}

// Renumber gives the transactions numbers from first on, and makes all of them
// end at lsn, for those who put transactions together out of parts.
func (b *Builder) Renumber(first, lsn uint64) {
	for i := range b.txs {
		b.txs[i].Seq, b.txs[i].LSN = first+uint64(i), lsn
	}
}
