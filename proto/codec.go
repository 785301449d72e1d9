package proto

import (
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// schemaNow is the schema number that this build writes. A reader accepts any
// number: what it needs to know to read a message is in the keys.
const schemaNow = 1

var encMode = sync.OnceValues(func() (cbor.EncMode, error) {
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsForbidden
	return opts.EncMode()
})

var decMode = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  maxDepth,
		MaxArrayElements: maxArray,
		MaxMapPairs:      maxMap,
		UTF8:             cbor.UTF8RejectInvalid,
	}.DecMode()
})

// encode returns v as canonical CBOR, or an error when it is longer than max
// bytes.
func encode(what string, v any, max int) ([]byte, error) {
	mode, err := encMode()
	if err != nil {
		return nil, fmt.Errorf("set up CBOR: %w", err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	if len(b) > max {
		return nil, fmt.Errorf("encode %s: it has %d bytes, at most %d are allowed", what, len(b), max)
	}
	return b, nil
}

// decode reads canonical CBOR of at most max bytes into v.
func decode(what string, data []byte, v any, max int) error {
	if len(data) > max {
		return fmt.Errorf("decode %s: it has %d bytes, at most %d are allowed", what, len(data), max)
	}
	if err := checkCanonical(data); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	mode, err := decMode()
	if err != nil {
		return fmt.Errorf("set up CBOR: %w", err)
	}
	if err := mode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	return nil
}

// Digest is the first half of a SHA-256: enough to notice a difference, not to
// resist an attack.
type Digest [8]byte

// UnmarshalCBOR reads a byte string of exactly 8 bytes.
func (d *Digest) UnmarshalCBOR(data []byte) error { return fixedBytes(d[:], data) }

// fixedBytes reads a byte string that must be as long as dst. (The decoder by
// itself would pad and cut.)
func fixedBytes(dst, data []byte) error {
	major, arg, pos, err := head(data, 0)
	if err != nil {
		return err
	}
	if major != 2 || arg != uint64(len(dst)) || len(data)-pos != len(dst) {
		return fmt.Errorf("expected %d bytes", len(dst))
	}
	copy(dst, data[pos:])
	return nil
}
