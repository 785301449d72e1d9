package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/compare"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// plants is a region with two facilities whose workspaces are synced both ways.
type plants struct {
	t              *testing.T // of all promises: what they share ends with it
	site           *site.Site
	la, frankfurt  *site.Edge
	laDB, frankDB  *pgxpool.Pool
	region         *pgxpool.Pool
	customersTable compare.Table
}

// TestBothWays keeps the promises of the way down, one after the other on one
// site: each leaves it as it found it, with more rows.
func TestBothWays(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	p := &plants{t: t, site: s, la: addEdge(t, s, "la"), region: regionDB(t, s), customersTable: compare.Table{Schema: "public", Name: "customers"}}
	p.laDB = edgeDB(t, p.la)
	tellIfFailed(t, s)
	addWorkspace(t, s)
	t.Run("MasterDataFlowsDown", p.masterDataFlowsDown)
	t.Run("MasterIsReadOnlyAtTheEdge", p.masterIsReadOnly)
	t.Run("CloudEditReachesItsFacility", p.cloudEditReachesItsFacility)
	t.Run("EdgeWinsWhereBothChangedARow", p.edgeWins)
	t.Run("ARowThatAFacilityRefusesStopsNothing", p.refusedAtTheFacility)
	t.Run("TablesAreSentAgainByTheirOwners", p.resync)
	t.Run("ReplacedBoxGetsItsRows", p.replacedBoxGetsItsRows)
}

// tellIfFailed shows where everybody stands when the test has failed.
func tellIfFailed(t *testing.T, s *site.Site) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx := context.WithoutCancel(t.Context())
		dsns := map[string]string{"region": s.RegionDSN(pgcluster.Owner, pgcluster.Database)}
		for _, e := range s.Edges() {
			dsns[e.Box] = e.DSN(pgcluster.Owner, pgcluster.Database)
		}
		for name, dsn := range dsns {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				t.Logf("%s: %v", name, err)
				continue
			}
			for _, sql := range []string{
				`SELECT row_to_json(p)::text FROM holdfast.position p`, `SELECT row_to_json(e)::text FROM holdfast.stream_event e`,
				`SELECT left(row_to_json(c)::text, 600) FROM holdfast.conflict c ORDER BY at DESC LIMIT 20`,
			} {
				rows, err := conn.Query(ctx, sql)
				if err != nil {
					t.Logf("%s: %v", name, err)
					continue
				}
				list, err := pgx.CollectRows(rows, pgx.RowTo[string])
				t.Logf("%s: %v %s", name, err, strings.Join(list, "\n\t"))
			}
			_ = conn.Close(ctx) // only looked
		}
	})
}

func (p *plants) masterDataFlowsDown(t *testing.T) {
	ctx := t.Context()
	write(t, p.region, `INSERT INTO customers (name, city) SELECT 'Customer ' || n, 'Springfield' FROM generate_series(1, 2500) n`)
	if _, err := p.site.API.AddTable(ctx, v1.TableAdd{Schema: "public", Table: "customers", Class: "master"}); err != nil {
		t.Fatal(err)
	}
	same(t, p.laDB, p.region, p.customersTable)
	write(t, p.region, `WITH gone AS (DELETE FROM customers WHERE name LIKE '%7'), moved AS (UPDATE customers SET city = 'Shelbyville' WHERE name LIKE '%8')
		INSERT INTO customers (name, contact) VALUES ('Bluebird', 'Ms Park')`)
	same(t, p.laDB, p.region, p.customersTable)
	// A facility that joins gets what was there before it.
	p.frankfurt = addEdge(t, p.site, "frankfurt")
	p.frankDB = edgeDB(p.t, p.frankfurt)
	same(t, p.frankDB, p.region, p.customersTable)
	write(t, p.region, `UPDATE customers SET contact = 'Mr Ito' WHERE name = 'Bluebird'`)
	for _, db := range []*pgxpool.Pool{p.laDB, p.frankDB} {
		same(t, db, p.region, p.customersTable)
	}
}

