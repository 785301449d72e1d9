// Package schema reads what a table looks like from PostgreSQL's catalog, and
// says whether it can be synced.
//
// In:  PostgreSQL's catalog.
// Out: internal/capture, edge/uplink, cloud/cloud.go and internal/apply: whoever must know a table.
package schema

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Column is one column of a table.
type Column struct {
	Name string
	// Type is the type's name with its schema, if it is not PostgreSQL's own,
	// and without its modifier; FullType has the modifier.
	Type, FullType string
	// Base is the type under a domain, for anything else Type.
	Base string
	// Class is pg_type.typtype of the base: b base, c composite, e enum,
	// r range, m multirange, p pseudo.
	Class   string
	NotNull bool
	// Generated columns are computed by each database; they are not sent.
	Generated bool
	// Identity is "", "a" (always) or "d" (by default).
	Identity string
	// Default is the expression of the default, or "".
	Default string
	// Key is true for a column of Table.Key.
	Key bool
}

// Ordered reports whether the column's values have the same order in every
// database: an extension's type may not, or not under every search path.
func (c *Column) Ordered() bool { return c.Class != "b" || !strings.Contains(c.Base, ".") }

// ForeignKey refers from columns of a table to those of another.
type ForeignKey struct {
	Name       string
	Columns    []string
	Schema     string
	Table      string
	RefColumns []string
	Deferrable bool
}

// Table is a table as the catalog has it.
type Table struct {
	OID          uint32
	Schema, Name string
	// Kind is pg_class.relkind: r ordinary, p partitioned, v view, f foreign…
	Kind string
	// Persistence is p permanent, u unlogged, t temporary.
	Persistence string
	// Root is "schema.name" of the partitioned table that this one is a
	// partition of, or "".
	Root string
	// Inherits is true for a parent or a child by INHERITS.
	Inherits bool
	// Identity is pg_class.relreplident: d default, i index, f full, n nothing.
	Identity string
	// IdentityLost is true when the index of the replica identity was dropped:
	// PostgreSQL then publishes neither updates nor deletes.
	IdentityLost bool
	Columns      []Column
	// Key names the columns that tell rows apart, in the order of the index: of
	// the replica identity's index if there is one, else of the primary key.
	Key []string
	// KeyDeferrable is true when the key is checked at commit only, which makes
	// it useless to tell rows apart before.
	KeyDeferrable bool
	ForeignKeys   []ForeignKey
	// Counted are the sequences that the key's columns get their numbers from.
	Counted []Sequence
	// RowSecurity is true when policies hide rows from the role that asked.
	RowSecurity bool
}

// ID is "schema.name", for messages and maps; it is not quoted for SQL.
func (t *Table) ID() string { return t.Schema + "." + t.Name }

// Column returns the column of that name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// ErrNotFound says that there is no relation of that name.
var ErrNotFound = errors.New("no such table")

// Read returns the table, or an error that wraps ErrNotFound. conn must not be
// in a transaction.
func Read(ctx context.Context, conn *pgx.Conn, schema, name string) (*Table, error) {
	return one(Name{schema, name}, func(id Name) (map[Name]*Table, error) { return ReadAll(ctx, conn, id) })
}

// ReadRows is Read of what the table's rows are: neither foreign keys nor
// sequences. It is for a transaction, whose search path it sets to nothing.
func ReadRows(ctx context.Context, tx pgx.Tx, schema, name string) (*Table, error) {
	return one(Name{schema, name}, func(id Name) (map[Name]*Table, error) {
		found, _, err := readRows(ctx, tx, id)
		return found, err
	})
}

func one(id Name, read func(Name) (map[Name]*Table, error)) (*Table, error) {
	found, err := read(id)
	if err == nil && found[id] == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s.%s: %w", id.Schema, id.Name, err)
	}
	return found[id], nil
}

// ReadAll returns those of the tables that there are: many take hardly longer
// than one. conn must not be in a transaction.
func ReadAll(ctx context.Context, conn *pgx.Conn, names ...Name) (found map[Name]*Table, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		var r *reader
		if found, r, err = readRows(ctx, tx, names...); err != nil {
			return err
		}
		if err := r.foreignKeys(ctx); err != nil {
			return err
		}
		return r.sequences(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return found, nil
}

func readRows(ctx context.Context, tx pgx.Tx, names ...Name) (map[Name]*Table, *reader, error) {
	// So that the names of types are qualified.
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', '', true)`); err != nil {
		return nil, nil, err
	}
	found, err := readRelations(ctx, tx, names)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{tx: tx, tables: map[uint32]*Table{}}
	for _, t := range found {
		r.tables[t.OID], r.oids = t, append(r.oids, t.OID)
	}
	if err := r.columns(ctx); err != nil {
		return nil, nil, err
	}
	return found, r, r.keys(ctx)
}

