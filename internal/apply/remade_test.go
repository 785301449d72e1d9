package apply

import (
	"context"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// remade is a region with a table whose rows are made again, plain or in partitions, and
// one in which a person can be in the way.
func remade(t *testing.T, ddl string) (*pgtest.DB, *stream, *sender) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+ddl+`; CREATE TABLE w (id int PRIMARY KEY, facility text NOT NULL, v text);
		INSERT INTO t VALUES (5, 'la', 'five'); INSERT INTO w VALUES (1, 'la', 'one')`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"}, Table{Name: "w", FacilityColumn: "facility"})
	columns := []change.Column{key("id", "integer"), col("facility", "text"), col("v", "text")}
	return db, r.stream("la"), newSender(t, table("public", "t", columns...), table("public", "w", columns...))
}

var remadeTables = map[string]string{
	"plain":      `CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, v text)`,
	"partitions": `CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL, v text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT`,
}

// The facility removes a row that is not in the region; while that is applied there,
// somebody makes one with its key. At the facility theirs does not stand: they had not
// seen the removal.
func TestARowThatIsMadeWhileItsRemovalIsAppliedDoesNotStand(t *testing.T) {
	t.Parallel()
	for name, ddl := range remadeTables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, st, s := remade(t, ddl)
			person, err := db.Pool(t).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = person.Rollback(context.Background()) }) // where it has ended, too
			do := func(sql string) {
				t.Helper()
				if _, err := person.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			do(`UPDATE w SET v = 'a person''s'`)
			// The facility itself has another 2 now: that one stands.
			rename := change.Change{Op: change.Update, Key: row(5), Row: row(2, "la", nil), Absent: []int{2}}
			st.push(s.frame([]change.Change{del(0, 1), del(0, 2), rename, upd(1, 1, "la", "theirs")}))
			untilLines(t, db, `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`, "(1)")
			do(`INSERT INTO t VALUES (1, 'la', 'a person''s')`)
			do(`COMMIT`)
			st.untilApplied(1)
			wantLines(t, db, `SELECT id, v FROM t ORDER BY id`, "(2,five)")
			wantLines(t, db, `SELECT v FROM w`, "(theirs)")
		})
	}
}

// A row that is made even later is told to the facility behind the removal, as one that
// was made by somebody who had seen it.
func TestARowThatIsMadeAsItsRemovalCommitsIsToldOnceMore(t *testing.T) {
	t.Parallel()
	for name, ddl := range remadeTables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, st, s := remade(t, ddl)
			st.push(s.frame([]change.Change{ins(0, 7, "la", "seven")}))
			st.untilApplied(1)
			st.Faults.Commit.Hold()
			st.push(s.frame([]change.Change{del(0, 1), del(0, 2)}))
			untilLines(t, db, `SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%pg_current_xact_id%' AND datname = current_database()`, "(1)")
			db.Exec(t, `INSERT INTO t VALUES (1, 'la', 'a person''s')`)
			before := lines(t, db, `SELECT id, xmin FROM t WHERE id IN (1, 5) ORDER BY id`)
			st.Faults.Commit.Heal()
			st.untilApplied(2)
			wantLines(t, db, `SELECT id, v FROM t ORDER BY id`, "(1,\"a person's\")", "(5,five)", "(7,seven)")
			told := map[string]bool{}
			for _, l := range lines(t, db, `SELECT id, xmin FROM t WHERE id IN (1, 5) ORDER BY id`) {
				told[l] = true
			}
			if told[before[0]] || !told[before[1]] {
				t.Errorf("before: %q, after: %v; the first is to be written again, the other not", before, told)
			}
		})
	}
}