func (p *plants) masterIsReadOnly(t *testing.T) {
	_, err := p.laDB.Exec(t.Context(), `UPDATE customers SET city = 'here' WHERE name = 'Bluebird'`)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "25006" || pg.Hint == "" {
		t.Fatalf("a write to master data at a facility: %v", err)
	}
	same(t, p.laDB, p.region, p.customersTable)
}

func (p *plants) cloudEditReachesItsFacility(t *testing.T) {
	write(t, p.laDB, `INSERT INTO orders (facility_id, number, customer, product, quantity, created_by)
		SELECT 'la', 'LA-' || n, 'Bluebird', 'Box', n, 'maria' FROM generate_series(1, 50) n`)
	write(t, p.frankDB, `INSERT INTO orders (facility_id, number, customer, product, quantity, created_by) VALUES ('frankfurt', 'F-1', 'Lindner', 'Box', 5, 'anna')`)
	count(t, p.region, `SELECT count(*) FROM orders`, 51)
	write(t, p.region, `UPDATE orders SET notes = 'urgent' WHERE number = 'LA-7'`)
	write(t, p.region, `DELETE FROM orders WHERE number = 'LA-8'`)
	write(t, p.region, `INSERT INTO orders (facility_id, number, customer, product, quantity, created_by) VALUES ('la', 'LA-HQ', 'Bluebird', 'Box', 9, 'head office')`)
	count(t, p.laDB, `SELECT count(*) FROM orders WHERE number = 'LA-7' AND notes = 'urgent' OR number = 'LA-HQ'`, 2)
	count(t, p.laDB, `SELECT count(*) FROM orders`, 50)
	// The facility goes on with what it got, and nothing goes in circles.
	write(t, p.laDB, `UPDATE orders SET status = 'planned' WHERE number IN ('LA-7', 'LA-HQ')`)
	count(t, p.region, `SELECT count(*) FROM orders WHERE status = 'planned' AND (notes = 'urgent' OR number = 'LA-HQ')`, 2)
	equalOrders(t, p.laDB, p.region, "la")
	equalOrders(t, p.frankDB, p.region, "frankfurt")
	count(t, p.frankDB, `SELECT count(*) FROM orders`, 1)
	count(t, p.region, `SELECT count(*) FROM holdfast.conflict`, 0)
}

