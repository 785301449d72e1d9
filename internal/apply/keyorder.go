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

// sortRows sorts rows by their key.
func (sh *shape) sortRows(rows []change.Row) {
	slices.SortFunc(rows, func(a, b change.Row) int {
		for _, k := range sh.key {
			if c := sh.compareKey(k, a[k], b[k]); c != 0 {
				return c
			}
		}
		return 0
	})
}

// sortKeys sorts keys.
func (sh *shape) sortKeys(keys []change.Row) {
	slices.SortFunc(keys, func(a, b change.Row) int {
		for i, k := range sh.key {
			if c := sh.compareKey(k, a[i], b[i]); c != 0 {
				return c
			}
		}
		return 0
	})
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
