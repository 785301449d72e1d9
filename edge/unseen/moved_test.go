package unseen_test

import (
	"fmt"
	"testing"
)

// A row that got another key here is sent with what changed only: the rest of
// it the region takes from the row that the cloud has changed or deleted.
func TestRowsThatGotAnotherKeyComeToTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{})
	r.edge.tx(`INSERT INTO t (id, v, big) SELECT i, 'base', repeat(md5('base'), 300) FROM generate_series(1, 6) i`)
	r.rest()
	r.edge.tx(`UPDATE t SET id = 11, v = 'E' WHERE id = 1`)
	r.edge.tx(`UPDATE t SET id = 12, v = 'E' WHERE id = 2`, `INSERT INTO t (id, v) VALUES (2, 'E')`, `UPDATE t SET id = 22 WHERE id = 12`)
	r.edge.tx(`UPDATE t SET id = 13, v = 'E' WHERE id = 3`)
	r.edge.tx(`UPDATE t SET id = 14, v = 'E' WHERE id = 4`)
	r.region.tx(`UPDATE t SET big = repeat(md5('cloud'), 300) WHERE id IN (1, 2)`)
	r.region.tx(`DELETE FROM t WHERE id = 3`)
	r.region.tx(`INSERT INTO t (id, v, big) VALUES (14, 'C', repeat(md5('cloud'), 300))`)
	r.downAll(10)
	r.rest()
	if !r.equal() {
		t.Error("the sides differ")
	}
	if got := r.edge.lines(`SELECT id, v FROM t ORDER BY id`); fmt.Sprint(got) != "[(2,E) (5,base) (6,base) (11,E) (13,E) (14,E) (22,E)]" {
		t.Errorf("%q", got)
	}
	r.edge.tx(`UPDATE t SET id = 15, v = 'E' WHERE id = 5`)
	r.region.tx(`TRUNCATE t`)
	r.downAll(10)
	r.rest()
	if !r.equal() {
		t.Error("the sides differ after a truncate")
	}
	if got := r.edge.lines(`SELECT id, v FROM t ORDER BY id`); fmt.Sprint(got) != "[(15,E)]" {
		t.Errorf("%q", got)
	}
}

// What was not sent of a row that got another key in the region is taken from the
// row here, and sent back, because the region takes it from its own. That goes on
// when the row gets yet another key before it was sent back.
func TestARowThatGetsOneKeyAfterTheOtherComesToTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t, options{})
	r.edge.tx(`INSERT INTO t (id, v, big) SELECT i, 'base', repeat(md5('base'), 300) FROM generate_series(1, 2) i`)
	r.rest()
	r.edge.tx(`UPDATE t SET v = 'E', big = repeat(md5('edge'), 300) WHERE id IN (1, 2)`)
	r.region.tx(`UPDATE t SET id = 11 WHERE id = 1`, `UPDATE t SET id = 12 WHERE id = 2`)
	r.region.tx(`UPDATE t SET v = 'C' WHERE id = 11`, `UPDATE t SET id = 21 WHERE id = 11`, `UPDATE t SET id = 31 WHERE id = 21`)
	r.region.tx(`UPDATE t SET id = 22 WHERE id = 12`, `UPDATE t SET v = 'C' WHERE id = 22`)
	r.downAll(10)
	r.rest()
	if !r.equal() {
		t.Errorf("the sides differ: here %q, there %q", r.edge.lines(`SELECT id, v, left(big, 8) FROM t ORDER BY id`), r.region.lines(`SELECT id, v, left(big, 8) FROM t ORDER BY id`))
	}
}
