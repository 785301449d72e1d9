package unseen_test

import (
	"fmt"
	"testing"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
)

// The region tells facilities apart by a key that the box does not need.
func TestTheRegionsKeyMayHaveTheFacilityBesideIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{policy: apply.PolicyCloud})
	const sql = `SELECT id, code, v FROM u ORDER BY id`
	same := func(want string) {
		t.Helper()
		r.rest()
		e, c := fmt.Sprint(r.edge.lines(sql)), fmt.Sprint(r.region.lines(sql))
		if e != want || c != want {
			t.Fatalf("edge %s, region %s, want %s", e, c, want)
		}
	}
	r.edge.tx(`INSERT INTO u (id, code, v) SELECT i, 'c' || i, 'base' FROM generate_series(1, 6) i`)
	r.rest()
	r.region.tx(`UPDATE u SET v = 'C' WHERE id = 1; DELETE FROM u WHERE id = 2; UPDATE u SET id = 20 WHERE id = 3; INSERT INTO u (id, code, v) VALUES (30, 'c30', 'C')`)
	same("[(1,c1,C) (4,c4,base) (5,c5,base) (6,c6,base) (20,c3,base) (30,c30,C)]")
	// In conflict: the cloud's version is sent back by the box's key.
	r.edge.tx(`UPDATE u SET v = 'E' WHERE id IN (4, 5); DELETE FROM u WHERE id = 6`)
	r.region.tx(`UPDATE u SET v = 'C' WHERE id = 4; DELETE FROM u WHERE id = 5; UPDATE u SET v = 'C' WHERE id = 6`)
	r.downAll(10)
	same("[(1,c1,C) (4,c4,C) (6,c6,C) (20,c3,base) (30,c30,C)]")
	// A range whose unique values have changed places since.
	r.edge.db.Exec(t, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', 'down la 1:1');
		UPDATE u SET code = 'x' WHERE id = 1; UPDATE u SET code = 'c1' WHERE id = 4; UPDATE u SET code = 'y' WHERE id = 30; UPDATE u SET code = 'c30' WHERE id = 6; COMMIT`)
	if err := capture.LoadTable(t.Context(), r.region.db.Conn(t), capture.Table{Schema: "public", Name: "u"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	same("[(1,c1,C) (4,c4,C) (6,c6,C) (20,c3,base) (30,c30,C)]")
}
