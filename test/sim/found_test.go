package sim

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The region removes the rows that are not in a range that a facility sends, and
// somebody makes one of them meanwhile: the removal does not see it, and it is
// committed first. Both sides must come to the same row all the same.
func TestARowMadeWhileARangeIsAppliedIsTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := newWorld(ctx, t, newLane(t), 1, t.TempDir(), slog.New(slog.DiscardHandler), *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	la, region := w.edges[0], w.region.pool
	exec := func(sql string) {
		t.Helper()
		if _, err := region.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	count := func(sql string, want int) {
		t.Helper()
		var n int
		if err := until(ctx, *calm, func() (bool, error) {
			err := region.QueryRow(ctx, sql).Scan(&n)
			return n == want, err
		}); err != nil {
			t.Fatalf("%s: %d, not %d: %v", sql, n, want, err)
		}
	}
	// Whatever removes rows of memo waits behind its statement.
	exec(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$`)
	exec(`CREATE TRIGGER hold AFTER DELETE ON memo FOR EACH STATEMENT EXECUTE FUNCTION hold()`)
	exec(`ALTER TABLE memo ENABLE ALWAYS TRIGGER hold`)
	holder, err := region.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(ctx, `SELECT pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}
	if asked, err := w.region.streams.Heal("la", "a test asks for it", "public.memo"); !asked || err != nil {
		t.Fatalf("asked for the table: %t, %v", asked, err)
	}
	count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`, 1)
	exec(`INSERT INTO memo (facility_id, id, val) VALUES ('la', 1, 'made meanwhile')`)
	if _, err := holder.Exec(ctx, `SELECT pg_advisory_unlock(1)`); err != nil {
		t.Fatal(err)
	}
	holder.Release()
	exec(`INSERT INTO doc VALUES ('la', 1, 'behind it')`)
	if err := until(ctx, *calm, func() (there bool, err error) {
		err = la.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM doc WHERE val = 'behind it')`).Scan(&there)
		return there, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.settle(ctx); err != nil {
		t.Fatal(err)
	}
	count(`SELECT count(*) FROM holdfast.conflict WHERE table_name = 'memo' AND kind = 'update_deleted'`, 1)
}

// A facility removes or patches a row, and as that is applied in the region somebody there
// makes one with its key: it is not seen, and committed first. Both sides must come to the
// same row all the same, and who writes it again, having seen that, is followed.
func TestARowMadeWhileAChangeOfItIsAppliedIsTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	const remove, replace = `DELETE FROM memo WHERE id = 1`, `BEGIN; DELETE FROM memo WHERE id = 1; INSERT INTO memo VALUES ('la', 1, 'meanwhile', repeat('b', 9000))`
	for _, c := range []madeMeanwhile{
		{"made", remove, remove, `INSERT INTO memo VALUES ('la', 1, 'meanwhile')`, "update_deleted", ""},
		{"moved", remove, remove, `UPDATE memo SET id = 1 WHERE id = 2`, "update_deleted", ""},
		{"replaced", replace, remove, `COMMIT`, "update_deleted", ""},
		{"patched", replace, `UPDATE memo SET val = 'patched' WHERE id = 1`, `COMMIT`, "update_origin_differs", "patched b"},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, l) })
	}
}

type madeMeanwhile struct {
	name, before string // what the person in the region does before the facility's change is applied
	here, while  string // that change, and what the person does as it is applied
	kind, stands string // of the conflict, and what the row is then
}

