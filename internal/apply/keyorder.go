package apply

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/agogsaas/holdfast/internal/change"
)

// Rows that are updated or removed are looked up in the order of their keys, or
// nearly: what lies side by side in the index, and mostly in the table, is then
// visited side by side, while it is in the processor's caches. New rows stay in
// the order in which they were made, which the table's other indexes like better.

// sortRows sorts rows by their key, whose values are at the given places of them.
func (sh *shape) sortRows(rows []change.Row, places []int) {
	slices.SortFunc(rows, func(a, b change.Row) int {
		for i, p := range places {
			if c := sh.compareKey(sh.key[i], a[p], b[p]); c != 0 {
				return c
			}
		}
		return 0
	})
}

// inKeys are the places of the key's values in a row that is a key.
func (sh *shape) inKeys() []int {
	places := make([]int, len(sh.key))
	for i := range places {
		places[i] = i
	}
	return places
}

// compareKey compares two values of column k, positive integers by their size.
// It is only for speed, so that it need not know every type's order.
func (sh *shape) compareKey(k int, a, b []byte) int {
	switch sh.sent[k] {
	case "smallint", "integer", "bigint":
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
	}
	return bytes.Compare(a, b)
}
