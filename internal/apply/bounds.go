package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// limits says which bounds of a key range a statement has. They are in the order
// that keys have on the way.
type limits struct {
	after, upTo bool
	// own: the facility column is left out of them. It is the same in the bounds
	// and in all rows that are meant, and beside the condition that says so it
	// would keep the index from being entered at the bound: each chunk of a
	// table would read the facility's rows from the first on.
	own bool
}

// limits returns which bounds a statement about the facility's rows has.
func (sh *shape) limits(facility string, after, upTo change.Row) limits {
	l := limits{after: after != nil, upTo: upTo != nil}
	i := slices.Index(sh.key, sh.facilityColumn)
	if l.own = i >= 0 && len(sh.key) > 1; !l.own {
		return l
	}
	for _, row := range []change.Row{after, upTo} {
		// A box may have rows of another facility, which nobody takes: such a
		// bound says something of the rows that are meant.
		l.own = l.own && (row == nil || i < len(row) && string(row[i]) == facility)
	}
	return l
}

// has reports whether bounds have the i-th of the key columns.
func (l limits) has(sh *shape, i int) bool { return !l.own || sh.key[i] != sh.facilityColumn }

// where returns the conditions, and moves next behind their parameters.
func (l limits) where(sh *shape, next *int) string {
	sql := ""
	if l.after {
		sql += sh.bound(l, ">", next)
	}
	if l.upTo {
		sql += sh.bound(l, "<=", next)
	}
	return sql
}

// args appends the bounds' values.
func (l limits) args(sh *shape, args []arg, bounds ...change.Row) []arg {
	for _, row := range bounds {
		for i, v := range row {
			if l.has(sh, i) {
				args = append(args, arg{value: v})
			}
		}
	}
	return args
}

// bound returns " AND key cmp ($next, …)", and moves next behind its parameters.
func (sh *shape) bound(l limits, cmp string, next *int) string {
	var left, right []string
	for i, k := range sh.key {
		if !l.has(sh, i) {
			continue
		}
		c, value := sh.to[k], fmt.Sprintf("$%d::text", *next)
		switch {
		case c.enum:
			value += ` COLLATE "C"`
		case c.collation:
			value = c.cast(value) + ` COLLATE "C"`
		default:
			value = c.cast(value)
		}
		left, right = append(left, sh.ordered(k)), append(right, value)
		*next++
	}
	return fmt.Sprintf(" AND ROW(%s) %s ROW(%s)", strings.Join(left, ", "), cmp, strings.Join(right, ", "))
}

// ordered is a key column in the order that keys have on the way.
func (sh *shape) ordered(k int) string {
	name := "t." + sh.columnName(k)
	switch c := sh.to[k]; {
	case c.enum:
		return name + `::text COLLATE "C"`
	case c.collation:
		return name + ` COLLATE "C"`
	}
	return name
}
