package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/proto"
)

// tablesChannel is notified when the list of synced tables changes.
const tablesChannel = "holdfast_synced_table"

// store is the SQL of this package.
type store struct{ db *pgxpool.Pool }

// readTables returns the list with its version, and what is not in it any more. The lock keeps a version from
// being seen without its change, for sequences know no transactions.
func (s store) readTables(ctx context.Context) (t proto.Tables, removed []string, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE holdfast.synced_table IN SHARE MODE`); err != nil {
			return err
		}
		row := tx.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM holdfast.synced_table_version`)
		if err := row.Scan(&t.Version); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT schema_name, table_name, class, facility_column, region_schema, policy, cloud_columns, tenant_column
			FROM holdfast.synced_table ORDER BY schema_name, table_name`)
		if err != nil {
			return err
		}
		if t.Tables, err = pgx.CollectRows(rows, scanTable); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, `SELECT schema_name || '.' || table_name FROM holdfast.removed_table`); err != nil {
			return err
		}
		removed, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return t, nil, fmt.Errorf("read the list of synced tables: %w", err)
	}
	return t, removed, nil
}

// whole reports whether a box was told that it has all rows of a table (cloud/router).
func (s store) whole(ctx context.Context, facility string, enrolment uint32, schema, table string) (yes bool, err error) {
	err = s.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.down_load WHERE facility = $1 AND schema_name = $2 AND table_name = $3 AND whole_enrolment = $4)`,
		facility, schema, table, int64(enrolment)).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("ask whether %s has all of %s.%s: %w", facility, schema, table, err)
	}
	return yes, nil
}

func scanTable(row pgx.CollectableRow) (proto.SyncedTable, error) {
	var t proto.SyncedTable
	err := row.Scan(&t.Schema, &t.Name, &t.Class, &t.FacilityColumn, &t.RegionSchema, &t.Policy, &t.CloudColumns, &t.TenantColumn)
	if len(t.CloudColumns) == 0 {
		t.CloudColumns = nil
	}
	return t, err
}

// change runs fn with the list locked, counts its version up and announces it.
func (s store) change(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE holdfast.synced_table IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT pg_notify('`+tablesChannel+`', nextval('holdfast.synced_table_version')::text)`)
		return err
	})
}

func (s store) addTable(ctx context.Context, t proto.SyncedTable, by string) error {
	err := s.change(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO holdfast.synced_table
			(schema_name, table_name, class, facility_column, region_schema, added_by, policy, cloud_columns, tenant_column)
			VALUES ($1, $2, $3, $4, coalesce(nullif($5, ''), '{schema}'), $6, coalesce(nullif($7, ''), 'edge'), $8, $9)
			ON CONFLICT (schema_name, table_name) DO UPDATE SET class = EXCLUDED.class, facility_column = EXCLUDED.facility_column,
			region_schema = EXCLUDED.region_schema, policy = EXCLUDED.policy, cloud_columns = EXCLUDED.cloud_columns,
			tenant_column = EXCLUDED.tenant_column, added_by = EXCLUDED.added_by, added_at = now()`,
			t.Schema, t.Name, t.Class, t.FacilityColumn, t.RegionSchema, by, t.Policy, append([]string{}, t.CloudColumns...), t.TenantColumn)
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM holdfast.removed_table WHERE schema_name = $1 AND table_name = $2`, t.Schema, t.Name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", t.ID(), err)
	}
	return nil
}

func (s store) removeTable(ctx context.Context, schema, name string) error {
	err := s.change(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM holdfast.synced_table WHERE schema_name = $1 AND table_name = $2`, schema, name)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNotFound
		}
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO holdfast.removed_table (schema_name, table_name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, schema, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("end the syncing of %s.%s: %w", schema, name, err)
	}
	return nil
}

