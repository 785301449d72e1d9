package schema

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Name names a table.
type Name struct{ Schema, Name string }

// Quoted is the name for SQL.
func (n Name) Quoted() string { return pgx.Identifier{n.Schema, n.Name}.Sanitize() }

// The triggers that refuse writes, and the function of the box's own schema
// that they call. They are ordinary ones, so that what is applied from the
// other side (session_replication_role = replica) passes.
const (
	readOnlyRows     = "holdfast_read_only"
	readOnlyTruncate = "holdfast_read_only_truncate"
	readOnlyFunction = "holdfast.refuse_write"
)

// EnsureReadOnly makes the database refuse writes to exactly these tables,
// with a message that says where to make them. The role must own the tables.
func EnsureReadOnly(ctx context.Context, conn *pgx.Conn, tables []Name) error {
	rows, err := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, count(*)::int FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname IN ($1, $2) AND t.tgparentid = 0 GROUP BY 1, 2`, readOnlyRows, readOnlyTruncate)
	if err != nil {
		return fmt.Errorf("list read-only tables: %w", err)
	}
	have := map[Name]int{}
	var n Name
	var count int
	_, err = pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &count}, func() error { have[n] = count; return nil })
	if err != nil {
		return fmt.Errorf("list read-only tables: %w", err)
	}
	for n := range have {
		if slices.Contains(tables, n) {
			continue
		}
		if _, err := conn.Exec(ctx, "DROP TRIGGER IF EXISTS "+readOnlyRows+" ON "+n.Quoted()+"; DROP TRIGGER IF EXISTS "+readOnlyTruncate+" ON "+n.Quoted()); err != nil {
			return fmt.Errorf("let %s be written again: %w", n.Quoted(), err)
		}
	}
	for _, n := range tables {
		if have[n] == 2 {
			continue
		}
		// Row triggers are what partitions inherit, and TRUNCATE has none.
		_, err := conn.Exec(ctx, "CREATE OR REPLACE TRIGGER "+readOnlyRows+" BEFORE INSERT OR UPDATE OR DELETE ON "+n.Quoted()+
			" FOR EACH ROW EXECUTE FUNCTION "+readOnlyFunction+"(); CREATE OR REPLACE TRIGGER "+readOnlyTruncate+" BEFORE TRUNCATE ON "+n.Quoted()+
			" FOR EACH STATEMENT EXECUTE FUNCTION "+readOnlyFunction+"()")
		if err != nil {
			return fmt.Errorf("make %s read-only: %w", n.Quoted(), err)
		}
	}
	return nil
}
