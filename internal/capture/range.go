package capture

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/agogsaas/holdfast/internal/change"
)

// rangeMessage is the content of a logical message with RangePrefix: a key
// range of a table and exactly the rows in it, at the place in the WAL where
// the message stands.
type rangeMessage struct {
	_            struct{} `cbor:",toarray"`
	Schema, Name string
	Columns      []change.Column
	KeyRange     change.KeyRange
}

func (m *rangeMessage) table() change.Table {
	return change.Table{Schema: m.Schema, Name: m.Name, Columns: m.Columns}
}

var rangeDecoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxNestedLevels:  8,
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      16,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}()

// parseRange reads and checks a range message. Whoever may emit logical
// messages in this database wrote it.
func parseRange(b []byte) (*rangeMessage, error) {
	m := new(rangeMessage)
	if err := rangeDecoding.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: range: %w", errMessage, err)
	}
	t := m.table()
	keys := len(t.KeyColumns())
	if m.Schema == "" || m.Name == "" || keys == 0 || len(m.Columns) > maxColumns {
		return nil, fmt.Errorf("%w: range of %q with %d columns, %d of them key", errMessage, t.ID(), len(m.Columns), keys)
	}
	for _, k := range []change.Row{m.KeyRange.After, m.KeyRange.UpTo} {
		if k != nil && len(k) != keys {
			return nil, fmt.Errorf("%w: range of %s with a bound of %d values", errMessage, t.ID(), len(k))
		}
	}
	for _, row := range m.KeyRange.Rows {
		if len(row) != len(m.Columns) {
			return nil, fmt.Errorf("%w: range of %s with a row of %d values", errMessage, t.ID(), len(row))
		}
	}
	return m, nil
}
