package compare_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/compare"
)

func TestEqualRowsAreEqualWhateverTheirOrderAndColumns(t *testing.T) {
	t.Parallel()
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec(t, `CREATE TABLE "Odd Name" (id int, at timestamptz, "Wört" text, f float8, gone int, PRIMARY KEY (at, id));
		ALTER TABLE "Odd Name" DROP COLUMN gone;
		INSERT INTO "Odd Name" SELECT i, '2026-01-01 00:00+00', 'x' || i, i / 3.0 FROM generate_series(1, 500) i`)
	b.Exec(t, `ALTER DATABASE `+b.Name+` SET timezone = 'Asia/Kolkata';
		CREATE TABLE "Odd Name" ("Wört" text, f float8, at timestamptz, id int, PRIMARY KEY (at, id))`)
	b.Exec(t, `INSERT INTO "Odd Name" SELECT 'x' || i, i / 3.0, '2026-01-01 05:30+05:30', i FROM generate_series(500, 1, -1) i`)
	tables, err := compare.UserTables(t.Context(), a.Conn(t), "public")
	if err != nil || len(tables) != 1 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	if err := compare.Tables(t.Context(), a.Pool(t), b.Pool(t), tables...); err != nil {
		t.Fatal(err)
	}
}

func TestEachKindOfDifferenceIsShown(t *testing.T) {
	t.Parallel()
	a, b := pgtest.New(t), pgtest.New(t)
	for _, db := range []*pgtest.DB{a, b} {
		db.Exec(t, `CREATE TABLE orders (id int PRIMARY KEY, state text, seen int DEFAULT 0);
			INSERT INTO orders SELECT i, 'open' FROM generate_series(1, 100) i`)
	}
	a.Exec(t, `DELETE FROM orders WHERE id = 10; UPDATE orders SET state = NULL WHERE id = 20; UPDATE orders SET seen = 1`)
	b.Exec(t, `DELETE FROM orders WHERE id = 30`)
	err := compare.Tables(t.Context(), a.Conn(t), b.Conn(t), compare.Table{Schema: "public", Name: "orders", Ignore: []string{"seen"}})
	d, ok := errors.AsType[*compare.DifferentError](err)
	if !ok || len(d.Tables) != 1 || len(d.Tables[0].First) != 3 || d.Tables[0].RowsA != 99 {
		t.Fatalf("%v", err)
	}
	want := []compare.Row{{Key: "(10)", B: "(10,open)"}, {Key: "(20)", A: "(20,)", B: "(20,open)"}, {Key: "(30)", A: "(30,open)"}}
	for i, r := range d.Tables[0].First {
		if r != want[i] {
			t.Errorf("row %d: %+v, want %+v", i, r, want[i])
		}
	}
	if !strings.Contains(err.Error(), "has no such row") {
		t.Errorf("message: %v", err)
	}
}

func TestRowsWithoutAKeyAreCounted(t *testing.T) {
	t.Parallel()
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec(t, `CREATE TABLE log (line text); INSERT INTO log VALUES ('same'), ('same')`)
	b.Exec(t, `CREATE TABLE log (line text); INSERT INTO log VALUES ('same')`)
	table := compare.Table{Schema: "public", Name: "log"}
	if err := compare.Tables(t.Context(), a.Conn(t), b.Conn(t), table); err == nil {
		t.Fatal("a row that came twice was not noticed")
	}
}

func TestAMissingTableIsADifference(t *testing.T) {
	t.Parallel()
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec(t, `CREATE TABLE only_a (id int)`)
	err := compare.Tables(t.Context(), a.Conn(t), b.Conn(t), compare.Table{Schema: "public", Name: "only_a"})
	if _, ok := errors.AsType[*compare.DifferentError](err); !ok {
		t.Fatalf("%v", err)
	}
	err = compare.Tables(t.Context(), a.Conn(t), b.Conn(t), compare.Table{Schema: "public", Name: "nowhere"})
	if err == nil {
		t.Fatal("a table that neither has was passed as equal")
	}
}
