package schema_test

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

func TestEqualNumbersOnBothSidesAreSaid(t *testing.T) {
	t.Parallel()
	for ddl, want := range map[string]string{
		`CREATE TABLE t (id serial PRIMARY KEY)`:                                                     `ALTER SEQUENCE "public"."t_id_seq"`,
		`CREATE TABLE t (a int, id int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (a, id))`:           `id of public.t`,
		`CREATE SEQUENCE "S q"; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('"S q"'))`:        `"public"."S q"`,
		`CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE s OWNED BY t.id`:                       `"public"."s"`,
		`CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (START 2 INCREMENT 2) PRIMARY KEY)`:     ``,
		`CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (MINVALUE 1000000000) PRIMARY KEY)`:     ``,
		`CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n serial)`:                   ``,
		`CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY, CHECK (id > 0))`:                     ``,
		`CREATE TABLE t (id bigserial, d int, PRIMARY KEY (id)); CREATE INDEX ON t (id)`:             `id of public.t`,
		`CREATE TABLE t (id serial, at int, PRIMARY KEY (at, id)) PARTITION BY LIST (at)`:            `id of public.t`,
		`CREATE SEQUENCE s; CREATE TABLE t (id text PRIMARY KEY DEFAULT 'A-' || nextval('s')::text)`: `"public"."s"`,
	} {
		db := pgtest.New(t)
		db.Exec(t, ddl)
		table, err := schema.Read(t.Context(), db.Conn(t), "public", "t")
		if err != nil {
			t.Fatalf("%s: %v", ddl, err)
		}
		got := schema.SameNumbers(table, proto.SyncedTable{Schema: "public", Name: "t", Class: "fact"})
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0].Text+got[0].Remedy, want)) {
			t.Errorf("%s: %+v, want %q", ddl, got, want)
		}
		if got := schema.SameNumbers(table, proto.SyncedTable{Schema: "public", Name: "t", Class: "event"}); len(got) > 0 {
			t.Errorf("one side adds rows: %+v", got)
		}
	}
}
