package change

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a Digest.
const (
	MaxDigestParts = 256
	MaxDigestKeys  = 20_000
)

// DigestRecord is what the sender's rows of a key range come to, at its place in
// the stream: the receiver, which has applied everything before it, compares it
// with its own rows there. It is the Row of a change with the Op Digest.
type DigestRecord struct {
	_ struct{} `cbor:",toarray"`
	// ID is that of the question that it answers.
	ID uint64
	// TookMicros is how long the sender read, for whoever paces the questions.
	TookMicros uint64
	// After is where the first part begins; nil is before the first row.
	After Row
	Parts []DigestPart
	// Listed: there is one part, and Keys and Hashes are its rows in order.
	Listed bool
	Keys   []Row
	Hashes []uint64
}

// DigestPart is the rows behind the part before it, up to and including UpTo;
// nil is up to the last row. The sum of the rows' hashes, modulo 2^64, does not
// depend on their order; what it is of depends on all columns of a row.
type DigestPart struct {
	_     struct{} `cbor:",toarray"`
	UpTo  Row
	Count uint64
	Sum   uint64
}

// Add counts one row more.
func (p *DigestPart) Add(hash uint64) { p.Count++; p.Sum += hash }

// Same reports whether both have the same rows.
func (p *DigestPart) Same(q DigestPart) bool { return p.Count == q.Count && p.Sum == q.Sum }

// UpTo is where the last part ends.
func (d *DigestRecord) UpTo() Row { return d.Parts[len(d.Parts)-1].UpTo }

// Root is a parent in a tree of digests: it depends on each of its children and
// on their order.
type Root [sha256.Size]byte

// Over returns the root above r and the children that follow it.
func (r Root) Over(children ...DigestPart) Root {
	for i := range children {
		var b [len(r) + 16]byte
		copy(b[:], r[:])
		binary.BigEndian.PutUint64(b[len(r):], children[i].Count)
		binary.BigEndian.PutUint64(b[len(r)+8:], children[i].Sum)
		r = sha256.Sum256(b[:])
	}
	return r
}

// digestMessage is the content of the logical message by which a digest takes
// its place in the WAL.
type digestMessage struct {
	_      struct{} `cbor:",toarray"`
	Table  Table
	Digest cbor.RawMessage
}

// EncodeDigest writes a digest of a table for a logical message.
func EncodeDigest(t *Table, d *DigestRecord) ([]byte, error) {
	raw, err := encMode.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode a digest of %s: %w", t.ID(), err)
	}
	b, err := encMode.Marshal(&digestMessage{Table: *t, Digest: raw})
	if err != nil {
		return nil, fmt.Errorf("encode a digest of %s: %w", t.ID(), err)
	}
	return b, nil
}

// DecodeDigest reads and checks what EncodeDigest wrote. Whoever may emit logical
// messages in the database may have written it; the error wraps ErrCorrupt. The
// value is what a change with the Op Digest holds.
func DecodeDigest(b []byte) (t *Table, value []byte, err error) {
	m := new(digestMessage)
	if err := decMode.Unmarshal(b, m); err != nil {
		return nil, nil, fmt.Errorf("%w: digest: %w", ErrCorrupt, err)
	}
	if err := checkKeyed(&m.Table); err != nil {
		return nil, nil, err
	}
	if _, err := ReadDigest(&m.Table, m.Digest); err != nil {
		return nil, nil, err
	}
	return &m.Table, m.Digest, nil
}

// ReadDigest reads the value of a change with the Op Digest. The error wraps ErrCorrupt.
func ReadDigest(t *Table, value []byte) (*DigestRecord, error) {
	d := new(DigestRecord)
	s := &scanner{b: value, left: partsMax}
	if err := s.pass(maxDepth); err != nil {
		return nil, fmt.Errorf("%w: digest of %s: %w", ErrCorrupt, t.ID(), err)
	}
	if err := decMode.Unmarshal(value, d); err != nil {
		return nil, fmt.Errorf("%w: digest of %s: %w", ErrCorrupt, t.ID(), err)
	}
	if err := d.check(len(t.KeyColumns())); err != nil {
		return nil, fmt.Errorf("%w: digest of %s: %w", ErrCorrupt, t.ID(), err)
	}
	return d, nil
}

func (d *DigestRecord) check(keys int) error {
	switch {
	case len(d.Parts) == 0 || len(d.Parts) > MaxDigestParts:
		return fmt.Errorf("%d parts", len(d.Parts))
	case d.After != nil && len(d.After) != keys:
		return fmt.Errorf("a bound with %d values for %d key columns", len(d.After), keys)
	case !d.Listed && len(d.Keys)+len(d.Hashes) > 0:
		return errors.New("rows that are not listed")
	case d.Listed && (len(d.Parts) != 1 || len(d.Keys) > MaxDigestKeys || len(d.Hashes) != len(d.Keys) || d.Parts[0].Count != uint64(len(d.Keys))):
		return fmt.Errorf("%d parts, %d keys and %d hashes", len(d.Parts), len(d.Keys), len(d.Hashes))
	}
	for i := range d.Parts {
		upTo := d.Parts[i].UpTo
		if upTo == nil && i < len(d.Parts)-1 || upTo != nil && len(upTo) != keys {
			return fmt.Errorf("a bound with %d values for %d key columns", len(upTo), keys)
		}
	}
	for _, k := range d.Keys {
		if len(k) != keys {
			return fmt.Errorf("a key with %d values for %d key columns", len(k), keys)
		}
	}
	return nil
}

func checkKeyed(t *Table) error {
	keys := len(t.KeyColumns())
	if t.Schema == "" || t.Name == "" || keys == 0 || len(t.Columns) > maxColumns {
		return fmt.Errorf("%w: table %q with %d columns, %d of them key", ErrCorrupt, t.ID(), len(t.Columns), keys)
	}
	return nil
}
