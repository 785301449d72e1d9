package change

import (
	"fmt"
)

// rangeMessage is the content of the logical message by which a range of rows
// takes its place in the WAL: capture's loader writes it, capture reads it.
type rangeMessage struct {
	_     struct{} `cbor:",toarray"`
	Table Table
	Range KeyRange
}

// rowMessage is the content of the logical message by which one row's change
// takes its place in the WAL although no statement made it there.
type rowMessage struct {
	_      struct{} `cbor:",toarray"`
	Table  Table
	Op     Op
	Key    Row
	Row    Row
	Absent []int
}

// maxColumns is PostgreSQL's own limit.
const maxColumns = 1664

// RangeWriter puts the message of a range together, row by row, in the encoding
// of a rangeMessage. Reset makes it empty and keeps its memory.
type RangeWriter struct {
	rows []byte
	n    int
}

// Reset makes w empty.
func (w *RangeWriter) Reset() { w.rows, w.n = w.rows[:0], 0 }

// Add adds a row. Nothing of it is kept.
func (w *RangeWriter) Add(row Row) { w.rows, w.n = appendRow(w.rows, row), w.n+1 }

// Rows is how many rows there are.
func (w *RangeWriter) Rows() int { return w.n }

// Bytes is what the rows take.
func (w *RangeWriter) Bytes() int { return len(w.rows) }

// Message is the range of t for a logical message.
func (w *RangeWriter) Message(t *Table, after, upTo Row) ([]byte, error) {
	table, err := encMode.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode a range of %s: %w", t.ID(), err)
	}
	b := make([]byte, 0, len(w.rows)+len(table)+256)
	b = append(append(b, cborArray|2), table...)
	b = appendRow(appendRow(append(b, cborArray|3), after), upTo)
	if w.n == 0 {
		return append(b, cborNull), nil
	}
	return append(appendHead(b, cborArray, uint64(w.n)), w.rows...), nil
}

// EncodeRange writes a range of a table for a logical message.
func EncodeRange(t *Table, r *KeyRange) ([]byte, error) {
	var w RangeWriter
	for _, row := range r.Rows {
		w.Add(row)
	}
	return w.Message(t, r.After, r.UpTo)
}

// RawRange is a range as it is encoded in a message and in a frame's body.
type RawRange []byte

// ScanRange checks what EncodeRange wrote and leaves the rows in their encoding,
// which is a frame's own, so that nothing is unpacked and packed again. What it
// returns shares b. The error wraps ErrCorrupt, as that of DecodeRange.
func ScanRange(b []byte) (*Table, RawRange, error) {
	s := &scanner{b: b, left: partsMax}
	t := new(Table)
	raw, err := s.rangeMessage(t)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: range of %q: %w", ErrCorrupt, t.ID(), err)
	}
	return t, raw, nil
}

func (s *scanner) rangeMessage(t *Table) (RawRange, error) {
	if err := s.array(2); err != nil {
		return nil, err
	}
	table := s.b
	if err := s.pass(maxDepth); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	if err := decMode.Unmarshal(table[:len(table)-len(s.b)], t); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	keys := len(t.KeyColumns())
	if t.Schema == "" || t.Name == "" || keys == 0 || len(t.Columns) > maxColumns {
		return nil, fmt.Errorf("%d columns, %d of them key", len(t.Columns), keys)
	}
	raw := s.b
	if err := s.array(3); err != nil {
		return nil, err
	}
	for range 2 {
		if s.null() {
			continue
		}
		if err := s.passRow(keys); err != nil {
			return nil, fmt.Errorf("bound: %w", err)
		}
	}
	if !s.null() {
		n, err := s.arrayLen(1, 1)
		if err != nil {
			return nil, fmt.Errorf("rows: %w", err)
		}
		for i := range n {
			if err := s.passRow(len(t.Columns)); err != nil {
				return nil, fmt.Errorf("row %d of %d: %w", i+1, n, err)
			}
		}
	}
	if len(s.b) != 0 {
		return nil, fmt.Errorf("%d bytes too many", len(s.b))
	}
	return raw, nil
}

// passRow goes over a row of exactly n values.
func (s *scanner) passRow(n int) error {
	if err := s.array(uint64(n)); err != nil {
		return err
	}
	if s.left -= n; s.left < 0 {
		return fmt.Errorf("more than %d values", partsMax)
	}
	return s.passValues(n)
}

// passValues goes over n values.
func (s *scanner) passValues(n int) error {
	for range n {
		if s.null() {
			continue
		}
		size, err := s.head(majorBytes)
		if err != nil {
			return fmt.Errorf("value: %w", err)
		}
		if size > uint64(len(s.b)) {
			return errShort
		}
		s.b = s.b[size:]
	}
	return nil
}

// DecodeRange reads and checks what EncodeRange wrote. Whoever may emit logical
// messages in the database may have written it; the error wraps ErrCorrupt.
func DecodeRange(b []byte) (*Table, *KeyRange, error) {
	m := new(rangeMessage)
	if err := decMode.Unmarshal(b, m); err != nil {
		return nil, nil, fmt.Errorf("%w: range: %w", ErrCorrupt, err)
	}
	keys := len(m.Table.KeyColumns())
	if m.Table.Schema == "" || m.Table.Name == "" || keys == 0 || len(m.Table.Columns) > maxColumns {
		return nil, nil, fmt.Errorf("%w: range of %q with %d columns, %d of them key", ErrCorrupt, m.Table.ID(), len(m.Table.Columns), keys)
	}
	if err := checkRange(&m.Range, len(m.Table.Columns), keys); err != nil {
		return nil, nil, fmt.Errorf("%w: range of %s: %w", ErrCorrupt, m.Table.ID(), err)
	}
	return &m.Table, &m.Range, nil
}

// EncodeRow writes an Insert, Update or Delete of a table's row for a logical
// message; c.Table means nothing.
func EncodeRow(t *Table, c *Change) ([]byte, error) {
	m := &rowMessage{Table: *t, Op: c.Op, Key: c.Key, Row: c.Row, Absent: c.Absent}
	if err := m.check(); err != nil {
		return nil, err
	}
	b, err := encMode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode a row of %s: %w", t.ID(), err)
	}
	return b, nil
}

// DecodeRow reads and checks what EncodeRow wrote. Whoever may emit logical
// messages in the database may have written it; the error wraps ErrCorrupt.
func DecodeRow(b []byte) (*Table, *Change, error) {
	m := new(rowMessage)
	if err := decMode.Unmarshal(b, m); err != nil {
		return nil, nil, fmt.Errorf("%w: row: %w", ErrCorrupt, err)
	}
	if err := m.check(); err != nil {
		return nil, nil, err
	}
	return &m.Table, &Change{Op: m.Op, Key: m.Key, Row: m.Row, Absent: m.Absent}, nil
}

func (m *rowMessage) check() error {
	if m.Table.Schema == "" || m.Table.Name == "" || len(m.Table.KeyColumns()) == 0 || len(m.Table.Columns) > maxColumns {
		return fmt.Errorf("%w: row of %q with %d columns", ErrCorrupt, m.Table.ID(), len(m.Table.Columns))
	}
	switch m.Op {
	case Insert, Update, Delete:
	default:
		return fmt.Errorf("%w: %s of %s in a row message", ErrCorrupt, m.Op, m.Table.ID())
	}
	b := Body{Tables: []Table{m.Table}}
	if err := b.checkChange(&Change{Op: m.Op, Key: m.Key, Row: m.Row, Absent: m.Absent}); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
