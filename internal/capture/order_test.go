package capture

import (
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestLoadGoesByBytesUnderAnICUCollation(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TABLE t (id text COLLATE "und-x-icu" PRIMARY KEY); INSERT INTO t VALUES ('a'), ('B'), ('A')`, table)
	if err := LoadTable(t.Context(), db.Conn(t), table, nil, nil); err != nil {
		t.Fatal(err)
	}
	_, b := r.frame(t)
	var got string
	for _, row := range b.Txs[0].Changes[0].Range.Rows {
		got += string(row[0])
	}
	if got != "ABa" {
		t.Fatalf("the rows come as %s", got)
	}
}

// Labels that were added one by one may have another order elsewhere.
func TestLoadOfEnumsGoesByTheirText(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TYPE e AS ENUM ('c', 'b', 'a'); CREATE TABLE t (id e PRIMARY KEY); INSERT INTO t VALUES ('a'), ('b'), ('c')`, table)
	if err := LoadTable(t.Context(), db.Conn(t), table, change.Row{[]byte("a")}, nil); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "range public.t after [a] up to [] 2 rows")
}
