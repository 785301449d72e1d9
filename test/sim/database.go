package sim

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

// database is one side's server and the database that each seed has in turn. To
// make a new one costs several times what a seed does (copied files, checkpoints,
// caches that every connection fills anew), so it is made what it was.
type database struct {
	server *pgtest.Server
	pool   *pgxpool.Pool
	conn   string
	clock  *clock
	again  string // statements that make the rows what they were at keep
}

const databaseName = "sim"

func newDatabase(t *testing.T) *database {
	t.Helper()
	clock, env := newClock(t)
	s := pgtest.Cluster(t, pgtest.Options{NoFsync: true, Env: env, Settings: map[string]string{
		"max_connections": "60", "deadlock_timeout": "50ms", "shared_buffers": "32MB", "autovacuum": "off",
		"max_wal_size": "128MB", "min_wal_size": "32MB", "synchronous_commit": "on", "wal_writer_delay": "10s", "wal_level": "logical", "max_replication_slots": "8", "max_wal_senders": "8",
		"plan_cache_mode": "force_generic_plan", // to plan the questions to the catalog costs more than they do, and apply sets its own
	}})
	db := s.Database(t, databaseName)
	db.Exec(t, tables)
	d := &database{server: s, clock: clock, conn: db.ConnString()}
	if _, err := os.Stat(s.SocketDir() + fmt.Sprint("/.s.PGSQL.", s.Port())); err == nil { // half of what TCP costs
		d.conn = fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", pgtest.Superuser, databaseName, s.SocketDir(), s.Port())
	}
	var err error
	if d.pool, err = pgxpool.New(t.Context(), d.conn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.pool.Close() }) // not the pool of now: a step may put another in its place
	return d
}

func (d *database) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	var mode []any
	if len(args) == 0 {
		mode = append(mode, pgx.QueryExecModeSimpleProtocol) // there may be several statements
	}
	if _, err := d.pool.Exec(t.Context(), sql, append(mode, args...)...); err != nil {
		t.Fatal(err)
	}
}

// keep notes what all tables and sequences hold, for reset.
func (d *database) keep(ctx context.Context) error {
	var again []string
	tables, err := d.filled(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		var rows *string
		if err := d.pool.QueryRow(ctx, `SELECT json_agg(t)::text FROM `+t+` t`).Scan(&rows); err != nil {
			return fmt.Errorf("keep the rows of %s: %w", t, err)
		}
		if rows != nil {
			again = append(again, fmt.Sprintf(`INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::%[1]s, %s)`, t, literal(*rows)))
		}
	}
	rows, err := d.pool.Query(ctx, `SELECT format('SELECT setval(%L, %s, %L)', c.oid::regclass, coalesce(s.last_value, s.start_value), s.last_value IS NOT NULL)
		FROM pg_class c JOIN pg_sequences s ON s.schemaname = c.relnamespace::regnamespace::text AND s.sequencename = c.relname WHERE c.relkind = 'S'`)
	if err != nil {
		return fmt.Errorf("keep the sequences: %w", err)
	}
	sequences, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("keep the sequences: %w", err)
	}
	d.again = strings.Join(append(again, sequences...), ";\n")
	return nil
}

// filled returns the tables that may hold rows, quoted.
func (d *database) filled(ctx context.Context) ([]string, error) {
	rows, err := d.pool.Query(ctx, `SELECT format('%I.%I', relnamespace::regnamespace, relname) FROM pg_class WHERE relkind = 'r'
		AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) AND pg_relation_size(oid) > 0`)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// reset makes the database what it was at keep. No program may be using it.
func (d *database) reset(ctx context.Context) error {
	if err := d.clock.set(0); err != nil {
		return err
	}
	if err := dropSlots(ctx, d.pool); err != nil {
		return err
	}
	tables, err := d.filled(ctx)
	if err != nil {
		return err
	}
	rows, err := d.pool.Query(ctx, `SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication
		UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
			WHERE NOT tgisinternal AND relnamespace = 'public'::regnamespace AND tgname LIKE 'holdfast%'`)
	if err != nil {
		return err
	}
	do, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, t := range tables {
		do = append(do, "DELETE FROM "+t)
	}
	if n, err := d.columns(ctx); err != nil {
		return err
	} else if n > 0 {
		do = append(do, "DROP TABLE grow", strings.TrimSuffix(growTable, ";"))
	}
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	_, err = c.Exec(ctx, "SET session_replication_role = replica") // whatever is referenced, and read-only
	if err == nil {
		_, err = c.Conn().PgConn().Exec(ctx, strings.Join(append(do, d.again), ";\n")).ReadAll() // one transaction
	}
	if err == nil {
		_, err = c.Exec(ctx, "RESET session_replication_role")
	}
	if err == nil && len(tables) > 0 {
		_, err = c.Exec(ctx, "VACUUM "+strings.Join(tables, ", "))
	}
	if err != nil {
		return fmt.Errorf("reset the database: %w", err)
	}
	return nil
}

// empty makes the database that of a new box: with the tables, and with no rows.
func (d *database) empty(ctx context.Context) error {
	if err := d.reset(ctx); err != nil {
		return err
	}
	for _, t := range syncedTables {
		if _, err := d.pool.Exec(ctx, "DELETE FROM "+t.name); err != nil {
			return fmt.Errorf("empty the database: %w", err)
		}
	}
	return nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// columns returns how many columns were added to grow.
func (d *database) columns(ctx context.Context) (n int, err error) {
	err = d.pool.QueryRow(ctx, `SELECT count(*) FROM pg_attribute WHERE attrelid = 'grow'::regclass AND attname ~ '^c[0-9]'`).Scan(&n)
	return n, err
}
