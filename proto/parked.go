package proto

// What a facility's database refuses of the region's changes waits at the box.
// The box tells the region of it, so that people see it beside what the region
// refuses, and the region passes on what they decide. A side that knows no such
// messages passes them over.

// Bounds of a Parked.
const (
	ParkedMaxRows     = 200
	ParkedMaxRowBytes = 32 << 10 // of one row's values; larger ones are left out
)

// Parked is what waits at the box now, whole: the newest changes that wait, and
// the last that have ended.
type Parked struct {
	Waiting uint64      `cbor:"1,keyasint"`
	Rows    []ParkedRow `cbor:"2,keyasint"`
	// PassedOver are tables of which more waits than is kept.
	PassedOver []ParkedTable `cbor:"3,keyasint,omitempty"`
}

// ParkedRow is one change. What is named so is JSON as in holdfast.parked, times
// are microseconds since 1970.
type ParkedRow struct {
	ID     int64  `cbor:"1,keyasint"` // at the box
	Schema string `cbor:"2,keyasint"`
	Name   string `cbor:"3,keyasint"`
	Op     string `cbor:"4,keyasint"` // insert, update or delete
	Key    string `cbor:"5,keyasint"` // JSON
	// Row is empty for a delete, and where it is too large.
	Row        string `cbor:"6,keyasint,omitempty"` // JSON
	Columns    string `cbor:"7,keyasint"`           // JSON
	Epoch      uint64 `cbor:"8,keyasint"`
	Seq        uint64 `cbor:"9,keyasint"`
	Reason     string `cbor:"10,keyasint"`
	Code       string `cbor:"11,keyasint,omitempty"`
	Constraint string `cbor:"12,keyasint,omitempty"`
	Message    string `cbor:"13,keyasint"`
	Remedy     string `cbor:"14,keyasint,omitempty"`
	// State is waiting, applied, discarded or replaced.
	State    string `cbor:"15,keyasint"`
	CommitAt int64  `cbor:"16,keyasint,omitempty"`
	ParkedAt int64  `cbor:"17,keyasint"`
	Attempts uint64 `cbor:"18,keyasint,omitempty"`
	TriedAt  int64  `cbor:"19,keyasint,omitempty"`
	EditedBy string `cbor:"20,keyasint,omitempty"`
	EndedBy  string `cbor:"21,keyasint,omitempty"`
	EndedAt  int64  `cbor:"22,keyasint,omitempty"`
}

// ParkedTable is a table of which changes were passed over.
type ParkedTable struct {
	Schema  string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Reason  string `cbor:"3,keyasint"`
	Message string `cbor:"4,keyasint"`
	Remedy  string `cbor:"5,keyasint,omitempty"`
	Changes uint64 `cbor:"6,keyasint"`
	Since   int64  `cbor:"7,keyasint"`
	// Again asked for the table, once; a box says Asked instead.
	Again bool `cbor:"8,keyasint,omitempty"`
	// Asked asks for the table, because it fits again, say. It is when that was, by the
	// box's database, in microseconds of Unix time, and names the occasion: it is told
	// until the table has come, and counts once.
	Asked int64 `cbor:"9,keyasint,omitempty"`
}

// What a ParkedOrder has done.
const (
	ParkedEdit    = "edit"
	ParkedDiscard = "discard"
	ParkedRetry   = "retry"
)

// ParkedOrder is what a person in the region has decided about a change that
// waits at the box.
type ParkedOrder struct {
	ID uint64 `cbor:"1,keyasint"` // of the order; comes back with the answer
	Do string `cbor:"2,keyasint"`
	// Row is the change's number at the box; 0 with ParkedRetry is everything.
	Row int64  `cbor:"3,keyasint,omitempty"`
	By  string `cbor:"4,keyasint"`
	// Set are the new values of columns.
	Set []ParkedValue `cbor:"5,keyasint,omitempty"`
}

// ParkedValue is a column's value as text; nil is NULL.
type ParkedValue struct {
	Column string  `cbor:"1,keyasint"`
	Value  *string `cbor:"2,keyasint,omitempty"`
}

// ParkedDone answers a ParkedOrder.
type ParkedDone struct {
	ID      uint64   `cbor:"1,keyasint"`
	Problem *Problem `cbor:"2,keyasint,omitempty"` // why it was not done
	// TriedAt is when the change had been tried last by then, by the box's database, in
	// microseconds of Unix time: what is told of a later time came of the order.
	TriedAt int64 `cbor:"3,keyasint,omitempty"`
}
