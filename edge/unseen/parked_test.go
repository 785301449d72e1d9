package unseen_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
)

const waitingSQL = `SELECT table_name, key->>'id' AS id, op, reason FROM holdfast.parked p WHERE state = 'waiting' ORDER BY p.id`

// untilLines waits until the query gives the lines.
func (s *side) untilLines(sql string, want ...string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := s.lines(sql)
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s:\n got %q\nwant %q", sql, got, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// noneWait waits until nothing is parked, and then until nothing moves.
func (r *rig) noneWait() {
	r.t.Helper()
	r.edge.untilLines(waitingSQL)
	r.region.untilLines(waitingSQL)
	r.rest()
	if !r.equal() {
		r.t.Error("the sides differ")
	}
}

const rowsSQL = `INSERT INTO t (id, v, price, big) SELECT i, 'base', '1', 'b' FROM generate_series(1, 9) i`

func TestARowFromTheRegionThatIsRefusedStopsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{park: true})
	r.edge.tx(rowsSQL, `INSERT INTO u VALUES (1, 'la', 'taken', 'E')`)
	r.rest()
	r.edge.tx(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'bad'); ALTER TABLE m ADD CONSTRAINT strict CHECK (v <> 'bad')`)
	r.region.tx(`UPDATE t SET v = 'bad' WHERE id = 1`, `UPDATE t SET v = 'good' WHERE id = 2`, `INSERT INTO m VALUES (1, 'bad'), (2, 'good')`)
	r.region.tx(`INSERT INTO t VALUES (20, 'la', 'bad', '1', 'b'), (21, 'la', 'good', '1', 'b')`)
	r.region.tx(`UPDATE t SET price = '7' WHERE id = 1`)
	r.region.tx(`UPDATE m SET v = 'better' WHERE id = 2; DELETE FROM t WHERE id = 3`)
	r.downAll(1000)
	r.edge.untilLines(waitingSQL, "(t,1,update,check)", "(m,1,insert,check)", "(t,20,insert,check)", "(t,1,update,behind)")
	if got := fmt.Sprint(r.edge.lines(`SELECT id, v FROM t WHERE id IN (1, 2, 3, 20, 21) ORDER BY id`), r.edge.lines(`SELECT * FROM m`)); got != "[(1,base) (2,good) (21,good)] [(2,better)]" {
		t.Errorf("the rest is %s", got)
	}
	r.mu.Lock()
	if r.stuck != nil {
		t.Errorf("the way down waits: %v", r.stuck)
	}
	r.mu.Unlock()
	if got := fmt.Sprint(r.edge.lines(`SELECT DISTINCT remedy LIKE '%at the facility than in the region%' FROM holdfast.parked WHERE reason = 'check'`)); got != "[(t)]" {
		t.Errorf("the remedy names the wrong side: %s", got)
	}
	// The region corrects one row itself; the others go when the cause does.
	r.region.tx(`UPDATE t SET v = 'mended' WHERE id = 1`)
	r.downAll(1000)
	r.edge.untilLines(waitingSQL, "(m,1,insert,check)", "(t,20,insert,check)")
	if n := r.up(1000); n > 0 {
		t.Errorf("%d frames went back up", n)
	}
	r.edge.tx(`ALTER TABLE t DROP CONSTRAINT strict; ALTER TABLE m DROP CONSTRAINT strict`)
	r.noneWait()
	if got := fmt.Sprint(r.edge.lines(`SELECT id, v, price FROM t WHERE id IN (1, 20) ORDER BY id`), r.edge.lines(`SELECT * FROM m ORDER BY id`)); got != "[(1,mended,7) (20,bad,1)] [(1,bad) (2,better)]" {
		t.Errorf("in the end it is %s", got)
	}
	r.wantConflicts()
}

// What people changed here until a parked change is tried stands against it, and
// what the region made of that in turn does not wait in vain.
func TestAParkedChangeOfTheRegionIsDecidedWhenItIsTried(t *testing.T) {
	t.Parallel()
	for policy, want := range map[apply.Policy]string{apply.PolicyEdge: "[(1,E,1) (2,E,1) (3,C2,1)]", apply.PolicyCloud: "[(1,bad,1) (2,bad,1) (3,C2,1)]"} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, options{park: true, policy: policy})
			r.edge.tx(rowsSQL)
			r.rest()
			r.edge.tx(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'bad')`)
			r.edge.tx(`UPDATE t SET v = 'E' WHERE id = 1`)
			r.region.tx(`UPDATE t SET v = 'bad' WHERE id IN (1, 2, 3)`)
			// Under the policy edge a row that was touched is decided at once.
			r.downAll(1000)
			r.edge.tx(`UPDATE t SET v = 'E' WHERE id IN (2, 3)`)
			r.up(1000)
			r.region.tx(`UPDATE t SET v = 'C2' WHERE id = 3`) // having seen it
			r.downAll(1000)
			r.edge.tx(`ALTER TABLE t DROP CONSTRAINT strict`)
			r.noneWait()
			if got := fmt.Sprint(r.edge.lines(`SELECT id, v, price FROM t WHERE id < 4 ORDER BY id`)); got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
			if got := fmt.Sprint(r.region.lines(`SELECT key->>'id' AS id, kind FROM holdfast.conflict WHERE key->>'id' IN ('1', '2') ORDER BY 1`)); got != "[(1,update_origin_differs) (2,update_origin_differs)]" {
				t.Errorf("conflicts are %s", got)
			}
		})
	}
}

