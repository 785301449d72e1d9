package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// catalog keeps what has been read of the target's tables. It is forgotten as
// a whole when a statement fails in a way that old knowledge may explain.
type catalog struct {
	mu      sync.Mutex
	targets map[string]*target
	shapes  map[string]*shape
	links   map[string]*links // by the target's schema.name
	log     *slog.Logger
}

// maxCatalog is how many tables and shapes are kept before all are forgotten.
const maxCatalog = 10000

func newCatalog(log *slog.Logger) *catalog {
	return &catalog{log: log, targets: map[string]*target{}, shapes: map[string]*shape{}, links: map[string]*links{}}
}

func (c *catalog) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.targets)
	clear(c.shapes)
	clear(c.links)
}

// target is a table of the target database.
type target struct {
	oid          uint32
	schema, name string
	partitioned  bool
	columns      []targetColumn
	byName       map[string]int
	// unique are the column sets of its unique indexes that ON CONFLICT can use.
	unique []uniqueIndex
	// sequences give new rows their numbers.
	sequences []schema.Sequence
}

type uniqueIndex struct {
	columns []string
	// schemas hold its comparison operators, where that is not pg_catalog: the
	// types of extensions.
	schemas []string
}

type targetColumn struct {
	name string
	// typ is the type's name with its schema and without modifier, for casts.
	typ string
	// array sends the column in binary arrays, copied in a binary COPY; each
	// without encode where text must do.
	array, copied binaryType
	notNull       bool
	hasValue      bool // a default or identity
	generated     bool
	always        bool // GENERATED ALWAYS AS IDENTITY
	// collation is true when the column's order is not that of its bytes.
	collation bool
	// enum: its labels may have another order at the sender, so keys are
	// ordered by their text.
	enum bool
}

// is reports whether both are the same table, read at different times.
func (t *target) is(other *target) bool { return t.schema == other.schema && t.name == other.name }

// sql is the table's quoted name.
func (t *target) sql() string { return pgx.Identifier{t.schema, t.name}.Sanitize() }

const columnsSQL = `
SELECT c.oid, c.relkind = 'p', a.attname, format_type(a.atttypid, -1), ty.typtype = 'e', format_type(nullif(ty.typbasetype, 0), -1),
       a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', a.attidentity = 'a',
       a.attcollation <> 0 AND NOT CASE WHEN co.oid IS NULL THEN d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
         ELSE co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type ty ON ty.oid = a.atttypid
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_collation co ON co.oid = a.attcollation AND co.collprovider <> 'd'
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum`

const uniqueSQL = `
SELECT array_agg(a.attname::text ORDER BY k.ord),
       coalesce(array_agg(DISTINCT n.nspname::text) FILTER (WHERE n.nspname <> 'pg_catalog'), '{}')
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_opclass o ON o.oid = (i.indclass::oid[])[k.ord - 1]
JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid`

// target returns the table schema.name, or nil when there is none.
func (c *catalog) target(ctx context.Context, s *session, schema, name string) (*target, error) {
	id := schema + "." + name
	c.mu.Lock()
	t := c.targets[id]
	c.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := readTarget(ctx, s.conn.Conn(), schema, name)
	if err != nil {
		return nil, fmt.Errorf("read the catalog of %s: %w", id, err)
	}
	if t != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.targets) >= maxCatalog {
			clear(c.targets)
		}
		c.targets[id] = t
	}
	return t, nil
}

func readTarget(ctx context.Context, conn *pgx.Conn, schema, name string) (*target, error) {
	t := &target{schema: schema, name: name, byName: map[string]int{}}
	rows, err := conn.Query(ctx, columnsSQL, schema, name)
	if err != nil {
		return nil, err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var c targetColumn
		var base *string // of a domain
		err := row.Scan(&t.oid, &t.partitioned, &c.name, &c.typ, &c.enum, &base, &c.notNull, &c.hasValue, &c.generated, &c.always, &c.collation)
		c.array = binaryTypes[c.typ]
		switch {
		case c.enum:
			c.copied = binaryType{encode: encodeText}
		case base != nil:
			c.copied = binaryTypes[*base]
		default:
			c.copied = c.array
		}
		t.byName[c.name] = len(t.columns)
		t.columns = append(t.columns, c)
		return struct{}{}, err
	})
	if err != nil || len(t.columns) == 0 {
		return nil, err
	}
	rows, err = conn.Query(ctx, uniqueSQL, t.oid)
	if err != nil {
		return nil, err
	}
	t.unique, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u uniqueIndex, err error) {
		return u, row.Scan(&u.columns, &u.schemas)
	})
	if err != nil {
		return nil, err
	}
	return t, t.readSequences(ctx, conn)
}

// assignable reports whether values of the type from, as text, may be given to
// a column of the type to: PostgreSQL would do so in an INSERT by itself. For
// values of a type that is gone at the sender, the target's type decides.
func assignable(ctx context.Context, s *session, from, to string) (bool, error) {
	if from == to || from == change.UnknownType || to == "text" || to == "character varying" {
		return true, nil
	}
	var ok bool
	err := s.conn.Conn().QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_cast
		WHERE castsource = to_regtype($1) AND casttarget = to_regtype($2) AND castcontext IN ('i', 'a'))`,
		from, to).Scan(&ok)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return ok, err
}

// conflictKey returns the unique index that identifies a row by the sender's
// key: the same columns, or these and the facility column.
func (t *target) conflictKey(key []string, facility string) *uniqueIndex {
	want := slices.Sorted(slices.Values(key))
	with := want
	if facility != "" && !slices.Contains(key, facility) {
		with = slices.Sorted(slices.Values(append(slices.Clone(key), facility)))
	}
	var second *uniqueIndex
	for i := range t.unique {
		u := &t.unique[i]
		have := slices.Sorted(slices.Values(u.columns))
		if slices.Equal(have, want) {
			return u
		}
		if slices.Equal(have, with) && second == nil {
			second = u
		}
	}
	return second
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = quote(n)
	}
	return strings.Join(q, ", ")
}

// known returns the shape if it has been found before, without asking the
// database.
func (c *catalog) known(reg *Registry, at place, t *change.Table) *shape {
	entry, ok := reg.Table(t.Schema, t.Name)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shapes[signature(&entry, at, t)]
}
