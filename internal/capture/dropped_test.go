package capture

import (
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// The server reads the WAL with the catalog of its time: making the publication
// again does not help.
func TestDroppedPublicationIsAGap(t *testing.T) {
	t.Parallel()
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, pgtest.New(t), `CREATE TABLE t (id int PRIMARY KEY)`, table)
	r.db.Exec(t, `INSERT INTO t VALUES (1)`)
	r.expect(t, "insert public.t (1)")
	if err := r.stop(); err == nil {
		t.Fatal("capture ended")
	}
	r.db.Exec(t, `DROP PUBLICATION `+Publication)
	r.db.Exec(t, `INSERT INTO t VALUES (2)`)
	r.publish(t, table)
	r.start(t)
	err := <-r.done
	r.done <- err
	wantGap(t, err)
}

// What was written before a type was dropped still arrives.
func TestColumnOfADroppedTypeIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t), `CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, e e)`, Table{Schema: "public", Name: "t"})
	if err := r.stop(); err == nil {
		t.Fatal("capture ended")
	}
	r.db.Exec(t, `INSERT INTO t VALUES (1, 'a')`)
	r.db.Exec(t, `DROP TYPE e CASCADE`)
	r.start(t)
	_, b := r.frame(t)
	if got := b.Tables[0].Columns[1].Type; got != change.UnknownType || text(b.Txs[0].Changes[0].Row) != "1|a" {
		t.Fatalf("type %s, %s", got, line(b, &b.Txs[0].Changes[0]))
	}
}
