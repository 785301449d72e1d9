package apply

import (
	"fmt"
	"slices"
	"strings"
)

// This file builds the statements. Values arrive as arrays, one for each
// column: in binary for the common types, otherwise as text that is cast to the
// target's type. Neither has a modifier: the assignment then checks lengths,
// where a cast would silently cut.

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

// arrays are the parameters of a statement that are one array for each of some
// columns, in binary where that is possible unless asText.
type arrays struct {
	shape   *shape
	columns []int
	asText  bool
}

// unnest returns "unnest($1::type[], …) AS u(c0, …)".
func (a arrays) unnest() string {
	params, names := make([]string, len(a.columns)), make([]string, len(a.columns))
	for i, c := range a.columns {
		typ := "text"
		if a.binary(c) {
			typ = a.shape.to[c].typ
		}
		params[i], names[i] = fmt.Sprintf("$%d::%s[]", i+1, typ), fmt.Sprintf("c%d", i)
	}
	return "unnest(" + strings.Join(params, ", ") + ") AS u(" + strings.Join(names, ", ") + ")"
}

func (a arrays) binary(c int) bool { return !a.asText && a.shape.to[c].array.encode != nil }

// value is the i-th of the columns as a value of its type.
func (a arrays) value(i int) string {
	name := fmt.Sprintf("u.c%d", i)
	if a.binary(a.columns[i]) {
		return name
	}
	return a.shape.to[a.columns[i]].cast(name)
}

// byKey compares the key columns, which are the first of the columns.
func (a arrays) byKey() string {
	parts := make([]string, len(a.shape.key))
	for i, k := range a.shape.key {
		parts[i] = fmt.Sprintf("t.%s = %s", a.shape.columnName(k), a.value(i))
	}
	return strings.Join(parts, " AND ")
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
func (sh *shape) insertSQL(oc onConflict, asText bool) string {
	return sh.cached(fmt.Sprint("insert ", oc, asText), func() string {
		a := arrays{sh, sh.columns, asText}
		values := make([]string, len(sh.columns))
		for i := range sh.columns {
			values[i] = a.value(i)
		}
		return "INSERT INTO " + sh.target.sql() + " AS t " + sh.columnList() + " OVERRIDING SYSTEM VALUE SELECT " +
			strings.Join(values, ", ") + " FROM " + a.unnest() + sh.onConflictSQL(oc)
	})
}

// copySQL adds rows that are new.
func (sh *shape) copySQL(asText bool) string {
	sql := "COPY " + sh.target.sql() + " " + sh.columnList() + " FROM STDIN"
	if asText {
		return sql
	}
	return sql + " (FORMAT binary)"
}

func (sh *shape) columnList() string {
	names := make([]string, len(sh.columns))
	for i, c := range sh.columns {
		names[i] = sh.columnName(c)
	}
	return "(" + strings.Join(names, ", ") + ")"
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

// deleteSQL takes an array for each key column, then the facility.
func (sh *shape) deleteSQL(asText bool) string {
	return sh.cached(fmt.Sprint("delete ", asText), func() string {
		a := arrays{sh, sh.key, asText}
		return "DELETE FROM " + sh.target.from() + " AS t USING " + a.unnest() + " WHERE " + a.byKey() + sh.mine(len(sh.key)+1)
	})
}

// updateSQL sets the given columns. It takes an array for each key column, one
// for each of the columns, then the facility.
func (sh *shape) updateSQL(columns []int, asText bool) string {
	return sh.cached(fmt.Sprint("update ", columns, asText), func() string {
		nk := len(sh.key)
		a := arrays{sh, slices.Concat(sh.key, columns), asText}
		set := make([]string, len(columns))
		for i, c := range columns {
			set[i] = sh.columnName(c) + " = " + a.value(nk+i)
		}
		if len(set) == 0 { // still find out whether the row is there
			k := sh.columnName(sh.key[0])
			set = append(set, k+" = t."+k)
		}
		return "UPDATE " + sh.target.from() + " AS t SET " + strings.Join(set, ", ") + " FROM " + a.unnest() +
			" WHERE " + a.byKey() + sh.mine(nk+len(columns)+1)
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
func (sh *shape) rangeSQL(l limits, asText bool) string {
	return sh.cached(fmt.Sprint("range ", l, asText), func() string {
		nk := len(sh.key)
		a := arrays{sh, sh.key, asText}
		keys, kept := make([]string, nk), make([]string, nk)
		for i, k := range sh.key {
			keys[i] = "t." + sh.columnName(k)
			kept[i] = a.value(i)
		}
		next := nk + 1
		where := l.where(sh, &next)
		return fmt.Sprintf("DELETE FROM %s AS t WHERE (%s) NOT IN (SELECT %s FROM %s)%s%s", sh.target.from(),
			strings.Join(keys, ", "), strings.Join(kept, ", "), a.unnest(), where, sh.mine(next))
	})
}
