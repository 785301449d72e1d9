package uplink

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the box's own memory of what is synced, in its local database.
type store struct{ db *pgxpool.Pool }

// entry is one synced table and how far its rows have been sent.
type entry struct {
	proto.SyncedTable
	State       string
	Problems    []proto.Problem
	LoadAfter   change.Row
	fingerprint uint64
	columns     []proto.TableColumn // those that the fingerprint is of
	RowsLoaded  int64
	LoadNo      int64
	Whole       bool // all rows that its facility had when this box took another's place are here
	Unread      bool // what was changed here is not known; see unread.go
	PutBack     bool // the region's rows did not fit, or some wait; see restored.go
}

func (s store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	db := stdlib.OpenDBFromPool(s.db)
	defer func(db *sql.DB) { _ = db.Close() }(db) // the pool stays open
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName("holdfast_uplink_version"))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the box's schema: %w", err)
	}
	return nil
}

// tables returns the list, and what is not in it any more.
func (s store) tables(ctx context.Context) (version uint64, list []entry, removed []string, err error) {
	err = pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT version FROM holdfast.synced_table_version`).Scan(&version); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT schema_name, table_name, class, facility_column, region_schema, policy, cloud_columns, tenant_column,
			state, problems, load_after, rows_loaded, load_no, unread, whole, `+waits+` FROM holdfast.synced_table s ORDER BY 1, 2`)
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, scanEntry); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, `SELECT schema_name || '.' || table_name FROM holdfast.removed_table`); err != nil {
			return err
		}
		removed, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return 0, nil, nil, fmt.Errorf("read the synced tables: %w", err)
	}
	return version, list, removed, nil
}

func scanEntry(row pgx.CollectableRow) (entry, error) {
	var e entry
	var after *[]*string
	err := row.Scan(&e.Schema, &e.Name, &e.Class, &e.FacilityColumn, &e.RegionSchema, &e.Policy, &e.CloudColumns, &e.TenantColumn,
		&e.State, &e.Problems, &after, &e.RowsLoaded, &e.LoadNo, &e.Unread, &e.Whole, &e.PutBack)
	if after != nil {
		e.LoadAfter = make(change.Row, len(*after))
		for i, v := range *after {
			if v != nil {
				e.LoadAfter[i] = []byte(*v)
			}
		}
	}
	return e, err
}

// replace makes the list what the region says it is. A table that is new, or
// changed its class or place, is loaded from its first row; others go on. A
// master table's rows come from the region: there is nothing to load here.
func (s store) replace(ctx context.Context, t proto.Tables) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var b pgx.Batch
		keep := make([]string, 0, len(t.Tables))
		for _, e := range t.Tables {
			keep = append(keep, e.ID())
			b.Queue(`INSERT INTO holdfast.synced_table AS s (schema_name, table_name, class, facility_column, region_schema, state, unread)
				VALUES ($1, $2, $3, $4, $5, CASE $3 WHEN 'master' THEN 'streaming' ELSE 'loading' END, $3 = 'fact')
				ON CONFLICT (schema_name, table_name) DO UPDATE SET class = EXCLUDED.class,
				    facility_column = EXCLUDED.facility_column, region_schema = EXCLUDED.region_schema,
				    state = EXCLUDED.state, problems = '[]', load_after = NULL, rows_loaded = 0, load_no = s.load_no + 1,
				    whole = false, unread = s.unread AND EXCLUDED.class = 'fact'
				WHERE (s.class, s.facility_column, s.region_schema)
				    IS DISTINCT FROM (EXCLUDED.class, EXCLUDED.facility_column, EXCLUDED.region_schema)`,
				e.Schema, e.Name, e.Class, e.FacilityColumn, e.RegionSchema)
			b.Queue(`UPDATE holdfast.synced_table SET policy = $3, cloud_columns = $4, tenant_column = $5
				WHERE schema_name = $1 AND table_name = $2 AND (policy, cloud_columns, tenant_column) IS DISTINCT FROM ($3, $4, $5)`,
				e.Schema, e.Name, cmp.Or(e.Policy, proto.PolicyEdge), append([]string{}, e.CloudColumns...), e.TenantColumn)
		}
		b.Queue(`WITH gone AS (DELETE FROM holdfast.synced_table WHERE schema_name || '.' || table_name <> ALL ($1) RETURNING schema_name, table_name)
			INSERT INTO holdfast.removed_table SELECT schema_name, table_name FROM gone ON CONFLICT DO NOTHING`, keep)
		b.Queue(`DELETE FROM holdfast.removed_table WHERE schema_name || '.' || table_name = ANY ($1)`, keep)
		b.Queue(`UPDATE holdfast.synced_table_version SET version = $1`, int64(t.Version))
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("store the synced tables: %w", err)
	}
	return nil
}

// reload marks tables to be sent again from their first row. What is left out of
// them then is told anew.
func (s store) reload(ctx context.Context, ids []string, all bool) error {
	return s.again(ctx, ids, all, false, false)
}

// reloadLost does so with all tables, where what was changed here was lost before it was
// read. Those that wait for the region's rows will not be read before, and are noted.
func (s store) reloadLost(ctx context.Context) error {
	return s.again(ctx, nil, true, false, true)
}

