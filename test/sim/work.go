package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// keysMax is how many rows the two sides fight over: few, so that they meet.
const keysMax = 5

// sideWork is what differs between the two sides.
type sideWork struct {
	name       string
	own, other string // counters
}

var (
	edgeSide  = sideWork{"edge", "edge_count", "cloud_count"}
	cloudSide = sideWork{"cloud", "cloud_count", "edge_count"}
)

// op is what a transaction does to one row, decided by the seed.
type op struct {
	row
	delete bool
	memo   memo
	grow   bool // and the row of grow with that key
}

// memo is what happens to a row with a large column. What must come out of it
// is not in the books: only that both sides have the same.
type memo int

const (
	memoLeft   memo = iota
	memoPut         // all of it
	memoPatch       // without the large column
	memoBig         // the large column alone
	memoRename      // another key
	memoDelete
	memoKinds
)

func (m memo) String() string {
	return [memoKinds]string{"left", "put", "patch", "big", "rename", "delete"}[m]
}

// write reports whether it changed anything.
func (m memo) write(ctx context.Context, q pgx.Tx, facility string, key int, value string) (bool, error) {
	large := strings.Repeat(value+" ", 600)
	var tag pgconn.CommandTag
	var err error
	switch m {
	case memoPut:
		tag, err = q.Exec(ctx, `INSERT INTO memo VALUES ($1, $2, $3, $4) ON CONFLICT (facility_id, id) DO UPDATE SET val = EXCLUDED.val, big = EXCLUDED.big`, facility, key, value, large)
	case memoPatch:
		tag, err = q.Exec(ctx, `UPDATE memo SET val = $3 WHERE facility_id = $1 AND id = $2`, facility, key, value)
	case memoBig:
		tag, err = q.Exec(ctx, `UPDATE memo SET big = $3 WHERE facility_id = $1 AND id = $2`, facility, key, large)
	case memoRename:
		tag, err = q.Exec(ctx, `UPDATE memo SET id = $3 WHERE facility_id = $1 AND id = $2 AND NOT EXISTS (SELECT FROM memo WHERE facility_id = $1 AND id = $3)`,
			facility, key, (key+1)%keysMax)
	case memoDelete:
		tag, err = q.Exec(ctx, `DELETE FROM memo WHERE facility_id = $1 AND id = $2`, facility, key)
	}
	return tag.RowsAffected() > 0, err
}

// commit runs one transaction of a side, its next-th.
func commit(ctx context.Context, db *pgxpool.Pool, side sideWork, facility string, next int, ops []op) (t *tx, err error) {
	err = again(ctx, db, func(q pgx.Tx) error {
		t, err = attempt(ctx, q, side, facility, next, ops)
		return err
	})
	return t, err
}

// again runs a transaction until the two sides do not get into each other's way.
func again(ctx context.Context, db *pgxpool.Pool, do func(q pgx.Tx) error) error {
	for {
		err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, do)
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			switch pg.Code {
			case "40001", "40P01", "23505":
				continue
			}
		}
		return err
	}
}

// count begins a transaction: what of the other side it has seen, and its own number.
func count(ctx context.Context, q pgx.Tx, side sideWork, facility string, next int) (*tx, error) {
	t := &tx{}
	// The other side's count first, under a lock: what it says is what this
	// transaction has seen, no more and no less.
	err := q.QueryRow(ctx, `SELECT n FROM `+side.other+` WHERE facility_id = $1 FOR SHARE`, facility).Scan(&t.saw)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	// A box that has just taken another's place has no row to count in.
	return t, q.QueryRow(ctx, `INSERT INTO `+side.own+` AS c VALUES ($1, $2) ON CONFLICT (facility_id) DO UPDATE SET n = c.n + 1 RETURNING n`, facility, next).Scan(&t.n)
}

