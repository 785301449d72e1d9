package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The two publications that are read. The second one publishes inserts only:
// PostgreSQL refuses updates and deletes of a table whose updates are published
// and whose rows nothing tells apart, and an application must not notice that
// its history table is synced.
const (
	Publication      = "holdfast"
	EventPublication = "holdfast_events"
)

var publications = []struct {
	name, publish string
	keyed         bool // for tables whose updates can be published
}{
	{Publication, "insert, update, delete, truncate", true},
	{EventPublication, "insert", false},
}

// Table names a table to be captured.
type Table struct {
	Schema, Name string
	// Event is true for append-only tables, which need no key.
	Event bool
}

// ID is "schema.name", for messages; it is not quoted for SQL.
func (t Table) ID() string { return t.Schema + "." + t.Name }

func (t Table) quoted() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// EnsurePublications makes the publications hold exactly these tables. A reader
// that is running follows: what commits from now on is published. The role must
// own the tables, and may need CREATE on the database the first time.
func EnsurePublications(ctx context.Context, conn *pgx.Conn, tables []Table) error {
	keyed, err := haveIdentity(ctx, conn, tables)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, p := range publications {
			var want []Table
			for _, t := range tables {
				if keyed[t] == p.keyed {
					want = append(want, t)
				}
			}
			if err := ensurePublication(ctx, tx, p.name, p.publish); err != nil {
				return err
			}
			if err := publish(ctx, tx, p.name, want); err != nil {
				return err
			}
		}
		return nil
	})
}

// MakePublications makes the publications that are not there, without tables,
// and leaves the tables of the others alone.
func MakePublications(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, p := range publications {
			if err := ensurePublication(ctx, tx, p.name, p.publish); err != nil {
				return err
			}
		}
		return nil
	})
}

// Unpublished returns those of the tables that are not in the publication where
// they belong: what happened to their rows is not in the change stream. Tables
// are told by what they are, not by their name: one that was made anew under
// the name of another is not published.
func Unpublished(ctx context.Context, conn *pgx.Conn, tables []Table) ([]Table, error) {
	var missing []Table
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		have := map[bool][]string{}
		for keyed, name := range map[bool]string{true: Publication, false: EventPublication} {
			list, err := published(ctx, tx, name)
			if err != nil {
				return fmt.Errorf("list publication %s: %w", name, err)
			}
			have[keyed] = list
		}
		keyed, err := haveIdentity(ctx, conn, tables)
		if err != nil {
			return err
		}
		for _, t := range tables {
			if !slices.Contains(have[keyed[t]], t.quoted()) {
				missing = append(missing, t)
			}
		}
		return nil
	})
	return missing, err
}

// haveIdentity reports of which tables updates can be published: they have a
// replica identity and it is not one that the application could break.
func haveIdentity(ctx context.Context, conn *pgx.Conn, tables []Table) (map[Table]bool, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	var schemas, names []string
	for _, t := range tables {
		schemas, names = append(schemas, t.Schema), append(names, t.Name)
	}
	rows, err := conn.Query(ctx, `SELECT u.n, CASE c.relreplident
			WHEN 'd' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
			WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
			WHEN 'f' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
			ELSE false END
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(s, t, n)
		JOIN pg_catalog.pg_namespace n ON n.nspname = u.s
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.t`, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("look up the tables: %w", err)
	}
	have := map[Table]bool{}
	var n int
	var has bool
	if _, err := pgx.ForEachRow(rows, []any{&n, &has}, func() error { have[tables[n-1]] = has; return nil }); err != nil {
		return nil, fmt.Errorf("look up the tables: %w", err)
	}
	for _, t := range tables {
		if _, there := have[t]; !there {
			return nil, fmt.Errorf("look up table %s: %w", t.ID(), pgx.ErrNoRows)
		}
	}
	return have, nil
}

func ensurePublication(ctx context.Context, tx pgx.Tx, name, publish string) error {
	var is string
	err := tx.QueryRow(ctx, `SELECT pg_catalog.concat_ws(', ', CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
			CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END) || CASE WHEN pubviaroot THEN '' ELSE ' by partition' END
		FROM pg_catalog.pg_publication WHERE pubname = $1`, name).Scan(&is)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look up publication %s: %w", name, err)
	}
	id := pgx.Identifier{name}.Sanitize()
	with := "(publish = '" + publish + "', publish_via_partition_root = true)"
	switch {
	case err != nil:
		if _, err := tx.Exec(ctx, "CREATE PUBLICATION "+id+" WITH "+with); err != nil {
			return fmt.Errorf("create publication %s: %w", name, err)
		}
	case is != publish:
		if _, err := tx.Exec(ctx, "ALTER PUBLICATION "+id+" SET "+with); err != nil {
			return fmt.Errorf("alter publication %s: %w", name, err)
		}
	}
	return nil
}

// publish makes the publication hold exactly these tables.
func publish(ctx context.Context, tx pgx.Tx, name string, want []Table) error {
	id := pgx.Identifier{name}.Sanitize()
	have, err := published(ctx, tx, name)
	if err != nil {
		return fmt.Errorf("list publication %s: %w", name, err)
	}
	var add, drop []string
	for _, t := range want {
		if !slices.Contains(have, t.quoted()) {
			add = append(add, t.quoted())
		}
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, func(t Table) bool { return t.quoted() == h }) {
			drop = append(drop, h)
		}
	}
	for verb, list := range map[string][]string{"ADD": add, "DROP": drop} {
		if len(list) == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, "ALTER PUBLICATION "+id+" "+verb+" TABLE ONLY "+strings.Join(list, ", ONLY ")); err != nil {
			return fmt.Errorf("%s tables of publication %s: %w", strings.ToLower(verb), name, err)
		}
	}
	return nil
}

func published(ctx context.Context, tx pgx.Tx, name string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_publication_rel r
		JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
		JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var schema, table string
		err := row.Scan(&schema, &table)
		return pgx.Identifier{schema, table}.Sanitize(), err
	})
}
