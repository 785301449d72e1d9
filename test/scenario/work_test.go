package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/compare"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// The shop floor: writers who know exactly what they have written. Each has
// keys of its own, and counts its transactions in a row that it changes in each
// of them. So after a connection that broke in the middle of a commit it can
// find out how that ended, and afterwards nothing may be missing or be there
// twice.

const floorTables = `
CREATE TABLE floor_part (
    facility_id text NOT NULL, code text NOT NULL, writer int NOT NULL, n int NOT NULL,
    drawing text, stock numeric(12,3), seen timestamptz DEFAULT now(), tags text[],
    PRIMARY KEY (facility_id, code));
ALTER TABLE floor_part ALTER drawing SET STORAGE EXTERNAL;
CREATE TABLE floor_step (
    facility_id text NOT NULL, code text NOT NULL, step int NOT NULL, n int NOT NULL,
    PRIMARY KEY (facility_id, code, step));
CREATE TABLE floor_count (facility_id text NOT NULL, writer int NOT NULL, n int NOT NULL, PRIMARY KEY (facility_id, writer));
CREATE TABLE floor_log (facility_id text NOT NULL, writer int NOT NULL, n int NOT NULL, what text NOT NULL);`

var floor = []compare.Table{
	{Schema: "public", Name: "floor_count"},
	{Schema: "public", Name: "floor_log"},
	{Schema: "public", Name: "floor_part"},
	{Schema: "public", Name: "floor_step"},
}

// addFloor makes the tables on both sides and registers them. The log has no
// key: a transaction that arrives twice shows.
func addFloor(t *testing.T, s *site.Site, edges ...*site.Edge) {
	t.Helper()
	dsns := []string{s.RegionDSN(pgcluster.App, pgcluster.Database)}
	for _, e := range edges {
		dsns = append(dsns, e.DSN(pgcluster.App, pgcluster.Database))
	}
	for _, dsn := range dsns {
		if _, err := pool(t, dsn).Exec(t.Context(), floorTables); err != nil {
			t.Fatal(err)
		}
	}
	for table, class := range map[string]string{"floor_part": "fact", "floor_step": "fact", "floor_count": "fact", "floor_log": "event"} {
		if _, err := s.API.AddTable(t.Context(), v1.TableAdd{Schema: "public", Table: table, Class: class}); err != nil {
			t.Fatal(err)
		}
	}
	// What is written to a table without a key before it is synced stays behind.
	for _, e := range edges {
		db := edgeDB(t, e)
		eventually(t, func(ctx context.Context) error {
			var n int
			err := db.QueryRow(ctx, `SELECT count(*) FROM pg_publication_tables WHERE tablename LIKE 'floor\_%'`).Scan(&n)
			if err == nil && n < len(floor) {
				err = fmt.Errorf("%d of %d tables are published at %s", n, len(floor), e.ID)
			}
			return err
		})
	}
}

// writer is one worker with a connection.
type writer struct {
	id       int
	facility string
	dsn      string
	rng      *rand.Rand
	conn     *pgx.Conn
	done     *atomic.Int64 // transactions of all writers

	n     int // transactions that committed
	parts map[string]int
	steps map[string]int // "code/step"
}

// floorCrew makes n writers for a facility.
func floorCrew(e *site.Edge, n int, seed uint64, done *atomic.Int64) []*writer {
	var crew []*writer
	for i := range n {
		crew = append(crew, &writer{
			id: i, facility: e.ID, dsn: e.DSN(pgcluster.App, pgcluster.Database),
			rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), done: done, parts: map[string]int{}, steps: map[string]int{},
		})
	}
	return crew
}

// work commits n transactions, whatever becomes of the database meanwhile.
func (w *writer) work(ctx context.Context, n int) error {
	for range n {
		j := w.plan()
		for {
			err := w.try(ctx, j)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("writer %d: %w, last %w", w.id, ctx.Err(), err)
			}
			if pg, ok := errors.AsType[*pgconn.PgError](err); ok && !passing(pg) {
				return fmt.Errorf("writer %d: %w", w.id, err)
			}
		}
		w.n, w.parts, w.steps = w.n+1, j.parts, j.steps
		w.done.Add(1)
	}
	return nil
}

