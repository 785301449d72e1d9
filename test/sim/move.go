package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// movesSQL gives a row to another facility, where that has none of the key, and returns
// what it is. A large column is written anew: one that is not sent is asked for after
// half a minute, which no seed waits for.
var movesSQL = map[string]string{
	"doc":  `UPDATE doc SET facility_id = $2 WHERE facility_id = $1 AND id = $3 AND NOT EXISTS (SELECT FROM doc WHERE facility_id = $2 AND id = $3) RETURNING val`,
	"plan": `UPDATE plan SET facility_id = $2 WHERE facility_id = $1 AND id = $3 AND NOT EXISTS (SELECT FROM plan WHERE facility_id = $2 AND id = $3) RETURNING val`,
	"memo": `UPDATE memo SET facility_id = $2, big = big || ' ' WHERE facility_id = $1 AND id = $3 AND NOT EXISTS (SELECT FROM memo WHERE facility_id = $2 AND id = $3) RETURNING val`,
}

// rowMoves gives a row of each table to the other facility, in the region. For the one
// it is removed and for the other it is made, in one transaction: each decides by
// itself. Where the one had changed it and has the preference, both have it then.
func (w *world) rowMoves(ctx context.Context) error {
	from := w.someEdge()
	to := w.edges[0]
	if from == to {
		to = w.edges[1]
	}
	keys := w.rand.Perm(keysMax)
	for _, e := range w.edges {
		if err := w.lookAtNewBox(ctx, e); err != nil {
			return err
		}
	}
	var loses, gains *tx
	err := again(ctx, w.region.pool, func(q pgx.Tx) (err error) {
		if loses, err = count(ctx, q, cloudSide, from.id, len(w.books[from.id].cloud)+1); err != nil {
			return err
		}
		if gains, err = count(ctx, q, cloudSide, to.id, len(w.books[to.id].cloud)+1); err != nil {
			return err
		}
		for _, table := range []string{"doc", "plan", "memo"} {
			for _, key := range keys {
				var value string
				err := q.QueryRow(ctx, movesSQL[table], from.id, to.id, key).Scan(&value)
				switch {
				case errors.Is(err, pgx.ErrNoRows):
					continue
				case err != nil:
					return err
				case table == "memo":
					loses.memos = append(loses.memos, fmt.Sprint("leaves ", key))
					gains.memos = append(gains.memos, fmt.Sprint("comes ", key))
				default:
					loses.note(row{table, key}, "")
					gains.note(row{table, key}, value)
				}
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.enter(from, loses)
	w.tell("to %s", to.id)
	w.enter(to, gains)
	return nil
}
