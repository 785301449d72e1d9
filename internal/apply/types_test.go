package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// values are SQL expressions of each type, as a sender's table would hold them.
var typeValues = map[string][]string{
	"boolean": {"true"}, "smallint": {"-7"}, "integer": {"7"}, "bigint": {"1234567890123"}, "oid": {"26"},
	"numeric": {"-12.3400", "'NaN'", "'Infinity'"}, "numeric(12,3)": {"1.5"}, "real": {"0.1"}, "double precision": {"1e-300", "'-Infinity'"},
	"money": {"'-$1,234.56'"}, "text": {`E'a\tb\nc\\d\r'`, "''"}, "character varying(5)": {"'ab  '"}, "character(5)": {"'ab'"},
	`"char"`: {"'x'"}, "name": {"'a name'"}, "bytea": {`'\x00ff0a5c'`, "''"}, "uuid": {"'00112233-4455-6677-8899-aabbccddeeff'"},
	"date": {"'2026-11-23'", "'0044-03-15 BC'", "'infinity'"}, "time without time zone": {"'23:59:59.999999'"}, "time with time zone": {"'12:00:00+05:30'"},
	"timestamp without time zone": {"'2026-11-23 02:14:05.000001'", "'-infinity'"}, "timestamp with time zone": {"'2026-11-23 02:14:05+08'", "'10000-01-01 00:00:00+00'"},
	"timestamp(0) with time zone": {"'2026-11-23 02:14:05.6+00'"}, "interval": {"'-1 year 2 mons -3 days 04:05:06.7'"}, "inet": {"'10.1.2.3/8'", "'::1'"}, "cidr": {"'10.0.0.0/8'"},
	"macaddr": {"'08:00:2b:01:02:03'"}, "bit(3)": {"B'101'"}, "bit varying(8)": {"B'10101'"}, "xml": {"'<a>b</a>'"}, "json": {`'{"b":  1, "a": [null]}'`},
	"jsonb": {`'{"b":  1, "a": [null]}'`}, "tsvector": {"to_tsvector('simple', 'two fat cats')"}, "tsquery": {"to_tsquery('simple', 'fat & cat')"},
	"point": {"'(1.5,2)'"}, "box": {"'((1,1),(0,0))'"}, "int4range": {"'[1,10)'"}, "tstzrange": {"'[2026-01-01 00:00+00,)'"}, "int4multirange": {"'{[1,2),[5,7)}'"},
	"pg_lsn": {"'1/2A'"}, "jsonpath": {"'$.a[*]'"}, "integer[]": {"'{1,NULL,3}'", "'[0:1]={7,8}'", "'{{1,2},{3,4}}'"}, "text[]": {`ARRAY['a,b', NULL, '"q"', E'back\\slash', '']`, "'{}'"},
	"timestamp with time zone[]": {"ARRAY['2026-11-23 02:14:05+00'::timestamptz]"}, "jsonb[]": {`ARRAY['{"a": 1}'::jsonb]`},
	"macaddr8": {"'08:00:2b:01:02:03:04:05'"}, "line": {"'{1,2,3}'"}, "lseg": {"'[(1,2),(3,4)]'"}, "path": {"'((1,2),(3,4))'", "'[(1,2),(3,4)]'"},
	"polygon": {"'((0,0),(1,0),(1,1))'"}, "circle": {"'<(1,2),3>'"},
	"int8range": {"'[1,5]'", "'empty'"}, "numrange": {"'(1.10,2.20]'"}, "daterange": {"'[2026-01-01,infinity)'"}, "tsrange": {"'[2026-01-01 10:00,2026-01-02 11:00)'"},
	"int8multirange": {"'{[1,5],[7,9]}'"}, "nummultirange": {"'{(1.10,2.20]}'"}, "datemultirange": {"'{[2026-01-01,2026-02-01)}'", "'{}'"},
	"tsmultirange": {"'{[2026-01-01 10:00,2026-01-02 11:00)}'"}, "tstzmultirange": {"'{[2026-01-01 10:00+02,)}'"},
	"numeric[]": {"'{1.50,NaN}'"}, "bytea[]": {`ARRAY['\x00ff5c'::bytea, NULL, '']`},
	"regclass": {"'pg_catalog.pg_class'"}, "regtype": {"'integer'", "'public.mood'"}, "regproc": {"'pg_catalog.now'"}, "regprocedure": {"'abs(integer)'"},
	"regoper": {"'||/'"}, "regoperator": {"'+(integer,integer)'"}, "regcollation": {"'pg_catalog.\"C\"'"}, "regrole": {"current_user::regrole"},
	"regnamespace": {"'public'"}, "regconfig": {"'simple'"}, "regdictionary": {"'simple'"}, "refcursor": {"'a cursor'"},
	"tid": {"'(7,3)'"}, "xid": {"'4294967295'"}, "xid8": {"'18446744073709551615'"}, "cid": {"'7'"}, "int2vector": {"'1 2 3'"}, "oidvector": {"'26 27'"},
	"pg_snapshot": {"'10:20:10,14'"}, "txid_snapshot": {"'10:20:10,14'"}, "aclitem": {"('=r/' || current_user)::aclitem"},
	"public.mood": {"'happy, but tired'"}, "public.mood[]": {"ARRAY['ok', 'happy, but tired']::public.mood[]"}, "public.percent": {"99.5"},
	"public.address": {`ROW('Main "St", 1', NULL, ARRAY[1,2])::public.address`}, "public.code": {"'AB12'"}, `public."Odd Type"`: {"'x'"},
}

