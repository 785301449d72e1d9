package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// measured returns what DigestTable would put into the stream.
func measured(t testing.TB, conn *pgx.Conn, table Table, q Question) *change.DigestRecord {
	t.Helper()
	var d *change.DigestRecord
	err := placed(t.Context(), conn, table, func(ctx context.Context, tx pgx.Tx, s *shape) (err error) {
		d, err = s.digest(ctx, tx, q)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// rootOf walks over the whole table in chunks of a size.
func rootOf(t testing.TB, conn *pgx.Conn, table Table, rows, parts int) (root change.Root, count uint64, sum uint64) {
	t.Helper()
	q := Question{Rows: rows, Parts: parts}
	for {
		d := measured(t, conn, table, q)
		root = root.Over(d.Parts...)
		for _, p := range d.Parts {
			count, sum = count+p.Count, sum+p.Sum
		}
		if q.After = d.UpTo(); q.After == nil {
			return root, count, sum
		}
	}
}

const plantSQL = `CREATE TYPE grade AS ENUM ('rough', 'fine');
	CREATE TABLE plant (b int, a text COLLATE "C", n numeric(10,2), note text, at timestamptz, raw bytea, g grade, doc jsonb, PRIMARY KEY (a, b));
	INSERT INTO plant SELECT i % 7, 'part ' || i / 7, i * 1.25, CASE i % 3 WHEN 0 THEN '' WHEN 1 THEN 'n' || i END,
		'2026-01-01'::timestamptz + i * interval '1 minute', decode(lpad(to_hex(i), 8, '0'), 'hex'), CASE WHEN i % 2 = 0 THEN 'rough' ELSE 'fine' END::grade,
		jsonb_build_object('i', i) FROM generate_series(1, 300) i`

func TestAnySingleRowDifferenceChangesTheRoot(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, plantSQL+"; CREATE TABLE sound AS TABLE plant")
	conn, table := db.Conn(t), Table{Schema: "public", Name: "plant"}
	r := rand.New(rand.NewPCG(5, 3))
	for i := range 60 {
		chunk, parts := 20+r.IntN(200), 1+r.IntN(8)
		before, _, _ := rootOf(t, conn, table, chunk, parts)
		n := 1 + r.IntN(300)
		row := fmt.Sprintf("WHERE b = %d AND a = 'part %d'", n%7, n/7)
		other := fmt.Sprintf("(SELECT q FROM plant q WHERE b = %d AND a = 'part %d')", (n+3)%7, (n+3)/7)
		mutations := []string{
			"UPDATE plant SET n = n + 0.01 " + row,
			"UPDATE plant SET at = at + interval '1 microsecond' " + row,
			"UPDATE plant SET note = CASE WHEN note IS NULL THEN '' WHEN note = '' THEN NULL ELSE note || ' ' END " + row,
			"UPDATE plant SET note = NULL, doc = to_jsonb(coalesce(note, '')) " + row,
			"UPDATE plant SET g = CASE g WHEN 'fine' THEN 'rough' ELSE 'fine' END::grade " + row,
			"UPDATE plant SET raw = raw || '\\x00' " + row,
			"UPDATE plant SET b = 10 + b " + row,
			"DELETE FROM plant " + row,
			"INSERT INTO plant SELECT b + 20, a, n, note, at, raw, g, doc FROM plant " + row,
			// Two rows swap a value: neither a count nor a sum of columns would tell.
			"UPDATE plant p SET n = CASE WHEN p.b = " + fmt.Sprint(n%7) + " THEN (" + other + ").n ELSE p.n END " + row,
		}
		m := mutations[i%len(mutations)]
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tag, err := tx.Exec(t.Context(), m)
		if err != nil || tag.RowsAffected() == 0 && n+3 <= 300 {
			t.Fatalf("%s: %d rows, %v", m, tag.RowsAffected(), err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after, _, _ := rootOf(t, conn, table, chunk, parts); after == before && tag.RowsAffected() > 0 {
			t.Errorf("round %d: not seen: %s", i, m)
		}
		db.Exec(t, "DELETE FROM plant; INSERT INTO plant TABLE sound")
	}
}

func TestSwappedValuesAndMovedNullsAreSeen(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, table := db.Conn(t), Table{Schema: "public", Name: "pair"}
	seen := map[change.Root]string{}
	for _, rows := range []string{
		`(1, 'x', NULL), (2, NULL, 'y')`, `(1, NULL, 'x'), (2, NULL, 'y')`, `(1, 'x', NULL), (2, 'y', NULL)`,
		`(1, NULL, 'y'), (2, 'x', NULL)`, `(1, 'x', ''), (2, NULL, 'y')`, `(1, '', 'x'), (2, NULL, 'y')`,
		`(1, 'xy', NULL), (2, NULL, NULL)`, `(1, 'x', 'y'), (2, NULL, NULL)`, `(1, 'y', 'x'), (2, NULL, NULL)`, `(1, NULL, NULL), (2, 'x', 'y')`,
		`(1, 'x,y', NULL), (2, NULL, NULL)`, `(1, 'x', 'NULL'), (2, NULL, NULL)`,
	} {
		db.Exec(t, `DROP TABLE IF EXISTS pair; CREATE TABLE pair (id int PRIMARY KEY, l text, r text); INSERT INTO pair VALUES `+rows)
		root, _, _ := rootOf(t, conn, table, 100, 1)
		if other, there := seen[root]; there {
			t.Errorf("%s and %s have the same root", rows, other)
		}
		seen[root] = rows
	}
	// The order of the columns is no difference.
	first, _, _ := rootOf(t, conn, table, 100, 1)
	db.Exec(t, `DROP TABLE pair; CREATE TABLE pair (r text, id int PRIMARY KEY, l text); INSERT INTO pair (id, l, r) VALUES (1, 'x', 'NULL'), (2, NULL, NULL)`)
	if second, _, _ := rootOf(t, conn, table, 100, 1); second != first {
		t.Error("columns in another order make another root")
	}
}

func TestBoundaryRowsCountOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, plantSQL)
	conn, table := db.Conn(t), Table{Schema: "public", Name: "plant"}
	_, count, sum := rootOf(t, conn, table, 1000, 1)
	if count != 300 {
		t.Fatalf("%d rows of 300", count)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		chunk, parts := 1+r.IntN(70), 1+r.IntN(20)
		if _, n, s := rootOf(t, conn, table, chunk, parts); n != count || s != sum {
			t.Errorf("chunks of %d in %d parts: %d rows of %d, sum %x of %x", chunk, parts, n, count, s, sum)
		}
	}
	// The parts of a listed range are its keys in order, and a range that is
	// asked for again between the same bounds is the same rows.
	whole := measured(t, conn, table, Question{Rows: 1000, List: true})
	for range 20 {
		i := r.IntN(299)
		j := i + 1 + r.IntN(299-i)
		d := measured(t, conn, table, Question{After: whole.Keys[i], UpTo: whole.Keys[j], Rows: 1000, List: true})
		if !slices.Equal(d.Hashes, whole.Hashes[i+1:j+1]) {
			t.Errorf("rows %d to %d: %d of %d", i, j, len(d.Keys), j-i)
		}
	}
}

func TestMendedRowsAreUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "stock"}
	r := newRig(t, db, `CREATE TABLE stock (id int PRIMARY KEY, v text); INSERT INTO stock VALUES (1, NULL), (2, 'two')`, table)
	keys := []change.Row{{[]byte("1")}, {[]byte("2")}, {[]byte("3")}}
	if err := MendRows(t.Context(), db.Conn(t), table, keys); err != nil {
		t.Fatal(err)
	}
	if err := DigestTable(t.Context(), db.Conn(t), table, Question{ID: 4}); err != nil {
		t.Fatal(err)
	}
	// What is nobody's message is left out.
	db.Exec(t, `SELECT pg_logical_emit_message(true, 'holdfast.digest', 'nonsense'), pg_logical_emit_message(true, 'holdfast.mend', 'nonsense')`)
	db.Exec(t, `INSERT INTO stock VALUES (9, 'end')`)
	var ops []change.Op
	for len(ops) < 5 {
		_, b := r.frame(t)
		for _, tx := range b.Txs {
			for i := range tx.Changes {
				ops = append(ops, tx.Changes[i].Op)
			}
		}
	}
	if want := []change.Op{change.Update, change.Update, change.Delete, change.Digest, change.Insert}; !slices.Equal(ops, want) {
		t.Errorf("got %v, want %v", ops, want)
	}
}

