package apply

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agogsaas/holdfast/internal/change"
)

// shape is a sender's table, as one frame has it, matched with its target.
type shape struct {
	// name is the sender's schema.table, for messages.
	name          string
	passedOver    bool // the table is not synced any more; nothing else is set
	schema, table string
	class         Class
	target        *target
	// columns are the sender's columns that are written, as positions in its rows.
	columns []int
	// sent are the types of the sender's columns, by the names that they have here.
	sent []string
	// to is the target's column of each of the sender's columns.
	to []*targetColumn
	// key are the sender's key columns, as positions in its rows; empty for a
	// table whose rows are only added.
	key []int
	// keyNames are the sender's key columns' names, conflict the columns of
	// the target's index that finds a row by them.
	keyNames, conflict []string
	// keep are, on the way down, the places of the key's values in the sender's
	// keys, where those have the facility beside it; nil when they are the same.
	keep []int
	// schemas must be searched for the operators that compare keys.
	schemas []string
	// facilityColumn is the position of the facility column in the rows, -1
	// where a schema of its own keeps the facility's rows apart.
	facilityColumn int
	// keepsMore is true when the target has columns that an update of the row
	// keeps and a new row does not have: a delete followed by an insert is then
	// not the same as an update.
	keepsMore bool
	// policy and cloudColumns, as positions in the sender's rows, are for fact
	// rows on the way down.
	policy       Policy
	cloudColumns []int
	// uuidKey is true when the order of the key is that of its text.
	uuidKey bool
	// serials are the columns whose sequences must stay ahead of what comes.
	serials []serial

	lastSize atomic.Int32 // rows of the last set, to make the next one's size

	mu  sync.Mutex
	sql map[string]string // statements by what they do
}

// shape matches the sender's table with its target. The error is a RowError
// that wraps ErrTable when they do not fit.
func (c *catalog) shape(ctx context.Context, s *session, reg *Registry, at place, t *change.Table) (*shape, error) {
	entry, ok := reg.Table(t.Schema, t.Name)
	if !ok {
		return nil, misfit{ReasonMissingTable, tableError(t.ID(), "is not registered in the region",
			"%s", registerAdvice(at.direction, t.ID()))}
	}
	if err := at.check(&entry); err != nil {
		return nil, &RowError{Table: t.ID(), Err: fmt.Errorf("%w: %w", ErrTable, err)}
	}
	id := signature(&entry, at, t)
	c.mu.Lock()
	sh := c.shapes[id]
	c.mu.Unlock()
	if sh != nil {
		return sh, nil
	}
	where, here, there := at.name(&entry), at.direction.here(), at.direction.there()
	tgt, err := c.target(ctx, s, where, reg.names(at))
	if err != nil {
		return nil, err
	}
	if tgt == nil {
		return nil, misfit{ReasonMissingTable, tableError(t.ID(), fmt.Sprintf("has no table %s.%s %s", where.Schema, where.Name, here.in),
			"Create the table %s with the same columns and key as %s; its changes then go on by themselves.", here.in, there.in)}
	}
	sh, err = newShape(ctx, s, &entry, at, t, tgt)
	if err != nil {
		return nil, err
	}
	c.findSerials(sh, at.direction)
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.shapes[id]; have != nil {
		return have, nil // so that equal tables have one shape
	}
	if len(c.shapes) >= maxCatalog {
		clear(c.shapes)
	}
	c.shapes[id] = sh
	return sh, nil
}

// registerAdvice says what to do about a table that is not in the registry.
func registerAdvice(d Direction, table string) string {
	if d == Down {
		return "The region has not told this facility of the table yet; its changes then go on by themselves."
	}
	return fmt.Sprintf("Register it with: holdfastctl tables add %s --class fact", table)
}

// signature is equal for tables that have the same shape.
func signature(e *Table, at place, t *change.Table) string {
	var b strings.Builder
	for _, s := range []string{string(at.direction), at.schema(e), e.TargetSchema, string(e.Class), e.FacilityColumn, string(e.Policy), strings.Join(e.CloudColumns, "\x00"), t.Schema, t.Name} {
		fmt.Fprintf(&b, "%d:%s", len(s), s)
	}
	for i := range t.Columns {
		col := &t.Columns[i]
		b.WriteString(strconv.Itoa(len(col.Name)))
		b.WriteByte(':')
		b.WriteString(col.Name)
		b.WriteString(strconv.Itoa(len(col.Type)))
		if col.Key {
			b.WriteByte('!')
		} else {
			b.WriteByte(':')
		}
		b.WriteString(col.Type)
	}
	return b.String()
}

