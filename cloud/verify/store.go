package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// store is the SQL of this package.
type store struct{ db *pgxpool.Pool }

// refused turns an error of a comparison into words for people.
func refused(err error) *refusal {
	if row, ok := errors.AsType[*apply.RowError](err); ok && row.Err != nil {
		return &refusal{proto.Problem{Text: row.Err.Error(), Remedy: hint.Of(err)}}
	}
	return &refusal{proto.Problem{Text: "the rows could not be compared: " + err.Error(), Remedy: hint.Of(err)}}
}

type dueTable struct{ schema, table string }

// due returns the table whose pass comes next, or nil and when one will.
func (s store) due(ctx context.Context, facility string, every time.Duration) (*dueTable, time.Duration, error) {
	var t dueTable
	var wait float64
	err := s.db.QueryRow(ctx, `
		SELECT t.schema_name, t.table_name,
		       extract(epoch FROM CASE WHEN v.began_at IS NOT NULL OR v.ended_at IS NULL THEN interval '0'
		           ELSE v.ended_at + make_interval(secs => $2) - now() END)::float8 AS wait
		  FROM holdfast.synced_table t
		  JOIN holdfast.facility_table f ON (f.facility, f.schema_name, f.table_name) = ($1, t.schema_name, t.table_name)
		  LEFT JOIN holdfast.verified v ON (v.facility, v.schema_name, v.table_name) = ($1, t.schema_name, t.table_name)
		 WHERE t.class IN ('fact', 'event') AND f.state = 'streaming'
		 ORDER BY wait, v.ended_at NULLS FIRST, 1, 2 LIMIT 1`, facility, every.Seconds()).Scan(&t.schema, &t.table, &wait)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, idleWait, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("find the next table of %s to compare: %w", facility, err)
	}
	if wait > 0 {
		return nil, time.Duration(wait * float64(time.Second)), nil
	}
	return &t, 0, nil
}

// tables returns the tables that can be compared at a facility, or the named one.
func (s store) tables(ctx context.Context, facility, schema, table string) ([]v1.VerifyTable, error) {
	rows, err := s.db.Query(ctx, `
		SELECT t.schema_name, t.table_name, coalesce(f.state, 'waiting'), coalesce(f.problem, ''), coalesce(f.remedy, '')
		  FROM holdfast.synced_table t
		  LEFT JOIN holdfast.facility_table f ON (f.facility, f.schema_name, f.table_name) = ($1, t.schema_name, t.table_name)
		 WHERE t.class IN ('fact', 'event') AND CASE WHEN $3 <> '' THEN (t.schema_name, t.table_name) = ($2, $3)
		       ELSE t.schema_name <> 'holdfast' OR f.state = 'streaming' END -- Holdfast's own only where it is there
		 ORDER BY 1, 2`, facility, schema, table)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", facility, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v1.VerifyTable, error) {
		t := v1.VerifyTable{State: v1.VerifyWaiting}
		var state string
		err := row.Scan(&t.Schema, &t.Table, &state, &t.Problem, &t.Remedy)
		if state != proto.TableStreaming {
			t.State = v1.VerifyFailed
			if t.Problem == "" {
				t.Problem = "its rows have not all been sent yet: it is " + state
			}
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", facility, err)
	}
	return list, nil
}

// begin takes an interrupted pass up again, or begins one at the first row.
func (s store) begin(ctx context.Context, facility, schema, table string, anew bool) (*pass, error) {
	p := new(pass)
	var after *[]*string
	var found []v1.VerifyRow
	err := s.db.QueryRow(ctx, `
		INSERT INTO holdfast.verified AS v (facility, schema_name, table_name, pass_no, began_at)
		SELECT $1, $2, $3, 1, now() WHERE EXISTS (SELECT FROM holdfast.synced_table WHERE (schema_name, table_name) = ($2, $3))
		ON CONFLICT (facility, schema_name, table_name) DO UPDATE SET
		    pass_no = v.pass_no + CASE WHEN $4 OR v.began_at IS NULL THEN 1 ELSE 0 END,
		    rows_done = CASE WHEN $4 OR v.began_at IS NULL THEN 0 ELSE v.rows_done END,
		    walk_after = CASE WHEN $4 OR v.began_at IS NULL THEN NULL ELSE v.walk_after END,
		    found = CASE WHEN $4 OR v.began_at IS NULL THEN '[]' ELSE v.found END,
		    found_count = CASE WHEN $4 OR v.began_at IS NULL THEN 0 ELSE v.found_count END,
		    began_at = CASE WHEN $4 OR v.began_at IS NULL THEN now() ELSE v.began_at END
		RETURNING pass_no, rows_done, walk_after, found, found_count`, facility, schema, table, anew).
		Scan(&p.no, &p.rows, &after, &found, &p.count)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &refusal{proto.Problem{Text: schema + "." + table + " is not synced any more"}}
	}
	if err != nil {
		return nil, fmt.Errorf("begin to compare %s.%s of %s: %w", schema, table, facility, err)
	}
	p.earlier = found
	if after != nil {
		p.after = make(change.Row, len(*after))
		for i, v := range *after {
			if v != nil {
				p.after[i] = []byte(*v)
			}
		}
	}
	return p, nil
}

