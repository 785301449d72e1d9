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

// SchemaFor is where the facility's rows of the table are at the receiver.
func (t *Table) SchemaFor(facility string) string { return t.targetSchema(facility) }

// Errors of WriteRow.
var (
	// ErrNoTable means that the database has no such table.
	ErrNoTable = errors.New("there is no such table")
	// ErrNotOneRow means that the key does not name exactly one row.
	ErrNotOneRow = errors.New("the key does not name one row")
)

// Layout is what a single row's reader and writer must know of a table.
type Layout struct {
	Schema, Name string
	Columns      []LayoutColumn
}

// LayoutColumn is one of its columns, in the table's order.
type LayoutColumn struct {
	Name string
	typ  string // without modifier, so that a value that does not fit is refused and not cut
	full string // with it, so that values can be compared as the column keeps them
	// Computed is true for a column that the database fills in itself.
	Computed bool
	always   bool // GENERATED ALWAYS AS IDENTITY
}

// Has reports whether the table has the column.
func (l *Layout) Has(name string) bool { return l.column(name) != nil }

func (l *Layout) column(name string) *LayoutColumn {
	for i := range l.Columns {
		if l.Columns[i].Name == name {
			return &l.Columns[i]
		}
	}
	return nil
}

func (l *Layout) sql() string { return pgx.Identifier{l.Schema, l.Name}.Sanitize() }

const layoutSQL = `
SELECT a.attname, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', a.attidentity = 'a'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum`

// rowSettings make values read and written here the same text that changes
// carry. Unlike an applier's they leave the table's triggers and constraints
// in force: what is written is an ordinary change.
const rowSettings = `SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = postgres; SET LOCAL timezone = 'UTC';
SET LOCAL lc_monetary = 'C'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = hex; SET LOCAL lock_timeout = '10s'`

// ReadLayout prepares tx for reading and writing single rows of a table.
// ErrNoTable: there is none.
func ReadLayout(ctx context.Context, tx pgx.Tx, schema, table string) (*Layout, error) {
	if _, err := tx.Conn().PgConn().Exec(ctx, rowSettings).ReadAll(); err != nil {
		return nil, fmt.Errorf("set the formats of values: %w", err)
	}
	rows, err := tx.Query(ctx, layoutSQL, schema, table)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s.%s: %w", schema, table, err)
	}
	l := &Layout{Schema: schema, Name: table}
	l.Columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c LayoutColumn, err error) {
		return c, row.Scan(&c.Name, &c.typ, &c.full, &c.Computed, &c.always)
	})
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s.%s: %w", schema, table, err)
	}
	if len(l.Columns) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%w: %s.%s", ErrNoTable, schema, table), "Create the table with the columns and key that it has at the facility.")
	}
	return l, nil
}

// ReadRow returns the row with the key as text by column, nil if there is
// none. With lock nobody else changes it until tx ends.
func (l *Layout) ReadRow(ctx context.Context, tx pgx.Tx, key map[string]*string, lock bool) (map[string]*string, error) {
	where, args, err := l.where(key, nil)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(l.Columns))
	for i, c := range l.Columns {
		names[i] = quote(c.Name)
	}
	sql := "SELECT " + strings.Join(names, ", ") + " FROM " + l.sql() + " WHERE " + where + " LIMIT 2"
	if lock {
		sql += " FOR UPDATE"
	}
	found, err := l.texts(ctx, tx, sql, args)
	if err != nil {
		return nil, fmt.Errorf("read the row of %s.%s: %w", l.Schema, l.Name, err)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w of %s.%s", ErrNotOneRow, l.Schema, l.Name)
}

// Normalize returns the image as this table's columns would keep it, so that
// it can be compared with what ReadRow returns. Columns that the table lacks
// are left out.
func (l *Layout) Normalize(ctx context.Context, tx pgx.Tx, image map[string]*string) (map[string]*string, error) {
	var parts []string
	var args []any
	known := &Layout{Schema: l.Schema, Name: l.Name}
	for _, c := range l.Columns {
		if v, ok := image[c.Name]; ok {
			args = append(args, v)
			parts = append(parts, fmt.Sprintf("$%d::text::%s", len(args), c.full))
			known.Columns = append(known.Columns, c)
		}
	}
	if len(parts) == 0 {
		return map[string]*string{}, nil
	}
	found, err := known.texts(ctx, tx, "SELECT "+strings.Join(parts, ", "), args)
	if err != nil {
		return nil, fmt.Errorf("read the values as columns of %s.%s: %w", l.Schema, l.Name, err)
	}
	return found[0], nil
}

