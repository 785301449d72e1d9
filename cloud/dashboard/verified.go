package dashboard

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

const verifiedSQL = `
	SELECT schema_name, table_name, equal_at, equal_seq, equal_rows, differing, repaired, ended_at, began_at, rows_done, problem, remedy, differences
	FROM holdfast.verified WHERE facility = $1 LIMIT 500`

func readVerified(rows pgx.Rows, by map[[2]string]*v1.Verified) error {
	_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var key [2]string
		v := new(v1.Verified)
		err := row.Scan(&key[0], &key[1], &v.EqualAt, &v.EqualSeq, &v.EqualRows, &v.Differing, &v.Repaired, &v.EndedAt, &v.BeganAt,
			&v.RowsDone, &v.Problem, &v.Remedy, &v.Rows)
		by[key] = v
		return struct{}{}, err
	})
	return err
}

// Both is how the rows of both sides compare, as people see it.
func (t tableAt) Both() web.State {
	v := t.Verified
	switch {
	case v == nil && t.Class == "master":
		return web.State{Kind: "waiting", Word: "Not compared"} // the region owns its rows
	case v == nil:
		return web.State{Kind: "waiting", Word: "Not compared yet"}
	case v.Open() == 1:
		return web.State{Kind: "bad", Word: "1 row differs"}
	case v.Open() > 1:
		return web.State{Kind: "bad", Word: fmt.Sprintf("%s rows differ", web.Count(v.Open()))}
	case v.Problem != "":
		return web.State{Kind: "warn", Word: "Cannot be compared"}
	case v.EqualAt != nil:
		return web.State{Kind: "ok", Word: "Equal"}
	}
	return web.State{Kind: "busy", Word: "First comparison"}
}
