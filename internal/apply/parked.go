package apply

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agogsaas/holdfast/internal/change"
)

// A change that the target refuses is parked: it is kept in holdfast.parked, in
// the transaction that moves the position past it, and everything else flows.
// These files do it:
//
//	parked.go   what is kept of a change
//	reason.go   why it waits, in words
//	parkset.go  what waits for a facility, in memory
//	links.go    which rows refer to which, by the target's foreign keys
//	sift.go     what of a batch must wait is taken out of it
//	park.go     a transaction is applied change by change, and what is refused is parked
//	parkrange.go a key range replaces what is parked of it
//	echo.go     what the other side must hear of a change that was applied late
//	retry.go    what waits is tried again
//	showparked.go a parked change beside the row that is in its way

// parkedRow is a change that waits.
type parkedRow struct {
	id           int64 // zero before it is stored
	table        *change.Table
	change       *change.Change // an insert, update or delete
	key          change.Row     // as the sender has the row now
	hash         keyHash
	old          *keyHash  // of the key before, if the change gave the row another one
	provides     []keyHash // what rows that refer to this one wait for
	waitsFor     []keyHash
	seq          uint64
	epoch        uint64
	commitMicros int64
	cause        cause

	// On the way down: what the sender had seen, who made the change, and whether
	// it is only a row of a range.
	seen    change.Position
	by      string
	ofRange bool

	editedBy string // who corrected it; empty for nobody
}

// keyHash names a row of a table, or a value that foreign keys refer to.
type keyHash [16]byte

// hashOf mixes words; nil and empty ones differ.
func hashOf(words ...[]byte) (h keyHash) {
	var b []byte
	for _, w := range words {
		if w == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(w))+1)
		b = append(b, w...)
	}
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

// rowHash names the row of the sender's table with the key.
func rowHash(t *change.Table, key change.Row) keyHash {
	return hashOf(append([][]byte{[]byte("row"), []byte(t.Schema), []byte(t.Name)}, key...)...)
}

// keysOf returns the key that the change leaves the row with, and the one
// before if that is another. Both are nil for a table without a key.
func keysOf(keyColumns []int, c *change.Change) (now, old change.Row) {
	if len(keyColumns) == 0 {
		return nil, nil
	}
	if c.Op == change.Delete {
		return c.Key, nil
	}
	now = make(change.Row, len(keyColumns))
	for i, k := range keyColumns {
		now[i] = c.Row[k]
		if c.Key != nil && slices.Contains(c.Absent, k) {
			now[i] = c.Key[i]
		}
	}
	if c.Key != nil && !slices.EqualFunc(now, c.Key, sameValue) {
		old = c.Key
	}
	return now, old
}

func sameValue(a, b []byte) bool { return (a == nil) == (b == nil) && string(a) == string(b) }

// bytes is the size of the change's values.
func (p *parkedRow) bytes() int {
	n := 0
	for _, row := range []change.Row{p.change.Key, p.change.Row} {
		for _, v := range row {
			n += len(v)
		}
	}
	return n
}

// hashes are the rows that changes behind this one may not overtake it on.
func (p *parkedRow) hashes() []keyHash {
	if p.old != nil {
		return []keyHash{p.hash, *p.old}
	}
	return []keyHash{p.hash}
}

// A value is kept as JSON text. What jsonb cannot hold, bytes that are no
// UTF-8 or a zero, is kept as {"hex": …}, so that it comes back as it was.
type keptHex struct {
	Hex string `json:"hex"`
}

func keepValue(v []byte) any {
	switch {
	case v == nil:
		return nil
	case !utf8.Valid(v) || slices.Contains(v, 0):
		return keptHex{hex.EncodeToString(v)}
	}
	return string(v)
}

func keptValue(raw json.RawMessage) ([]byte, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err == nil {
		if s == nil {
			return nil, nil
		}
		return []byte(*s), nil
	}
	var h keptHex
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("a kept value: %w", err)
	}
	v, err := hex.DecodeString(h.Hex)
	if err != nil {
		return nil, fmt.Errorf("a kept value: %w", err)
	}
	if v == nil {
		v = []byte{}
	}
	return v, nil
}

