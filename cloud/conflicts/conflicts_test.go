package conflicts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts/conflictstest"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func newDesk(t *testing.T) (*Desk, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.Migrated(t, "region", migrations.Up).Pool(t)
	conflictstest.Fill(t, pool)
	return New(pool), pool
}

func TestOpenConflictsAreCountedOnceForAllWhoLook(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if n, many, err := d.Open(t.Context(), "la"); n != 5 || many || err != nil {
				t.Errorf("%d %v %v", n, many, err)
			}
		})
	}
	all.Wait()
	d.mu.Lock()
	if d.counts > 2 { // a slow machine may need a second
		t.Errorf("%d queries for 20 looks", d.counts)
	}
	d.mu.Unlock()
	if _, err := d.Acknowledge(t.Context(), conflictstest.Own, "omar", ""); err != nil {
		t.Fatal(err)
	}
	if n, _, err := d.Open(t.Context(), "la"); n != 4 || err != nil {
		t.Errorf("%d after one was dealt with, %v", n, err)
	}
}

// Two operators press their buttons at once: one of them is told.
func TestOnlyOneDealsWithAConflict(t *testing.T) {
	t.Parallel()
	d, pool := newDesk(t)
	var all sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		all.Go(func() {
			if i%2 == 0 {
				_, errs[i] = d.Acknowledge(context.Background(), conflictstest.Kept, "a", "")
				return
			}
			_, errs[i] = d.Restore(context.Background(), conflictstest.Kept, "b", v1.ConflictRestore{})
		})
	}
	all.Wait()
	done, restored := 0, 0
	for i, err := range errs {
		if err == nil {
			done++
			restored += i % 2
		}
	}
	if done == 0 || restored > 1 {
		t.Errorf("restored %d times: %v", restored, errs)
	}
	var logged int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.audit WHERE what = 'conflict.restore'`).Scan(&logged); err != nil || logged != restored {
		t.Errorf("%d in the audit log, %v", logged, err)
	}
}

// The author is in the WAL with the row, so that the box can tell who it was.
func TestARestoredVersionHasItsAuthor(t *testing.T) {
	t.Parallel()
	d, pool := newDesk(t)
	ctx := t.Context()
	if _, err := pool.Exec(ctx, `SELECT pg_create_logical_replication_slot('look', 'test_decoding')`); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if _, err := d.Restore(ctx, conflictstest.Quantity, "olga", v1.ConflictRestore{DryRun: dry}); err != nil {
			t.Fatal(err)
		}
	}
	// Only what is on the disk is decoded.
	if _, err := pool.Exec(ctx, `SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', '')`); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(ctx, `SELECT data FROM pg_logical_slot_get_changes('look', NULL, NULL)`)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"holdfast.author", "table public.orders: UPDATE"} {
			if strings.Contains(s, part) {
				seen = append(seen, part)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []string{"holdfast.author", "table public.orders: UPDATE"}) {
		t.Errorf("in the WAL: %v", seen)
	}
}

func TestEveryDecisionIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	some := row{"id": nil}
	for _, c := range []struct {
		r    record
		want string
	}{
		{record{Kind: "update_origin_differs", Policy: "edge", Decision: "edge", EdgeRow: some, CloudRow: some}, "both changed this row before either had heard of the other. In this table the facility decides: its version stood on both sides."},
		{record{Kind: "insert_exists", Policy: "cloud", Decision: "cloud", EdgeRow: some, CloudRow: some}, "both added this row before either had heard of the other. In this table the region decides: its version stood on both sides."},
		{record{Kind: "update_deleted", Policy: "edge", Decision: "edge", CloudRow: some}, "The region changed this row and the facility had deleted it, before either had heard of the other. In this table the facility decides: the row stayed deleted."},
		{record{Kind: "update_deleted", Policy: "cloud", Decision: "cloud", CloudRow: some}, "In this table the region decides: the row was kept, with the region's values."},
		{record{Kind: "delete_origin_differs", Policy: "edge", Decision: "edge", EdgeRow: some}, "The region deleted this row and the facility had changed it, before either had heard of the other. In this table the facility decides: the row was kept, with the facility's values."},
		{record{Kind: "delete_origin_differs", Policy: "cloud", Decision: "cloud", EdgeRow: some}, "In this table the region decides: the row was deleted on both sides."},
		{record{Kind: "update_origin_differs", Policy: "columns", Decision: "edge", EdgeRow: some, CloudRow: some}, "Its version stood on both sides."},
		{record{Kind: "update_origin_differs", Policy: "columns", Decision: "merged", Fields: []string{"a", "price", "unit"}, CloudColumns: []string{"price", "unit", "x"}}, "the region's price and unit stood, and the facility's values in all others."},
		{record{Kind: "update_origin_differs", Policy: "corrected", Decision: "cloud", EdgeRow: some, CloudRow: some, CloudBy: "olga"}, "so that it was parked. olga corrected it there, and the corrected version stood on both sides. The facility's is kept here."},
		{record{Kind: "update_deleted", Policy: "corrected", Decision: "cloud", CloudRow: some, CloudBy: "olga"}, "olga corrected it there, and the corrected row stood on both sides; the facility had deleted it."},
		{record{Kind: "delete_origin_differs", Policy: "corrected", Decision: "cloud", EdgeRow: some, CloudBy: "olga"}, "olga corrected what was parked, and the row was deleted on both sides."},
	} {
		if got := c.r.summary(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s %s: %q", c.r.Kind, c.r.Decision, got)
		}
	}
}

