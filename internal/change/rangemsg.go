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

// EncodeRange writes a range of a table for a logical message.
func EncodeRange(t *Table, r *KeyRange) ([]byte, error) {
	b, err := encMode.Marshal(&rangeMessage{Table: *t, Range: *r})
	if err != nil {
		return nil, fmt.Errorf("encode a range of %s: %w", t.ID(), err)
	}
	return b, nil
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
