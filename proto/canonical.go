package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of what a decoder reads. They hold for each message, whatever its
// declared lengths say.
const (
	maxDepth = 8    // nested arrays and maps
	maxMap   = 256  // entries of one map
	maxArray = 1024 // elements of one array
)

// errCut means that the bytes end before the item does.
var errCut = errors.New("the message ends early")

// checkCanonical returns an error unless data is exactly one item of the CBOR
// that this package writes (see the package comment). It allocates nothing
// that depends on a length in the data, so it runs before any decoder.
func checkCanonical(data []byte) error {
	end, err := scan(data, 0, 0)
	if err != nil {
		return err
	}
	if end != len(data) {
		return fmt.Errorf("%d bytes follow the message", len(data)-end)
	}
	return nil
}

// scan checks the item at pos and returns where it ends.
func scan(data []byte, pos, depth int) (end int, err error) {
	major, arg, pos, err := head(data, pos)
	if err != nil {
		return 0, err
	}
	switch major {
	case 0, 1: // unsigned, negative
		return pos, nil
	case 2, 3: // bytes, text
		if arg > uint64(len(data)-pos) {
			return 0, errCut
		}
		end = pos + int(arg)
		switch text := data[pos:end]; {
		case major == 3 && !utf8.Valid(text):
			return 0, errors.New("a text is not UTF-8")
		case major == 3 && bytes.IndexByte(text, 0) >= 0:
			// PostgreSQL stores none, and what is written down together would fail together.
			return 0, errors.New("a text contains U+0000")
		}
		return end, nil
	case 4, 5: // array, map
		if depth == maxDepth {
			return 0, fmt.Errorf("nested deeper than %d", maxDepth)
		}
		if major == 4 {
			return scanArray(data, pos, depth+1, arg)
		}
		return scanMap(data, pos, depth+1, arg)
	case 7:
		if arg == 20 || arg == 21 { // false, true
			return pos, nil
		}
		return 0, fmt.Errorf("simple value or float %d is not allowed", arg)
	}
	return 0, errors.New("tags are not allowed")
}

func scanArray(data []byte, pos, depth int, n uint64) (int, error) {
	if n > maxArray {
		return 0, fmt.Errorf("an array has %d elements, at most %d are allowed", n, maxArray)
	}
	var err error
	for range n {
		if pos, err = scan(data, pos, depth); err != nil {
			return 0, err
		}
	}
	return pos, nil
}

func scanMap(data []byte, pos, depth int, n uint64) (int, error) {
	if n > maxMap {
		return 0, fmt.Errorf("a map has %d entries, at most %d are allowed", n, maxMap)
	}
	var last []byte
	for range n {
		end, err := scan(data, pos, depth)
		if err != nil {
			return 0, err
		}
		key := data[pos:end]
		switch c := bytes.Compare(last, key); {
		case last != nil && c == 0:
			return 0, fmt.Errorf("duplicate map key %x", key)
		case last != nil && c > 0:
			return 0, fmt.Errorf("map key %x is out of order", key)
		}
		last = key
		if pos, err = scan(data, end, depth); err != nil {
			return 0, err
		}
	}
	return pos, nil
}

// head reads an item's major type and argument, which must be as short as it
// can be. For major type 7 only the one-byte forms are accepted.
func head(data []byte, pos int) (major byte, arg uint64, next int, err error) {
	if pos >= len(data) {
		return 0, 0, 0, errCut
	}
	major, info := data[pos]>>5, data[pos]&0x1f
	pos++
	if info < 24 {
		return major, uint64(info), pos, nil
	}
	if major == 7 {
		return 0, 0, 0, fmt.Errorf("simple value or float %d is not allowed", info)
	}
	if info > 27 {
		return 0, 0, 0, errors.New("indefinite and reserved lengths are not allowed")
	}
	size := 1 << (info - 24)
	if len(data)-pos < size {
		return 0, 0, 0, errCut
	}
	var buf [8]byte
	copy(buf[8-size:], data[pos:pos+size])
	arg = binary.BigEndian.Uint64(buf[:])
	shortest := []uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]
	if arg < shortest {
		return 0, 0, 0, errors.New("a number or length is longer than needed")
	}
	return major, arg, pos + size, nil
}
