package apply

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestARowIsRestoredFromItsImage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TYPE mood AS ENUM ('good', 'so so');
		CREATE TABLE t (a int, "b'\" text, doc jsonb, raw bytea, at timestamptz, m mood, list text[], kept text DEFAULT 'default',
			twice int GENERATED ALWAYS AS (a * 2) STORED, no int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (a, "b'\"))`)
	ctx := context.Background()
	conn := db.Conn(t)
	text := func(s string) *string { return &s }
	write := func(key, image Image) (written bool, err error) {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			written, err = WriteRow(ctx, tx, "public", "t", key, image)
			return err
		})
		return written, err
	}
	key := Image{"a": text("1"), `b'\`: text(`x'\`)}
	image := Image{
		"a": text("1"), `b'\`: text(`x'\`), "doc": text(`{"a": "$1"}`), "raw": text(`\x00ff`), "at": text("2026-01-02 03:04:05.6+00"),
		"m": text("so so"), "list": text(`{a,"b c",NULL}`), "no": text("77"), "twice": text("2"),
	}
	const sql = `SELECT a, "b'\", doc->>'a', raw, at = '2026-01-02 03:04:05.6+00', m, list[2], kept, twice, no FROM t`
	for _, c := range []struct {
		image Image
		want  []string
	}{
		{image, []string{`(1,"x'\\",$1,"\\x00ff",t,"so so","b c",default,2,77)`}},
		{Image{"m": nil, "kept": text("mine")}, []string{`(1,"x'\\",$1,"\\x00ff",t,,"b c",mine,2,77)`}},
		{Image{}, []string{`(1,"x'\\",$1,"\\x00ff",t,,"b c",mine,2,77)`}},
		{nil, nil},
	} {
		if written, err := write(key, c.image); err != nil || !written {
			t.Fatalf("%v: written %v, %v", c.image, written, err)
		}
		wantLines(t, db, sql, c.want...)
	}
	if written, err := write(key, nil); err != nil || written {
		t.Errorf("deleted what is not there: %v, %v", written, err)
	}
	for _, c := range []struct{ key, image Image }{
		{Image{"a": text("1")}, Image{}},
		{Image{}, Image{}},
		{key, Image{"a": text("2")}},
		{key, Image{"gone": text("2")}},
		{Image{"a": nil, `b'\`: text("x")}, nil},
	} {
		if _, err := write(c.key, c.image); !errors.Is(err, ErrImage) {
			t.Errorf("%v of %v: %v", c.image, c.key, err)
		}
	}
}
