package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	targets map[schema.Name]*target
	shapes  map[string]*shape
	links   map[string]*links // by the target's schema.name
	log     *slog.Logger
}

// maxCatalog is how many tables and shapes are kept before all are forgotten.
const maxCatalog = 10000

func newCatalog(log *slog.Logger) *catalog {
	return &catalog{log: log, targets: map[schema.Name]*target{}, shapes: map[string]*shape{}, links: map[string]*links{}}
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
SELECT n.nspname::text, c.relname::text, c.oid, c.relkind = 'p', a.attname, format_type(a.atttypid, -1), ty.typtype = 'e', format_type(nullif(ty.typbasetype, 0), -1),
       a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', a.attidentity = 'a',
       a.attcollation <> 0 AND NOT CASE WHEN co.oid IS NULL THEN d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
         ELSE co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END
FROM unnest($1::text[], $2::text[]) AS u(s, t) JOIN pg_namespace n ON n.nspname = u.s
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = u.t
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type ty ON ty.oid = a.atttypid
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_collation co ON co.oid = a.attcollation AND co.collprovider <> 'd'
WHERE c.relkind IN ('r', 'p')
ORDER BY c.oid, a.attnum`

const uniqueSQL = `
SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.ord),
       coalesce(array_agg(DISTINCT n.nspname::text) FILTER (WHERE n.nspname <> 'pg_catalog'), '{}')
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_opclass o ON o.oid = (i.indclass::oid[])[k.ord - 1]
JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE i.indrelid = ANY ($1::oid[]) AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid`

// targetsMax is how many tables are read at once: the one that is asked for and
// others that will be.
const targetsMax = 100

// target returns the table, or nil when there is none. Where it has to be read
// others are read with it, which takes hardly longer than one.
func (c *catalog) target(ctx context.Context, s *session, id schema.Name, others []schema.Name) (*target, error) {
	c.mu.Lock()
	t := c.targets[id]
	c.mu.Unlock()
	if t != nil {
		return t, nil
	}
	want := []schema.Name{id}
	c.mu.Lock()
	for _, o := range others {
		if len(want) == targetsMax {
			break
		}
		if c.targets[o] == nil && o != id {
			want = append(want, o)
		}
	}
	c.mu.Unlock()
	found, err := readTargets(ctx, s.conn.Conn(), want...)
	if err != nil {
		return nil, fmt.Errorf("read the catalog of %s.%s: %w", id.Schema, id.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.targets)+len(found) > maxCatalog {
		clear(c.targets)
	}
	maps.Copy(c.targets, found)
	return found[id], nil
}

// readTarget returns the table, or nil when there is none.
func readTarget(ctx context.Context, conn *pgx.Conn, schemaName, name string) (*target, error) {
	id := schema.Name{Schema: schemaName, Name: name}
	found, err := readTargets(ctx, conn, id)
	return found[id], err
}

// readTargets returns those of the tables that there are.
func readTargets(ctx context.Context, conn *pgx.Conn, names ...schema.Name) (map[schema.Name]*target, error) {
	var schemas, tables []string
	for _, n := range names {
		schemas, tables = append(schemas, n.Schema), append(tables, n.Name)
	}
	rows, err := conn.Query(ctx, columnsSQL, schemas, tables)
	if err != nil {
		return nil, err
	}
	found, byOID := map[schema.Name]*target{}, map[uint32]*target{}
	var oids []uint32
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var at target
		var c targetColumn
		var base *string // of a domain
		err := row.Scan(&at.schema, &at.name, &at.oid, &at.partitioned, &c.name, &c.typ, &c.enum, &base, &c.notNull, &c.hasValue, &c.generated, &c.always, &c.collation)
		c.array = binaryTypes[c.typ]
		switch {
		case c.enum:
			c.copied = binaryType{encode: encodeText}
		case base != nil:
			c.copied = binaryTypes[*base]
		default:
			c.copied = c.array
		}
		t := byOID[at.oid]
		if t == nil {
			t, at.byName = &at, map[string]int{}
			found[schema.Name{Schema: t.schema, Name: t.name}], byOID[t.oid] = t, t
			oids = append(oids, t.oid)
		}
		t.byName[c.name] = len(t.columns)
		t.columns = append(t.columns, c)
		return struct{}{}, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	rows, err = conn.Query(ctx, uniqueSQL, oids)
	if err != nil {
		return nil, err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var oid uint32
		var u uniqueIndex
		err := row.Scan(&oid, &u.columns, &u.schemas)
		if t := byOID[oid]; t != nil {
			t.unique = append(t.unique, u)
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	sequences, err := schema.Sequences(ctx, conn, oids...)
	for oid, list := range sequences {
		byOID[oid].sequences = list
	}
	return found, err
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
