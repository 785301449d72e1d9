package unseen

import (
	"bytes"
	"math/big"

	"github.com/agogsaas/holdfast/internal/change"
)

// order is how the values of a key column are ordered in key ranges.
type order uint8

const (
	byBytes  order = iota // as their text
	byNumber              // as numbers
	unknown
)

func orderOf(typ string) order {
	switch typ {
	case "smallint", "integer", "bigint", "oid", "numeric":
		return byNumber
	case "text", "character varying", "uuid", "boolean", "bytea":
		return byBytes
	}
	return unknown
}

// compare returns -1, 0 or 1, and false when it cannot tell.
func (o order) compare(a, b []byte) (int, bool) {
	if bytes.Equal(a, b) {
		return 0, true
	}
	switch o {
	case byBytes:
		return bytes.Compare(a, b), true
	case byNumber:
		x, ok1 := new(big.Rat).SetString(string(a))
		y, ok2 := new(big.Rat).SetString(string(b))
		if ok1 && ok2 {
			return x.Cmp(y), true
		}
	}
	return 0, false
}

func compareKeys(orders []order, a, b change.Row) (int, bool) {
	if len(a) != len(b) || len(a) != len(orders) {
		return 0, false
	}
	for i := range a {
		if c, ok := orders[i].compare(a[i], b[i]); c != 0 || !ok {
			return c, ok
		}
	}
	return 0, true
}

// holds reports whether the key, in column order, lies in the range; sure is
// false when that cannot be told.
func (w *wide) holds(key change.Row) (in, sure bool) {
	if !w.keyed {
		return true, true
	}
	if w.after != nil {
		switch c, ok := compareKeys(w.order, key, w.after); {
		case !ok:
			return true, false
		case c <= 0:
			return false, true
		}
	}
	if w.upTo != nil {
		switch c, ok := compareKeys(w.order, key, w.upTo); {
		case !ok:
			return true, false
		case c > 0:
			return false, true
		}
	}
	return true, true
}