func (p *plants) edgeWins(t *testing.T) {
	p.la.Cut()
	write(t, p.laDB, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.author', 'maria'); UPDATE orders SET notes = 'at gate 4' WHERE number = 'LA-1';
		UPDATE orders SET notes = 'kept' WHERE number = 'LA-2'; DELETE FROM orders WHERE number = 'LA-3'; COMMIT`)
	write(t, p.region, `BEGIN; SELECT pg_logical_emit_message(true, 'holdfast.author', 'head office'); UPDATE orders SET notes = 'hold it' WHERE number = 'LA-1';
		DELETE FROM orders WHERE number = 'LA-2'; UPDATE orders SET notes = 'hold it' WHERE number = 'LA-3'; UPDATE orders SET notes = 'hold it' WHERE number = 'LA-4'; COMMIT`)
	p.la.Restore()
	count(t, p.region, `SELECT count(*) FROM holdfast.conflict WHERE facility_id = 'la' AND table_name = 'orders' AND decision = 'edge'`, 3)
	count(t, p.laDB, `SELECT count(*) FROM orders WHERE number = 'LA-4' AND notes = 'hold it'`, 1)
	equalOrders(t, p.laDB, p.region, "la")
	count(t, p.region, `SELECT count(*) FROM orders WHERE number = 'LA-1' AND notes = 'at gate 4' OR number = 'LA-2' AND notes = 'kept'`, 2)
	count(t, p.region, `SELECT count(*) FROM orders WHERE number = 'LA-3'`, 0)
	for kind, n := range map[string]int{"update_origin_differs": 1, "update_deleted": 1, "delete_origin_differs": 1} {
		count(t, p.region, fmt.Sprintf(`SELECT count(*) FROM holdfast.conflict WHERE kind = '%s'`, kind), n)
	}
	count(t, p.region, `SELECT count(*) FROM holdfast.conflict WHERE kind = 'update_origin_differs' AND edge_by = 'maria' AND cloud_by = 'head office'
		AND edge_row->>'notes' = 'at gate 4' AND cloud_row->>'notes' = 'hold it' AND 'notes' = ANY (fields)`, 1)
	same(t, pool(t, p.la.DSN(pgcluster.Owner, pgcluster.Database)), p.region, compare.Table{Schema: "holdfast", Name: "conflict"})
}

// What a facility's database refuses waits there, is seen in the region, and is
// dealt with from there.
func (p *plants) refusedAtTheFacility(t *testing.T) {
	tables := pool(t, p.la.DSN(pgcluster.App, pgcluster.Database))
	write(t, tables, `ALTER TABLE orders ADD CONSTRAINT strict CHECK (notes NOT LIKE 'refused%') NOT VALID`)
	write(t, p.region, `UPDATE orders SET notes = 'refused' WHERE number IN ('LA-11', 'LA-13', 'LA-14')`)
	write(t, p.region, `UPDATE orders SET notes = 'taken' WHERE number = 'LA-12'`)
	count(t, p.laDB, `SELECT count(*) FROM orders WHERE number = 'LA-12' AND notes = 'taken'`, 1)
	parked := map[string]string{} // by number
	eventually(t, func(ctx context.Context) error {
		page, err := p.site.API.Parked(ctx, v1.ParkedFilter{Facility: "la"}, 0, "")
		if err != nil || len(page.Items) != 3 {
			return fmt.Errorf("%d changes are shown, %w", len(page.Items), errors.Join(err, errors.New("want 3")))
		}
		for _, i := range page.Items {
			row, err := p.site.API.ParkedRow(ctx, i.ID)
			if err != nil {
				return err
			}
			if i.Direction != "down" || i.Reason != "check" || !strings.Contains(i.Remedy, "at the facility") {
				return fmt.Errorf("shown is %+v", i)
			}
			for _, c := range row.Columns {
				if c.Name == "number" && c.Value != nil {
					parked[*c.Value] = fmt.Sprint(i.ID)
				}
			}
		}
		return nil
	})
	if out, err := ctl(t, p.site, "sync", "status", "la"); err != nil || !strings.Contains(out, "3 changes from the region") {
		t.Errorf("%v\n%s", err, out)
	}
	if v, err := metric(t.Context(), p.la.URL(), "holdfast_down_parked_changes"); err != nil || v != 3 {
		t.Errorf("the box counts %v, %v", v, err)
	}
	// Corrected from the region, it is so on both sides.
	if out, err := ctl(t, p.site, "parked", "edit", parked["LA-11"], "--set", "notes=mended"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	count(t, p.laDB, `SELECT count(*) FROM orders WHERE number = 'LA-11' AND notes = 'mended'`, 1)
	count(t, p.region, `SELECT count(*) FROM orders WHERE number = 'LA-11' AND notes = 'mended'`, 1)
	if out, err := ctl(t, p.site, "parked", "discard", parked["LA-13"], "--yes"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	count(t, pool(t, p.la.DSN(pgcluster.Owner, pgcluster.Database)), `SELECT count(*) FROM holdfast.parked WHERE state = 'discarded' AND ended_by <> ''`, 1)
	// The last one goes when its cause does. Meanwhile nobody decides for a box
	// that is not there.
	p.la.Cut()
	if out, err := ctl(t, p.site, "parked", "retry", parked["LA-14"]); err == nil {
		t.Errorf("a box that is cut off obeys:\n%s", out)
	}
	write(t, tables, `ALTER TABLE orders DROP CONSTRAINT strict`)
	p.la.Restore()
	count(t, p.laDB, `SELECT count(*) FROM orders WHERE number = 'LA-14' AND notes = 'refused'`, 1)
	count(t, p.region, `SELECT count(*) FROM holdfast.parked WHERE direction = 'down' AND state = 'waiting'`, 0)
	write(t, p.region, `UPDATE orders SET notes = 'again' WHERE number = 'LA-13'`)
	equalOrders(t, p.laDB, p.region, "la")
}

func (p *plants) resync(t *testing.T) {
	// What nobody's WAL tells the other side: rows are missing on both.
	tamper(t, p.site.RegionDSN(pgcluster.Apply, pgcluster.Database), "up la 0:1", `DELETE FROM orders WHERE number = 'LA-10'`)
	tamper(t, p.la.DSN(pgcluster.Apply, pgcluster.Database), "down la 0:1", `DELETE FROM customers WHERE name = 'Bluebird'`)
	var r v1.Resync
	eventually(t, func(ctx context.Context) (err error) { // the cable was cut: its stream may be just ending
		r, err = p.site.API.Resync(ctx, "la", v1.ResyncRequest{})
		return err
	})
	if len(r.Down) != 1 || len(r.Up) != 5 {
		t.Fatalf("%+v", r)
	}
	equalOrders(t, p.laDB, p.region, "la")
	count(t, p.region, `SELECT count(*) FROM orders WHERE number = 'LA-10'`, 1)
	same(t, p.laDB, p.region, p.customersTable)
}

func (p *plants) replacedBoxGetsItsRows(t *testing.T) {
	box := addEdgeWith(t, p.site, site.EdgeOptions{ID: "la", Box: "la-2"})
	db := edgeDB(t, box)
	equalOrders(t, db, p.region, "la")
	same(t, db, p.region, p.customersTable)
	// The old box is outside, and knows: what it does is kept there, and goes nowhere.
	eventually(t, func(context.Context) error {
		if log := p.la.Agent.Tail(200); !strings.Contains(log, "another box has taken this one's place") {
			return errors.New("the old box was not told that another took its place")
		}
		return nil
	})
	write(t, p.laDB, `UPDATE orders SET notes = 'by the old box' WHERE number = 'LA-20'`)
	write(t, db, `UPDATE orders SET notes = 'by the new box' WHERE number = 'LA-21'`)
	count(t, p.region, `SELECT count(*) FROM orders WHERE number = 'LA-21' AND notes = 'by the new box'`, 1)
	// What is edited here while the new box sends its rows up is decided for the
	// box's, as a conflict that is told; an edit behind that stands.
	eventually(t, func(ctx context.Context) error {
		write(t, p.region, `UPDATE orders SET notes = 'seen' WHERE number = 'LA-22' AND notes IS DISTINCT FROM 'seen'`)
		var notes string
		err := db.QueryRow(ctx, `SELECT coalesce(notes, '') FROM orders WHERE number = 'LA-22'`).Scan(&notes)
		if err == nil && notes != "seen" {
			err = fmt.Errorf("the order's notes are %q at the box", notes)
		}
		return err
	})
	equalOrders(t, db, p.region, "la")
	count(t, p.region, `SELECT count(*) FROM orders WHERE notes = 'by the old box'`, 0)
}

// tamper changes rows as if the other side had made the change.
func tamper(t *testing.T, dsn, origin, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `BEGIN; SET LOCAL session_replication_role = replica;
		SELECT pg_logical_emit_message(true, 'holdfast', '`+origin+`'); `+sql+`; COMMIT`); err != nil {
		t.Fatal(err)
	}
}

// equalOrders waits until both databases have the same orders of a facility.
func equalOrders(t *testing.T, edge, region *pgxpool.Pool, facility string) {
	t.Helper()
	same(t, edge, region, compare.Table{Schema: "public", Name: "orders", Where: "facility_id = '" + facility + "'"})
}

func write(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// count waits until the query counts n.
func count(t *testing.T, db *pgxpool.Pool, sql string, n int) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		var got int
		err := db.QueryRow(ctx, sql).Scan(&got)
		if err == nil && got != n {
			err = fmt.Errorf("%s: %d, want %d", sql, got, n)
		}
		return err
	})
}

// same waits until both databases have the same rows.
func same(t *testing.T, a, b *pgxpool.Pool, tables ...compare.Table) {
	t.Helper()
	eventually(t, func(ctx context.Context) error { return compare.Tables(ctx, a, b, tables...) })
}
