package conflicts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

type store struct{ db *pgxpool.Pool }

// row is a row's values as text by column, as the conflict has them.
type row = map[string]*string

// record is a conflict as it is stored, with its review and what the registry
// says of its table now.
type record struct {
	ID, Facility             string
	At                       time.Time
	Schema, Table            string
	Key                      row
	Kind, Policy, Decision   string
	EdgeRow, CloudRow        row
	Fields                   []string
	EdgeSeq, CloudSeq        string
	EdgeAt, CloudAt          *time.Time
	EdgeBy, CloudBy          string
	Action, ReviewBy         *string
	ReviewAt                 *time.Time
	Note                     *string
	FacilityColumn, Pattern  *string // nil: the table is no longer synced
	CloudColumns             []string
	FacilityGone, Registered bool
}

// kind is a conflict's kind by its present name. A box of the release before
// records two by older ones, and its rows are kept here as they are there, so
// that the comparison finds them equal; once it is updated they come up renamed.
const kind = `CASE c.kind WHEN 'update_differs' THEN 'update_origin_differs' WHEN 'delete_updated' THEN 'delete_origin_differs' ELSE c.kind END`

const selectRecord = `
	SELECT c.id::text, c.facility_id, c.at, c.schema_name, c.table_name, c.key, ` + kind + `, c.policy, c.decision,
	       c.edge_row, c.cloud_row, c.fields, c.edge_seq, c.cloud_seq, c.edge_at, c.cloud_at, c.edge_by, c.cloud_by,
	       r.action, r.by, r.at, r.note,
	       t.facility_column, t.region_schema, coalesce(t.cloud_columns, '{}'),
	       f.id IS NULL OR f.removed_at IS NOT NULL, t.table_name IS NOT NULL
	  FROM holdfast.conflict c
	  LEFT JOIN holdfast.conflict_review r ON r.conflict = c.id
	  LEFT JOIN holdfast.synced_table t ON (t.schema_name, t.table_name) = (c.schema_name, c.table_name) AND t.class = 'fact' -- a box may record what it likes
	  LEFT JOIN holdfast.facility f ON f.id = c.facility_id`

// matches is true for the conflicts that a filter picks: parameters 1 to 8. A
// text is looked for in the whole documents first, as JSON writes it, which is
// cheap and finds names of columns too; then in the values.
const matches = `
	     ($1 = '' OR c.facility_id = $1)
	 AND ($2 = '' OR c.schema_name || '.' || c.table_name = $2)
	 AND ($3 = '' OR ` + kind + ` = $3)
	 AND ($4 = '' OR c.decision = $4)
	 AND CASE $5 WHEN 'open' THEN r.conflict IS NULL WHEN 'all' THEN true ELSE r.action = $5 END
	 AND ($6::timestamptz IS NULL OR c.at >= $6)
	 AND ($7::timestamptz IS NULL OR c.at < $7)
	 AND ($8 = '' OR position(lower($8) IN lower(c.edge_by)) > 0 OR position(lower($8) IN lower(c.cloud_by)) > 0
	      OR position(lower(substr(to_jsonb($8::text)::text, 2, length(to_jsonb($8::text)::text) - 2)) IN lower(concat(c.key::text, c.edge_row::text, c.cloud_row::text))) > 0
	         AND EXISTS (SELECT FROM jsonb_each_text(c.key) e WHERE position(lower($8) IN lower(e.value)) > 0
	               UNION ALL SELECT FROM jsonb_each_text(c.edge_row) e WHERE position(lower($8) IN lower(e.value)) > 0
	               UNION ALL SELECT FROM jsonb_each_text(c.cloud_row) e WHERE position(lower($8) IN lower(e.value)) > 0))`

func filterArgs(f v1.ConflictFilter) []any {
	if f.State == "" {
		f.State = v1.ConflictOpen
	}
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return []any{clean(f.Facility), clean(f.Table), f.Kind, f.Decision, f.State, moment(f.From), moment(f.To), clean(f.Text)}
}

// clean leaves out what PostgreSQL's text cannot hold, which no value has.
func clean(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "") }

