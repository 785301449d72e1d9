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
	var t *Table
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		t, err = ReadTx(ctx, tx, schema, name)
		return err
	})
	return t, err
}

// ReadTx is Read inside of a transaction, whose search path it sets to nothing.
func ReadTx(ctx context.Context, tx pgx.Tx, schema, name string) (*Table, error) {
	// So that the names of types are qualified.
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', '', true)`); err != nil {
		return nil, err
	}
	t := &Table{Schema: schema, Name: name}
	err := tx.QueryRow(ctx, `SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text,
			coalesce((SELECT r.relnamespace::regnamespace || '.' || r.relname FROM pg_catalog.pg_class r
				WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)), ''),
			NOT c.relispartition AND c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)),
			c.relrowsecurity AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
				AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, schema, name).
		Scan(&t.OID, &t.Kind, &t.Persistence, &t.Identity, &t.Root, &t.Inherits, &t.RowSecurity)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, t.ID())
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", t.ID(), err)
	}
	for _, read := range []func(context.Context, pgx.Tx) error{t.readColumns, t.readKey, t.readForeignKeys, t.readSequences} {
		if err := read(ctx, tx); err != nil {
			return nil, fmt.Errorf("look up %s: %w", t.ID(), err)
		}
	}
	return t, nil
}

func (t *Table) readColumns(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `WITH RECURSIVE base (oid, root) AS (
			SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype <> 'd'
			UNION ALL SELECT d.oid, b.root FROM pg_catalog.pg_type d JOIN base b ON b.oid = d.typbasetype WHERE d.typtype = 'd')
		SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1), pg_catalog.format_type(a.atttypid, a.atttypmod),
			pg_catalog.format_type(b.root, -1), y.typtype::text, a.attnotnull, a.attgenerated <> '', a.attidentity::text,
			coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
		FROM pg_catalog.pg_attribute a
		JOIN base b ON b.oid = a.atttypid
		JOIN pg_catalog.pg_type y ON y.oid = b.root
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, t.OID)
	if err != nil {
		return err
	}
	t.Columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Column, error) {
		var c Column
		err := row.Scan(&c.Name, &c.Type, &c.FullType, &c.Base, &c.Class, &c.NotNull, &c.Generated, &c.Identity, &c.Default)
		return c, err
	})
	return err
}

func (t *Table) readKey(ctx context.Context, tx pgx.Tx) error {
	var key []string
	var immediate, identity bool
	err := tx.QueryRow(ctx, `SELECT ARRAY(SELECT a.attname::text
				FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
				WHERE k.n <= i.indnkeyatts ORDER BY k.n), i.indimmediate, i.indisreplident
		FROM pg_catalog.pg_index i
		WHERE i.indrelid = $1 AND (i.indisreplident OR i.indisprimary)
		ORDER BY i.indisreplident DESC LIMIT 1`, t.OID).Scan(&key, &immediate, &identity)
	t.IdentityLost = t.Identity == "i" && !identity
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	t.Key, t.KeyDeferrable = key, !immediate
	for i := range t.Columns {
		t.Columns[i].Key = slices.Contains(key, t.Columns[i].Name)
	}
	return nil
}

func (t *Table) readForeignKeys(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT k.conname::text, n.nspname::text, c.relname::text, k.condeferrable,
			ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
			ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o)
		FROM pg_catalog.pg_constraint k
		JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE k.conrelid = $1 AND k.contype = 'f' AND k.conparentid = 0 ORDER BY k.conname`, t.OID)
	if err != nil {
		return err
	}
	t.ForeignKeys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ForeignKey, error) {
		var k ForeignKey
		err := row.Scan(&k.Name, &k.Schema, &k.Table, &k.Deferrable, &k.Columns, &k.RefColumns)
		return k, err
	})
	return err
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
