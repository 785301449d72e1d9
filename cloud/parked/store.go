package parked

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/apply"
)

// store is the SQL of this package.
type store struct{ db *pgxpool.Pool }

// record is a row of holdfast.parked.
type record struct {
	ID                      int64
	Direction               string
	BoxID                   *int64 // for direction down
	Facility, Schema, Table string
	Key                     []byte // JSON
	Op, Reason, Code        string
	Constraint              string
	Message, Remedy, State  string
	Epoch, Seq              int64
	CommitAt                *time.Time
	ParkedAt                time.Time
	Attempts                int
	TriedAt                 *time.Time
	EditedBy, EndedBy       string
	EndedAt                 *time.Time
	Row, Columns            []byte // JSON; in lists only of conflicts.LabelColumns, and nil
	Behind, Dependants      int
	WaitsFor                *int64

	// boxTriedAt is, behind an order, when the box had tried it last before that: what
	// the box told of it may not be here yet.
	boxTriedAt time.Time
}

// triedSince reports whether the change was tried after r was read, and after the order.
func (r *record) triedSince(now record) bool {
	switch {
	case now.TriedAt == nil:
		return false
	case !r.boxTriedAt.IsZero():
		return now.TriedAt.After(r.boxTriedAt)
	}
	return r.TriedAt == nil || !now.TriedAt.Equal(*r.TriedAt)
}

const listSQL = `
	SELECT id, direction, box_id, facility, schema_name, table_name, key, op, reason, code, constraint_name, message, remedy, state,
	       epoch, seq, commit_at, parked_at, attempts, tried_at, edited_by, ended_by, ended_at, (SELECT jsonb_object_agg(c, left(row ->> c, 200)) FROM unnest($9::text[]) c WHERE row ? c), NULL::jsonb, 0, 0, NULL::bigint
	  FROM holdfast.parked
	 WHERE ($1 = '' OR facility = $1) AND ($2 = '' OR schema_name = $2) AND ($3 = '' OR table_name = $3)
	   AND ($4 = '' OR reason = $4) AND ($5 = '' OR state = $5) AND ($6::bigint = 0 OR id < $6::bigint) AND ($8 = '' OR direction = $8)
	 ORDER BY id DESC LIMIT $7`

