// Package change is what one side tells the other: row changes, grouped by
// the transaction that made them, sealed into frames that are the same bytes
// in the queue on disk and on the wire.
//
// In:  internal/capture, which reads the changes from the WAL.
// Out: internal/queue, internal/transfer and internal/apply, which keep, carry and apply them.
package change

import (
	"fmt"
	"slices"
)

// Op is what happened to a row.
type Op uint8

// The operations. Their numbers are on the wire: never renumber.
const (
	Insert   Op = 1
	Update   Op = 2
	Delete   Op = 3
	Truncate Op = 4 // every row of the table that belongs to the sender
	Range    Op = 5 // a key range is exactly these rows; see Change.Range
	Note     Op = 6 // about its transaction rather than about a row; see the notes
	Digest   Op = 7 // what a key range comes to here; Row holds one value, see DigestRecord
)

// Notes are changes with the Op Note: Row holds a word of these and what it is
// about, Table means nothing. They stand before the changes that they are about.
const (
	// NoteSeen {"seen", "epoch:seq"}: whoever wrote what follows had seen the
	// receiver's own transactions up to there. It holds for the transactions
	// behind it too, until the next one.
	NoteSeen = "seen"
	// NoteOrigin {"origin", apply.Origin}: the transaction was made by applying
	// the other side's; its changes are left out.
	NoteOrigin = "origin"
	// NoteTo {"to", facility}: the transaction is for this facility only.
	NoteTo = "to"
	// NoteBy {"by", name}: who made the transaction, in the application's words.
	NoteBy = "by"
	// NoteEcho {"echo", facility}: the rows are what has become of changes of the
	// facility's own that were parked in the region and are applied by now.
	NoteEcho = "echo"
	// NoteBack {"back", "1"}: the transaction has no change of this side's own. What it
	// decided about the other side's is sent back to that.
	NoteBack = "back"
	// NoteWhole {"whole", table}: a box that took another's place has all rows of the
	// table that its facility had then. Only so does its range say which there are not.
	NoteWhole = "whole"
)

// OfRows reports whether the operation is about rows: a change that is not says
// something of its transaction or its place, and its Row is not one of the table.
func (o Op) OfRows() bool { return o != Note && o != Digest }

func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	case Range:
		return "range"
	case Note:
		return "note"
	case Digest:
		return "digest"
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Row is a row's values in PostgreSQL's text format (ISO dates, hex bytea,
// extra_float_digits 3, lc_monetary C), in the order of Table.Columns. A nil
// value is NULL; an empty one is the empty string.
type Row [][]byte

// Column is one column of a table as the sender has it.
type Column struct {
	_    struct{} `cbor:",toarray"`
	Name string
	// Type is the type's name with its schema and without its modifier, as
	// format_type(oid, -1) prints it with an empty search_path.
	Type string
	// Key is true for a column of the replica identity.
	Key bool
}

// UnknownType is the type of a column whose own type was dropped since: what
// its text means is up to the receiver.
const UnknownType = "unknown"

// Table is a table as the sender has it. Generated columns are not in it:
// the receiver's database computes them.
type Table struct {
	_       struct{} `cbor:",toarray"`
	Schema  string
	Name    string
	Columns []Column
}

// ID is "schema.name", for messages and maps; it is not quoted for SQL.
func (t *Table) ID() string { return t.Schema + "." + t.Name }

// KeyColumns returns the positions of the key columns, in column order.
func (t *Table) KeyColumns() []int {
	var k []int
	for i := range t.Columns {
		if t.Columns[i].Key {
			k = append(k, i)
		}
	}
	return k
}

// Change is one row's change.
type Change struct {
	_  struct{} `cbor:",toarray"`
	Op Op
	// Table is the position of the table in the frame's Tables.
	Table int
	// Key holds the values of the key columns before the change, in column
	// order: set for Delete, and for an Update that changed the key.
	Key Row
	// Row holds the new values, one for each column; nil for Delete and Truncate.
	Row Row
	// Absent lists the columns whose value did not change and was not sent
	// (unchanged TOAST). Their place in Row is nil and means nothing.
	Absent []int
	// Range is set only when Op is Range.
	Range *KeyRange
}

// KeyRange says that, at this point of the stream, the sender's rows with
// keys after After and up to and including UpTo are exactly Rows. It is how a
// table is first loaded, and how anything lost is healed: it is idempotent.
type KeyRange struct {
	_ struct{} `cbor:",toarray"`
	// After and UpTo are key values in column order; nil is unbounded.
	After, UpTo Row
	Rows        []Row
	// Partial is true of a range that says nothing of other rows: some of its rows that
	// are applied by themselves, and what Tx.OnlyAdd has made so. It is on no wire.
	Partial bool `cbor:"-"`
}

// Tx is a committed transaction, or a part of one that is too big for a frame.
type Tx struct {
	_ struct{} `cbor:",toarray"`
	// Seq numbers the committed transactions of one epoch densely from 1.
	Seq uint64
	// LSN is the end of the commit record in the sender's WAL.
	LSN uint64
	// CommitMicros is the sender's commit time in microseconds since 1970 UTC.
	CommitMicros int64
	Changes      []Change
}

// Whole reports whether its sender has all rows of the tables of its ranges, or is
// the facility's first box: then a range says as well which rows there are not.
func (t *Tx) Whole(epoch uint64) bool {
	return epoch>>32 <= 1 || slices.ContainsFunc(t.Changes, func(c Change) bool { return c.Op == Note && string(c.Row[0]) == NoteWhole })
}

// OnlyAdd has the ranges of the transaction add and correct rows, and remove none.
func (t *Tx) OnlyAdd() {
	for i := range t.Changes {
		if r := t.Changes[i].Range; r != nil {
			r.Partial = true
		}
	}
}

// Position is a place in one facility's stream of one direction.
type Position struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64
	Seq   uint64
}

// Before reports whether p is earlier than q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Epoch, p.Seq) }
