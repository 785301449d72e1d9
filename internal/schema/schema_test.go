package schema_test

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

func TestUnsuitableTablesAreRefusedWithReasonAndRemedy(t *testing.T) {
	t.Parallel()
	const own = "{facility}_{schema}"
	for _, tc := range []struct {
		name, ddl string
		table     proto.SyncedTable // Name t, Class fact, FacilityColumn facility_id unless said
		text      string            // "" is suitable
		remedy    string
	}{
		{name: "uuid key", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL)`},
		{name: "facility in the key", ddl: `CREATE TABLE t (id int, facility_id varchar(63), PRIMARY KEY (facility_id, id))`},
		{name: "domain as facility", ddl: `CREATE DOMAIN fac AS text; CREATE TABLE t (id uuid PRIMARY KEY, facility_id fac NOT NULL)`},
		{name: "enum as facility", ddl: `CREATE TYPE fac AS ENUM ('la'); CREATE TABLE t (id uuid PRIMARY KEY, facility_id fac NOT NULL)`},
		{name: "random text key", ddl: `CREATE TABLE t (id text PRIMARY KEY DEFAULT gen_random_uuid()::text, facility_id text NOT NULL)`},
		{name: "partitioned", ddl: `CREATE TABLE t (id uuid, facility_id text NOT NULL, PRIMARY KEY (id)) PARTITION BY HASH (id)`},
		{name: "own schema", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: proto.SyncedTable{RegionSchema: own}},
		{name: "event without key", ddl: `CREATE TABLE t (tid int, facility_id text NOT NULL)`, table: proto.SyncedTable{Class: "event"}},
		{
			name: "event with replica identity nothing", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL); ALTER TABLE t REPLICA IDENTITY NOTHING`,
			table: proto.SyncedTable{Class: "event"},
		},
		{name: "every built-in type", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL, a int[], b jsonb, c int4range, d int4multirange, e money, f xml, g tsvector, h oid, i bytea)`},

		{name: "missing", ddl: ``, text: "there is no table public.t in the facility's database", remedy: "Create it"},
		{name: "wrong case", ddl: `CREATE TABLE "T" (id int)`, text: "there is no table", remedy: "upper case counts"},
		{name: "no key", ddl: `CREATE TABLE t (facility_id text NOT NULL)`, text: "has no primary key", remedy: `ALTER TABLE "public"."t" ADD PRIMARY KEY (…); or register it as event`},
		{name: "unique but not primary", ddl: `CREATE TABLE t (id uuid NOT NULL UNIQUE, facility_id text NOT NULL)`, text: "has no primary key", remedy: "ADD PRIMARY KEY"},
		{name: "deferrable key", ddl: `CREATE TABLE t (id uuid PRIMARY KEY DEFERRABLE, facility_id text NOT NULL)`, text: "deferrable", remedy: "NOT DEFERRABLE"},
		{
			name: "identity nothing", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL); ALTER TABLE t REPLICA IDENTITY NOTHING`,
			text: "REPLICA IDENTITY NOTHING", remedy: "REPLICA IDENTITY DEFAULT;",
		},
		{name: "identity lost", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL, k uuid NOT NULL); CREATE UNIQUE INDEX t_k ON t (k);
			ALTER TABLE t REPLICA IDENTITY USING INDEX t_k; DROP INDEX t_k`, text: "was dropped", remedy: "REPLICA IDENTITY DEFAULT;"},
		{name: "view", ddl: `CREATE VIEW t AS SELECT 1 AS id`, text: "is a view", remedy: "Register the tables"},
		{name: "materialized view", ddl: `CREATE MATERIALIZED VIEW t AS SELECT 1 AS id`, text: "is a view", remedy: "Register the tables"},
		{name: "foreign table", ddl: `CREATE EXTENSION IF NOT EXISTS file_fdw; CREATE SERVER IF NOT EXISTS f FOREIGN DATA WRAPPER file_fdw;
			CREATE FOREIGN TABLE t (id int) SERVER f OPTIONS (filename '/dev/null')`, text: "is a foreign table", remedy: "where its rows are stored"},
		{name: "sequence", ddl: `CREATE SEQUENCE t`, text: "is not a table", remedy: "ordinary or a partitioned"},
		{name: "unlogged", ddl: `CREATE UNLOGGED TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL)`, text: "is unlogged", remedy: "SET LOGGED"},
		{name: "partition", ddl: `CREATE TABLE root (id uuid PRIMARY KEY, facility_id text NOT NULL) PARTITION BY HASH (id);
			CREATE TABLE t PARTITION OF root FOR VALUES WITH (MODULUS 1, REMAINDER 0)`, text: "is a partition", remedy: "Register the partitioned table public.root"},
		{
			name: "inherited", ddl: `CREATE TABLE parent (id uuid PRIMARY KEY, facility_id text NOT NULL); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (parent)`,
			text: "inheritance tree", remedy: "NO INHERIT",
		},
		{
			name: "inherited from", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL); CREATE TABLE child () INHERITS (t)`,
			text: "inheritance tree", remedy: "NO INHERIT",
		},
		{name: "system", table: proto.SyncedTable{Schema: "pg_catalog", Name: "pg_class"}, text: "belongs to PostgreSQL", remedy: "own tables"},
		{name: "ours", ddl: `CREATE SCHEMA holdfast; CREATE TABLE holdfast.t (id uuid PRIMARY KEY)`, table: proto.SyncedTable{Schema: "holdfast"}, text: "belongs to Holdfast", remedy: "own tables"},
		{name: "no facility column", ddl: `CREATE TABLE t (id uuid PRIMARY KEY)`, text: "has no column facility_id", remedy: `ADD "facility_id" text NOT NULL`},
		{name: "facility column not named", ddl: `CREATE TABLE t (id uuid PRIMARY KEY)`, table: proto.SyncedTable{FacilityColumn: "-"}, text: "no column says", remedy: "--facility-column"},
		{name: "facility may be null", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text)`, text: "may be NULL", remedy: "SET NOT NULL"},
		{name: "facility is a number", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id int NOT NULL)`, text: "cannot hold a facility's name", remedy: "Use text"},
		{name: "facility is generated", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL GENERATED ALWAYS AS ('la') STORED)`, text: "is generated", remedy: "ordinary column"},
		{name: "integer key", ddl: `CREATE TABLE t (id bigserial PRIMARY KEY, facility_id text NOT NULL)`, text: "same key (id)", remedy: "Put facility_id into the primary key"},
		{name: "natural key", ddl: `CREATE TABLE t (sku text PRIMARY KEY, facility_id text NOT NULL)`, text: "same key (sku)", remedy: "{facility}_{schema}"},
		{
			name: "generated key", ddl: `CREATE TABLE t (id uuid, facility_id text NOT NULL, k text GENERATED ALWAYS AS (facility_id || 'x') STORED, PRIMARY KEY (id, k))`,
			text: "contains the generated column k", remedy: "stored columns",
		},
		{
			name: "extension's type as key", ddl: `CREATE EXTENSION citext; CREATE TABLE t (id citext, facility_id text NOT NULL, PRIMARY KEY (id, facility_id))`,
			text: "has type public.citext, whose order may differ", remedy: "own types",
		},
		{name: "extension's type elsewhere", ddl: `CREATE EXTENSION citext; CREATE TABLE t (id uuid PRIMARY KEY, facility_id citext NOT NULL)`},
		{name: "enum as key", ddl: `CREATE TYPE e AS ENUM ('x'); CREATE TABLE t (id e, facility_id text NOT NULL, PRIMARY KEY (id, facility_id))`},
		{name: "transaction ids", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL, x xid)`, text: "mean nothing in another database", remedy: "text or bigint"},
		{name: "no class", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL)`, table: proto.SyncedTable{Class: "local"}, text: `"local" is no class`, remedy: "fact, event or master"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if tc.ddl != "" {
				db.Exec(t, tc.ddl)
			}
			s := tc.table
			if s.Schema == "" {
				s.Schema = "public"
			}
			if s.Name == "" {
				s.Name = "t"
			}
			if s.Class == "" {
				s.Class = "fact"
			}
			switch {
			case s.FacilityColumn == "-":
				s.FacilityColumn = ""
			case s.RegionSchema != own:
				s.FacilityColumn, s.RegionSchema = "facility_id", "{schema}"
			}
			problems, _, err := schema.Lint(t.Context(), db.Conn(t), s, schema.Edge)
			if err != nil {
				t.Fatal(err)
			}
			if tc.text == "" {
				if len(problems) > 0 {
					t.Fatalf("refused: %+v", problems)
				}
				return
			}
			for _, p := range problems {
				if strings.Contains(p.Text, tc.text) && strings.Contains(p.Remedy, tc.remedy) {
					return
				}
			}
			t.Fatalf("problems %+v, want %q, %q", problems, tc.text, tc.remedy)
		})
	}
}

func TestRowSecurityThatHidesRowsIsAProblem(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL); ALTER TABLE t ENABLE ROW LEVEL SECURITY`)
	s := proto.SyncedTable{Schema: "public", Name: "t", Class: "fact", FacilityColumn: "facility_id"}
	conn := db.Conn(t)
	if p, _, err := schema.Lint(t.Context(), conn, s, schema.Edge); err != nil || len(p) > 0 {
		t.Errorf("as superuser: %+v, %v", p, err)
	}
	db.Exec(t, `DO $$ BEGIN CREATE ROLE schema_test_reader; EXCEPTION WHEN duplicate_object THEN END $$`)
	if _, err := conn.Exec(t.Context(), `SET ROLE schema_test_reader`); err != nil {
		t.Fatal(err)
	}
	p, _, err := schema.Lint(t.Context(), conn, s, schema.Edge)
	if err != nil || len(p) != 1 || !strings.Contains(p[0].Text, "row security") {
		t.Errorf("as reader: %+v, %v", p, err)
	}
}

