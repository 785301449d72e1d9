package scenario

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/compare"
	"github.com/agogsaas/holdfast/test/rig/site"
)

const countedTables = `
CREATE TABLE parcel (id serial PRIMARY KEY, code text NOT NULL);
CREATE TABLE pallet (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL);
CREATE TABLE scan (at date NOT NULL DEFAULT '2026-05-01', id bigserial, code text NOT NULL, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE scan_1 PARTITION OF scan DEFAULT;`

var counted = []compare.Table{
	{Schema: "public", Name: "parcel", SchemaB: "la_public"},
	{Schema: "public", Name: "pallet", SchemaB: "la_public"},
	{Schema: "public", Name: "scan", SchemaB: "la_public"},
}

// add adds a row to each table and returns the numbers that they got.
func add(t *testing.T, db *pgxpool.Pool, code string) (numbers [3]int) {
	t.Helper()
	for i, table := range counted {
		if err := db.QueryRow(t.Context(), `INSERT INTO `+table.Name+` (code) VALUES ($1) RETURNING id`, code).Scan(&numbers[i]); err != nil {
			t.Fatalf("add to %s: %v", table, err)
		}
	}
	return numbers
}

// A box that takes another's place gets its rows; its sequences are new. So are
// they where the region adds rows.
func TestAReplacedBoxGoesOnCountingWhereItWas(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	old := addEdge(t, s, "la")
	region := regionDB(t, s)
	write(t, pool(t, s.RegionDSN(pgcluster.App, pgcluster.Database)), `CREATE SCHEMA la_public; SET search_path = la_public; `+countedTables)
	write(t, edgeDB(t, old), countedTables)
	for _, table := range counted {
		addTable(t, s, table.String(), "fact")
	}
	for _, table := range counted {
		write(t, edgeDB(t, old), `INSERT INTO `+table.Name+` (code) SELECT 'made by the old box' FROM generate_series(1, 500)`)
	}
	same(t, edgeDB(t, old), region, counted...)

	box := addEdgeWith(t, s, site.EdgeOptions{ID: "la", Box: "la-2"})
	db := pool(t, box.DSN(pgcluster.App, pgcluster.Database))
	// Its application comes later than the rows do.
	count(t, region, `SELECT count(*) FROM holdfast.down_load WHERE reason = 'replaced' AND done_at IS NOT NULL`, 3)
	write(t, db, countedTables)
	same(t, db, region, counted...)
	if n := add(t, db, "made by the new box"); n != [3]int{501, 501, 501} {
		t.Errorf("the new box counts on with %v", n)
	}
	same(t, db, region, counted...)

	// Until the box has been asked for its tables once more, behind what it was sent,
	// what is made in the region meanwhile is a conflict.
	count(t, region, `SELECT count(*) FROM holdfast.down_load WHERE reason = 'resync' AND done_at IS NOT NULL AND mend_epoch IS NULL`, 3)

	// The same where the region adds rows while the box works.
	for _, table := range counted {
		write(t, region, fmt.Sprintf(`INSERT INTO la_public.%s (id, code) OVERRIDING SYSTEM VALUE VALUES (600, 'made in the region')`, table.Name))
	}
	same(t, db, region, counted...)
	if n := add(t, db, "after the region"); n != [3]int{601, 601, 601} {
		t.Errorf("behind the region's rows the box counts on with %v", n)
	}

	// It stays so when the box loses its power.
	write(t, region, `INSERT INTO la_public.parcel VALUES (700, 'made in the region')`)
	count(t, db, `SELECT count(*) FROM parcel WHERE id = 700`, 1)
	if err := box.KillPostgres(); err != nil {
		t.Fatal(err)
	}
	count(t, db, `SELECT count(*) FROM parcel WHERE id = 700`, 1)
	var n int
	if err := db.QueryRow(t.Context(), `INSERT INTO parcel (code) VALUES ('last') RETURNING id`).Scan(&n); err != nil || n <= 700 {
		t.Errorf("after a crash the box counts on with %d, %v", n, err)
	}
	same(t, db, region, counted...)
}
