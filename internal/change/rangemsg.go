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
