package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const insertOrder = `INSERT INTO orders (facility_id, number, customer, product, quantity, created_by)
	VALUES ($1, $2, 'Bluebird Coffee Roasters', 'corrugated box B 40x30x20', $3, 'worker')`

// sameOrders compares what a facility has with what its region has of it.
func sameOrders(ctx context.Context, facility string, edge, region *pgxpool.Pool) error {
	const digest = `SELECT count(*) || ' ' || coalesce(md5(string_agg(o::text, ',' ORDER BY id)), '')
		FROM orders o WHERE facility_id = $1`
	var e, r string
	if err := edge.QueryRow(ctx, digest, facility).Scan(&e); err != nil {
		return err
	}
	if err := region.QueryRow(ctx, digest, facility).Scan(&r); err != nil {
		return err
	}
	if e != r {
		return fmt.Errorf("edge has %s, region has %s", e, r)
	}
	return nil
}

func TestOutageAndReturn(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	la, frankfurt := addEdge(t, s, "la"), addEdge(t, s, "frankfurt")
	addWorkspace(t, s)
	ledge, fedge, region := edgeDB(t, la), edgeDB(t, frankfurt), regionDB(t, s)

	write := func(db *pgxpool.Pool, facility string, from, n int) {
		t.Helper()
		for i := from; i < from+n; i++ {
			if _, err := db.Exec(t.Context(), insertOrder, facility, fmt.Sprintf("A-%d", i), i+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(ledge, "la", 0, 20)
	write(fedge, "frankfurt", 0, 20)
	eventually(t, 20*time.Second, func(ctx context.Context) error { return sameOrders(ctx, "la", ledge, region) })
	eventually(t, 20*time.Second, func(ctx context.Context) error { return sameOrders(ctx, "frankfurt", fedge, region) })

	la.Cut()
	write(ledge, "la", 20, 300)
	if _, err := ledge.Exec(t.Context(), `UPDATE orders SET status = 'shipped' WHERE quantity % 3 = 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := ledge.Exec(t.Context(), `DELETE FROM orders WHERE quantity % 7 = 0`); err != nil {
		t.Fatal(err)
	}
	write(fedge, "frankfurt", 20, 50)
	eventually(t, 20*time.Second, func(ctx context.Context) error { return sameOrders(ctx, "frankfurt", fedge, region) })
	if err := sameOrders(t.Context(), "la", ledge, region); err == nil {
		t.Fatal("the cable was cut, and yet the region has everything")
	}

	la.Restore()
	eventually(t, 30*time.Second, func(ctx context.Context) error { return sameOrders(ctx, "la", ledge, region) })
}