// What the facility had before it was corrected is written like any other version.
func TestTheVersionBeforeACorrectionIsRestored(t *testing.T) {
	t.Parallel()
	d, pool := newDesk(t)
	ctx := t.Context()
	if _, err := pool.Exec(ctx, `UPDATE holdfast.conflict SET policy = 'corrected', decision = 'cloud', edge_row = edge_row || '{"quantity": "2400"}', cloud_row = edge_row,
		fields = '{quantity}', edge_at = NULL WHERE id = $1`, conflictstest.Quantity); err != nil {
		t.Fatal(err)
	}
	c, err := d.Show(ctx, conflictstest.Quantity)
	if err != nil || c.Now.Changed || c.Decision != "cloud" || c.EdgeAt != nil {
		t.Errorf("shown as %+v, %v", c, err)
	}
	done, err := d.Restore(ctx, conflictstest.Quantity, "omar", v1.ConflictRestore{})
	if err != nil || done.Version != "edge" || len(done.Warnings) > 0 {
		t.Fatalf("restored %+v, %v", done, err)
	}
	var quantity int
	if err := pool.QueryRow(ctx, `SELECT quantity FROM orders WHERE id = $1`, conflictstest.QuantityOrder).Scan(&quantity); err != nil || quantity != 2400 {
		t.Errorf("the quantity is %d, %v", quantity, err)
	}
	// It stands from then on, and the other one is the correction.
	if c, err = d.Show(ctx, conflictstest.Quantity); err != nil || c.Stands != "edge" {
		t.Errorf("what stands is %q, %v", c.Stands, err)
	}
	if done, err = d.Restore(ctx, conflictstest.Quantity, "omar", v1.ConflictRestore{DryRun: true}); err != nil || done.Version != "cloud" || done.Write != "update" {
		t.Errorf("the other version is %+v, %v", done, err)
	}
}

// A box of the release before has other names for two kinds.
func TestKindsOfAnOlderBoxAreShownByTheirPresentNames(t *testing.T) {
	t.Parallel()
	d, pool := newDesk(t)
	before, err := d.Count(t.Context(), v1.ConflictFilter{Kind: "delete_origin_differs"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE holdfast.conflict SET kind = CASE kind WHEN 'update_origin_differs' THEN 'update_differs' WHEN 'delete_origin_differs' THEN 'delete_updated' ELSE kind END`); err != nil {
		t.Fatal(err)
	}
	n, err := d.Count(t.Context(), v1.ConflictFilter{Kind: "delete_origin_differs"})
	if err != nil || n != before || n.Open == 0 {
		t.Errorf("%+v, %v; before %+v", n, err, before)
	}
	items, _, err := d.List(t.Context(), v1.ConflictFilter{Kind: "update_origin_differs"}, 10, "")
	if err != nil || len(items) == 0 {
		t.Fatalf("%+v, %v", items, err)
	}
	for _, c := range items {
		if c.Kind != "update_origin_differs" {
			t.Errorf("%s is shown as %s", c.ID, c.Kind)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(place{time.UnixMicro(1), conflictstest.Own}.String())
	f.Add("")
	f.Add("1.x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseCursor(s)
		if err != nil || s == "" {
			return
		}
		if again, err := parseCursor(p.String()); err != nil || again != p {
			t.Errorf("%q: %v, then %v, %v", s, p, again, err)
		}
	})
}

// A box writes what it likes into its conflicts. Only rows of its own may be
// written on its word, not those that the region keeps for all.
func TestARecordAboutMasterDataIsNotRestored(t *testing.T) {
	t.Parallel()
	d, pool := newDesk(t)
	ctx := t.Context()
	const id = "0d4b6f5e-0000-4000-8000-000000000009"
	_, err := pool.Exec(ctx, `
		CREATE TABLE price (id int PRIMARY KEY, val int NOT NULL);
		INSERT INTO price VALUES (1, 100);
		INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', 'price', 'master', '', 'admin');
		INSERT INTO holdfast.conflict (id, facility_id, at, schema_name, table_name, key, kind, policy, decision, edge_row, cloud_row, fields, edge_seq, cloud_seq)
		VALUES ('`+id+`', 'la', now(), 'public', 'price', '{"id": "1"}', 'update_origin_differs', 'cloud', 'cloud', '{"id": "1", "val": "0"}', '{"id": "1", "val": "100"}', '{val}', '1:1', '1:1')`)
	if err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		if _, err := d.Restore(ctx, id, "olga", v1.ConflictRestore{Version: "edge", Force: force}); !errors.Is(err, ErrRefused) {
			t.Errorf("restored, or: %v", err)
		}
	}
	var val int
	if err := pool.QueryRow(ctx, `SELECT val FROM price`).Scan(&val); err != nil || val != 100 {
		t.Errorf("the price is %d, %v", val, err)
	}
}
