package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/hint"
)

// Image is a row as the record of a conflict has it: {column: value as text},
// nil for NULL. What is not known of the row is missing.
type Image = map[string]*string

// ErrImage means that the row cannot be written as it is described.
var ErrImage = errors.New("row cannot be written")

// WriteRow makes the row of the table with the key what the image says, as an
// ordinary change that flows like any other: it is how the version that did not
// stand in a conflict is restored. Columns that the image lacks keep their value,
// or get their default in a row that is new. A nil image deletes the row. It
// reports whether anything was written.
func WriteRow(ctx context.Context, tx pgx.Tx, schema, table string, key, image Image) (bool, error) {
	t, err := readTarget(ctx, tx.Conn(), schema, table)
	if err != nil {
		return false, fmt.Errorf("read the catalog of %s.%s: %w", schema, table, err)
	}
	if t == nil {
		return false, fmt.Errorf("%w: there is no table %s.%s", ErrImage, schema, table)
	}
	w := &rowWriter{target: t, key: key, image: image}
	if err := w.check(); err != nil {
		return false, err
	}
	if image == nil {
		return w.exec(ctx, tx, "DELETE FROM "+t.from()+" AS t WHERE "+w.where())
	}
	written, err := w.exec(ctx, tx, w.updateSQL())
	if err != nil || written {
		return written, err
	}
	return w.exec(ctx, tx, w.insertSQL())
}

type rowWriter struct {
	target     *target
	key, image Image
}

// check refuses what would write another row, or not all that is asked for.
func (w *rowWriter) check() error {
	t := w.target
	names := slices.Sorted(maps.Keys(w.key))
	if len(names) == 0 || !slices.ContainsFunc(t.unique, func(u uniqueIndex) bool {
		return slices.Equal(slices.Sorted(slices.Values(u.columns)), names)
	}) {
		return hint.Wrap(fmt.Errorf("%w: (%s) is not a key of %s.%s", ErrImage, strings.Join(names, ", "), t.schema, t.name),
			"The table's key was changed since. Write the row with the application instead.")
	}
	for _, name := range names {
		if v, ok := w.image[name]; w.key[name] == nil || ok && (v == nil || *v != *w.key[name]) {
			return fmt.Errorf("%w: its %q is another one than in its key", ErrImage, name)
		}
	}
	for name := range w.image {
		if _, ok := t.byName[name]; !ok {
			return hint.Wrap(fmt.Errorf("%w: %s.%s has no column %q", ErrImage, t.schema, t.name, name),
				"The table was changed since. Write the row with the application instead.")
		}
	}
	return nil
}

// value is a column's value of the JSON in the parameter n.
func (w *rowWriter) value(n int, c *targetColumn) string {
	return c.cast(fmt.Sprintf("($%d::jsonb ->> %s)", n, literal(c.name)))
}

// literal quotes a text for SQL.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		q = " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

func (w *rowWriter) where() string {
	var parts []string
	for i := range w.target.columns {
		if c := &w.target.columns[i]; has(w.key, c) {
			parts = append(parts, fmt.Sprintf("t.%s = %s", quote(c.name), w.value(1, c)))
		}
	}
	return strings.Join(parts, " AND ")
}

func has(m Image, c *targetColumn) bool {
	_, ok := m[c.name]
	return ok
}

func (w *rowWriter) updateSQL() string {
	var set []string
	for i := range w.target.columns {
		c := &w.target.columns[i]
		if has(w.image, c) && !has(w.key, c) && !c.generated && !c.always {
			set = append(set, quote(c.name)+" = "+w.value(2, c))
		}
	}
	if len(set) == 0 {
		for name := range w.key {
			set = append(set, quote(name)+" = t."+quote(name))
		}
	}
	return "UPDATE " + w.target.from() + " AS t SET " + strings.Join(set, ", ") + " WHERE " + w.where()
}

func (w *rowWriter) insertSQL() string {
	var names, values []string
	for i := range w.target.columns {
		c := &w.target.columns[i]
		switch {
		case c.generated:
		case has(w.key, c):
			names, values = append(names, quote(c.name)), append(values, w.value(1, c))
		case has(w.image, c):
			names, values = append(names, quote(c.name)), append(values, w.value(2, c))
		}
	}
	return "INSERT INTO " + w.target.sql() + " (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(values, ", ") + ")"
}

// exec runs a statement that may use the key as $1 and the image as $2.
func (w *rowWriter) exec(ctx context.Context, tx pgx.Tx, sql string) (bool, error) {
	var args []any
	for n, m := range []Image{w.key, w.image} {
		if !strings.Contains(sql, fmt.Sprintf("$%d::", n+1)) {
			break
		}
		b, err := json.Marshal(m)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrImage, err)
		}
		args = append(args, string(b))
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return false, fmt.Errorf("write a row of %s.%s: %w", w.target.schema, w.target.name, err)
	}
	return tag.RowsAffected() > 0, nil
}