func newShape(ctx context.Context, s *session, e *Table, at place, t *change.Table, tgt *target) (*shape, error) {
	sh := &shape{
		name: t.ID(), schema: t.Schema, table: t.Name, class: e.Class, target: tgt, facilityColumn: -1, sql: map[string]string{},
		to: make([]*targetColumn, len(t.Columns)), sent: make([]string, len(t.Columns)), policy: cmp.Or(e.Policy, PolicyEdge),
	}
	here, there, places := at.direction.here(), at.direction.there(), e
	if e.Class == Master {
		e = &Table{Schema: e.Schema, Name: e.Name, Class: Master} // its rows are no facility's
	}
	sent := map[string]bool{}
	for i := range t.Columns {
		col := &t.Columns[i]
		j, ok := tgt.byName[col.Name]
		if !ok {
			return nil, misfit{ReasonMissingColumn, tableError(sh.name, fmt.Sprintf("has no column %q in %s table %s.%s", col.Name, here.its, tgt.schema, tgt.name),
				"Add it %s: ALTER TABLE %s ADD COLUMN %s %s;", here.in, tgt.sql(), quote(col.Name), col.Type)}
		}
		to := &tgt.columns[j]
		typ := col.Type
		if at.sameType(places, typ, to.typ) {
			typ = to.typ
		}
		sh.sent[i] = typ
		if to.generated {
			if col.Key {
				return nil, tableError(sh.name, fmt.Sprintf("has the key column %q, which %s database computes", col.Name, here.its),
					"Make it an ordinary column %s.", here.in)
			}
			continue
		}
		ok, err := assignable(ctx, s, typ, to.typ)
		if err != nil {
			return nil, fmt.Errorf("compare the types of %s.%s: %w", sh.name, col.Name, err)
		}
		if !ok {
			return nil, misfit{ReasonType, tableError(sh.name, fmt.Sprintf("has the column %q as %s, %s as %s", col.Name, col.Type, here.the, to.typ),
				"Change it %s: ALTER TABLE %s ALTER COLUMN %s TYPE %s;", here.in, tgt.sql(), quote(col.Name), col.Type)}
		}
		if col.Key && e.Class != Event && !sameOrder(typ, to.typ) {
			return nil, misfit{ReasonType, tableError(sh.name, fmt.Sprintf("has the key column %q as %s, %s as %s, which orders its values differently", col.Name, col.Type, here.the, to.typ),
				"Change it %s: ALTER TABLE %s ALTER COLUMN %s TYPE %s;", here.in, tgt.sql(), quote(col.Name), col.Type)}
		}
		sh.to[i] = to
		sh.columns = append(sh.columns, i)
		sent[col.Name] = true
		if col.Key {
			sh.key = append(sh.key, i)
			sh.keyNames = append(sh.keyNames, col.Name)
		}
		if e.FacilityColumn != "" && col.Name == e.FacilityColumn {
			sh.facilityColumn = i
		}
		if slices.Contains(e.CloudColumns, col.Name) {
			sh.cloudColumns = append(sh.cloudColumns, i)
		}
	}
	if e.FacilityColumn != "" && sh.facilityColumn < 0 {
		return nil, tableError(sh.name, fmt.Sprintf("is sent without its facility column %q", e.FacilityColumn),
			"Add the column %s, or register the table with the column that holds the facility's id.", there.in)
	}
	for i := range tgt.columns {
		col := &tgt.columns[i]
		if !sent[col.name] && !col.generated {
			sh.keepsMore = true
			if col.notNull && !col.hasValue {
				return nil, misfit{ReasonNotNull, tableError(sh.name, fmt.Sprintf("needs a value in %s column %q, and %s sends none", here.its, col.name, there.the),
					"Give it a default %s: ALTER TABLE %s ALTER COLUMN %s SET DEFAULT …;", here.in, tgt.sql(), quote(col.name))}
			}
		}
		if sent[col.name] && col.always && !slices.Contains(sh.keyNames, col.name) {
			sh.keepsMore = true
		}
	}
	if at.direction == Down {
		sh.dropFacility()
	}
	if err := sh.findKey(e, here, there); err != nil {
		return nil, err
	}
	return sh, nil
}

