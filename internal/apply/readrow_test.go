package apply

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

func text(s string) *string { return &s }

func sameText(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// inTx runs fn in a transaction that is rolled back, as fn leaves it.
func inTx(t *testing.T, db *pgtest.DB, table string, fn func(ctx context.Context, tx pgx.Tx, l *Layout)) {
	t.Helper()
	ctx := context.Background()
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // the end of the test, whatever happened
	l, err := ReadLayout(ctx, tx, "public", table)
	if err != nil {
		t.Fatal(err)
	}
	fn(ctx, tx, l)
}

func TestARowOfEveryKindIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `SET datestyle = 'German'; SET timezone = 'Asia/Kolkata';
		CREATE TYPE flute AS ENUM ('B', 'E "wide"');
		CREATE TABLE boxes (id bigint GENERATED ALWAYS AS IDENTITY, "Key "" of" char(6), yes boolean, price numeric(10,2), ratio double precision,
			at timestamptz, day date, took interval, raw bytea, doc jsonb, plain json, tags text[], kind flute, note varchar(8), double numeric GENERATED ALWAYS AS (price * 2) STORED,
			PRIMARY KEY (id, "Key "" of"));
		INSERT INTO boxes ("Key "" of", yes, price, ratio, at, day, took, raw, doc, plain, tags, kind, note)
		VALUES ('ab', true, 12.50, 0.1, '2026-11-26 17:02:00.123456+00', '2026-11-26', '1 day 02:03:04', '\x00ff', '{"a": [1, null]}', '{"a":  1}', '{a,"b c",NULL}', 'E "wide"', '')`)
	key := Image{"id": text("1"), `Key " of`: text("ab")}
	inTx(t, db, "boxes", func(ctx context.Context, tx pgx.Tx, l *Layout) {
		row, err := l.ReadRow(ctx, tx, key, true)
		if err != nil || row == nil {
			t.Fatal(row, err)
		}
		for column, want := range map[string]string{"yes": "t", "at": "2026-11-26 17:02:00.123456+00", "day": "2026-11-26", "raw": `\x00ff`, "note": "", `Key " of`: "ab    ", "double": "25.00"} {
			if row[column] == nil || *row[column] != want {
				t.Errorf("%s is %v, want %q", column, row[column], want)
			}
		}
		if same, err := l.Normalize(ctx, tx, row); err != nil || !maps.EqualFunc(row, same, sameText) {
			t.Errorf("as the table keeps it: %v, %v", same, err)
		}
		if n, err := l.Normalize(ctx, tx, Image{"price": text("12.5"), "yes": text("true"), "gone": text("1")}); err != nil || *n["price"] != "12.50" || *n["yes"] != "t" || len(n) != 2 {
			t.Errorf("another writing of the same values: %v, %v", n, err)
		}
		write := func(image Image) {
			t.Helper()
			if written, err := WriteRow(ctx, tx, "public", "boxes", l.Key(key, []string{"id", `Key " of`}, ""), image); err != nil || !written {
				t.Fatal(written, err)
			}
		}
		write(nil)
		if gone, err := l.ReadRow(ctx, tx, key, false); gone != nil || err != nil {
			t.Fatalf("deleted: %v, %v", gone, err)
		}
		rest := maps.Clone(row)
		maps.DeleteFunc(rest, func(c string, _ *string) bool { _, ok := key[c]; return ok })
		write(rest)
		if again, err := l.ReadRow(ctx, tx, key, false); err != nil || !maps.EqualFunc(row, again, sameText) {
			t.Errorf("came back as %v, %v; was %v", again, err, row)
		}
		write(Image{"price": text("3"), "note": nil})
		if after, err := l.ReadRow(ctx, tx, key, false); err != nil || *after["double"] != "6.00" || after["note"] != nil || *after["yes"] != "t" {
			t.Errorf("after an update of two columns: %v, %v", after, err)
		}
	})
}

func TestARowIsNeverGuessed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE boxes (facility text, id int, lot int NOT NULL, PRIMARY KEY (facility, id)); INSERT INTO boxes VALUES ('la', 1, 7), ('la', 2, 7)`)
	inTx(t, db, "boxes", func(ctx context.Context, tx pgx.Tx, l *Layout) {
		for name, key := range map[string]Image{
			"no key":                              {},
			"a key of a column that is not there": {"number": text("1")},
			"a key of NULL":                       {"id": nil},
			"a key of several rows":               {"lot": text("7")},
		} {
			if row, err := l.ReadRow(ctx, tx, key, false); !errors.Is(err, ErrImage) {
				t.Errorf("%s: %v, %v", name, row, err)
			}
		}
		image := Image{"facility": text("la"), "id": text("1"), "lot": text("7")}
		if key := l.Key(image, []string{"id"}, "facility"); len(key) != 2 || *key["facility"] != "la" || *key["id"] != "1" {
			t.Errorf("the key in the region is %v", key)
		}
	})
	tx, err := db.Conn(t).Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLayout(context.Background(), tx, "public", "nothing"); !errors.Is(err, ErrNoTable) {
		t.Errorf("a table that is not there: %v", err)
	}
}