func attempt(ctx context.Context, q pgx.Tx, side sideWork, facility string, next int, ops []op) (*tx, error) {
	t, err := count(ctx, q, side, facility, next)
	if err != nil {
		return nil, err
	}
	if side == edgeSide {
		if _, err := q.Exec(ctx, `INSERT INTO pair VALUES ($1, 1, $2), ($1, 2, $2) ON CONFLICT (facility_id, id) DO UPDATE SET n = EXCLUDED.n`, facility, t.n); err != nil {
			return nil, err
		}
		if _, err := q.Exec(ctx, `INSERT INTO happened (facility_id, n) VALUES ($1, $2)`, facility, t.n); err != nil {
			return nil, err
		}
		if _, err := q.Exec(ctx, `INSERT INTO tick (facility_id, n) VALUES ($1, $2)`, facility, t.n); err != nil {
			return nil, err
		}
	}
	for _, o := range ops {
		wrote, err := o.memo.write(ctx, q, facility, o.key, fmt.Sprintf("%s-%d", side.name, t.n))
		if err != nil {
			return nil, err
		}
		if wrote {
			t.memos = append(t.memos, fmt.Sprint(o.memo, " ", o.key))
		}
		if o.grow {
			if err := grow(ctx, q, facility, o.key, fmt.Sprintf("%s-%d", side.name, t.n)); err != nil {
				return nil, err
			}
		}
		if err := write1(ctx, q, side, facility, t, o); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// columnsMax is how many columns are added to grow at most.
const columnsMax = 3

// grow writes all columns that grow has on this side.
func grow(ctx context.Context, q pgx.Tx, facility string, key int, value string) error {
	_, err := q.Exec(ctx, `DELETE FROM grow WHERE facility_id = $1 AND id = $2`, facility, key)
	if err == nil {
		r := map[string]any{"facility_id": facility, "id": key, "val": value, "c1": value, "c2": value, "c3": value}
		_, err = q.Exec(ctx, `INSERT INTO grow SELECT * FROM jsonb_populate_record(NULL::grow, $1)`, r)
	}
	return err
}

// writeSQL is how each of the tables that are in the books is written.
var writeSQL = map[string]struct{ update, insert, remove string }{
	"doc": {
		`UPDATE doc SET val = $3 WHERE facility_id = $1 AND id = $2`, `INSERT INTO doc (facility_id, id, val) VALUES ($1, $2, $3)`,
		`DELETE FROM doc WHERE facility_id = $1 AND id = $2`,
	},
	"plan": {
		`UPDATE plan SET val = $3 WHERE facility_id = $1 AND id = $2`, `INSERT INTO plan (facility_id, id, val) VALUES ($1, $2, $3)`,
		`DELETE FROM plan WHERE facility_id = $1 AND id = $2`,
	},
	"job": {
		`UPDATE job SET done = $3, due = $3 WHERE facility_id = $1 AND id = $2`, `INSERT INTO job (facility_id, id, done, due) VALUES ($1, $2, $3, $3)`,
		``, // whose it would be to remove a row is not in the policy
	},
}

// write1 takes one row from what it is to what it is to be, by the plainest
// statement that does.
func write1(ctx context.Context, q pgx.Tx, side sideWork, facility string, t *tx, o op) error {
	// No two are the same, also of rows that move to another facility.
	value, sql := fmt.Sprintf("%s-%s-%d-%d", facility, side.name, t.n, o.key), writeSQL[o.table]
	if o.delete {
		tag, err := q.Exec(ctx, sql.remove, facility, o.key)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		t.note(o.row, "")
		return nil
	}
	tag, err := q.Exec(ctx, sql.update, facility, o.key, value)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = q.Exec(ctx, sql.insert, facility, o.key, value)
	}
	if err != nil {
		return err
	}
	t.note(o.row, value)
	return nil
}

func (t *tx) note(r row, value string) {
	if w := t.on(r); w != nil {
		w.value = value
		return
	}
	t.writes = append(t.writes, write{r, value})
}
