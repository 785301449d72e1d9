package capture

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// typed are values of every built-in type, and of made ones.
var typed = []struct {
	typ, name string   // as declared, and as the frame names it ("" is the same)
	values    []string // literals
}{
	{"boolean", "", []string{"true", "false"}},
	{"smallint", "", []string{"-32768", "32767"}},
	{"integer", "", []string{"-2147483648"}},
	{"bigint", "", []string{"9223372036854775807"}},
	{"numeric", "", []string{"'NaN'", "'Infinity'", "0.000000000000000000000000000001", "123456789012345678901234567890.5", "-0.10"}},
	{"numeric(12,3)", "numeric", []string{"12.5"}},
	{"real", "", []string{"'NaN'", "'-Infinity'", "1.1", "3.4e38", "1e-37"}},
	{"double precision", "", []string{"0.1", "1e-300", "'Infinity'", "0.30000000000000004"}},
	{"money", "", []string{"'-12345.67'", "'92233720368547758.07'"}},
	{"text", "", []string{"''", "'ünïcødé 漢字 \U0001F69A'", `E'a\tb\\n\n''"'`, "'NULL'"}},
	{"character varying(20)", "character varying", []string{"'x '"}},
	{"character(5)", "bpchar", []string{"'ab'"}},
	{`"char"`, `"char"`, []string{"'x'"}},
	{"name", "", []string{"'n'"}},
	{"bytea", "", []string{`'\x'`, `'\x00ff5c27'`}},
	{"date", "", []string{"'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"}},
	{"time", "time without time zone", []string{"'24:00:00'", "'01:02:03.000004'"}},
	{"time with time zone", "", []string{"'01:02:03.5+05:30'"}},
	{"timestamp", "timestamp without time zone", []string{"'infinity'", "'2026-11-23 02:14:05.123456'", "'0044-03-15 BC'"}},
	{"timestamp with time zone", "", []string{"'-infinity'", "'2026-03-29 02:30:00.000001+02'", "'1850-01-01 00:00:00 Europe/Amsterdam'"}},
	{"interval", "", []string{"'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.000001'"}},
	{"uuid", "", []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}},
	{"inet", "", []string{"'192.168.1.1/24'", "'::1'"}},
	{"cidr", "", []string{"'10.0.0.0/8'"}},
	{"macaddr", "", []string{"'08:00:2b:01:02:03'"}},
	{"macaddr8", "", []string{"'08:00:2b:01:02:03:04:05'"}},
	{"bit(3)", `"bit"`, []string{"B'101'"}},
	{"bit varying", "", []string{"B''", "B'0101010101'"}},
	{"json", "", []string{`'{"b": 1, "a":  [1,2.50]}'`}},
	{"jsonb", "", []string{`'{"b": 1, "a": [1, 2.50, null, "\u00fc"]}'`}},
	{"jsonpath", "", []string{`'$.a[*] ? (@ > 1)'`}},
	{"xml", "", []string{"'<a b=\"1\">x</a>'"}},
	{"tsvector", "", []string{`$$fat:2A cat:3 'q q':5$$`}},
	{"tsquery", "", []string{"'fat & (rat | ! cat:*)'"}},
	{"point", "", []string{"'(1.5,-2)'"}},
	{"line", "", []string{"'{1,2,3}'"}},
	{"lseg", "", []string{"'[(1,2),(3,4)]'"}},
	{"box", "", []string{"'(3,4),(1,2)'"}},
	{"path", "", []string{"'((1,2),(3,4))'", "'[(1,2),(3,4)]'"}},
	{"polygon", "", []string{"'((0,0),(1,0),(1,1))'"}},
	{"circle", "", []string{"'<(1,2),3>'"}},
	{"int4range", "", []string{"'[1,5)'", "'empty'", "'(,)'"}},
	{"int8range", "", []string{"'[1,5]'"}},
	{"numrange", "", []string{"'(1.10,2.20]'"}},
	{"daterange", "", []string{"'[2026-01-01,infinity)'"}},
	{"tsrange", "", []string{"'[2026-01-01 10:00,2026-01-02 11:00)'"}},
	{"tstzrange", "", []string{"'[2026-01-01 10:00+02,)'"}},
	{"int4multirange", "", []string{"'{[1,2),[4,6)}'", "'{}'"}},
	{"datemultirange", "", []string{"'{[2026-01-01,2026-02-01)}'"}},
	{"integer[]", "", []string{"'{}'", "'{1,NULL,3}'", "'[2:3]={7,8}'"}},
	{"text[]", "", []string{`'{"a,b","c\"d",NULL,"NULL",""}'`}},
	{"text[][]", "text[]", []string{`'{{a,b},{c,d}}'`}},
	{"timestamp with time zone[]", "", []string{"'{2026-01-01 00:00+01,infinity}'"}},
	{"bytea[]", "", []string{`ARRAY['\x00'::bytea]`}},
	{"numeric[]", "", []string{"'{1.50,NaN}'"}},
	{"oid", "", []string{"4294967295"}},
	{"regclass", "", []string{"'pg_catalog.pg_class'", "'public.typed_target'"}},
	{"regtype", "", []string{"'integer'"}},
	{"pg_lsn", "", []string{"'16/B374D848'"}},
	{"int8multirange", "", []string{"'{[1,5],[7,9]}'"}},
	{"nummultirange", "", []string{"'{(1.10,2.20]}'"}},
	{"tsmultirange", "", []string{"'{[2026-01-01 10:00,2026-01-02 11:00)}'"}},
	{"tstzmultirange", "", []string{"'{[2026-01-01 10:00+02,)}'"}},
	{"regproc", "", []string{"'pg_catalog.now'"}},
	{"regprocedure", "", []string{"'abs(integer)'"}},
	{"regoper", "", []string{"'||/'"}},
	{"regoperator", "", []string{"'+(integer,integer)'"}},
	{"regcollation", "", []string{"'pg_catalog.\"C\"'"}},
	{"regrole", "", []string{"current_user::regrole"}},
	{"regnamespace", "", []string{"'public'"}},
	{"regconfig", "", []string{"'simple'"}},
	{"regdictionary", "", []string{"'simple'"}},
	{"refcursor", "", []string{"'a cursor'"}},
	{"tid", "", []string{"'(7,3)'"}},
	{"xid", "", []string{"'4294967295'"}},
	{"xid8", "", []string{"'18446744073709551615'"}},
	{"cid", "", []string{"'7'"}},
	{"int2vector", "", []string{"'1 2 3'"}},
	{"oidvector", "", []string{"'26 27'"}},
	{"pg_snapshot", "", []string{"'10:20:10,14'"}},
	{"txid_snapshot", "", []string{"'10:20:10,14'"}},
	{"aclitem", "", []string{"('=r/' || current_user)::aclitem"}},
	{"public.mood", "public.mood", []string{"'sad'", "'very happy'"}},
	{"public.mood[]", "public.mood[]", []string{"'{sad,\"very happy\"}'"}},
	{`"Odd s"."Type N"`, `"Odd s"."Type N"`, []string{"'ä'"}},
	{"public.amount", "public.amount", []string{"12.50"}},
	{"public.amount[]", "public.amount[]", []string{"'{1.50,2}'"}},
	{"public.pair", "public.pair", []string{`'(1,"a,b")'`, `'(,)'`}},
	{"public.pair[]", "public.pair[]", []string{`ARRAY[ROW(1,'x')::public.pair]`}},
	{"public.moodrange", "public.moodrange", []string{"'[sad,ok]'"}},
}