// texts runs a query that returns the layout's columns, and takes the values
// as the types' output functions write them.
func (l *Layout) texts(ctx context.Context, tx pgx.Tx, sql string, args []any) ([]map[string]*string, error) {
	// Described each time: what these tables look like may change any moment.
	rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec, pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (map[string]*string, error) {
		m := make(map[string]*string, len(l.Columns))
		for i, v := range row.RawValues() {
			m[l.Columns[i].Name] = nil
			if v != nil {
				s := string(v)
				m[l.Columns[i].Name] = &s
			}
		}
		return m, nil
	})
}

// WriteRow makes the row with the key what image says, as an ordinary change:
// triggers fire and constraints hold. A nil image deletes the row. Where there
// is a row only the columns in image are set; where there is none it is
// inserted, and columns that image lacks get their defaults. Computed columns
// and those that the table lacks are passed over. ErrNotOneRow: the row to
// delete is not there, or the key names several; the caller must roll back.
func (l *Layout) WriteRow(ctx context.Context, tx pgx.Tx, key, image map[string]*string) error {
	n, err := l.write(ctx, tx, key, image)
	if err != nil {
		return fmt.Errorf("write the row of %s.%s: %w", l.Schema, l.Name, err)
	}
	if n != 1 {
		return fmt.Errorf("write the row of %s.%s: %w", l.Schema, l.Name, ErrNotOneRow)
	}
	return nil
}

func (l *Layout) write(ctx context.Context, tx pgx.Tx, key, image map[string]*string) (int64, error) {
	exec := func(sql string, args []any) (int64, error) {
		tag, err := tx.Exec(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)...)
		return tag.RowsAffected(), err
	}
	if image == nil {
		where, args, err := l.where(key, nil)
		if err != nil {
			return 0, err
		}
		return exec("DELETE FROM "+l.sql()+" WHERE "+where, args)
	}
	var names, values, sets []string
	var args, setArgs []any
	for _, c := range l.Columns {
		v, ok := image[c.Name]
		if !ok || c.Computed {
			continue
		}
		args = append(args, v)
		names = append(names, quote(c.Name))
		values = append(values, fmt.Sprintf("$%d::text::%s", len(args), c.typ))
		if !c.always {
			setArgs = append(setArgs, v)
			sets = append(sets, fmt.Sprintf("%s = $%d::text::%s", quote(c.Name), len(setArgs), c.typ))
		}
	}
	if len(sets) > 0 {
		where, updateArgs, err := l.where(key, setArgs)
		if err != nil {
			return 0, err
		}
		n, err := exec("UPDATE "+l.sql()+" SET "+strings.Join(sets, ", ")+" WHERE "+where, updateArgs)
		if err != nil || n > 0 {
			return n, err
		}
	}
	if len(names) == 0 {
		return 0, nil
	}
	return exec("INSERT INTO "+l.sql()+" ("+strings.Join(names, ", ")+") OVERRIDING SYSTEM VALUE VALUES ("+strings.Join(values, ", ")+")", args)
}

// where is the condition that finds the row by key, after the arguments before.
func (l *Layout) where(key map[string]*string, before []any) (sql string, args []any, err error) {
	args = slices.Clone(before)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(key)) {
		c, v := l.column(name), key[name]
		if c == nil || v == nil {
			return "", nil, hint.Wrap(fmt.Errorf("%w: column %s of %s.%s is missing", ErrNotOneRow, name, l.Schema, l.Name),
				"Compare the table with the facility's: its key must have the same columns.")
		}
		args = append(args, v)
		parts = append(parts, fmt.Sprintf("%s = $%d::text::%s", quote(name), len(args), c.typ))
	}
	if len(parts) == 0 {
		return "", nil, fmt.Errorf("%w: the key of %s.%s is empty", ErrNotOneRow, l.Schema, l.Name)
	}
	return strings.Join(parts, " AND "), args, nil
}