func passing(e *pgconn.PgError) bool {
	switch e.Code[:2] {
	case "57", "53", "08", "40", "55":
		return true
	}
	return false
}

func (w *writer) close(ctx context.Context) {
	if w.conn != nil {
		_ = w.conn.Close(ctx) // it is thrown away
		w.conn = nil
	}
}

// work lets the whole crew commit n transactions each.
func work(t *testing.T, crew []*writer, n int) {
	t.Helper()
	g, ctx := errgroup.WithContext(within(t))
	for _, w := range crew {
		g.Go(func() error { return w.work(ctx, n) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// job is one transaction and what the writer has after it.
type job struct {
	statements []statement
	parts      map[string]int
	steps      map[string]int
}

type statement struct {
	sql  string
	args []any
}

func (j *job) queue(sql string, args ...any) {
	j.statements = append(j.statements, statement{sql, args})
}

// try runs the job once. It returns nil when it is committed, be it by an
// earlier try.
func (w *writer) try(ctx context.Context, j *job) error {
	if w.conn == nil {
		dial, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(dial, w.dsn)
		if err != nil {
			return err
		}
		w.conn = conn
		var n int
		err = conn.QueryRow(ctx, `SELECT coalesce(max(n), 0) FROM floor_count WHERE facility_id = $1 AND writer = $2`, w.facility, w.id).Scan(&n)
		switch {
		case err != nil:
			w.close(ctx)
			return err
		case n == w.n+1:
			return nil // it was committed, only nobody told us
		case n != w.n:
			return &pgconn.PgError{Code: "LOST0", Message: fmt.Sprintf("writer %d has committed %d transactions, the database has %d", w.id, w.n, n)}
		}
	}
	tx, err := w.conn.Begin(ctx)
	if err == nil {
		var b pgx.Batch
		for _, s := range j.statements {
			b.Queue(s.sql, s.args...)
		}
		err = tx.SendBatch(ctx, &b).Close()
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		w.close(ctx)
	}
	return err
}

// plan thinks up the next transaction.
func (w *writer) plan() *job {
	j := &job{parts: maps.Clone(w.parts), steps: maps.Clone(w.steps)}
	n := w.n + 1
	j.queue(`INSERT INTO floor_count VALUES ($1, $2, $3) ON CONFLICT (facility_id, writer) DO UPDATE SET n = EXCLUDED.n`, w.facility, w.id, n)
	j.queue(`INSERT INTO floor_log VALUES ($1, $2, $3, $4)`, w.facility, w.id, n, "moved a pallet")
	for range 1 + w.rng.IntN(4) {
		w.change(j, n)
	}
	return j
}

const partsMax = 150

func (w *writer) change(j *job, n int) {
	code := fmt.Sprintf("w%d-%d", w.id, w.rng.IntN(partsMax))
	_, have := j.parts[code]
	switch dice := w.rng.IntN(10); {
	case !have:
		j.queue(`INSERT INTO floor_part (facility_id, code, writer, n, drawing, stock, tags) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			w.facility, code, w.id, n, w.drawing(), fmt.Sprintf("%d.125", n), []string{"bubble wrap", "NULL", `a "quoted", {one}`})
		j.parts[code] = n
	case dice < 5: // the drawing stays, and is not sent
		j.queue(`UPDATE floor_part SET n = $3, seen = now() WHERE facility_id = $1 AND code = $2`, w.facility, code, n)
		j.parts[code] = n
	case dice < 7:
		j.queue(`DELETE FROM floor_part WHERE facility_id = $1 AND code = $2`, w.facility, code)
		delete(j.parts, code)
	case dice < 8: // the key changes
		to := fmt.Sprintf("w%d-%d", w.id, w.rng.IntN(partsMax))
		if _, taken := j.parts[to]; taken {
			return
		}
		j.queue(`UPDATE floor_part SET code = $3, n = $4 WHERE facility_id = $1 AND code = $2`, w.facility, code, to, n)
		delete(j.parts, code)
		j.parts[to] = n
	default:
		step := w.rng.IntN(5)
		j.queue(`INSERT INTO floor_step VALUES ($1, $2, $3, $4) ON CONFLICT (facility_id, code, step) DO UPDATE SET n = EXCLUDED.n`,
			w.facility, code, step, n)
		j.steps[fmt.Sprintf("%s/%d", code, step)] = n
	}
}

// drawing is now and then too large to be stored in the row.
func (w *writer) drawing() any {
	switch w.rng.IntN(6) {
	case 0:
		return strings.Repeat(fmt.Sprintf("<path %d>", w.rng.IntN(1e6)), 500)
	case 1:
		return nil
	}
	return "a plain box"
}

// check says whether the database holds exactly what the writer has committed.
func (w *writer) check(ctx context.Context, db *pgxpool.Pool) error {
	var first, last, rows int
	err := db.QueryRow(ctx, `SELECT coalesce(min(n), 1), coalesce(max(n), 0), count(*) FROM floor_log WHERE facility_id = $1 AND writer = $2`,
		w.facility, w.id).Scan(&first, &last, &rows)
	if err != nil {
		return err
	}
	if first != 1 || last != w.n || rows != w.n {
		return fmt.Errorf("writer %d committed 1 to %d; the log has %d rows, %d to %d", w.id, w.n, rows, first, last)
	}
	parts, err := numbers(ctx, db, `SELECT code, n FROM floor_part WHERE facility_id = $1 AND writer = $2`, w.facility, w.id)
	if err != nil {
		return err
	}
	if !maps.Equal(parts, w.parts) {
		return fmt.Errorf("writer %d: parts %v, want %v", w.id, parts, w.parts)
	}
	steps, err := numbers(ctx, db, `SELECT code || '/' || step, n FROM floor_step WHERE facility_id = $1 AND code LIKE $2`, w.facility, fmt.Sprintf("w%d-%%", w.id))
	if err != nil {
		return err
	}
	if !maps.Equal(steps, w.steps) {
		return fmt.Errorf("writer %d: steps %v, want %v", w.id, steps, w.steps)
	}
	return nil
}

func numbers(ctx context.Context, db *pgxpool.Pool, sql string, args ...any) (map[string]int, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Key string
		N   int
	}])
	m := make(map[string]int, len(list))
	for _, r := range list {
		m[r.Key] = r.N
	}
	return m, err
}

// sameFloor waits until the region has exactly what the facility has, and that
// is what the writers have committed.
func sameFloor(t *testing.T, crew []*writer, edge, region *pgxpool.Pool) {
	t.Helper()
	sameTables(t, crew, edge, region, floor)
}

// sameKeyed is sameFloor without the log: rows without a key that were lost on
// the way cannot be told from others and sent again.
func sameKeyed(t *testing.T, crew []*writer, edge, region *pgxpool.Pool) {
	t.Helper()
	sameTables(t, crew, edge, region, slices.DeleteFunc(slices.Clone(floor), func(t compare.Table) bool { return t.Name == "floor_log" }))
}

func sameTables(t *testing.T, crew []*writer, edge, region *pgxpool.Pool, tables []compare.Table) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		for _, w := range crew {
			var n int
			err := region.QueryRow(ctx, `SELECT coalesce(max(n), 0) FROM floor_count WHERE facility_id = $1 AND writer = $2`, w.facility, w.id).Scan(&n)
			if err != nil {
				return err
			}
			if n != w.n {
				return fmt.Errorf("the region has %d transactions of writer %d, the facility %d", n, w.id, w.n)
			}
		}
		return compare.Tables(ctx, edge, region, tables...)
	})
	for _, w := range crew {
		if err := w.check(t.Context(), edge); err != nil {
			t.Fatal(err)
		}
	}
}