// list returns conflicts newest first, those that follow after.
func (s store) list(ctx context.Context, f v1.ConflictFilter, after place, limit int) ([]record, error) {
	rows, err := s.db.Query(ctx, selectRecord+` WHERE`+matches+`
	   AND c.at <= $9 AND (c.at < $9 OR c.id > $10::uuid)
	 ORDER BY c.at DESC, c.id LIMIT $11`, append(filterArgs(f), after.at, after.id, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list conflicts: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[record])
	if err != nil {
		return nil, fmt.Errorf("list conflicts: %w", err)
	}
	return out, nil
}

func (s store) count(ctx context.Context, f v1.ConflictFilter) (n v1.ConflictCount, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE r.conflict IS NULL), count(*) FILTER (WHERE r.action = 'acknowledged'), count(*) FILTER (WHERE r.action = 'restored')
		  FROM holdfast.conflict c LEFT JOIN holdfast.conflict_review r ON r.conflict = c.id
		 WHERE`+matches, filterArgs(f)...).Scan(&n.Open, &n.Acknowledged, &n.Restored)
	if err != nil {
		return n, fmt.Errorf("count conflicts: %w", err)
	}
	return n, nil
}

func (s store) open(ctx context.Context, facility string, limit int) (n int, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT count(*) FROM (
		    SELECT FROM holdfast.conflict c
		     WHERE ($1 = '' OR c.facility_id = $1)
		       AND NOT EXISTS (SELECT FROM holdfast.conflict_review r WHERE r.conflict = c.id)
		     LIMIT $2) x`, facility, limit).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count open conflicts: %w", err)
	}
	return n, nil
}

// readRecord returns one conflict. With lock nobody else reviews it until tx
// ends. ErrNotFound: there is none.
func readRecord(ctx context.Context, tx pgx.Tx, id string, lock bool) (*record, error) {
	missing := hint.Wrap(fmt.Errorf("%w %.50q", ErrNotFound, id), "holdfastctl conflicts --state all lists them.")
	if !isID(id) {
		return nil, missing
	}
	if lock {
		if _, err := tx.Exec(ctx, `SELECT FROM holdfast.conflict WHERE id = $1::uuid FOR UPDATE`, id); err != nil {
			return nil, fmt.Errorf("lock conflict: %w", err)
		}
	}
	rows, err := tx.Query(ctx, selectRecord+` WHERE c.id = $1::uuid`, id)
	if err != nil {
		return nil, fmt.Errorf("read conflict: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[record])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("read conflict: %w", err)
	}
	return r, nil
}

// entry is one line of the audit log about a conflict.
type entry struct {
	At        time.Time
	Who, What string
	Note      string
	// Before is the review that this ended, if there was one.
	BeforeAction, BeforeBy, BeforeNote string
	BeforeAt                           *time.Time
	Version                            string // of a restore: whose was written
}

func readHistory(ctx context.Context, tx pgx.Tx, id string) ([]entry, error) {
	rows, err := tx.Query(ctx, `
		SELECT at, who, what, coalesce(detail->>'note', ''), coalesce(detail->'before'->>'action', ''), coalesce(detail->'before'->>'by', ''),
		       coalesce(detail->'before'->>'note', ''), (detail->'before'->>'at')::timestamptz, coalesce(detail->>'version', '')
		  FROM holdfast.audit WHERE detail ? 'conflict' AND detail->>'conflict' = $1 ORDER BY id LIMIT 200`, id)
	if err != nil {
		return nil, fmt.Errorf("read the conflict's history: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
	if err != nil {
		return nil, fmt.Errorf("read the conflict's history: %w", err)
	}
	return out, nil
}

func putReview(ctx context.Context, tx pgx.Tx, id, action, by, note string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO holdfast.conflict_review (conflict, action, by, note) VALUES ($1::uuid, $2, $3, $4)
		ON CONFLICT (conflict) DO UPDATE SET action = excluded.action, by = excluded.by, at = now(), note = excluded.note`, id, action, by, note)
	if err != nil {
		return fmt.Errorf("keep the review: %w", err)
	}
	return nil
}

// reviewAll acknowledges all open conflicts that match and returns how many.
func reviewAll(ctx context.Context, tx pgx.Tx, f v1.ConflictFilter, by, note string) (int64, error) {
	f.State = v1.ConflictOpen
	tag, err := tx.Exec(ctx, `
		INSERT INTO holdfast.conflict_review (conflict, action, by, note)
		SELECT c.id, 'acknowledged', $9, $10
		  FROM holdfast.conflict c LEFT JOIN holdfast.conflict_review r ON r.conflict = c.id
		 WHERE`+matches+`
		ON CONFLICT (conflict) DO NOTHING`, append(filterArgs(f), by, note)...)
	if err != nil {
		return 0, fmt.Errorf("acknowledge conflicts: %w", err)
	}
	return tag.RowsAffected(), nil
}

func endReview(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM holdfast.conflict_review WHERE conflict = $1::uuid`, id); err != nil {
		return fmt.Errorf("end the review: %w", err)
	}
	return nil
}

func audit(ctx context.Context, tx pgx.Tx, who, what string, detail map[string]any) error {
	if _, err := tx.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, $2, $3)`, who, what, detail); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}