// sameOrder reports whether values of both types have the same order, so that
// a range of keys is the same rows at both ends.
func sameOrder(from, to string) bool {
	in := func(types ...string) bool { return slices.Contains(types, from) && slices.Contains(types, to) }
	// A range is never of a table whose key has lost its type.
	return from == to || from == change.UnknownType || in("smallint", "integer", "bigint", "numeric") || in("text", "character varying") ||
		from == "uuid" && (to == "text" || to == "character varying")
}

// dropFacility leaves the facility out of the key where the region's table needs
// it to tell facilities apart, and the facility's own does not.
func (sh *shape) dropFacility() {
	n := slices.Index(sh.key, sh.facilityColumn)
	if sh.facilityColumn < 0 || n < 0 || len(sh.key) == 1 || sh.target.conflictKey(sh.keyNames, "") != nil {
		return
	}
	for i := range sh.key {
		if i != n {
			sh.keep = append(sh.keep, i)
		}
	}
	sh.key, sh.keyNames = slices.Delete(sh.key, n, n+1), slices.Delete(sh.keyNames, n, n+1)
}

// trim returns the change with the keys that the shape has.
func (sh *shape) trim(c *change.Change) *change.Change {
	if sh.keep == nil || c.Key == nil && c.Range == nil {
		return c
	}
	cut := func(key change.Row) change.Row {
		if key == nil {
			return nil
		}
		out := make(change.Row, len(sh.keep))
		for i, n := range sh.keep {
			out[i] = key[n]
		}
		return out
	}
	d := *c
	d.Key = cut(c.Key)
	if c.Range != nil {
		d.Range = &change.KeyRange{After: cut(c.Range.After), UpTo: cut(c.Range.UpTo), Rows: c.Range.Rows, Partial: c.Range.Partial}
	}
	return &d
}

func (sh *shape) findKey(e *Table, here, there side) error {
	if len(sh.key) > 0 {
		if u := sh.target.conflictKey(sh.keyNames, e.FacilityColumn); u != nil {
			sh.conflict, sh.schemas = u.columns, u.schemas
		}
	}
	switch {
	case sh.conflict != nil:
		sh.uuidKey = len(sh.key) == 1 && sh.to[sh.key[0]].typ == "uuid"
		return nil
	case sh.class == Event:
		// Rows that are only added need no key.
		sh.key, sh.keyNames = nil, nil
		return nil
	case len(sh.key) == 0:
		return tableError(sh.name, "has no key "+there.in,
			"Give it a primary key there, or register it as an event table if its rows are only ever added.")
	}
	return tableError(sh.name, fmt.Sprintf("has the key (%s) and %s table %s.%s no unique index on it",
		strings.Join(sh.keyNames, ", "), here.its, sh.target.schema, sh.target.name),
		"Create it %s: CREATE UNIQUE INDEX ON %s (%s);", here.in, sh.target.sql(), quoteAll(sh.keyNames))
}

// rowKey returns the key values of a row.
func (sh *shape) rowKey(row change.Row) change.Row {
	k := make(change.Row, len(sh.key))
	for i, c := range sh.key {
		k[i] = row[c]
	}
	return k
}

// printKey returns the change's key for messages, shortened.
func (sh *shape) printKey(c *change.Change) string {
	key := c.Key
	if key == nil && c.Row != nil {
		key = sh.rowKey(c.Row)
	}
	if len(key) == 0 {
		return ""
	}
	parts := make([]string, len(key))
	for i, v := range key {
		parts[i] = "NULL"
		if v != nil {
			parts[i] = fmt.Sprintf("%.60q", v)
		}
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// isFacility reports whether the row's facility column names the facility.
func (sh *shape) isFacility(v []byte, facility string) bool {
	s := string(v)
	if sh.to[sh.facilityColumn].typ == "character" || sh.to[sh.facilityColumn].typ == "bpchar" {
		s = strings.TrimRight(s, " ")
	}
	return s == facility
}

// foreign returns the error for a row of another facility.
func (sh *shape) foreign(v []byte) error {
	err := fmt.Errorf("%w: %s is %.60q", ErrForeignRow, sh.to[sh.facilityColumn].name, v)
	return &RowError{Table: sh.name, Err: err, Column: sh.to[sh.facilityColumn].name}
}
