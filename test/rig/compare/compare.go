// Package compare says whether two databases hold the same rows.
//
// In:  test scenarios and the simulator, after everything has settled.
// Out: two PostgreSQL databases, which it only reads.
package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table names a table to compare.
type Table struct {
	Schema, Name string
	Ignore       []string // columns that may differ
	Where        string   // SQL: only these rows; empty means all
	SchemaB      string   // its schema in B, where that is another one
}

// inB is the table as B has it.
func (t Table) inB() Table {
	t.Schema = cmp.Or(t.SchemaB, t.Schema)
	return t
}

// from names the table's rows for SQL.
func (t Table) from() string {
	name := pgx.Identifier{t.Schema, t.Name}.Sanitize()
	if t.Where == "" {
		return name
	}
	return "(SELECT * FROM " + name + " WHERE " + t.Where + ") AS part"
}

// String returns schema.name.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Database is a connection or a pool.
type Database interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

// DifferentError is the first rows that differ, of each table that does.
type DifferentError struct{ Tables []TableDifference }

// TableDifference is what differs in one table.
type TableDifference struct {
	Table        Table
	RowsA, RowsB int64
	Reason       string // when the tables cannot be compared row by row
	First        []Row  // the first that differ, by key, at most shownMax
}

// Row is one row that differs, as PostgreSQL writes it as text. A is empty
// when only B has it, and B when only A has it.
type Row struct{ Key, A, B string }

const shownMax = 5

func (e *DifferentError) Error() string {
	var b strings.Builder
	for i, t := range e.Tables {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s differs: %d rows in A, %d in B", t.Table, t.RowsA, t.RowsB)
		if t.Reason != "" {
			fmt.Fprintf(&b, ": %s", t.Reason)
		}
		for _, r := range t.First {
			fmt.Fprintf(&b, "\n  key %s\n    A %s\n    B %s", r.Key, or(r.A, "has no such row"), or(r.B, "has no such row"))
		}
	}
	return b.String()
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Tables compares each table in a and b, and returns a *DifferentError, or
// nil when all rows are equal. The order of columns, and columns that both
// sides have dropped, do not matter; everything else does. Each side is read
// in one snapshot.
func Tables(ctx context.Context, a, b Database, tables ...Table) error {
	if len(tables) == 0 {
		return errors.New("compare databases: no tables given")
	}
	txA, err := begin(ctx, a)
	if err != nil {
		return fmt.Errorf("read database A: %w", err)
	}
	defer txA.Rollback(ctx)
	txB, err := begin(ctx, b)
	if err != nil {
		return fmt.Errorf("read database B: %w", err)
	}
	defer txB.Rollback(ctx)
	var all DifferentError
	for _, t := range tables {
		d, err := table(ctx, txA, txB, t)
		if err != nil {
			return fmt.Errorf("compare %s: %w", t, err)
		}
		if d != nil {
			all.Tables = append(all.Tables, *d)
		}
	}
	if len(all.Tables) > 0 {
		return &all
	}
	return nil
}

// UserTables lists the tables of a schema, partitioned ones as a whole.
func UserTables(ctx context.Context, db Database, schema string) ([]Table, error) {
	tx, err := begin(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", schema, err)
	}
	defer tx.Rollback(ctx)
	rows, err := tx.Query(ctx, `SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
		WHERE nspname = $1 AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname`, schema)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", schema, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", schema, err)
	}
	var tables []Table
	for _, n := range names {
		tables = append(tables, Table{Schema: schema, Name: n})
	}
	return tables, nil
}

// begin makes both sides write values in the same way.
func begin(ctx context.Context, db Database) (pgx.Tx, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
		set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '3', true),
		set_config('bytea_output', 'hex', true), set_config('search_path', '', true)`)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback(ctx))
	}
	return tx, nil
}

// shape is what of a table is compared.
type shape struct {
	columns []string // sorted by name
	key     []string // the primary key's, in its order; all columns when there is none
}

func shapeOf(ctx context.Context, tx pgx.Tx, t Table) (shape, error) {
	rows, err := tx.Query(ctx, `SELECT attname, coalesce(array_position(i.indkey::int2[], attnum), -1)
		FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE nspname = $1 AND relname = $2 AND attnum > 0 AND NOT attisdropped ORDER BY attname COLLATE "C"`, t.Schema, t.Name)
	if err != nil {
		return shape{}, err
	}
	type column struct {
		Name string
		Key  int // place in the primary key, or -1
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return shape{}, err
	}
	var s shape
	var key []column
	for _, c := range columns {
		if c.Key >= 0 {
			key = append(key, c)
		}
		if !slices.Contains(t.Ignore, c.Name) {
			s.columns = append(s.columns, c.Name)
		}
	}
	slices.SortFunc(key, func(a, b column) int { return a.Key - b.Key })
	for _, c := range key {
		s.key = append(s.key, c.Name)
	}
	if len(s.key) == 0 {
		s.key = s.columns
	}
	return s, nil
}

func table(ctx context.Context, a, b pgx.Tx, t Table) (*TableDifference, error) {
	sa, err := shapeOf(ctx, a, t)
	if err != nil {
		return nil, fmt.Errorf("read its columns in A: %w", err)
	}
	sb, err := shapeOf(ctx, b, t.inB())
	if err != nil {
		return nil, fmt.Errorf("read its columns in B: %w", err)
	}
	switch {
	case len(sa.columns) == 0 && len(sb.columns) == 0:
		return nil, errors.New("neither database has it")
	case !slices.Equal(sa.columns, sb.columns):
		return &TableDifference{Table: t, Reason: fmt.Sprintf("columns %v in A, %v in B", sa.columns, sb.columns)}, nil
	}
	da, err := digestOf(ctx, a, t, sa)
	if err != nil {
		return nil, fmt.Errorf("add up its rows in A: %w", err)
	}
	db, err := digestOf(ctx, b, t.inB(), sa)
	if err != nil {
		return nil, fmt.Errorf("add up its rows in B: %w", err)
	}
	if da == db {
		return nil, nil
	}
	d := &TableDifference{Table: t, RowsA: da.rows, RowsB: db.rows}
	if d.First, err = walk(ctx, a, b, t, sa); err != nil {
		return nil, err
	}
	return d, nil
}

// digest is the number of rows and the sum of their hashes: equal for equal
// rows in any order, which needs no sorting.
type digest struct {
	rows int64
	sum  string
}

func digestOf(ctx context.Context, tx pgx.Tx, t Table, s shape) (digest, error) {
	var d digest
	err := tx.QueryRow(ctx, `SELECT count(*), coalesce(sum(('x' || left(md5(r), 16))::bit(64)::bigint::numeric), 0)::text
		FROM (SELECT `+rowText(s.columns)+` AS r FROM `+t.from()+`) q`).Scan(&d.rows, &d.sum)
	return d, err
}

func rowText(columns []string) string {
	var quoted []string
	for _, c := range columns {
		quoted = append(quoted, pgx.Identifier{c}.Sanitize())
	}
	return "ROW(" + strings.Join(quoted, ", ") + ")::text"
}