// reloadUnread does so with tables that were not captured until now.
func (s store) reloadUnread(ctx context.Context, ids []string) error {
	return s.again(ctx, ids, false, true, false)
}

// mend does so with a table, unless that was done on the same occasion: then its
// load goes on where it is, or has ended.
func (s store) mend(ctx context.Context, m mend) (begun bool, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE holdfast.synced_table SET mend = $2 WHERE schema_name || '.' || table_name = $1 AND mend <> $2`, m.table, m.occasion)
		if begun = tag.RowsAffected() > 0; err != nil || !begun {
			return err
		}
		_, err = tx.Exec(ctx, againSQL, []string{m.table}, false, false, false)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("mark %s to be sent again: %w", m.table, err)
	}
	return begun, nil
}

const againSQL = `WITH again AS (UPDATE holdfast.synced_table s
		SET state = 'loading', load_after = NULL, rows_loaded = 0, problems = '[]', load_no = load_no + 1, unread = unread OR ($3 OR $4 AND (put_back OR rows_wait)) AND class = 'fact',
			put_back = put_back AND ($2 OR ` + passedOver + `), rows_wait = rows_wait OR put_back AND ` + parkedRows + `,
			resent = resent OR state = 'streaming' OR load_after IS NOT NULL
		WHERE class <> 'master' AND ($2 OR schema_name || '.' || table_name = ANY ($1)) RETURNING schema_name, table_name)
	DELETE FROM holdfast.left_out USING again WHERE (left_out.schema_name, left_out.table_name) = (again.schema_name, again.table_name)`

func (s store) again(ctx context.Context, ids []string, all, unread, lost bool) error {
	_, err := s.db.Exec(ctx, againSQL, append([]string{}, ids...), all, unread, lost)
	if err != nil {
		return fmt.Errorf("mark tables to be sent again: %w", err)
	}
	return nil
}

// facts returns the loads of fact tables that are due, by the tables' IDs. Those
// that wait for the region's rows are not.
func (s store) facts(ctx context.Context) (map[string]int64, error) {
	due := map[string]int64{}
	rows, err := s.db.Query(ctx, `SELECT schema_name || '.' || table_name, load_no FROM holdfast.synced_table s WHERE class = 'fact' AND state = 'loading' AND NOT (`+waits+`)`)
	if err != nil {
		return nil, fmt.Errorf("read the synced tables: %w", err)
	}
	var id string
	var no int64
	if _, err = pgx.ForEachRow(rows, []any{&id, &no}, func() error { due[id] = no; return nil }); err != nil {
		return nil, fmt.Errorf("read the synced tables: %w", err)
	}
	return due, nil
}

// callOff notes that loads need not be: the region has what is here. Those
// that were asked for again since then are, and those of tables that were not captured.
func (s store) callOff(ctx context.Context, loads map[string]int64) error {
	var ids []string
	var nos []int64
	for id, no := range loads {
		ids, nos = append(ids, id), append(nos, no)
	}
	_, err := s.db.Exec(ctx, `UPDATE holdfast.synced_table SET state = 'streaming' FROM unnest($1::text[], $2::bigint[]) AS u(id, no)
		WHERE schema_name || '.' || table_name = u.id AND load_no = u.no AND state = 'loading' AND NOT unread`, ids, nos)
	if err != nil {
		return fmt.Errorf("store the state of tables: %w", err)
	}
	return nil
}

// published reports whether these tables, as they are now, are all captured.
func (s store) published(ctx context.Context, schemas, names []string) (all bool, err error) {
	err = s.db.QueryRow(ctx, `SELECT NOT EXISTS (SELECT schema_name, table_name FROM unnest($1::text[], $2::text[]) AS u(schema_name, table_name)
		EXCEPT SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
			JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $3)`,
		schemas, names, capture.Publication).Scan(&all)
	if err != nil {
		return false, fmt.Errorf("look which tables are captured: %w", err)
	}
	return all, nil
}

// passedOver says of a synced table s that changes of it were passed over here, and
// that it has not come again since.
const passedOver = `EXISTS (SELECT FROM holdfast.parked_table p
	WHERE (p.direction, p.schema_name, p.table_name) = ('down', s.schema_name, s.table_name) AND p.reason <> 'row_missing')`

// comesAgain notes that all tables that were passed over are on their way, as all are
// in an epoch that is restored: a mark ends with the first of its table that fits.
func (s store) comesAgain(ctx context.Context, facility string) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.parked_table SET asked_at = now() WHERE facility = $1 AND direction = 'down' AND reason <> 'row_missing'`, facility)
	if err != nil {
		return fmt.Errorf("note that the region sends its tables: %w", err)
	}
	return nil
}

// parkedRows says of a synced table s that rows of it wait here, and waits that it is not
// sent up before it has the region's rows. While it is unread what waits of it cannot be
// tried again: then it is read all the same.
const (
	parkedRows = `EXISTS (SELECT FROM holdfast.parked p
	WHERE (p.direction, p.state, p.schema_name, p.table_name) = ('down', 'waiting', s.schema_name, s.table_name))`
	waits = `s.put_back OR s.rows_wait AND NOT s.unread AND ` + parkedRows
)

