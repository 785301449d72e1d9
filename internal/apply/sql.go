package apply

import (
	"fmt"
	"slices"
	"strings"
)

// This file builds the statements. Values arrive as text arrays, one for each
// column, and are cast to the target's types without a modifier: the assignment
// then checks lengths, where a cast would silently cut.

// cached returns the statement called name, built once per shape.
func (sh *shape) cached(name string, build func() string) string {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s, ok := sh.sql[name]
	if !ok {
		s = build()
		sh.sql[name] = s
	}
	return s
}

// from is the target as FROM, UPDATE and DELETE name it: rows of a table's
// inheritance children are changes of the children.
func (t *target) from() string {
	if t.partitioned {
		return t.sql()
	}
	return "ONLY " + t.sql()
}

// unnest returns "unnest($n::text[], …) AS u(<prefix>0, …)" for n columns.
func unnest(first, n int, alias string, prefix string) string {
	arrays, names := make([]string, n), make([]string, n)
	for i := range n {
		arrays[i] = fmt.Sprintf("$%d::text[]", first+i)
		names[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ") AS " + alias + "(" + strings.Join(names, ", ") + ")"
}

// cast returns expr, a text, as a value of the column.
func (c *targetColumn) cast(expr string) string {
	if c.typ == "text" {
		return expr
	}
	return expr + "::" + c.typ
}

func (sh *shape) columnName(i int) string { return quote(sh.to[i].name) }

// onConflict is what an INSERT does with a row whose key is there.
type onConflict uint8

const (
	conflictFails   onConflict = iota // the key must be new
	conflictUpdates                   // the row becomes this one
	conflictSkips                     // the row there stays
)

// insertSQL inserts rows given as one array for each of sh.columns.
func (sh *shape) insertSQL(oc onConflict) string {
	return sh.cached(fmt.Sprint("insert ", oc), func() string {
		values := make([]string, len(sh.columns))
		for i, c := range sh.columns {
			values[i] = sh.to[c].cast(fmt.Sprintf("u.c%d", i))
		}
		return sh.insertInto() + "SELECT " + strings.Join(values, ", ") + " FROM " +
			unnest(1, len(sh.columns), "u", "c") + sh.onConflictSQL(oc)
	})
}

func (sh *shape) insertInto() string {
	names := make([]string, len(sh.columns))
	for i, c := range sh.columns {
		names[i] = sh.columnName(c)
	}
	return "INSERT INTO " + sh.target.sql() + " AS t (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE "
}

func (sh *shape) onConflictSQL(oc onConflict) string {
	if oc == conflictFails || len(sh.key) == 0 {
		return ""
	}
	on := " ON CONFLICT (" + quoteAll(sh.conflict) + ") DO "
	if oc == conflictSkips {
		return on + "NOTHING"
	}
	var set []string
	for _, c := range sh.settable() {
		set = append(set, fmt.Sprintf("%s = EXCLUDED.%s", sh.columnName(c), sh.columnName(c)))
	}
	guard := ""
	if sh.guarded() {
		f := sh.columnName(sh.facilityColumn)
		guard = fmt.Sprintf(" WHERE t.%s = EXCLUDED.%s", f, f)
		if len(set) == 0 {
			set = append(set, fmt.Sprintf("%s = EXCLUDED.%s", f, f))
		}
	}
	if len(set) == 0 {
		return on + "NOTHING" // nothing but the key, which is equal
	}
	return on + "UPDATE SET " + strings.Join(set, ", ") + guard
}

// guarded is true when another facility could have a row with the same key.
func (sh *shape) guarded() bool {
	return sh.facilityColumn >= 0 && !slices.Contains(sh.conflict, sh.to[sh.facilityColumn].name)
}

// settable are the columns that an UPDATE sets: not the key, not the facility
// (it is the same), not what only the database may give.
func (sh *shape) settable() []int {
	return slices.DeleteFunc(slices.Clone(sh.columns), func(c int) bool {
		return slices.Contains(sh.key, c) || c == sh.facilityColumn || sh.to[c].always
	})
}

// mine returns " AND t.<facility column> = $n", or nothing where the schema
// keeps facilities apart.
func (sh *shape) mine(n int) string {
	if sh.facilityColumn < 0 {
		return ""
	}
	return fmt.Sprintf(" AND t.%s = %s", sh.columnName(sh.facilityColumn), sh.to[sh.facilityColumn].cast(fmt.Sprintf("$%d::text", n)))
}

// byKey returns "t.k = u.k0::type AND …".
func (sh *shape) byKey() string {
	parts := make([]string, len(sh.key))
	for i, k := range sh.key {
		parts[i] = fmt.Sprintf("t.%s = %s", sh.columnName(k), sh.to[k].cast(fmt.Sprintf("u.k%d", i)))
	}
	return strings.Join(parts, " AND ")
}

// deleteSQL takes an array for each key column, then the facility.
func (sh *shape) deleteSQL() string {
	return sh.cached("delete", func() string {
		return "DELETE FROM " + sh.target.from() + " AS t USING " + unnest(1, len(sh.key), "u", "k") +
			" WHERE " + sh.byKey() + sh.mine(len(sh.key)+1)
	})
}

// updateSQL sets the given columns. It takes an array for each key column, one
// for each of the columns, then the facility.
func (sh *shape) updateSQL(columns []int) string {
	return sh.cached(fmt.Sprint("update ", columns), func() string {
		nk := len(sh.key)
		arrays, names := make([]string, 0, nk+len(columns)), make([]string, 0, nk+len(columns))
		for i := range nk {
			arrays, names = append(arrays, fmt.Sprintf("$%d::text[]", i+1)), append(names, fmt.Sprintf("k%d", i))
		}
		set := make([]string, len(columns))
		for i, c := range columns {
			arrays, names = append(arrays, fmt.Sprintf("$%d::text[]", nk+i+1)), append(names, fmt.Sprintf("c%d", i))
			set[i] = fmt.Sprintf("%s = %s", sh.columnName(c), sh.to[c].cast(fmt.Sprintf("u.c%d", i)))
		}
		if len(set) == 0 { // still find out whether the row is there
			k := sh.columnName(sh.key[0])
			set = append(set, fmt.Sprintf("%s = t.%s", k, k))
		}
		return "UPDATE " + sh.target.from() + " AS t SET " + strings.Join(set, ", ") +
			" FROM unnest(" + strings.Join(arrays, ", ") + ") AS u(" + strings.Join(names, ", ") + ")" +
			" WHERE " + sh.byKey() + sh.mine(nk+len(columns)+1)
	})
}

// truncateSQL takes the facility, if there is a facility column.
func (sh *shape) truncateSQL() string {
	return sh.cached("truncate", func() string {
		return "DELETE FROM " + sh.target.from() + " AS t WHERE true" + sh.mine(1)
	})
}

// rangeSQL deletes the facility's rows of a key range that are not among the
// given keys. It takes an array for each key column, the lower bound's values
// if there is one, the upper bound's likewise, then the facility.
func (sh *shape) rangeSQL(after, upTo bool) string {
	return sh.cached(fmt.Sprint("range ", after, upTo), func() string {
		nk := len(sh.key)
		keys, kept := make([]string, nk), make([]string, nk)
		for i, k := range sh.key {
			keys[i] = "t." + sh.columnName(k)
			kept[i] = sh.to[k].cast(fmt.Sprintf("u.k%d", i))
		}
		var where strings.Builder
		next := nk + 1
		bound := func(cmp string) {
			left, right := make([]string, nk), make([]string, nk)
			for i, k := range sh.key {
				left[i], right[i] = keys[i], sh.to[k].cast(fmt.Sprintf("$%d::text", next))
				if sh.to[k].collation {
					left[i] += ` COLLATE "C"`
					right[i] += ` COLLATE "C"`
				}
				next++
			}
			fmt.Fprintf(&where, " AND ROW(%s) %s ROW(%s)", strings.Join(left, ", "), cmp, strings.Join(right, ", "))
		}
		if after {
			bound(">")
		}
		if upTo {
			bound("<=")
		}
		return fmt.Sprintf("DELETE FROM %s AS t WHERE (%s) NOT IN (SELECT %s FROM %s)%s%s", sh.target.from(),
			strings.Join(keys, ", "), strings.Join(kept, ", "), unnest(1, nk, "u", "k"), where.String(), sh.mine(next))
	})
}
