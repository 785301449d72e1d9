package uplink

import (
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Conflicts that a box recorded before are renamed, and go up so.
func TestRecordedConflictsGetTheirPresentNames(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	sql := stdlib.OpenDBFromPool(u.DB)
	defer sql.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, sql, files, goose.WithTableName("holdfast_uplink_version"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO holdfast.conflict (id, facility_id, at, schema_name, table_name, key, kind, policy, decision, fields, edge_seq, cloud_seq)
		SELECT gen_random_uuid(), 'la', now(), 'public', 't', '{}', kind, 'edge', 'edge', '{}', '1:1', '1:1'
		FROM unnest('{update_differs,delete_updated,insert_exists,update_deleted}'::text[]) kind`)
	if err := u.store.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var kinds string
	err = u.DB.QueryRow(t.Context(), `SELECT string_agg(kind, ' ' ORDER BY kind) FROM holdfast.conflict`).Scan(&kinds)
	if err != nil || kinds != "delete_origin_differs insert_exists update_deleted update_origin_differs" {
		t.Errorf("%s, %v", kinds, err)
	}
}
