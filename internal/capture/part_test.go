package capture

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// Where the key begins with the column of the part, a chunk is read from the
// index alone, and one near the end costs what the first does. That the column
// has the order of a language does not matter: it is the same in all rows.
func TestAPartIsReadFromItsBoundOn(t *testing.T) {
	t.Parallel()
	const rows = 60_000
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE part (facility_id text COLLATE "und-x-icu", id int, v text, PRIMARY KEY (facility_id, id))`)
	db.Exec(t, `INSERT INTO part SELECT f, i, 'v' FROM unnest('{fra,la,sf}'::text[]) f, generate_series(1, $1::int) i`, rows)
	db.Exec(t, `VACUUM ANALYZE part`)
	conn := db.Conn(t)
	pages := func(ctx context.Context, tx pgx.Tx, after change.Row) int {
		t.Helper()
		s, err := shapeOf(ctx, tx, Table{Schema: "public", Name: "part"})
		if err == nil {
			err = s.limit(Part{Column: "facility_id", Value: "la"}, after)
		}
		if err != nil || !s.indexed() {
			t.Fatalf("indexed %v, %v", s.indexed(), err)
		}
		sql := "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + s.query(after != nil, chunkRows)
		r := tx.Conn().PgConn().ExecParams(ctx, sql, append(s.bound(after), []byte(s.onlyValue)), nil, nil, nil).Read()
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
				Rows int `json:"Actual Rows"`
			}
		}
		if err := json.Unmarshal(r.Rows[0][0], &plans); err != nil {
			t.Fatal(err)
		}
		if plans[0].Plan.Rows != chunkRows {
			t.Errorf("%d rows after %s", plans[0].Plan.Rows, text(after))
		}
		return plans[0].Plan.Hit + plans[0].Plan.Read
	}
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		at := func(id int) change.Row { return change.Row{[]byte("la"), []byte(strconv.Itoa(id))} }
		first, second, last := pages(t.Context(), tx, nil), pages(t.Context(), tx, at(chunkRows)), pages(t.Context(), tx, at(rows-chunkRows))
		if max(second, last) > first+first/2+20 {
			t.Errorf("the first chunk looks at %d pages, the next at %d, the last at %d", first, second, last)
		}
		// What was sent of another part does not tell where this one is.
		if s, err := shapeOf(t.Context(), tx, Table{Schema: "public", Name: "part"}); err != nil || s.limit(Part{Column: "facility_id", Value: "la"}, change.Row{[]byte("fra"), []byte("9")}) != nil || s.fixed >= 0 {
			t.Errorf("the bound of another part is taken for one of this, %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A range of a box that has all rows of a table says so, in the transaction itself. Who
// sends rows that may not fit a frame hears of it, in the transaction that sends them.
func TestARangeSaysThatTheTableIsWholeOrMayNotFit(t *testing.T) {
	t.Parallel()
	table := Table{Schema: "public", Name: "whole"}
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE whole (id int PRIMARY KEY, v text); INSERT INTO whole VALUES (1, 'a')`)
	r := newRig(t, db, "", table)
	conn, large := db.Conn(t), 0
	part := Part{Whole: true, TooLarge: func(context.Context, pgx.Tx) error { large++; return nil }}
	load := func() {
		t.Helper()
		if err := LoadPart(t.Context(), conn, table, part, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	load()
	_, body := r.frame(t)
	if !body.Txs[0].Whole(2<<32) || body.Txs[0].Changes[0].Op != change.Note || body.Txs[0].Changes[1].Op != change.Range {
		t.Errorf("%+v", body.Txs[0].Changes)
	}
	if large > 0 {
		t.Error("a small row may not fit")
	}
	if err := r.stop(); err == nil {
		t.Error("capture ended without a reason")
	}
	db.Exec(t, `UPDATE whole SET v = repeat('x', $1)`, maxChangePacked)
	load()
	if large != 1 {
		t.Errorf("of a row that may not fit it is heard %d times", large)
	}
}
