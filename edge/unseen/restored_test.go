package unseen_test

import (
	"fmt"
	"testing"

	"github.com/agogsaas/holdfast/internal/capture"
)

// The rows of a box whose database was put back become what the region's key
// ranges say, save what people changed since then.
func TestADatabaseThatWasPutBackFollowsTheRegionsRanges(t *testing.T) {
	t.Parallel()
	for whole, want := range map[bool]string{
		true:  "[(1,new) (2,new) (3,E) (4,E) (5,strict)]",
		false: "[(1,new) (2,new) (3,E) (4,E) (5,strict) (9,old)]",
	} {
		t.Run(fmt.Sprint("whole ", whole), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, options{restored: true, whole: whole, park: true})
			r.edge.tx(`INSERT INTO t (id, v) SELECT i, 'new' FROM generate_series(1, 3) i`, `INSERT INTO t (id, v) VALUES (5, 'strict')`)
			r.rest()
			// What the backup has, which nobody captures.
			r.edge.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'down la 1:1');
				UPDATE t SET v = 'old' WHERE id IN (1, 3); DELETE FROM t WHERE id IN (2, 5); INSERT INTO t (id, v) VALUES (9, 'old'); COMMIT`)
			r.edge.tx(`UPDATE t SET v = 'E' WHERE id = 3`, `INSERT INTO t (id, v) VALUES (4, 'E')`)
			// A row that is refused has the others applied one by one.
			r.edge.db.Exec(t, `ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'strict') NOT VALID`)
			if err := capture.LoadTable(t.Context(), r.region.db.Conn(t), capture.Table{Schema: "public", Name: "t"}, nil, nil); err != nil {
				t.Fatal(err)
			}
			r.downAll(1000)
			r.edge.untilLines(waitingSQL, "(t,5,insert,check)")
			r.edge.db.Exec(t, `ALTER TABLE t DROP CONSTRAINT strict`)
			r.edge.untilLines(waitingSQL)
			r.rest()
			if got := fmt.Sprint(r.edge.lines(`SELECT id, v FROM t ORDER BY id`)); got != want {
				t.Errorf("the box has %s, want %s", got, want)
			}
			conflicts := []string{"(3,update_origin_differs,edge,E,new)"}
			if !whole {
				conflicts = append([]string{"(1,update_origin_differs,cloud,old,new)"}, conflicts...)
			}
			got := r.region.lines(`SELECT key->>'id' AS id, kind, decision, edge_row->>'v' AS e, cloud_row->>'v' AS c FROM holdfast.conflict ORDER BY 1`)
			if fmt.Sprint(got) != fmt.Sprint(conflicts) {
				t.Errorf("conflicts are %s, want %s", got, conflicts)
			}
		})
	}
}
