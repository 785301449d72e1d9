package proto

// The region compares a table with a facility's by asking: what do your rows of
// a key range come to? The answer comes as a change in the stream of frames
// (change.Digest), at the place where it was true. A box that knows no such
// questions passes them over, and a region that asks none gets no such changes.

// Bounds of a Verify.
const (
	VerifyMaxRows = 20_000
	VerifyMaxMend = 500
)

// Verify asks about the rows of a table with keys after After, up to and
// including UpTo; empty is unbounded. Keys are text, in column order.
type Verify struct {
	ID     uint64   `cbor:"1,keyasint"` // comes back with the answer
	Schema string   `cbor:"2,keyasint"`
	Name   string   `cbor:"3,keyasint"`
	After  [][]byte `cbor:"4,keyasint,omitempty"`
	UpTo   [][]byte `cbor:"5,keyasint,omitempty"`
	// Rows is how many rows to read at most; the answer ends earlier if there
	// are more. Parts is into how many parts of about as many rows it is divided.
	Rows  uint32 `cbor:"6,keyasint,omitempty"`
	Parts uint32 `cbor:"7,keyasint,omitempty"`
	// List asks for each row's key and hash.
	List bool `cbor:"8,keyasint,omitempty"`
	// Mend asks for nothing but that the rows of these keys are sent again: whole,
	// or as deletes where there are none.
	Mend [][][]byte `cbor:"9,keyasint,omitempty"`
}

// Unverified says that a Verify cannot be answered.
type Unverified struct {
	ID      uint64  `cbor:"1,keyasint"`
	Problem Problem `cbor:"2,keyasint"`
}