const typesSQL = `CREATE TYPE public.mood AS ENUM ('ok', 'happy, but tired');
CREATE DOMAIN public.percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN public.code AS varchar(6) CHECK (VALUE ~ '^[A-Z]{2}');
CREATE TYPE public.address AS (street text, town text, numbers int[]);
CREATE TYPE public."Odd Type" AS ENUM ('x');`

// ownTypes are what PostgreSQL keeps in its catalogs and refuses as input.
var ownTypes = []string{
	"pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary",
}

func TestNoBuiltInTypeIsForgotten(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, typesSQL)
	known := slices.AppendSeq(slices.Clone(ownTypes), maps.Keys(typeValues))
	// Arrays are all alike; domains, enums and composite types are made ones.
	rows, err := db.Pool(t).Query(t.Context(), `SELECT format_type(oid, NULL) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
		AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A' AND oid <> ALL (ARRAY(SELECT k::regtype::oid FROM unnest($1::text[]) k))`, known)
	if err != nil {
		t.Fatal(err)
	}
	forgotten, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(forgotten) > 0 {
		t.Errorf("no value is tried of the types %q, %v", forgotten, err)
	}
}

// TestEveryTypeArrivesAsItWas sends each type's values, and NULL, both as a
// handful of rows and as many, and compares both databases' own text.
func TestEveryTypeArrivesAsItWas(t *testing.T) {
	t.Parallel()
	source, db := pgtest.New(t), pgtest.New(t)
	var create, tables strings.Builder
	var list []Table
	var wire []change.Table
	n := 0
	for typ, values := range typeValues {
		name := fmt.Sprintf("T%02d %s", n, strings.NewReplacer(`"`, "", ".", " ").Replace(typ))
		n++
		q := pgx.Identifier{name}.Sanitize()
		fmt.Fprintf(&create, "CREATE TABLE public.%s (id int PRIMARY KEY, v %s, twice text GENERATED ALWAYS AS (id::text || 'x') STORED, ident int GENERATED ALWAYS AS IDENTITY);\n", q, typ)
		for i, v := range values {
			fmt.Fprintf(&tables, "INSERT INTO public.%s (id, v) VALUES (%d, %s);\n", q, i, v)
		}
		fmt.Fprintf(&tables, "INSERT INTO public.%s (id) VALUES (100);\nUPDATE public.%s SET ident = DEFAULT;", q, q)
		list = append(list, Table{Name: name, TargetSchema: "{facility}"})
		wire = append(wire, table("public", name))
	}
	source.Exec(t, typesSQL+create.String()+tables.String())
	db.Exec(t, coreSQL+typesSQL+"CREATE SCHEMA la;"+strings.ReplaceAll(create.String(), `TABLE public."T`, `TABLE la."T`))
	r := newRegion(t, db.ConnString(), list...)
	s, from := r.stream("la"), newSender(t)
	for i := range wire {
		changes := readTable(t, source, &wire[i])
		for j := range changes {
			changes[j].Table = i
		}
		from.tables = wire[:i+1]
		s.push(from.frame(changes))
		// Many rows take another way than a few.
		var many []change.Change
		for k := range 2 * copyMinRows {
			c := changes[k%len(changes)]
			c.Row = append(change.Row(nil), c.Row...)
			c.Row[0] = fmt.Append(nil, 1000+k)
			c.Row[2] = fmt.Append(nil, 1000+k)
			many = append(many, c)
		}
		s.push(from.frame(many))
		// And an update of each.
		var ups []change.Change
		for _, c := range changes {
			c.Op = change.Update
			ups = append(ups, c)
		}
		s.push(from.frame(ups))
	}
	s.untilApplied(from.seq)
	for i := range wire {
		q := pgx.Identifier{wire[i].Name}.Sanitize()
		want := lines(t, source, "SELECT id, v, twice, ident FROM public."+q+" ORDER BY id")
		got := lines(t, db, "SELECT id, v, twice, ident FROM la."+q+" WHERE id < 1000 ORDER BY id")
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %q\nwant %q", wire[i].Name, got, want)
		}
		want = lines(t, source, "SELECT DISTINCT v::text FROM public."+q+" ORDER BY 1")
		got = lines(t, db, "SELECT DISTINCT v::text FROM la."+q+" WHERE id >= 1000 ORDER BY 1")
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("many of %s:\n got %q\nwant %q", wire[i].Name, got, want)
		}
	}
	if len(s.stuck) > 0 {
		t.Error(s.stuck)
	}
}