func TestRegionIsAskedForItsOwnTable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := proto.SyncedTable{Schema: "public", Name: "t", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}"}
	conn := db.Conn(t)
	if p, f, err := schema.Lint(t.Context(), conn, s, schema.Region); err != nil || len(p) != 1 || f != 0 || !strings.Contains(p[0].Text, "the region's database") {
		t.Errorf("%+v %d %v", p, f, err)
	}
	s.RegionSchema = "{facility}"
	if p, _, err := schema.Lint(t.Context(), conn, s, schema.Region); err != nil || len(p) > 0 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestTableIsReadAsItIs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		CREATE SCHEMA "S p"; CREATE TYPE "S p"."Mood" AS ENUM ('ok'); CREATE DOMAIN "S p".amount AS numeric(10,2);
		CREATE TABLE "S p".parent (a int, b int, PRIMARY KEY (b, a));
		CREATE TABLE "S p"."T" (id int GENERATED ALWAYS AS IDENTITY, gone int, "Mood" "S p"."Mood"[], n numeric(8,3) NOT NULL, d "S p".amount DEFAULT 7,
			g int GENERATED ALWAYS AS (id + 1) STORED, pa int, pb int, PRIMARY KEY (n, id) INCLUDE (pa),
			FOREIGN KEY (pb, pa) REFERENCES "S p".parent DEFERRABLE);
		ALTER TABLE "S p"."T" DROP gone`)
	conn := db.Conn(t)
	got, err := schema.Read(t.Context(), conn, "S p", "T")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Key, ",") != "n,id" || got.KeyDeferrable || got.Kind != "r" || got.Identity != "d" || len(got.Columns) != 7 {
		t.Errorf("%+v", got)
	}
	if c := got.Column("Mood"); c.Type != `"S p"."Mood"[]` || c.Class != "b" {
		t.Errorf("%+v", c)
	}
	if c := got.Column("n"); c.Type != "numeric" || c.FullType != "numeric(8,3)" || !c.NotNull || !c.Key {
		t.Errorf("%+v", c)
	}
	if c := got.Column("d"); c.Type != `"S p".amount` || c.Base != "numeric" || c.Default != "7" {
		t.Errorf("%+v", c)
	}
	if c := got.Column("g"); !c.Generated || got.Column("id").Identity != "a" || got.Column("pa").Key {
		t.Errorf("%+v", c)
	}
	if len(got.ForeignKeys) != 1 || got.ForeignKeys[0].Table != "parent" || !got.ForeignKeys[0].Deferrable ||
		strings.Join(got.ForeignKeys[0].Columns, ",") != "pb,pa" || strings.Join(got.ForeignKeys[0].RefColumns, ",") != "b,a" {
		t.Errorf("%+v", got.ForeignKeys)
	}

	// The order of columns does not matter; their types, names and keys do.
	prints := map[uint64]string{}
	for i, ddl := range []string{
		`CREATE TABLE f (a int PRIMARY KEY, b text)`, `CREATE TABLE f (b text, a int PRIMARY KEY)`,
		`CREATE TABLE f (a int PRIMARY KEY, b varchar(5))`, `CREATE TABLE f (a int PRIMARY KEY, b varchar(6))`, `CREATE TABLE f (a int, b text, PRIMARY KEY (a, b))`, `CREATE TABLE f (a int PRIMARY KEY, c text)`,
	} {
		db.Exec(t, `DROP TABLE IF EXISTS f; `+ddl)
		table, err := schema.Read(t.Context(), conn, "public", "f")
		if err != nil {
			t.Fatal(err)
		}
		other, seen := prints[table.Fingerprint()]
		if seen != (i == 1) {
			t.Errorf("%s and %s", ddl, other)
		}
		prints[table.Fingerprint()] = ddl
	}
}