// listen calls changed at once, after each notice that the list has changed,
// and every so often; it returns when the connection ends or changed fails.
func (s store) listen(ctx context.Context, every time.Duration, changed func(ctx context.Context) error) error {
	c, err := s.db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen for table changes: %w", err)
	}
	conn := c.Hijack() // it listens for as long as it lives
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN `+tablesChannel); err != nil {
		return fmt.Errorf("listen for table changes: %w", err)
	}
	for {
		if err := changed(ctx); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, every)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("listen for table changes: %w", err)
		}
	}
}

func (s store) putStates(ctx context.Context, facility string, states []proto.TableState) error {
	batch := &pgx.Batch{}
	ids := make([]string, 0, len(states))
	for _, t := range states {
		var p proto.Problem
		for i, q := range t.Problems {
			if i > 0 {
				p.Text, p.Remedy = p.Text+"\n", p.Remedy+"\n"
			}
			p.Text, p.Remedy = p.Text+q.Text, p.Remedy+q.Remedy
		}
		ids = append(ids, t.Schema+"."+t.Name)
		batch.Queue(`INSERT INTO holdfast.facility_table AS f (facility, schema_name, table_name, state, problem, remedy, rows_loaded, fingerprint, columns)
			SELECT $1, $2, $3, $4, $5, $6, $7, $8, coalesce($9::jsonb, '[]') WHERE EXISTS (SELECT FROM holdfast.facility WHERE id = $1)
			ON CONFLICT (facility, schema_name, table_name) DO UPDATE SET state = EXCLUDED.state, problem = EXCLUDED.problem,
			remedy = EXCLUDED.remedy, rows_loaded = EXCLUDED.rows_loaded, fingerprint = EXCLUDED.fingerprint, updated_at = now(),
			columns = CASE WHEN f.fingerprint = EXCLUDED.fingerprint AND EXCLUDED.columns = '[]' THEN f.columns ELSE EXCLUDED.columns END`,
			facility, t.Schema, t.Name, t.State, p.Text, p.Remedy, int64(t.RowsLoaded), int64(t.Fingerprint), t.Columns)
	}
	batch.Queue(`DELETE FROM holdfast.facility_table WHERE facility = $1 AND schema_name || '.' || table_name <> ALL ($2)`, facility, ids)
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("store the table states of %s: %w", facility, err)
	}
	return nil
}

// addEventOnce keeps an event, unless the facility has the same one already.
func (s store) addEventOnce(ctx context.Context, facility, kind, detail string) error {
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, detail) SELECT $1::text, $2::text, $3::text
		WHERE NOT EXISTS (SELECT FROM holdfast.stream_event WHERE facility = $1 AND kind = $2 AND detail = $3)`, facility, kind, detail)
	if err != nil {
		return fmt.Errorf("keep an event of %s: %w", facility, err)
	}
	return nil
}

// loading reports whether the facility said last that it sends the table as a whole.
func (s store) loading(ctx context.Context, facility, table string) (yes bool, err error) {
	err = s.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.facility_table WHERE facility = $1 AND schema_name || '.' || table_name = $2 AND state = $3)`,
		facility, table, proto.TableLoading).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look up the state of %s at %s: %w", table, facility, err)
	}
	return yes, nil
}

func (s store) addCounts(ctx context.Context, sums map[counterKey]counter) error {
	var facility, schema, table []string
	var changes, seq []int64
	for k, c := range sums {
		facility, schema, table = append(facility, k.facility), append(schema, k.schema), append(table, k.table)
		changes, seq = append(changes, c.changes), append(seq, int64(c.seq))
	}
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.facility_table AS t (facility, schema_name, table_name, state, changes, last_seq)
		SELECT u.f, u.s, u.t, 'streaming', u.c, u.q FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) u(f, s, t, c, q)
		JOIN holdfast.facility ON id = u.f
		ON CONFLICT (facility, schema_name, table_name) DO UPDATE
		SET changes = t.changes + EXCLUDED.changes, last_seq = EXCLUDED.last_seq, updated_at = now()`,
		facility, schema, table, changes, seq)
	if err != nil {
		return fmt.Errorf("write the counters of %d tables: %w", len(sums), err)
	}
	return nil
}

// addEvent keeps an event, unless the facility's last one says the same: what
// repeats with every attempt is one event.
func (s store) addEvent(ctx context.Context, facility, kind, detail string) error {
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, detail) SELECT $1::text, $2::text, $3::text
		WHERE NOT EXISTS (SELECT FROM (SELECT kind, detail FROM holdfast.stream_event WHERE facility = $1 ORDER BY id DESC LIMIT 1) last
			WHERE last.kind = $2 AND last.detail = $3)`,
		facility, kind, detail)
	if err != nil {
		return fmt.Errorf("keep an event of %s: %w", facility, err)
	}
	return nil
}