// putBack notes the tables that did not take the region's rows, or not all of them, while
// this database waited for them.
func (s store) putBack(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.synced_table s SET put_back = s.class = 'fact' AND `+passedOver+`, rows_wait = s.class = 'fact' AND `+parkedRows)
	if err != nil {
		return fmt.Errorf("note which tables the region's rows did not fit: %w", err)
	}
	return nil
}

// rowsCame notes that no rows of tables wait any more that did: what is parked of them
// later is no matter of their load's.
func (s store) rowsCame(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.synced_table s SET rows_wait = false WHERE rows_wait AND (unread OR NOT `+parkedRows+`)`)
	if err != nil {
		return fmt.Errorf("note which tables have the region's rows: %w", err)
	}
	return nil
}

// setState notes a table's state. A table that is refused is not captured, so
// that all of it must be sent again once it can be.
func (s store) setState(ctx context.Context, e proto.SyncedTable, state string, problems []proto.Problem) error {
	p, err := json.Marshal(append([]proto.Problem{}, problems...))
	if err != nil {
		return fmt.Errorf("encode problems: %w", err)
	}
	_, err = s.db.Exec(ctx, `UPDATE holdfast.synced_table SET state = $3, problems = $4,
			load_after = CASE WHEN $5 THEN NULL ELSE load_after END,
			rows_loaded = CASE WHEN $5 THEN 0 ELSE rows_loaded END,
			load_no = load_no + CASE WHEN $5 THEN 1 ELSE 0 END,
			resent = resent OR $5,
			unread = unread OR $5 AND class = 'fact'
		WHERE schema_name = $1 AND table_name = $2`, e.Schema, e.Name, state, p, state == proto.TableRefused)
	if err != nil {
		return fmt.Errorf("store the state of %s: %w", e.ID(), err)
	}
	return nil
}

// whole notes that a table is whole if the way down has come so far in this very
// database, and all of the table that came was taken. again is true when it is to be
// sent once more, because what was sent before said nothing of rows that are gone.
func (s store) whole(ctx context.Context, facility string, w *proto.Whole) (again bool, err error) {
	err = s.db.QueryRow(ctx, `WITH t AS (SELECT schema_name, table_name, resent OR state = 'loading' AS again FROM holdfast.synced_table t
			WHERE schema_name || '.' || table_name = $2 AND class = 'fact' AND state <> 'refused'
			AND EXISTS (SELECT FROM holdfast.position WHERE facility = $1 AND (epoch, seq) >= ($3, $4))
			AND NOT EXISTS (SELECT FROM holdfast.parked p WHERE p.facility = $1 AND p.direction = 'down' AND p.state IN ('waiting', 'discarded')
				AND (p.schema_name, p.table_name) = (t.schema_name, t.table_name))
			AND NOT EXISTS (SELECT FROM holdfast.parked_table p WHERE p.facility = $1 AND p.direction = 'down'
				AND (p.schema_name, p.table_name) = (t.schema_name, t.table_name)) FOR UPDATE)
		UPDATE holdfast.synced_table s SET whole = true, resent = false, state = CASE WHEN again THEN 'loading' ELSE state END,
			load_after = CASE WHEN again THEN NULL ELSE load_after END, rows_loaded = CASE WHEN again THEN 0 ELSE rows_loaded END,
			load_no = load_no + again::int
		FROM t WHERE (s.schema_name, s.table_name) = (t.schema_name, t.table_name) RETURNING again`,
		facility, w.Table, int64(w.Epoch), int64(w.Seq)).Scan(&again)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("note that %s is whole: %w", w.Table, err)
	}
	return again, nil
}

// errRestarted ends a load that was told to begin anew.
var errRestarted = errors.New("the load begins anew")

// progress notes how far a table's rows have been sent, in the transaction
// that sends them: a load that is interrupted goes on where it was.
func progress(ctx context.Context, tx pgx.Tx, e entry, after change.Row, rows int64) error {
	text := make([]*string, len(after))
	for i, v := range after {
		if v != nil {
			s := string(v)
			text[i] = &s
		}
	}
	tag, err := tx.Exec(ctx, `UPDATE holdfast.synced_table SET load_after = to_jsonb($4::text[]), rows_loaded = rows_loaded + $5
		WHERE schema_name = $1 AND table_name = $2 AND load_no = $3`, e.Schema, e.Name, e.LoadNo, text, rows)
	if err == nil && tag.RowsAffected() == 0 {
		err = errRestarted
	}
	return err
}

// loaded notes that all rows of a table have been sent, and are in the queue, unless they are to be
// sent again already.
func (s store) loaded(ctx context.Context, e entry) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.synced_table SET state = 'streaming', unread = false
		WHERE schema_name = $1 AND table_name = $2 AND load_no = $3 AND state = 'loading'`, e.Schema, e.Name, e.LoadNo)
	if err != nil {
		return fmt.Errorf("store the state of %s: %w", e.ID(), err)
	}
	return nil
}
