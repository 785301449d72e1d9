package uplink

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

func TestMasterTableIsOnlyReadHere(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	db.Exec(t, `CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1, 2)`)
	give := func(class string) {
		t.Helper()
		list := []proto.SyncedTable{{Schema: "public", Name: "t", Class: class, RegionSchema: "{schema}"}, {Schema: "public", Name: "parts", Class: class, RegionSchema: "{schema}"}}
		if class == "fact" {
			list[0].RegionSchema, list = "{facility}", list[:1]
		}
		if err := u.store.replace(t.Context(), proto.Tables{Version: 2, Tables: list}); err != nil {
			t.Fatal(err)
		}
		if err := u.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	give("master")
	give("master") // nothing is made twice
	for _, s := range u.TableStates() {
		if s.State != proto.TableStreaming {
			t.Errorf("%+v: there is nothing to load", s)
		}
	}
	wantPublished(t, db, "")
	db.Exec(t, `SET session_replication_role = replica; INSERT INTO t VALUES (1, 'la'); INSERT INTO parts VALUES (1); RESET session_replication_role`)
	for _, sql := range []string{
		`INSERT INTO t VALUES (2, 'la')`, `UPDATE t SET facility = 'x'`, `DELETE FROM t`, `TRUNCATE t`, `COPY t FROM PROGRAM 'echo 7,la' CSV`,
		`INSERT INTO parts VALUES (2)`, `INSERT INTO parts_1 VALUES (2)`, `DELETE FROM parts`, `TRUNCATE parts`,
	} {
		_, err := db.Conn(t).Exec(t.Context(), sql)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "25006" || !strings.Contains(pg.Message, "master data of the region") || pg.Hint == "" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	give("fact")
	db.Exec(t, `INSERT INTO t VALUES (2, 'la'); TRUNCATE t; INSERT INTO parts VALUES (2); TRUNCATE parts`)
	wantPublished(t, db, "t")
}

func wantPublished(t *testing.T, db *pgtest.DB, want string) {
	t.Helper()
	rows, err := db.Conn(t).Query(t.Context(), `SELECT tablename::text FROM pg_publication_tables`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || strings.Join(got, ",") != want {
		t.Fatalf("published: %v, %v, want %q", got, err, want)
	}
}

func TestNewPolicyDoesNotSendATableAgain(t *testing.T) {
	t.Parallel()
	u, _ := settled(t)
	t1 := proto.SyncedTable{
		Schema: "public", Name: "t", Class: "fact", RegionSchema: "{schema}_{facility}",
		Policy: proto.PolicyColumns, CloudColumns: []string{"facility"},
	}
	if err := u.store.replace(t.Context(), proto.Tables{Version: 2, Tables: []proto.SyncedTable{t1}}); err != nil {
		t.Fatal(err)
	}
	e := settle(t, u)
	if e.State != proto.TableStreaming || e.LoadAfter == nil || e.Policy != proto.PolicyColumns || strings.Join(e.CloudColumns, ",") != "facility" {
		t.Fatalf("%+v", e)
	}
}