const typedDDL = `
	CREATE TABLE typed_target ();
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy'); CREATE SCHEMA "Odd s"; CREATE TYPE "Odd s"."Type N" AS ENUM ('ä');
	CREATE DOMAIN amount AS numeric(10,2) CHECK (VALUE > 0); CREATE TYPE pair AS (n int, t text);
	CREATE TYPE moodrange AS RANGE (subtype = mood);`

// TestEveryTypeArrivesAsItIs reads each value from the stream and from a range,
// writes it into a second table with the type that the frame names, and
// compares the two in the database.
func TestEveryTypeArrivesAsItIs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ddl := typedDDL
	var tables []Table
	for i, v := range typed {
		ddl += fmt.Sprintf("CREATE TABLE typed_%d (id int PRIMARY KEY, v %s); CREATE TABLE copy_%d (LIKE typed_%d INCLUDING ALL);\n", i, v.typ, i, i)
		tables = append(tables, Table{Schema: "public", Name: fmt.Sprint("typed_", i)})
	}
	r := newRig(t, db, ddl, tables...)
	// The application's own settings must not show.
	conn := db.Conn(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET timezone = 'Asia/Kolkata'; SET extra_float_digits = -5; SET bytea_output = 'escape'`)
	for i, v := range typed {
		exec(fmt.Sprintf("INSERT INTO typed_%d VALUES (0, NULL)", i))
		for n, lit := range v.values {
			exec(fmt.Sprintf("INSERT INTO typed_%d VALUES (%d, %s)", i, n+1, lit))
		}
	}
	for _, table := range tables {
		if err := LoadTable(t.Context(), conn, table, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func(table *change.Table, row change.Row) {
		t.Helper()
		var i int
		if _, err := fmt.Sscanf(table.Name, "typed_%d", &i); err != nil {
			t.Fatal(err)
		}
		name := typed[i].name
		if name == "" {
			name = typed[i].typ
		}
		if got := table.Columns[1].Type; got != name {
			t.Errorf("column of %s is named %s", typed[i].typ, got)
		}
		sql := fmt.Sprintf(`INSERT INTO copy_%d VALUES ($1::text::%s, $2::text::%s) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`, i, table.Columns[0].Type, table.Columns[1].Type)
		if r := conn.PgConn().ExecParams(context.Background(), sql, row, nil, nil, nil).Read(); r.Err != nil {
			t.Errorf("%s %q: %v", typed[i].typ, row[1], r.Err)
		}
	}
	exec(`RESET ALL`)
	ranges := 0
	for ranges < len(tables) {
		_, b := r.frame(t)
		for _, tx := range b.Txs {
			for j := range tx.Changes {
				c := &tx.Changes[j]
				if c.Op == change.Insert {
					check(&b.Tables[c.Table], c.Row)
					continue
				}
				if ranges == 0 {
					equalCopies(t, exec)
				}
				ranges++
				for _, row := range c.Range.Rows {
					check(&b.Tables[c.Table], row)
				}
			}
		}
	}
	equalCopies(t, exec)
}

// equalCopies fails if a table and its copy differ in one byte, and empties the
// copies.
func equalCopies(t *testing.T, exec func(string)) {
	t.Helper()
	var sql strings.Builder
	for i := range typed {
		fmt.Fprintf(&sql, `DO $$ BEGIN
			IF (SELECT count(*) FROM typed_%[1]d a FULL JOIN copy_%[1]d b ON a.id = b.id AND record_image_eq(ROW(a.v), ROW(b.v)) WHERE a.id IS NULL OR b.id IS NULL) > 0
			THEN RAISE EXCEPTION '%[2]s: %% and %%', (SELECT array_agg(t.v::text ORDER BY t.id) FROM typed_%[1]d t), (SELECT array_agg(t.v::text ORDER BY t.id) FROM copy_%[1]d t); END IF;
			DELETE FROM copy_%[1]d; END $$;`, i, strings.ReplaceAll(typed[i].typ, "'", "''"))
	}
	exec(sql.String())
}
