package capture

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const ownerSQL = `WITH t AS (SELECT c.oid, c.relkind, c.relreplident FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2),
	k AS (SELECT i.indisprimary, i.indisreplident, bool_or(a.attname = $3) AS named FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY u(attnum, n)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum
		WHERE (i.indisprimary OR i.indisreplident) AND u.n <= i.indnkeyatts GROUP BY i.indexrelid, i.indisprimary, i.indisreplident)
	SELECT coalesce((SELECT named FROM k WHERE CASE t.relreplident WHEN 'i' THEN indisreplident ELSE indisprimary END), false),
		t.relkind = 'r' AND EXISTS (SELECT FROM k WHERE indisprimary), t.relreplident::text
	FROM t`

// TellOwner has the WAL tell what a column's value was when a row is changed or
// removed: it says whose the row was. Where the key has the column (inKey) that is
// so; otherwise the whole old row is logged (REPLICA IDENTITY FULL), which also
// makes updates whole. told is false where that cannot be had: somebody has
// chosen another replica identity, which is left alone, or the table is
// partitioned, and a partition that is added later would log its rows otherwise.
// conn must not be in a transaction.
func TellOwner(ctx context.Context, conn *pgx.Conn, t Table, column string) (told, inKey bool, err error) {
	var can bool
	var identity string
	if err := conn.QueryRow(ctx, ownerSQL, t.Schema, t.Name, column).Scan(&inKey, &can, &identity); err != nil {
		return false, false, fmt.Errorf("look up the replica identity of %s: %w", t.ID(), err)
	}
	switch {
	case inKey || !can || identity == "f":
		return inKey || can && identity == "f", inKey, nil
	case identity != "d":
		return false, false, nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Applications wait behind this one while it waits for others.
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "ALTER TABLE "+t.quoted()+" REPLICA IDENTITY FULL")
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("set the replica identity of %s: %w", t.ID(), err)
	}
	return true, false, nil
}