// A box's rows have its facility in front of their key. What a question about a few of
// them reads must not grow with the table, and must be those rows, whatever the order
// of the column is and whoever else has rows there.
func TestAQuestionAboutAFewRowsReadsAFewPages(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, table := db.Conn(t), Table{Schema: "public", Name: "box"}
	db.Exec(t, `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	for _, c := range []struct {
		facility, index string
		mine            string // the facility, as it is sent
		few             bool   // pages
	}{
		{`text COLLATE "C"`, "facility, id", "7", true},
		{`text COLLATE "en-x-icu"`, "facility, id", "7", true},
		{`char(3) COLLATE "C"`, "facility, id", "7  ", true},
		{"int", "facility, id", "7", true},
		{"int", "id, facility", "7", false},
		{"text COLLATE loose", "facility, id", "7", false},
	} {
		db.Exec(t, `DROP TABLE IF EXISTS box; CREATE TABLE box (facility `+c.facility+`, id int, v text, PRIMARY KEY (`+c.index+`));
			INSERT INTO box SELECT '7', i, 'part ' || i FROM generate_series(1, 30000) i; ANALYZE box`)
		key := func(facility string, id int) change.Row {
			if facility == "7" {
				facility = c.mine
			}
			return change.Row{[]byte(facility), []byte(fmt.Sprint(id))}
		}
		rows := func(after, upTo change.Row, want int) (q Question) {
			t.Helper()
			q = Question{After: after, UpTo: upTo, Rows: 60, List: true} // fewer than are read in any case
			if n := len(measured(t, conn, table, q).Keys); n != want {
				t.Errorf("%s by %s: %d rows of %d from %s to %s", c.facility, c.index, n, want, after, upTo)
			}
			return q
		}
		for _, q := range []Question{
			rows(key("7", 100), key("7", 150), 50),
			rows(nil, key("7", 50), 50),
			rows(key("7", 100), nil, 60),
			rows(key("7", 29950), key("7", 40000), 50),
		} {
			if pages := pagesRead(t, conn, table, q, c.mine); c.few && pages > 30 {
				t.Errorf("%s by %s: %d pages from %s to %s", c.facility, c.index, pages, q.After, q.UpTo)
			}
		}
		// Nothing but what all rows have in common may be left out of the bounds.
		rows(key("6", 40000), nil, 60)
		rows(key("7", 40000), nil, 0)
		rows(nil, key("6", 5), 0)
		rows(key("6", 5), key("8", 5), 60)
		rows(key("7", 100), key("8", 5), 60)
		if c.facility == "text COLLATE loose" { // X is x for the index, and comes before it on the way
			db.Exec(t, `TRUNCATE box; INSERT INTO box SELECT CASE WHEN i > 100 THEN 'X' ELSE 'x' END, i, '' FROM generate_series(1, 200) i`)
			rows(key("x", 50), nil, 50)
			continue
		}
		db.Exec(t, `INSERT INTO box VALUES ('6', 1, 'theirs'), ('8', 120, 'theirs')`)
		rows(key("7", 29950), nil, 51)
		rows(key("7", 29950), key("8", 119), 50)
		rows(nil, key("7", 50), 51)
		rows(nil, key("6", 5), 1)
	}
}

// pagesRead is how many pages of the server's memory the question's statements read.
func pagesRead(t *testing.T, conn *pgx.Conn, table Table, q Question, value string) (pages int) {
	t.Helper()
	read := func(ctx context.Context, tx pgx.Tx, sql string, params [][]byte) error {
		n, err := pgtest.Pages(ctx, tx.Conn().PgConn(), sql, params, nil)
		pages += n
		return err
	}
	err := placed(t.Context(), conn, table, func(ctx context.Context, tx pgx.Tx, s *shape) error {
		if err := s.fix(ctx, tx, q); err != nil {
			return err
		}
		sql, params := s.hashQuery(q)
		return errors.Join(read(ctx, tx, sql, params), read(ctx, tx, s.uniformSQL(), s.uniformParams([]byte(value))))
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}
