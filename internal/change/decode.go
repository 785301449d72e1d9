package change

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The body of a frame is decoded by hand where it is many: transactions,
// changes and values. A value is a slice of the unpacked body, and the rows
// share a few large slabs, which takes a fifth of the time and a twentieth of
// the allocations of the general decoder. It reads the same CBOR (RFC 8949):
// a test holds the two equal. Tables, which are few, are left to the general
// decoder.

const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	cborFalse  = 0xf4
	cborNull   = 0xf6
)

var errShort = errors.New("ends too early")

// partsMax bounds what a body unpacks to: a value takes one part, 24 bytes of
// memory, although a NULL takes one byte of the body and next to nothing of
// the frame. What capture seals has a hundredth of it.
const partsMax = 8 << 20

// Parts that a change and a transaction take besides their values, and at most
// an element of any array that the general decoder reads.
const (
	changeParts  = 5
	txParts      = 2
	elementParts = 3
)

// maxDepth of arrays in what the general decoder reads.
const maxDepth = 12

type scanner struct {
	b    []byte
	slab [][]byte
	left int // parts that may still come
	// bounds: the rows of ranges are passed over.
	bounds bool
}

func decodeBody(raw []byte, bounds bool) (*Body, error) {
	s := &scanner{b: raw, left: partsMax, bounds: bounds}
	if err := s.array(2); err != nil {
		return nil, err
	}
	b := new(Body)
	tables := s.b
	if err := s.pass(maxDepth); err != nil {
		return nil, fmt.Errorf("tables: %w", err)
	}
	if err := decMode.Unmarshal(tables[:len(tables)-len(s.b)], &b.Tables); err != nil {
		return nil, fmt.Errorf("tables: %w", err)
	}
	var err error
	if b.Txs, err = s.txs(); err != nil {
		return nil, err
	}
	if len(s.b) != 0 {
		return nil, fmt.Errorf("%d bytes too many", len(s.b))
	}
	return b, nil
}

func (s *scanner) txs() ([]Tx, error) {
	if s.null() {
		return nil, nil
	}
	n, err := s.arrayLen(5, txParts)
	if err != nil {
		return nil, fmt.Errorf("transactions: %w", err)
	}
	txs := make([]Tx, n)
	for i := range txs {
		if err := s.tx(&txs[i]); err != nil {
			return nil, fmt.Errorf("transaction %d of %d: %w", i+1, n, err)
		}
	}
	return txs, nil
}