// A row that the region refuses counts as seen all the same. When it is applied
// late, over what the region's people did meanwhile, both sides come to have it.
func TestWhatTheRegionAppliesLateStandsOnBothSides(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{park: true})
	r.edge.tx(rowsSQL)
	r.rest()
	r.region.tx(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'bad') NOT VALID`)
	r.edge.tx(`UPDATE t SET v = 'bad' WHERE id IN (1, 2, 3, 4)`)
	r.edge.tx(`INSERT INTO t VALUES (30, 'la', 'bad', '1', 'b'), (31, 'la', 'bad', '1', 'b')`)
	r.up(1000)
	r.region.untilLines(`SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'`, "(6)")
	r.region.tx(`UPDATE t SET price = '5' WHERE id = 1`, `DELETE FROM t WHERE id = 2`, `INSERT INTO t VALUES (30, 'la', 'C', '9', 'b')`)
	r.rest()
	if got := fmt.Sprint(r.edge.lines(`SELECT id, v, price FROM t WHERE id IN (1, 2, 30) ORDER BY id`)); got != "[(1,base,5) (30,C,9)]" {
		t.Fatalf("the region's changes are not here: %s", got)
	}
	// What people change here meanwhile is no conflict with its own past.
	r.region.db.Exec(t, `ALTER TABLE t DROP CONSTRAINT strict`)
	r.region.untilLines(waitingSQL)
	r.edge.tx(`UPDATE t SET v = 'newer' WHERE id = 3`, `DELETE FROM t WHERE id = 31`)
	r.noneWait()
	if got := fmt.Sprint(r.edge.lines(`SELECT id, v, price FROM t WHERE id IN (1, 2, 3, 4, 30, 31) ORDER BY id`)); got != "[(1,bad,1) (2,bad,1) (3,newer,1) (4,bad,1) (30,bad,1)]" {
		t.Errorf("in the end it is %s", got)
	}
	r.wantConflicts(`(update_origin_differs,edge,1,bad,base,"{v,price}","","")`, `(delete_origin_differs,edge,2,bad,,{},"","")`, `(update_origin_differs,edge,30,bad,C,"{v,price}","","")`)
}

// A correction is a change by whoever made it: it stands on both sides, and what
// the facility had is kept. What was changed there since then, unseen, stands.
func TestACorrectionOfAParkedChangeStandsOnBothSides(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{park: true})
	r.edge.tx(rowsSQL)
	r.rest()
	r.region.tx(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'bad') NOT VALID`)
	r.edge.tx(`UPDATE t SET v = 'bad' WHERE id IN (1, 2, 3)`)
	r.edge.tx(`INSERT INTO t VALUES (30, 'la', 'bad', '1', 'b')`)
	r.up(1000)
	r.region.untilLines(`SELECT count(*) FROM holdfast.parked WHERE state = 'waiting'`, "(4)")
	r.region.tx(`UPDATE t SET price = '5' WHERE id = 2`)
	r.rest()
	// All at once: each is of its own author all the same.
	r.region.tx(`UPDATE holdfast.parked SET row = row || '{"v": "good"}', edited_by = CASE key->>'id' WHEN '1' THEN 'olga' ELSE 'otto' END, tried_at = NULL
		WHERE key->>'id' IN ('1', '3', '30')`)
	r.region.untilLines(waitingSQL, "(t,2,update,check)")
	r.region.db.Exec(t, `ALTER TABLE t DROP CONSTRAINT strict`)
	r.region.untilLines(waitingSQL)
	r.edge.tx(`UPDATE t SET v = 'newer' WHERE id = 3`)
	r.noneWait()
	if got := fmt.Sprint(r.edge.lines(`SELECT id, v, price FROM t WHERE id IN (1, 2, 3, 30) ORDER BY id`)); got != "[(1,good,1) (2,bad,1) (3,newer,1) (30,good,1)]" {
		t.Errorf("in the end it is %s", got)
	}
	r.wantConflicts(`(update_origin_differs,cloud,1,bad,good,{v},"",olga)`, `(update_origin_differs,edge,2,bad,base,"{v,price}","","")`,
		`(update_origin_differs,edge,3,newer,good,{v},"",otto)`, `(update_origin_differs,cloud,30,bad,good,{v},"",otto)`)
	if got := fmt.Sprint(r.region.lines(`SELECT key->>'id' AS id, policy, edge_at IS NULL AS timeless FROM holdfast.conflict ORDER BY 1`)); got != "[(1,corrected,t) (2,edge,f) (3,edge,f) (30,corrected,t)]" {
		t.Errorf("decided by %s", got)
	}
}

// What was sent back by a try that was undone is sent back by the next.
func TestWhatIsSentBackIsSentAlthoughAnotherRowIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{park: true})
	r.edge.tx(`INSERT INTO t (id, v, price, big) VALUES (1, 'base', '1', repeat(md5('a'), 300))`)
	r.rest()
	r.edge.tx(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v <> 'bad')`)
	r.edge.tx(`UPDATE t SET v = 'E' WHERE id = 1`)
	r.region.tx(`DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'la', 'C', '1', repeat(md5('c'), 300)), (9, 'la', 'bad', '1', 'b')`)
	r.downAll(1000)
	r.edge.untilLines(waitingSQL, "(t,9,insert,check)")
	r.edge.tx(`ALTER TABLE t DROP CONSTRAINT strict`)
	r.noneWait()
	if got := r.edge.lines(`SELECT v FROM t WHERE id = 1`); fmt.Sprint(got) != "[(E)]" {
		t.Errorf("the facility has %q", got)
	}
}
