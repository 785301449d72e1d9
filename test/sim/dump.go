package sim

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dump shows what each database has written down about rows that did not simply
// come over, for a failure.
func (w *world) dump(ctx context.Context) string {
	var out strings.Builder
	show := func(db *pgxpool.Pool, where string, more ...string) {
		for _, q := range append([]string{
			`SELECT 'conflict ' || concat_ws(' ', facility_id, table_name, key, kind, decision, 'edge', edge_row, edge_seq, 'cloud', cloud_row, cloud_seq) FROM holdfast.conflict ORDER BY at`,
			`SELECT 'parked ' || direction || ' ' || concat_ws(' ', facility, table_name, op, key, row, epoch || ':' || seq, reason, message, state) FROM holdfast.parked ORDER BY id`,
			`SELECT 'passed over ' || direction || ' ' || concat_ws(' ', facility, table_name, reason, message, passed_over, keys, 'for', now() - since, 'asked', now() - asked_at) FROM holdfast.parked_table ORDER BY 1`,
		}, more...) {
			rows, err := db.Query(ctx, q)
			var lines []string
			if err == nil {
				lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			if err != nil {
				lines = append(lines, err.Error())
			}
			for _, l := range lines {
				fmt.Fprintf(&out, "\n  %s: %.300s", where, l)
			}
		}
	}
	show(w.region.pool, "region", `SELECT 'load ' || concat_ws(' ', facility, table_name, reason, rows_sent, asked_at - now(), 'done', now() - done_at) FROM holdfast.down_load ORDER BY 1`)
	for _, e := range w.edges {
		show(e.pool, e.id)
	}
	return "\n\nwhat was written down:" + out.String()
}