// progress notes how far a pass has come: up to the chunk in which something is
// suspected and was not looked at again, so that it is found after a restart too.
func (s store) progress(ctx context.Context, facility, schema, table string, p *pass, found []v1.VerifyRow) error {
	key, done := p.after, p.rows
	if len(p.suspected) > 0 {
		key, done = p.suspected[0].chunk, p.suspected[0].rows
	}
	var after []string
	for _, v := range key {
		after = append(after, string(v))
	}
	list, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("encode the differences of %s.%s: %w", schema, table, err)
	}
	_, err = s.db.Exec(ctx, `
		UPDATE holdfast.verified SET rows_done = $5, walk_after = to_jsonb($6::text[]), found = $7::jsonb, found_count = $8::bigint, problem = '', remedy = '',
		       differences = CASE WHEN $8::bigint > differing THEN $7::jsonb ELSE differences END,
		       repaired = CASE WHEN $8::bigint > differing THEN 0 ELSE repaired END, differing = greatest(differing, $8::bigint)
		 WHERE (facility, schema_name, table_name, pass_no) = ($1, $2, $3, $4)`,
		facility, schema, table, p.no, done, after, list, p.count)
	if err != nil {
		return fmt.Errorf("note how far %s.%s of %s is compared: %w", schema, table, facility, err)
	}
	return nil
}

// end notes what a whole pass came to.
func (s store) end(ctx context.Context, facility, schema, table string, p *pass, found []v1.VerifyRow) error {
	list, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("encode the differences of %s.%s: %w", schema, table, err)
	}
	_, err = s.db.Exec(ctx, `
		UPDATE holdfast.verified SET began_at = NULL, walk_after = NULL, found = '[]', found_count = 0, rows_done = 0, ended_at = now(),
		       differing = $5::bigint, differences = $6, repaired = 0, problem = '', remedy = '',
		       equal_at = CASE WHEN $5::bigint = 0 THEN now() ELSE equal_at END,
		       equal_seq = CASE WHEN $5::bigint = 0 THEN $7 ELSE equal_seq END,
		       equal_rows = CASE WHEN $5::bigint = 0 THEN $8 ELSE equal_rows END
		 WHERE (facility, schema_name, table_name, pass_no) = ($1, $2, $3, $4)`,
		facility, schema, table, p.no, p.count, list, p.at.String(), p.rows)
	if err != nil {
		return fmt.Errorf("note that %s.%s of %s is compared: %w", schema, table, facility, err)
	}
	return nil
}

// repaired notes how many of the rows that differed do not any more. When none
// does, all of the table has been seen to be equal.
func (s store) repaired(ctx context.Context, facility, schema, table string, p *pass, n int64) error {
	_, err := s.db.Exec(ctx, `
		UPDATE holdfast.verified SET repaired = $5::bigint,
		       equal_at = CASE WHEN $5::bigint >= differing THEN now() ELSE equal_at END,
		       equal_seq = CASE WHEN $5::bigint >= differing THEN $6 ELSE equal_seq END,
		       equal_rows = CASE WHEN $5::bigint >= differing THEN $7 ELSE equal_rows END
		 WHERE (facility, schema_name, table_name, pass_no) = ($1, $2, $3, $4)`, facility, schema, table, p.no, n, p.at.String(), p.rows)
	if err != nil {
		return fmt.Errorf("note that %s.%s of %s is repaired: %w", schema, table, facility, err)
	}
	return nil
}

// refused notes why a table cannot be compared. It is tried again with the next pass.
func (s store) refused(ctx context.Context, facility, schema, table string, p proto.Problem) error {
	_, err := s.db.Exec(ctx, `
		UPDATE holdfast.verified SET began_at = NULL, walk_after = NULL, found = '[]', found_count = 0, rows_done = 0, ended_at = now(),
		       problem = $4, remedy = $5
		 WHERE (facility, schema_name, table_name) = ($1, $2, $3)`, facility, schema, table, p.Text, p.Remedy)
	if err != nil {
		return fmt.Errorf("note that %s.%s of %s cannot be compared: %w", schema, table, facility, err)
	}
	return nil
}

// parked returns the keys of the rows that wait, in the region or at the box, for
// the cause of their refusal to go. They differ until then, and sending them again is no help.
func (s store) parked(ctx context.Context, facility, schema, table string) (map[string]bool, error) {
	rows, err := s.db.Query(ctx, `
		SELECT DISTINCT key FROM holdfast.parked
		 WHERE facility = $1 AND state = 'waiting' AND (schema_name, table_name) = ($2, $3)
		 LIMIT $4`, facility, schema, table, foundMax)
	if err != nil {
		return nil, fmt.Errorf("read the parked rows of %s: %w", facility, err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[map[string]string])
	if err != nil {
		return nil, fmt.Errorf("read the parked rows of %s: %w", facility, err)
	}
	m := make(map[string]bool, len(keys))
	for _, k := range keys {
		m[flat(k)] = true
	}
	return m, nil
}