func (s *scanner) tx(tx *Tx) (err error) {
	if err = s.array(4); err != nil {
		return err
	}
	if tx.Seq, err = s.uint(); err != nil {
		return err
	}
	if tx.LSN, err = s.uint(); err != nil {
		return err
	}
	if tx.CommitMicros, err = s.int(); err != nil {
		return err
	}
	if s.null() {
		return nil
	}
	n, err := s.arrayLen(7, changeParts)
	if err != nil {
		return fmt.Errorf("changes: %w", err)
	}
	tx.Changes = make([]Change, n)
	for i := range tx.Changes {
		if err := s.change(&tx.Changes[i]); err != nil {
			return fmt.Errorf("change %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

func (s *scanner) change(c *Change) error {
	if err := s.array(6); err != nil {
		return err
	}
	op, err := s.uint()
	if err != nil {
		return err
	}
	table, err := s.uint()
	if err != nil {
		return err
	}
	if op > 255 || table > 1<<31 {
		return fmt.Errorf("operation %d on table %d", op, table)
	}
	c.Op, c.Table = Op(op), int(table)
	if c.Key, err = s.row(); err != nil {
		return err
	}
	if c.Row, err = s.row(); err != nil {
		return err
	}
	if c.Absent, err = s.ints(); err != nil {
		return err
	}
	if s.null() {
		return nil
	}
	c.Range = new(KeyRange)
	if err := s.keyRange(c.Range); err != nil {
		return fmt.Errorf("range: %w", err)
	}
	return nil
}

func (s *scanner) keyRange(r *KeyRange) (err error) {
	if err = s.array(3); err != nil {
		return err
	}
	if r.After, err = s.row(); err != nil {
		return err
	}
	if r.UpTo, err = s.row(); err != nil {
		return err
	}
	if s.null() {
		return nil
	}
	n, err := s.arrayLen(1, 1)
	if err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	if !s.bounds {
		r.Rows = make([]Row, n)
	}
	for i := range n {
		if s.bounds {
			err = s.passAnyRow()
		} else {
			r.Rows[i], err = s.row()
		}
		if err != nil {
			return fmt.Errorf("row %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

// passAnyRow goes over what row returns.
func (s *scanner) passAnyRow() error {
	if s.null() {
		return nil
	}
	n, err := s.arrayLen(1, 1)
	if err != nil {
		return fmt.Errorf("row: %w", err)
	}
	return s.passValues(n)
}

func (s *scanner) row() (Row, error) {
	if s.null() {
		return nil, nil
	}
	n, err := s.arrayLen(1, 1)
	if err != nil {
		return nil, fmt.Errorf("row: %w", err)
	}
	row := s.take(n)
	for i := range row {
		if s.null() {
			continue
		}
		size, err := s.head(majorBytes)
		if err != nil {
			return nil, fmt.Errorf("value: %w", err)
		}
		if size > uint64(len(s.b)) {
			return nil, errShort
		}
		row[i] = s.b[:size:size]
		s.b = s.b[size:]
	}
	return row, nil
}

// take cuts n values off the slab.
func (s *scanner) take(n int) Row {
	if n > len(s.slab) {
		s.slab = make([][]byte, max(n, 4096))
	}
	row := s.slab[:n:n]
	s.slab = s.slab[n:]
	return row
}

func (s *scanner) ints() ([]int, error) {
	if s.null() {
		return nil, nil
	}
	n, err := s.arrayLen(1, 1)
	if err != nil {
		return nil, fmt.Errorf("absent columns: %w", err)
	}
	list := make([]int, n)
	for i := range list {
		v, err := s.uint()
		if err != nil {
			return nil, err
		}
		if v > 1<<31 {
			return nil, fmt.Errorf("absent column %d", v)
		}
		list[i] = int(v)
	}
	return list, nil
}

func (s *scanner) null() bool {
	if len(s.b) == 0 || s.b[0] != cborNull {
		return false
	}
	s.b = s.b[1:]
	return true
}

// array expects an array of exactly n elements.
func (s *scanner) array(n uint64) error {
	got, err := s.head(majorArray)
	if err == nil && got != n {
		err = fmt.Errorf("an array of %d where %d belong", got, n)
	}
	return err
}

// arrayLen reads the head of an array whose elements take at least elemBytes
// of the body and parts of memory each, so that a few bytes cannot ask for much.
func (s *scanner) arrayLen(elemBytes, parts int) (int, error) {
	n, err := s.head(majorArray)
	if err != nil {
		return 0, err
	}
	if n > uint64(len(s.b)/elemBytes) {
		return 0, errShort
	}
	if s.left -= int(n) * parts; s.left < 0 {
		return 0, fmt.Errorf("more than %d values", partsMax)
	}
	return int(n), nil
}

// pass goes over the next item, which the general decoder is to read, and counts
// its parts: that decoder bounds each array, and not what they come to together.
func (s *scanner) pass(depth int) error {
	if len(s.b) == 0 {
		return errShort
	}
	switch major := s.b[0] >> 5; major {
	case majorUint, majorNint:
		_, err := s.head(major)
		return err
	case majorBytes, majorText:
		n, err := s.head(major)
		if err == nil && n > uint64(len(s.b)) {
			err = errShort
		}
		if err == nil {
			s.b = s.b[n:]
		}
		return err
	case majorArray:
		if depth == 0 {
			return fmt.Errorf("arrays deeper than %d", maxDepth)
		}
		n, err := s.arrayLen(1, elementParts)
		for i := 0; i < n && err == nil; i++ {
			err = s.pass(depth - 1)
		}
		return err
	}
	if s.b[0] < cborFalse || s.b[0] > cborNull {
		return fmt.Errorf("head %#x does not belong here", s.b[0])
	}
	s.b = s.b[1:]
	return nil
}

func (s *scanner) uint() (uint64, error) { return s.head(majorUint) }

func (s *scanner) int() (int64, error) {
	if len(s.b) > 0 && s.b[0]>>5 == majorNint {
		n, err := s.head(majorNint)
		if err == nil && n > 1<<63-1 {
			err = errors.New("number too small")
		}
		return -1 - int64(n), err
	}
	n, err := s.head(majorUint)
	if err == nil && n > 1<<63-1 {
		err = errors.New("number too large")
	}
	return int64(n), err
}

// head reads a definite head of the wanted major type (RFC 8949, section 3).
func (s *scanner) head(major byte) (uint64, error) {
	if len(s.b) == 0 {
		return 0, errShort
	}
	first := s.b[0]
	if first>>5 != major {
		return 0, fmt.Errorf("type %d where %d belongs", first>>5, major)
	}
	info := first & 31
	if info < 24 {
		s.b = s.b[1:]
		return uint64(info), nil
	}
	if info > 27 {
		return 0, fmt.Errorf("head %#x is not definite", first)
	}
	size := 1 << (info - 24)
	if len(s.b) < 1+size {
		return 0, errShort
	}
	var buf [8]byte
	copy(buf[8-size:], s.b[1:1+size])
	s.b = s.b[1+size:]
	return binary.BigEndian.Uint64(buf[:]), nil
}
