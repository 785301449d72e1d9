package ddl

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
)

// Each recipe is carried out, step by step on its side, in two real databases
// with rows in them: both end with the table that the statement wanted.
func TestRecipesReachTheirEnd(t *testing.T) {
	t.Parallel()
	region, facility := pgtest.New(t), pgtest.New(t)
	sides := map[string][]*pgtest.DB{Region: {region}, Facilities: {facility}, Both: {region, facility}}
	for _, c := range []struct {
		sql  string
		fill string // what a person puts in the place of DEFAULT
		want string // columns in the end
	}{
		{sql: "ALTER TABLE orders DROP COLUMN note", want: "id uuid, facility_id text, n integer, code character varying(20)"},
		{sql: "ALTER TABLE orders ALTER note SET NOT NULL", fill: "''", want: "id uuid, facility_id text, n integer, code character varying(20), note text!"},
		{sql: "ALTER TABLE orders ADD a integer NOT NULL", fill: "7", want: "id uuid, facility_id text, n integer, code character varying(20), note text, a integer!"},
		{sql: "ALTER TABLE orders ADD a timestamptz DEFAULT now()", want: "id uuid, facility_id text, n integer, code character varying(20), note text, a timestamp with time zone"},
		{sql: "ALTER TABLE orders ADD a bigserial", want: "id uuid, facility_id text, n integer, code character varying(20), note text, a bigint"},
		{sql: "ALTER TABLE orders ALTER code TYPE varchar(5)", want: "id uuid, facility_id text, n integer, code character varying(5), note text"},
		{sql: "ALTER TABLE orders ALTER n TYPE text", want: "id uuid, facility_id text, code character varying(20), note text, n_new text"},
		{sql: "ALTER TABLE orders RENAME n TO amount", want: "id uuid, facility_id text, code character varying(20), note text, amount int4"},
		{sql: "CREATE UNIQUE INDEX ON orders (code)", want: "id uuid, facility_id text, n integer, code character varying(20), note text"},
		{sql: "ALTER TABLE orders ADD CHECK (n > 0)", want: "id uuid, facility_id text, n integer, code character varying(20), note text"},
		{sql: "ALTER TABLE orders RENAME TO purchases", want: "id uuid, facility_id text, n integer, code character varying(20), note text"},
		{sql: "DROP TABLE orders"},
	} {
		for _, db := range sides[Both] {
			db.Exec(t, `DROP VIEW IF EXISTS purchases; DROP TABLE IF EXISTS orders;
				CREATE TABLE orders (id uuid PRIMARY KEY, facility_id text NOT NULL, n integer, code varchar(20), note text);
				INSERT INTO orders SELECT gen_random_uuid(), 'la', i, 'c' || i FROM generate_series(1, 10) i`)
		}
		known := map[string]Table{"public.orders": {Class: "fact", FacilityColumn: "facility_id", Types: map[string]string{"n": "integer", "code": "character varying(20)", "note": "text"}}}
		found, err := New(known, false).Check(c.sql)
		if err != nil || len(found) != 1 || found[0].Verdict != Unsafe {
			t.Fatalf("%s: %+v, %v", c.sql, found, err)
		}
		for i, step := range found[0].Recipe {
			if c.fill != "" {
				step.SQL = strings.ReplaceAll(step.SQL, "= DEFAULT", "= "+c.fill)
			}
			where := sides[step.Where]
			if strings.HasPrefix(step.SQL, "UPDATE") {
				where = sides[Both] // rows are synced
			}
			for _, db := range where {
				if step.SQL == "" {
					continue
				}
				if _, err := db.Conn(t).Exec(t.Context(), step.SQL); err != nil {
					t.Errorf("%s: step %d (%s) %s: %v", c.sql, i+1, step.Where, step.SQL, err)
				}
			}
		}
		for side, dbs := range map[string]*pgtest.DB{Region: region, Facilities: facility} {
			table, err := schema.Read(t.Context(), dbs.Conn(t), "public", "orders")
			var got []string
			if err == nil {
				for _, col := range table.Columns {
					text := col.Name + " " + col.FullType
					if col.NotNull && col.Name != "id" && col.Name != "facility_id" {
						text += "!"
					}
					got = append(got, text)
				}
			}
			want := strings.ReplaceAll(c.want, "int4", "integer")
			if strings.Join(got, ", ") != want {
				t.Errorf("%s at the %s: %s, want %s", c.sql, side, strings.Join(got, ", "), want)
			}
		}
	}
}
