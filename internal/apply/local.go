package apply

import (
	"context"

	"github.com/agogsaas/holdfast/internal/change"
)

// Local is what the receiver's own applications do while changes come down.
// Only with it can a change that the sender made without knowing of theirs be
// told from one that was made on top of it.
//
// An error of either method leaves nothing behind: the batch is rolled back. One
// of Settled makes it wait, without locks, and try again; one of Touched ends
// Run, unless it wraps ErrUnsettled.
type Local interface {
	// Settled returns once every local transaction that was committed before
	// the call is known to Touched. It is called while rows are locked, so it
	// must not wait for a local transaction to end, nor for the other side; a
	// few milliseconds are fine. The context has a deadline.
	Settled(ctx context.Context) error

	// Touched says which of the keys were changed by local transactions that
	// are numbered after seen, by their place in keys.Rows. It may name a key
	// that was not changed only if it cannot know, and must name each that was.
	// It is asked about no keys before anything is locked, to get ready.
	Touched(ctx context.Context, seen change.Position, keys Keys) (map[int]Touch, error)
}

// Keys are keys of one table.
type Keys struct {
	Schema, Table string
	// Columns are the names of the key's columns, in the order of the values in
	// Rows. The values are text as in change.Row.
	Columns []string
	Rows    []change.Row
	// Sent are the names of the other columns that the other side sends. One that
	// the table here did not have yet when a row was changed was not sent either.
	Sent []string
}

// Touch is what local transactions did to a row that the other side did not
// know of when it made its change.
type Touch struct {
	// Position, CommitMicros and By are those of the newest of them.
	Position     change.Position
	CommitMicros int64
	By           string
	// Inserted is true when the first of them made the row: there was none of
	// its key when the other side last looked.
	Inserted bool
	// Unsent names the columns whose value none of them changed, as far as the
	// WAL tells: unchanged TOAST, or a column that the table did not have.
	Unsent []string
	// Moved are the keys that rows of this key got, when not all of the row was
	// sent with them. They have the order of Keys.Columns.
	Moved []change.Row
	// Unsure is true when it cannot be known whether the key was changed, or what
	// the row is at the other side: it got this key, and not all of it was sent
	// with that, or it was removed with all rows of a range. The row as it is here,
	// or that there is none, is then sent again where it stands.
	Unsure bool
	// SentBack is true when none of them was made here: what was decided about
	// a change of the other side's was sent back to it, no more (change.NoteBack).
	SentBack bool
}
