package change

import "fmt"

// MaxMendRows bounds what one message mends.
const MaxMendRows = 1000

// Mending is the content of the logical message by which single rows are sent
// again: it becomes an update of each of Rows, which are whole, and a delete of
// each of Gone. Unlike a range it says nothing of the rows between them.
type Mending struct {
	_     struct{} `cbor:",toarray"`
	Table Table
	Rows  []Row
	Gone  []Row // keys
}

// EncodeMending writes m for a logical message.
func EncodeMending(m *Mending) ([]byte, error) {
	b, err := encMode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode rows of %s: %w", m.Table.ID(), err)
	}
	return b, nil
}

// DecodeMending reads and checks what EncodeMending wrote. Whoever may emit
// logical messages in the database may have written it; the error wraps ErrCorrupt.
func DecodeMending(b []byte) (*Mending, error) {
	m := new(Mending)
	if err := decMode.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: rows to mend: %w", ErrCorrupt, err)
	}
	if err := checkKeyed(&m.Table); err != nil {
		return nil, err
	}
	if n := len(m.Rows) + len(m.Gone); n == 0 || n > MaxMendRows {
		return nil, fmt.Errorf("%w: %d rows of %s to mend", ErrCorrupt, n, m.Table.ID())
	}
	for _, row := range m.Rows {
		if len(row) != len(m.Table.Columns) {
			return nil, fmt.Errorf("%w: row of %s with %d values for %d columns", ErrCorrupt, m.Table.ID(), len(row), len(m.Table.Columns))
		}
	}
	for _, key := range m.Gone {
		if keys := len(m.Table.KeyColumns()); len(key) != keys {
			return nil, fmt.Errorf("%w: key of %s with %d values for %d key columns", ErrCorrupt, m.Table.ID(), len(key), keys)
		}
	}
	return m, nil
}