// readTable fills in the table's columns and returns its rows as inserts, in
// the text that a capture would have.
func readTable(t *testing.T, db *pgtest.DB, w *change.Table) (changes []change.Change) {
	t.Helper()
	ctx := context.Background()
	conn := db.Conn(t)
	if _, err := conn.Exec(ctx, "SET search_path = ''; SET timezone = 'UTC'; SET intervalstyle = postgres; SET extra_float_digits = 3; SET lc_monetary = 'C'", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, `SELECT attname, format_type(atttypid, -1) FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND attgenerated = '' ORDER BY attnum`, "public."+pgx.Identifier{w.Name}.Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	w.Columns, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (c change.Column, err error) {
		return c, r.Scan(&c.Name, &c.Type)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Columns[0].Key = true
	var names []string
	for _, c := range w.Columns {
		names = append(names, pgx.Identifier{c.Name}.Sanitize())
	}
	res := conn.PgConn().ExecParams(ctx, fmt.Sprintf("SELECT %s FROM public.%s", strings.Join(names, ", "), pgx.Identifier{w.Name}.Sanitize()), nil, nil, nil, nil).Read()
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	for _, values := range res.Rows {
		changes = append(changes, change.Change{Op: change.Insert, Row: values})
	}
	return changes
}

// Where each facility has a schema of its own in the region, its types are there
// too, whichever way the rows go.
func TestTypesOfTheFacilitysOwnSchemaAreTheSame(t *testing.T) {
	t.Parallel()
	const ddl = `CREATE TYPE %[1]s.mood AS ENUM ('bad', 'good'); CREATE DOMAIN %[1]s.year AS int CHECK (VALUE > 1900); CREATE TYPE %[1]s.pair AS (a int, b %[1]s.mood);
		CREATE TABLE %[1]s.t (id int, m %[1]s.mood, all_m %[1]s.mood[], y %[1]s.year, p %[1]s.pair, PRIMARY KEY (id, m));`
	sent := func(schema string) change.Table {
		return table("public", "t", key("id", "integer"), key("m", schema+".mood"), col("all_m", schema+".mood[]"), col("y", schema+".year"), col("p", schema+".pair"))
	}
	rows := []change.Change{ins(0, 1, "bad", "{good,NULL}", 1990, "(1,bad)"), ins(0, 2, "good", nil, nil, nil)}
	entry := Table{Name: "t", TargetSchema: "{facility}_{schema}"}
	for _, c := range []struct {
		here, there string
		config      Config
	}{
		{"la_public", "public", Config{Facility: "la"}},
		{"public", "la_public", Config{Facility: "la", Direction: Down, Local: quietLocal{}}},
	} {
		db := pgtest.New(t)
		db.Exec(t, coreSQL+"CREATE SCHEMA la_public;"+fmt.Sprintf(ddl, c.here))
		r := newRegion(t, db.ConnString(), entry)
		st := r.start(c.config)
		s := newSender(t, sent(c.there))
		st.push(s.frame(rows), s.frame([]change.Change{upd(0, 2, "good", "{bad}", 1991, "(2,good)")}))
		st.untilApplied(2)
		wantLines(t, db, "SELECT * FROM "+c.here+".t ORDER BY id", `(1,bad,"{good,NULL}",1990,"(1,bad)")`, `(2,good,{bad},1991,"(2,good)")`)
	}
}