func (c madeMeanwhile) run(t *testing.T, l *lane) {
	ctx, cancel := context.WithTimeout(t.Context(), seedWithin)
	defer cancel()
	w, err := newWorld(ctx, t, l, 1, t.TempDir(), slog.New(slog.DiscardHandler), *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	la := w.edges[0]
	do := func(q interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	}, list ...string,
	) {
		t.Helper()
		for _, sql := range list {
			if _, err := q.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	want := func(q *pgxpool.Pool, sql, want string) {
		t.Helper()
		var got string
		if err := until(ctx, *calm, func() (bool, error) {
			err := q.QueryRow(ctx, `SELECT coalesce(string_agg(v, ', ' ORDER BY v), '') FROM (`+sql+`) AS t (v)`).Scan(&got)
			return got == want, err
		}); err != nil {
			t.Fatalf("%s: %q, not %q: %v", sql, got, want, err)
		}
	}
	settle := func() {
		t.Helper()
		do(w.region.pool, `INSERT INTO doc VALUES ('la', 1, 'behind it')`)
		want(la.pool, `SELECT val FROM doc`, "behind it")
		if err := w.settle(ctx); err != nil {
			t.Fatal(err)
		}
		do(w.region.pool, `DELETE FROM doc`)
	}
	do(la.pool, `INSERT INTO memo SELECT 'la', i, 'of old', repeat('a', 9000) FROM generate_series(1, 2) i`)
	settle()
	// Whatever removes rows of memo for a facility waits behind its statement.
	do(w.region.pool, `CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF current_setting('session_replication_role') = 'replica' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
			RETURN NULL; END $$`,
		`CREATE OR REPLACE TRIGGER hold AFTER DELETE ON memo FOR EACH STATEMENT EXECUTE FUNCTION hold()`,
		`ALTER TABLE memo ENABLE ALWAYS TRIGGER hold`)
	pooled, err := w.region.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	person := pooled.Hijack() // it must not outlive the test with its lock
	defer person.Close(context.WithoutCancel(ctx))
	la.cable.cut()
	do(person, `SELECT pg_advisory_lock(1)`, c.before)
	do(la.pool, c.here)
	la.cable.restore(-1)
	want(w.region.pool, `SELECT DISTINCT 'waits' FROM pg_locks WHERE NOT granted AND locktype IN ('advisory', 'transactionid')`, "waits")
	do(person, c.while, `SELECT pg_advisory_unlock(1)`)
	settle()
	want(la.pool, `SELECT val || ' ' || left(big, 1) FROM memo WHERE id = 1`, c.stands)
	want(w.region.pool, `SELECT kind FROM holdfast.conflict WHERE table_name = 'memo'`, c.kind)

	do(w.region.pool, `INSERT INTO memo VALUES ('la', 1, 'anew') ON CONFLICT (facility_id, id) DO UPDATE SET val = EXCLUDED.val`)
	settle()
	want(la.pool, `SELECT val FROM memo WHERE id = 1`, "anew")
	want(w.region.pool, `SELECT kind FROM holdfast.conflict`, c.kind)
}

// The cloud gives a row another key and does not send its large column, which has
// not changed there; at the facility, meanwhile, it has. The two sides take it from
// rows that differ, and must come to one all the same; also where the cloud then
// removes the row.
func TestARowMovedThereAndChangedHereIsTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	for _, then := range []memo{memoLeft, memoDelete} {
		t.Run("then "+then.String(), func(t *testing.T) { movedAndChanged(t, l, then) })
	}
}

func movedAndChanged(t *testing.T, l *lane, then memo) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := newWorld(ctx, t, l, 1, t.TempDir(), slog.New(slog.DiscardHandler), *calm)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	la := w.edges[0]
	for i, err := range []error{
		w.edgeCommit(ctx, la, []op{{row: row{"doc", 0}, memo: memoPut}}),
		w.rest(ctx),
		w.cutFor(la, func() error {
			return errors.Join(
				w.edgeCommit(ctx, la, []op{{row: row{"doc", 1}, memo: memoLeft}, {row: row{"doc", 0}, memo: memoBig}}),
				w.cloudCommit(ctx, la, []op{{row: row{"doc", 0}, memo: memoRename}}),
				w.cloudCommit(ctx, la, []op{{row: row{"doc", 1}, memo: then}}),
			)
		}),
		w.rest(ctx),
		w.settle(ctx),
	} {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// cutFor does something while the link is down.
func (w *world) cutFor(e *edge, do func() error) error {
	e.cable.cut()
	defer e.cable.restore(-1)
	return do()
}
