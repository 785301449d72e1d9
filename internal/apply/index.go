package apply

import (
	"bytes"
	"hash/maphash"
)

// keyIndex finds a set's entries by key. Unlike a map it keeps no copy of the
// keys and is made at the size that it will have: folding is otherwise mostly
// the work of allocating.
type keyIndex struct {
	// slots hold the upper half of the key's hash and the entry's number plus
	// one; zero is free. Their number is a power of two.
	slots []uint64
}

var keySeed = maphash.MakeSeed()

const minSlots = 16

// newKeyIndex has room for n entries before it grows.
func newKeyIndex(n int) *keyIndex {
	size := minSlots
	for size < 2*n {
		size *= 2
	}
	return &keyIndex{slots: make([]uint64, size)}
}

const hashHalf = 0xffffffff << 32

// find returns the number of the entry with the key id, or -1 and the hash to add it with.
func (x *keyIndex) find(entries []entry, id []byte) (n int, hash uint64) {
	hash = maphash.Bytes(keySeed, id)
	mask := uint64(len(x.slots) - 1)
	for i := hash & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if s := x.slots[i]; (s^hash)&hashHalf == 0 {
			if n := int(uint32(s)) - 1; bytes.Equal(entries[n].id, id) {
				return n, hash
			}
		}
	}
	return -1, hash
}

// add notes that entry n, the newest, has the hash.
func (x *keyIndex) add(entries []entry, n int, hash uint64) {
	if 2*(n+1) > len(x.slots) {
		x.slots = make([]uint64, 2*len(x.slots))
		for i := range n {
			x.place(i, maphash.Bytes(keySeed, entries[i].id))
		}
	}
	x.place(n, hash)
}

func (x *keyIndex) place(n int, hash uint64) {
	mask := uint64(len(x.slots) - 1)
	i := hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = hash&hashHalf | uint64(n+1)
}
