package pgtest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Pages runs a statement and returns how many pages it looked at, in the server's
// memory or on the disk: what it costs, without a clock. The formats are the
// parameters', as of ExecParams.
func Pages(ctx context.Context, pg *pgconn.PgConn, sql string, values [][]byte, formats []int16) (int, error) {
	r := pg.ExecParams(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, values, nil, formats, nil).Read()
	if r.Err != nil {
		return 0, fmt.Errorf("explain: %w", r.Err)
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(r.Rows[0][0], &plans); err != nil {
		return 0, fmt.Errorf("read the plan: %w", err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read, nil
}
