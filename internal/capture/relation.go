package capture

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// relation is a table as the walsender announced it, with what only the
// catalog knows.
type relation struct {
	table change.Table
	// key are the positions of the columns that tell rows apart.
	key []int
	// build and pos say where the table is in the builder.
	build uint64
	pos   int
	keep  bool // its changes stay in although the other side made them
}

// resolve completes a relation from the catalog. The changes before a drop of a
// type are not lost: its columns have change.UnknownType.
func resolve(ctx context.Context, conn *pgx.Conn, m relationMessage, beside func(table string) string) (*relation, error) {
	r := &relation{table: change.Table{Schema: m.schema, Name: m.name, Columns: make([]change.Column, len(m.columns))}}
	oids := make([]uint32, len(m.columns))
	for i, c := range m.columns {
		oids[i] = c.typ
	}
	types, err := typeNames(ctx, conn, oids)
	if err != nil {
		return nil, fmt.Errorf("look up the types of %s: %w", r.table.ID(), err)
	}
	var primary []string
	if m.identity == 'f' {
		// With REPLICA IDENTITY FULL every column is announced as key.
		if primary, err = primaryKey(ctx, conn, m.id); err != nil {
			return nil, fmt.Errorf("look up the primary key of %s: %w", r.table.ID(), err)
		}
		if beside != nil && len(primary) > 0 {
			primary = append(primary, beside(r.table.ID()))
		}
	}
	for i, c := range m.columns {
		key := c.key
		if m.identity == 'f' {
			key = slices.Contains(primary, c.name)
		}
		r.table.Columns[i] = change.Column{Name: c.name, Type: types[i], Key: key}
	}
	r.key = r.table.KeyColumns()
	return r, nil
}

// typeNames returns the names of types, qualified if they are not PostgreSQL's
// own: the connection's search path is empty.
func typeNames(ctx context.Context, conn *pgx.Conn, oids []uint32) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT coalesce(pg_catalog.format_type(t.oid, -1), $2)
		FROM unnest($1::oid[]) WITH ORDINALITY AS o(oid, n) LEFT JOIN pg_catalog.pg_type t ON t.oid = o.oid ORDER BY o.n`, oids, change.UnknownType)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func primaryKey(ctx context.Context, conn *pgx.Conn, table uint32) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT a.attname::text
		FROM pg_catalog.pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = $1 AND i.indisprimary AND k.n <= i.indnkeyatts`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// pick appends the key values of row to dst.
func (r *relation) pick(dst, row change.Row) change.Row {
	for _, i := range r.key {
		dst = append(dst, row[i])
	}
	return dst
}

// sameKey reports whether two rows have the same key.
func (r *relation) sameKey(a, b change.Row) bool {
	for _, i := range r.key {
		if (a[i] == nil) != (b[i] == nil) || !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// complete fills what the new row did not send from the old one. whole says
// that the old row has every column, not only the key's.
func (r *relation) complete(now, old *tuple, whole bool) {
	now.absent = slices.DeleteFunc(now.absent, func(i int) bool {
		if !whole && !r.table.Columns[i].Key || slices.Contains(old.absent, i) {
			return false
		}
		now.row[i] = old.row[i]
		return true
	})
}
