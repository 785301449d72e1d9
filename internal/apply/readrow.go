package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/hint"
)

// ErrNoTable means that the database has no such table.
var ErrNoTable = errors.New("there is no such table")

// SchemaFor is where the facility's rows of the table are in the region.
func (t *Table) SchemaFor(facility string) string { return place{facility, Up}.schema(t) }

// Layout is what must be known of a table to read single rows of it.
type Layout struct {
	Schema, Name string
	// Columns are in the table's order.
	Columns []LayoutColumn
	target  *target
	full    map[string]string // the columns' types with their modifiers
}

// LayoutColumn is one column.
type LayoutColumn struct {
	Name string
	// Computed is true for a column that the database fills in itself.
	Computed bool
}

// rowSettings make values read here the same text that changes carry. Unlike an
// applier's they leave the table's triggers and constraints in force: what is
// written in the same transaction is an ordinary change.
const rowSettings = `SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = postgres; SET LOCAL timezone = 'UTC';
SET LOCAL lc_monetary = 'C'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = hex; SET LOCAL lock_timeout = '10s'`

const fullTypesSQL = `
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`

// ReadLayout prepares tx for reading single rows of a table, and for WriteRow.
// ErrNoTable: there is none.
func ReadLayout(ctx context.Context, tx pgx.Tx, schema, table string) (*Layout, error) {
	if _, err := tx.Conn().PgConn().Exec(ctx, rowSettings).ReadAll(); err != nil {
		return nil, fmt.Errorf("set the formats of values: %w", err)
	}
	t, err := readTarget(ctx, tx.Conn(), schema, table)
	if err != nil {
		return nil, fmt.Errorf("read the catalog of %s.%s: %w", schema, table, err)
	}
	if t == nil {
		return nil, hint.Wrap(fmt.Errorf("%w: %s.%s", ErrNoTable, schema, table), "Create the table with the columns and key that it has at the facility.")
	}
	l := &Layout{Schema: schema, Name: table, target: t, full: map[string]string{}}
	for _, c := range t.columns {
		l.Columns = append(l.Columns, LayoutColumn{Name: c.name, Computed: c.generated})
	}
	rows, err := tx.Query(ctx, fullTypesSQL, t.oid)
	if err != nil {
		return nil, fmt.Errorf("read the column types of %s.%s: %w", schema, table, err)
	}
	var name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ}, func() error { l.full[name] = typ; return nil }); err != nil {
		return nil, fmt.Errorf("read the column types of %s.%s: %w", schema, table, err)
	}
	return l, nil
}

// Has reports whether the table has the column.
func (l *Layout) Has(name string) bool { _, ok := l.target.byName[name]; return ok }

// Key returns the part of the image that names one row for WriteRow: the
// sender's key columns, with the facility column where the key has it.
func (l *Layout) Key(image Image, key []string, facility string) Image {
	u := l.target.conflictKey(key, facility)
	if u == nil {
		return image // WriteRow says what is wrong
	}
	out := Image{}
	for _, c := range u.columns {
		if v, ok := image[c]; ok {
			out[c] = v
		}
	}
	return out
}

// ReadRow returns the row with these values, nil if there is none. With lock
// nobody else changes it until tx ends. ErrImage: the values do not name one row.
func (l *Layout) ReadRow(ctx context.Context, tx pgx.Tx, key Image, lock bool) (Image, error) {
	var parts []string
	var args []any
	for _, name := range slices.Sorted(maps.Keys(key)) {
		i, ok := l.target.byName[name]
		if !ok || key[name] == nil {
			return nil, hint.Wrap(fmt.Errorf("%w: its column %q is missing in %s.%s", ErrImage, name, l.Schema, l.Name),
				"Compare the table with the facility's: its key must have the same columns.")
		}
		args = append(args, key[name])
		parts = append(parts, fmt.Sprintf("%s = %s", quote(name), l.target.columns[i].cast(fmt.Sprintf("$%d::text", len(args)))))
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: it has no key in %s.%s", ErrImage, l.Schema, l.Name)
	}
	names := make([]string, len(l.Columns))
	for i, c := range l.Columns {
		names[i] = c.Name
	}
	sql := "SELECT " + quoteAll(names) + " FROM " + l.target.from() + " WHERE " + strings.Join(parts, " AND ") + " LIMIT 2"
	if lock {
		sql += " FOR UPDATE"
	}
	found, err := texts(ctx, tx, names, sql, args)
	if err != nil {
		return nil, fmt.Errorf("read a row of %s.%s: %w", l.Schema, l.Name, err)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: its key names several rows of %s.%s", ErrImage, l.Schema, l.Name)
}

// Normalize returns the image as this table's columns would keep it, so that
// it can be compared with what ReadRow returns. Columns that the table lacks
// are left out.
func (l *Layout) Normalize(ctx context.Context, tx pgx.Tx, image Image) (Image, error) {
	var names, parts []string
	var args []any
	for _, c := range l.Columns {
		if v, ok := image[c.Name]; ok {
			names, args = append(names, c.Name), append(args, v)
			parts = append(parts, fmt.Sprintf("$%d::text::%s", len(args), l.full[c.Name]))
		}
	}
	if len(parts) == 0 {
		return Image{}, nil
	}
	found, err := texts(ctx, tx, names, "SELECT "+strings.Join(parts, ", "), args)
	if err != nil {
		return nil, fmt.Errorf("read the values as columns of %s.%s: %w", l.Schema, l.Name, err)
	}
	return found[0], nil
}

// texts runs a query that returns the named columns, and takes the values as
// the types' output functions write them.
func texts(ctx context.Context, tx pgx.Tx, names []string, sql string, args []any) ([]Image, error) {
	// Described each time: what these tables look like may change any moment.
	rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec, pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Image, error) {
		m := make(Image, len(names))
		for i, v := range row.RawValues() {
			m[names[i]] = textOf(v)
		}
		return m, nil
	})
}
