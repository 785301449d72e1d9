package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/test/rig/site"
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
	s := startBareSite(t, site.Options{})
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
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "la", ledge, region) })
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "frankfurt", fedge, region) })

	la.Cut()
	write(ledge, "la", 20, 300)
	if _, err := ledge.Exec(t.Context(), `UPDATE orders SET status = 'shipped' WHERE quantity % 3 = 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := ledge.Exec(t.Context(), `DELETE FROM orders WHERE quantity % 7 = 0`); err != nil {
		t.Fatal(err)
	}
	write(fedge, "frankfurt", 20, 50)
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "frankfurt", fedge, region) })
	if err := sameOrders(t.Context(), "la", ledge, region); err == nil {
		t.Fatal("the cable was cut, and yet the region has everything")
	}

	// The workspace works on: an order that is taken in it now is among the others.
	taken := takeOrder(t, s, la)
	if err := wantOrder(t.Context(), ledge, taken); err != nil {
		t.Fatal(err)
	}

	la.Restore()
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "la", ledge, region) })
	if err := wantOrder(t.Context(), region, taken); err != nil {
		t.Error(err)
	}
}

// takeOrder signs in at a box and posts an order to its workspace, as a worker's
// program does. It returns the order's id.
func takeOrder(t *testing.T, s *site.Site, e *site.Edge) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	post := func(path, kind, body string, want int) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, e.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("POST %s: %d %s, %v, want %d", path, resp.StatusCode, raw, err, want)
		}
		return raw
	}
	post("/sign-in", "application/x-www-form-urlencoded", url.Values{"name": {"admin"}, "password": {s.AdminPassword}}.Encode(), http.StatusSeeOther)
	var made struct{ ID string }
	if err := json.Unmarshal(post("/api/workspace/v1/orders", "application/json",
		`{"customer": "Bluebird Coffee Roasters", "product": "corrugated box B 40x30x20", "quantity": 50}`, http.StatusCreated), &made); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func wantOrder(ctx context.Context, db *pgxpool.Pool, id string) error {
	var n int
	err := db.QueryRow(ctx, `SELECT count(*) FROM orders WHERE id = $1 AND quantity = 50`, id).Scan(&n)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d orders with the id %s", n, id)
	}
	return err
}