func readRelations(ctx context.Context, tx pgx.Tx, names []Name) (map[Name]*Table, error) {
	var schemas, tables []string
	for _, n := range names {
		schemas, tables = append(schemas, n.Schema), append(tables, n.Name)
	}
	rows, err := tx.Query(ctx, `SELECT n.nspname::text, c.relname::text, c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text,
			coalesce((SELECT r.relnamespace::regnamespace || '.' || r.relname FROM pg_catalog.pg_class r
				WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)), ''),
			NOT c.relispartition AND c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)),
			c.relrowsecurity AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
				AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
		FROM unnest($1::text[], $2::text[]) AS u(s, t) JOIN pg_catalog.pg_namespace n ON n.nspname = u.s
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.t`, schemas, tables)
	if err != nil {
		return nil, err
	}
	found := map[Name]*Table{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		t := new(Table)
		err := row.Scan(&t.Schema, &t.Name, &t.OID, &t.Kind, &t.Persistence, &t.Identity, &t.Root, &t.Inherits, &t.RowSecurity)
		found[Name{t.Schema, t.Name}] = t
		return struct{}{}, err
	})
	return found, err
}

// reader reads what there is to know of tables that were found.
type reader struct {
	tx     pgx.Tx
	tables map[uint32]*Table
	oids   []uint32
}

func (r *reader) columns(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `WITH RECURSIVE base (oid, at) AS (
			SELECT DISTINCT a.atttypid, a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
			UNION ALL SELECT b.oid, d.typbasetype FROM base b JOIN pg_catalog.pg_type d ON d.oid = b.at WHERE d.typtype = 'd')
		SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, -1), pg_catalog.format_type(a.atttypid, a.atttypmod),
			pg_catalog.format_type(y.oid, -1), y.typtype::text, a.attnotnull, a.attgenerated <> '', a.attidentity::text,
			coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
		FROM pg_catalog.pg_attribute a
		JOIN base b ON b.oid = a.atttypid
		JOIN pg_catalog.pg_type y ON y.oid = b.at AND y.typtype <> 'd'
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum`, r.oids)
	if err != nil {
		return err
	}
	var oid uint32
	var c Column
	_, err = pgx.ForEachRow(rows, []any{&oid, &c.Name, &c.Type, &c.FullType, &c.Base, &c.Class, &c.NotNull, &c.Generated, &c.Identity, &c.Default}, func() error {
		t := r.tables[oid]
		t.Columns = append(t.Columns, c)
		return nil
	})
	return err
}

func (r *reader) keys(ctx context.Context) error {
	for _, t := range r.tables {
		t.IdentityLost = t.Identity == "i"
	}
	rows, err := r.tx.Query(ctx, `SELECT DISTINCT ON (i.indrelid) i.indrelid, ARRAY(SELECT a.attname::text
				FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
				WHERE k.n <= i.indnkeyatts ORDER BY k.n), i.indimmediate, i.indisreplident
		FROM pg_catalog.pg_index i
		WHERE i.indrelid = ANY ($1) AND (i.indisreplident OR i.indisprimary)
		ORDER BY i.indrelid, i.indisreplident DESC`, r.oids)
	if err != nil {
		return err
	}
	var oid uint32
	var key []string
	var immediate, identity bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &key, &immediate, &identity}, func() error {
		t := r.tables[oid]
		t.IdentityLost = t.IdentityLost && !identity
		t.Key, t.KeyDeferrable = key, !immediate
		for i := range t.Columns {
			t.Columns[i].Key = slices.Contains(key, t.Columns[i].Name)
		}
		key = nil // it is the table's now
		return nil
	})
	return err
}

func (r *reader) foreignKeys(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `SELECT k.conrelid, k.conname::text, n.nspname::text, c.relname::text, k.condeferrable,
			ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
			ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o)
		FROM pg_catalog.pg_constraint k
		JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE k.conrelid = ANY ($1) AND k.contype = 'f' AND k.conparentid = 0 ORDER BY k.conname`, r.oids)
	if err != nil {
		return err
	}
	var oid uint32
	var k ForeignKey
	_, err = pgx.ForEachRow(rows, []any{&oid, &k.Name, &k.Schema, &k.Table, &k.Deferrable, &k.Columns, &k.RefColumns}, func() error {
		t := r.tables[oid]
		t.ForeignKeys = append(t.ForeignKeys, k)
		k.Columns, k.RefColumns = nil, nil
		return nil
	})
	return err
}

// sequences reads those of the columns of the keys.
func (r *reader) sequences(ctx context.Context) error {
	list, err := Sequences(ctx, r.tx, r.oids...)
	if err != nil {
		return err
	}
	for oid, sequences := range list {
		t := r.tables[oid]
		for _, s := range sequences {
			if c := t.Column(s.Column); c != nil && c.Key {
				t.Counted = append(t.Counted, s)
			}
		}
	}
	return nil
}

// Fingerprint is the same for two tables into which the same rows fit: the same
// columns with the same types and the same key, whatever their order.
func (t *Table) Fingerprint() uint64 {
	var lines []string
	for _, c := range t.Columns {
		lines = append(lines, fmt.Sprintf("%q %q %t %t", c.Name, c.FullType, c.Key, c.Generated))
	}
	slices.Sort(lines)
	h := fnv.New64a()
	_, _ = io.WriteString(h, strings.Join(lines, "\n"))
	return h.Sum64()
}