func (s store) list(ctx context.Context, f Filter) ([]record, error) {
	rows, err := s.db.Query(ctx, listSQL, f.Facility, f.Schema, f.Table, f.Reason, f.State, f.Before, f.Limit, f.Direction, conflicts.LabelColumns)
	if err != nil {
		return nil, fmt.Errorf("list parked changes: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[record])
	if err != nil {
		return nil, fmt.Errorf("list parked changes: %w", err)
	}
	return list, nil
}

func (s store) waiting(ctx context.Context, facility string) (n int64, passed []v1.PassedOver, err error) {
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM holdfast.parked WHERE facility = $1 AND direction = 'up' AND state = 'waiting'`, facility).Scan(&n)
	if err != nil {
		return 0, nil, fmt.Errorf("count parked changes: %w", err)
	}
	rows, err := s.db.Query(ctx, `SELECT schema_name, table_name, reason, message, remedy, since, passed_over, asked_at, direction
		FROM holdfast.parked_table WHERE facility = $1 AND (reason <> 'row_missing' OR asked_at IS NOT NULL) -- else it may still come
		ORDER BY direction, 1, 2`, facility)
	if err != nil {
		return 0, nil, fmt.Errorf("list tables that are passed over: %w", err)
	}
	if passed, err = pgx.CollectRows(rows, pgx.RowToStructByPos[v1.PassedOver]); err != nil {
		return 0, nil, fmt.Errorf("list tables that are passed over: %w", err)
	}
	return n, passed, nil
}

const oneSQL = `
	SELECT p.id, p.direction, p.box_id, p.facility, p.schema_name, p.table_name, p.key, p.op, p.reason, p.code, p.constraint_name, p.message, p.remedy, p.state,
	       p.epoch, p.seq, p.commit_at, p.parked_at, p.attempts, p.tried_at, p.edited_by, p.ended_by, p.ended_at, p.row, p.columns,
	       (SELECT count(*) FROM holdfast.parked b WHERE b.facility = p.facility AND b.direction = p.direction AND b.state = 'waiting'
	           AND b.id > p.id AND (b.key_hash = p.key_hash OR b.old_key_hash = p.key_hash))::int,
	       (SELECT count(*) FROM holdfast.parked c WHERE c.facility = p.facility AND c.direction = p.direction AND c.state = 'waiting'
	           AND c.waits_for && p.provides)::int,
	       (SELECT min(a.id) FROM holdfast.parked a WHERE p.state = 'waiting' AND p.reason IN ('behind', 'parent')
	           AND a.facility = p.facility AND a.direction = p.direction AND a.state = 'waiting' AND a.id <> p.id
	           AND (a.id < p.id AND (a.key_hash IN (p.key_hash, p.old_key_hash) OR a.old_key_hash IN (p.key_hash, p.old_key_hash))
	                OR p.edited_by = '' AND a.provides && p.waits_for))
	  FROM holdfast.parked p WHERE p.id = $1`

func (s store) one(ctx context.Context, id int64) (record, error) { return readOne(ctx, s.db, id) }

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readOne(ctx context.Context, db querier, id int64) (record, error) {
	rows, err := db.Query(ctx, oneSQL, id)
	if err != nil {
		return record{}, fmt.Errorf("read parked change %d: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[record])
	if errors.Is(err, pgx.ErrNoRows) {
		return r, ErrNotFound
	}
	if err != nil {
		return r, fmt.Errorf("read parked change %d: %w", id, err)
	}
	return r, nil
}

// change runs fn for a change that waits, with the facility's stream held: what
// is being tried meanwhile is tried as it was or as it will be. What fn returns
// goes to the audit log in the same transaction.
func (s store) change(ctx context.Context, id int64, by, what string, fn func(tx pgx.Tx, r record) (map[string]any, error)) (r record, err error) {
	return s.inTx(ctx, id, by, what, `SELECT FROM holdfast.position WHERE facility = (SELECT facility FROM holdfast.parked WHERE id = $1) FOR UPDATE`, fn)
}

// inTx runs fn with what lock locks.
func (s store) inTx(ctx context.Context, id int64, by, what, lock string, fn func(tx pgx.Tx, r record) (map[string]any, error)) (r record, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '5s'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, lock, id)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "55P03" {
			return ErrBusy
		}
		if err != nil {
			return err
		}
		if r, err = readOne(ctx, tx, id); err != nil {
			return err
		}
		if r.State != "waiting" {
			return ErrEnded
		}
		more, err := fn(tx, r)
		if err != nil {
			return err
		}
		detail := map[string]any{"id": id, "facility": r.Facility, "table": r.Schema + "." + r.Table, "key": json.RawMessage(r.Key)}
		for k, v := range more {
			detail[k] = v
		}
		return audit(ctx, tx, by, what, detail)
	})
	return r, err
}

func audit(ctx context.Context, tx pgx.Tx, by, what string, detail map[string]any) error {
	if _, err := tx.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, $2, $3)`, by, what, detail); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// valueMaxBytes bounds a corrected value.
const valueMaxBytes = 32 << 10

// changer is change or decide, for one change.
type changer func(what string, fn func(tx pgx.Tx, r record) (map[string]any, error)) (record, error)

func (s store) edit(ctx context.Context, id int64, set map[string]*string, by string, change changer) (record, error) {
	return change("parked.edit", func(tx pgx.Tx, r record) (map[string]any, error) {
		if r.Row == nil && r.Op != "delete" {
			return nil, &InvalidError{"", "cannot be set: the row is too large to be shown here", "Correct the row where it was written, or discard the change."}
		}
		if r.Row == nil {
			return nil, &InvalidError{"", "cannot be set: the change deletes the row", "Discard it if the row is to stay."}
		}
		var columns []column
		if err := json.Unmarshal(r.Columns, &columns); err != nil {
			return nil, fmt.Errorf("columns of parked change %d: %w", id, err)
		}
		for name, v := range set {
			at := slices.IndexFunc(columns, func(c column) bool { return c.Name == name })
			switch {
			case at < 0:
				return nil, &InvalidError{name, "is not in the row", "holdfastctl parked show lists its columns."}
			case columns[at].Key:
				return nil, &InvalidError{name, "is of the key, which says which row it is", "Correct it at the facility, or discard the change."}
			case v != nil && (len(*v) > valueMaxBytes || strings.ContainsRune(*v, 0)):
				return nil, &InvalidError{name, fmt.Sprintf("takes text of at most %d bytes here", valueMaxBytes), "Correct it at the facility."}
			case v != nil:
				if err := fits(ctx, tx, columns[at], *v); err != nil {
					return nil, err
				}
			}
		}
		was, err := values(r.Row)
		if err != nil {
			return nil, fmt.Errorf("row of parked change %d: %w", id, err)
		}
		before := map[string]*string{}
		for name := range set {
			if v, ok := was[name]; ok {
				before[name] = v
			}
		}
		_, err = tx.Exec(ctx, `UPDATE holdfast.parked SET row = row || $2::jsonb, edited_by = $3 WHERE id = $1`, id, set, by)
		if err != nil {
			return nil, fmt.Errorf("edit parked change %d: %w", id, err)
		}
		return map[string]any{"before": before, "after": set}, nil
	})
}

// fits refuses a value that is not of the column's type.
func fits(ctx context.Context, tx pgx.Tx, c column, value string) error {
	problem, err := apply.CheckValue(ctx, tx, c.Type, value)
	if err != nil {
		return fmt.Errorf("check the value of column %q: %w", c.Name, err)
	}
	if problem != "" {
		return &InvalidError{c.Name, fmt.Sprintf("takes values of the type %s: %s", c.Type, problem), "Write it as PostgreSQL prints values of that type."}
	}
	return nil
}

func (s store) discard(ctx context.Context, id int64, by string, change changer) (record, error) {
	return change("parked.discard", func(tx pgx.Tx, r record) (map[string]any, error) {
		_, err := tx.Exec(ctx, `UPDATE holdfast.parked SET state = 'discarded', ended_by = $2, ended_at = now() WHERE id = $1`, id, by)
		if err != nil {
			return nil, fmt.Errorf("discard parked change %d: %w", id, err)
		}
		return map[string]any{"op": r.Op, "row": json.RawMessage(orNull(r.Row)), "reason": r.Reason}, nil
	})
}

func orNull(raw []byte) []byte {
	if raw == nil {
		return []byte("null")
	}
	return raw
}

func (s store) retry(change changer) (record, error) {
	return change("parked.retry", func(pgx.Tx, record) (map[string]any, error) { return nil, nil })
}

// atBox is how many changes wait at the facility's own box.
func (s store) atBox(ctx context.Context, facility string) (n int64, err error) {
	err = s.db.QueryRow(ctx, `SELECT coalesce(sum(waiting), 0)::bigint FROM holdfast.parked_at_box WHERE facility = $1`, facility).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what is parked at %s: %w", facility, err)
	}
	return n, nil
}

// open counts what waits anywhere, to most at the highest.
func (s store) open(ctx context.Context, most int) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT least($1::bigint, (SELECT count(*) FROM (SELECT FROM holdfast.parked WHERE state = 'waiting' AND direction = 'up' LIMIT $1::bigint) u)
		+ (SELECT coalesce(sum(waiting), 0) FROM holdfast.parked_at_box))::int`, most).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what is parked: %w", err)
	}
	return n, nil
}

// boxesWithParked lists the facilities at whose boxes something waits.
func (s store) boxesWithParked(ctx context.Context, facility string) (map[string]int64, error) {
	counts := map[string]int64{}
	rows, err := s.db.Query(ctx, `SELECT facility, waiting FROM holdfast.parked_at_box WHERE waiting > 0 AND ($1 = '' OR facility = $1)`, facility)
	if err != nil {
		return nil, fmt.Errorf("count what is parked at boxes: %w", err)
	}
	var f string
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&f, &n}, func() error { counts[f] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count what is parked at boxes: %w", err)
	}
	return counts, nil
}

// retryAll counts what waits by facility and notes who asked for it.
func (s store) retryAll(ctx context.Context, facility, by string) (map[string]int64, error) {
	counts := map[string]int64{}
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT facility, count(*) FROM holdfast.parked
			WHERE state = 'waiting' AND direction = 'up' AND ($1 = '' OR facility = $1) GROUP BY 1`, facility)
		if err != nil {
			return err
		}
		var f string
		var n int64
		if _, err = pgx.ForEachRow(rows, []any{&f, &n}, func() error { counts[f] = n; return nil }); err != nil {
			return err
		}
		return audit(ctx, tx, by, "parked.retry", map[string]any{"facility": facility})
	})
	if err != nil {
		return nil, fmt.Errorf("retry parked changes: %w", err)
	}
	return counts, nil
}