// keepRow returns the row's columns that were sent.
func keepRow(t *change.Table, row change.Row, absent []int) map[string]any {
	kept := make(map[string]any, len(row))
	for i, v := range row {
		if !slices.Contains(absent, i) {
			kept[t.Columns[i].Name] = keepValue(v)
		}
	}
	return kept
}

func keepKey(t *change.Table, key change.Row) map[string]any {
	kept := make(map[string]any, len(key))
	for i, k := range t.KeyColumns() {
		if i < len(key) {
			kept[t.Columns[k].Name] = keepValue(key[i])
		}
	}
	return kept
}

// keptColumn is a column of the sender's table in holdfast.parked.
type keptColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Key  bool   `json:"key"`
}

func keepColumns(t *change.Table) []keptColumn {
	kept := make([]keptColumn, len(t.Columns))
	for i, c := range t.Columns {
		kept[i] = keptColumn{c.Name, c.Type, c.Key}
	}
	return kept
}

// kept is one row of holdfast.parked, read back.
type kept struct {
	ID               int64
	Schema, Table    string
	Op               string
	Key, Row, OldKey []byte // JSON
	Columns          []byte
	Epoch, Seq       int64
	Micros           *int64
	SeenEpoch        int64
	SeenSeq          int64
	By               string
	OfRange          bool
	EditedBy         string
}

// restore makes the change again.
func (k *kept) restore() (*parkedRow, error) {
	var columns []keptColumn
	if err := json.Unmarshal(k.Columns, &columns); err != nil {
		return nil, fmt.Errorf("columns of parked change %d: %w", k.ID, err)
	}
	t := &change.Table{Schema: k.Schema, Name: k.Table}
	for _, c := range columns {
		t.Columns = append(t.Columns, change.Column{Name: c.Name, Type: c.Type, Key: c.Key})
	}
	p := &parkedRow{id: k.ID, table: t, change: &change.Change{}, epoch: uint64(k.Epoch), seq: uint64(k.Seq)}
	p.seen = change.Position{Epoch: uint64(k.SeenEpoch), Seq: uint64(k.SeenSeq)}
	p.by, p.ofRange, p.editedBy = k.By, k.OfRange, k.EditedBy
	if k.Micros != nil {
		p.commitMicros = *k.Micros
	}
	key, _, err := keptRow(t, k.Key, t.KeyColumns())
	if err != nil {
		return nil, fmt.Errorf("key of parked change %d: %w", k.ID, err)
	}
	p.key = key
	c := p.change
	switch k.Op {
	case "delete":
		c.Op, c.Key = change.Delete, key
		return p, nil
	case "insert":
		c.Op = change.Insert
	default:
		c.Op = change.Update
	}
	if c.Row, c.Absent, err = keptRow(t, k.Row, nil); err != nil {
		return nil, fmt.Errorf("row of parked change %d: %w", k.ID, err)
	}
	if k.OldKey != nil {
		if c.Key, _, err = keptRow(t, k.OldKey, t.KeyColumns()); err != nil {
			return nil, fmt.Errorf("old key of parked change %d: %w", k.ID, err)
		}
	}
	return p, nil
}

// keptRow reads the values of the columns, all of the table's if nil, and which
// of these are not there.
func keptRow(t *change.Table, raw []byte, columns []int) (row change.Row, absent []int, err error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, nil, err
	}
	if columns == nil {
		for i := range t.Columns {
			columns = append(columns, i)
		}
	}
	row = make(change.Row, len(columns))
	for i, c := range columns {
		v, ok := values[t.Columns[c].Name]
		if !ok {
			absent = append(absent, c)
			continue
		}
		if row[i], err = keptValue(v); err != nil {
			return nil, nil, err
		}
	}
	return row, absent, nil
}

// hashArray is the text of a bytea[].
func hashArray(list []keyHash) string {
	words := make([]string, len(list))
	for i, h := range list {
		words[i] = `"\\x` + hex.EncodeToString(h[:]) + `"`
	}
	return "{" + strings.Join(words, ",") + "}"
}

func toHashes(list [][]byte) []keyHash {
	out := make([]keyHash, len(list))
	for i, b := range list {
		copy(out[i][:], b)
	}
	return out
}
