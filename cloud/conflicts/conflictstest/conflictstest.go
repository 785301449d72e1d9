// Package conflictstest fills a region's database with rows that both sides
// changed, as a corrugated box plant would have them.
//
// In:  the tests of cloud/conflicts, cloud/api, cloud/dashboard and their callers.
// Out: the region's PostgreSQL.
package conflictstest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	workspace "github.com/agogsaas/holdfast/internal/workspace/migrations"
)

// Conflicts that Fill makes, all of facility la and open.
const (
	// Quantity: maria at the plant and olga in the region changed an order's
	// quantity and notes; the plant's version stands.
	Quantity = "0d4b6f5e-0000-4000-8000-000000000001"
	// Deleted: the plant deleted an order that the region had changed.
	Deleted = "0d4b6f5e-0000-4000-8000-000000000002"
	// Kept: the region deleted an order that the plant had changed.
	Kept = "0d4b6f5e-0000-4000-8000-000000000003"
	// Stock: an article in stock, merged: the reorder level is the region's.
	Stock = "0d4b6f5e-0000-4000-8000-000000000004"
	// Own: a row of a table that has a schema for each facility; the region's
	// version stands, and both added it.
	Own = "0d4b6f5e-0000-4000-8000-000000000005"
)

// Orders of the conflicts.
const (
	QuantityOrder = "7a1c0000-0000-4000-8000-000000000001"
	DeletedOrder  = "7a1c0000-0000-4000-8000-000000000002"
	KeptOrder     = "7a1c0000-0000-4000-8000-000000000003"
)

// Fill makes the workspace's tables, facilities la and frankfurt, and five
// conflicts whose decisions the rows follow.
func Fill(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if err := workspace.Up(ctx, db); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, fill); err != nil {
		t.Fatal(err)
	}
}

// More adds n conflicts of frankfurt, a minute apart, the newest an hour ago.
func More(t testing.TB, pool *pgxpool.Pool, n int) {
	t.Helper()
	_, err := pool.Exec(context.WithoutCancel(t.Context()), `
		INSERT INTO holdfast.conflict (id, facility_id, at, schema_name, table_name, key, kind, policy, decision, edge_row, cloud_row, fields, edge_seq, cloud_seq, edge_by)
		SELECT gen_random_uuid(), 'frankfurt', now() - interval '1 hour' - i * interval '1 minute', 'public', 'inventory_items',
		       jsonb_build_object('id', gen_random_uuid()::text), 'update_origin_differs', 'edge', 'edge',
		       jsonb_build_object('sku', 'BOARD-' || lpad(i::text, 4, '0'), 'quantity', (i * 10)::text), jsonb_build_object('sku', 'BOARD-' || lpad(i::text, 4, '0'), 'quantity', (i * 10 + 5)::text),
		       '{quantity}', '4294967297:' || i, '4294967297:' || i, 'jonas'
		  FROM generate_series(1, $1) i`, n)
	if err != nil {
		t.Fatal(err)
	}
}

const fill = `
INSERT INTO holdfast.facility (id, tenant, name, time_zone, enrolments) VALUES
	('la', 'foo', 'Los Angeles', 'America/Los_Angeles', 1), ('frankfurt', 'foo', 'Frankfurt', 'Europe/Berlin', 1) ON CONFLICT DO NOTHING;
INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, region_schema, policy, cloud_columns, added_by) VALUES
	('public', 'orders', 'fact', 'facility_id', '{schema}', 'edge', '{}', 'admin'),
	('public', 'inventory_items', 'fact', 'facility_id', '{schema}', 'columns', '{reorder_level}', 'admin'),
	('public', 'machines', 'fact', '', '{facility}_{schema}', 'cloud', '{}', 'admin')
	ON CONFLICT (schema_name, table_name) DO UPDATE SET policy = excluded.policy, cloud_columns = excluded.cloud_columns;
CREATE SCHEMA IF NOT EXISTS la_public;
CREATE TABLE la_public.machines (code text PRIMARY KEY, name text NOT NULL, speed numeric(8,2), running boolean NOT NULL DEFAULT false);
INSERT INTO la_public.machines VALUES ('FFG-2', 'Flexo folder gluer 2', 240.00, true);

INSERT INTO orders (id, facility_id, number, customer, product, quantity, due_date, status, notes, created_by, created_at, updated_at) VALUES
	('7a1c0000-0000-4000-8000-000000000001', 'la', 'A-10482', 'Cedar & Sons', 'Corrugated box 400x300x200, double wall', 2500, '2026-12-01', 'in_production', 'Print <both> sides', 'maria', '2026-11-20 15:00+00', '2026-11-26 17:02+00'),
	('7a1c0000-0000-4000-8000-000000000003', 'la', 'A-10466', 'Harbor Foods', 'Corrugated tray 600x400, single wall', 800, '2026-11-28', 'ready', '', 'jonas', '2026-11-18 15:00+00', '2026-11-26 16:10+00');
INSERT INTO inventory_items (id, facility_id, sku, name, quantity, unit, reorder_level, location, updated_at) VALUES
	('7b1c0000-0000-4000-8000-000000000001', 'la', 'BOARD-EB', 'EB-flute board 1200x800', 1180.000, 'sheets', 500.000, 'B-04', '2026-11-26 15:30+00');

INSERT INTO holdfast.conflict (id, facility_id, at, schema_name, table_name, key, kind, policy, decision, edge_row, cloud_row, fields, edge_seq, cloud_seq, edge_at, cloud_at, edge_by, cloud_by) VALUES
	('0d4b6f5e-0000-4000-8000-000000000001', 'la', now() - interval '4 minutes', 'public', 'orders', '{"id": "7a1c0000-0000-4000-8000-000000000001"}', 'update_origin_differs', 'edge', 'edge',
	 '{"id": "7a1c0000-0000-4000-8000-000000000001", "facility_id": "la", "number": "A-10482", "customer": "Cedar & Sons", "product": "Corrugated box 400x300x200, double wall", "quantity": "2500", "unit": "pcs", "due_date": "2026-12-01", "status": "in_production", "notes": "Print <both> sides", "created_by": "maria", "created_at": "2026-11-20 15:00:00+00", "updated_at": "2026-11-26 17:02:00+00"}',
	 '{"id": "7a1c0000-0000-4000-8000-000000000001", "facility_id": "la", "number": "A-10482", "customer": "Cedar & Sons", "product": "Corrugated box 400x300x200, double wall", "quantity": "3000", "unit": "pcs", "due_date": "2026-12-03", "status": "in_production", "notes": "", "created_by": "maria", "created_at": "2026-11-20 15:00:00+00", "updated_at": "2026-11-26 17:01:30+00"}',
	 '{quantity,due_date,notes,updated_at}', '4294967297:812', '4294967297:404', now() - interval '9 minutes', now() - interval '11 minutes', 'maria', 'olga'),
	('0d4b6f5e-0000-4000-8000-000000000002', 'la', now() - interval '26 minutes', 'public', 'orders', '{"id": "7a1c0000-0000-4000-8000-000000000002"}', 'update_deleted', 'edge', 'edge',
	 NULL,
	 '{"id": "7a1c0000-0000-4000-8000-000000000002", "facility_id": "la", "number": "A-10471", "customer": "Northwind Paper", "product": "Mailer C5", "quantity": "1200", "unit": "pcs", "due_date": "2026-12-09", "status": "planned", "notes": "Deliver in the morning", "created_by": "jonas", "created_at": "2026-11-19 15:00:00+00", "updated_at": "2026-11-26 16:40:00+00"}',
	 '{}', '4294967297:790', '4294967297:399', now() - interval '31 minutes', now() - interval '33 minutes', 'jonas', 'olga'),
	('0d4b6f5e-0000-4000-8000-000000000003', 'la', now() - interval '2 hours', 'public', 'orders', '{"id": "7a1c0000-0000-4000-8000-000000000003"}', 'delete_origin_differs', 'edge', 'edge',
	 '{"id": "7a1c0000-0000-4000-8000-000000000003", "facility_id": "la", "number": "A-10466", "customer": "Harbor Foods", "product": "Corrugated tray 600x400, single wall", "quantity": "800", "unit": "pcs", "due_date": "2026-11-28", "status": "ready", "notes": "", "created_by": "jonas", "created_at": "2026-11-18 15:00:00+00", "updated_at": "2026-11-26 16:10:00+00"}',
	 NULL,
	 '{}', '4294967297:755', '4294967297:380', now() - interval '125 minutes', now() - interval '127 minutes', 'maria', ''),
	('0d4b6f5e-0000-4000-8000-000000000004', 'la', now() - interval '3 hours', 'public', 'inventory_items', '{"id": "7b1c0000-0000-4000-8000-000000000001"}', 'update_origin_differs', 'columns', 'merged',
	 '{"id": "7b1c0000-0000-4000-8000-000000000001", "facility_id": "la", "sku": "BOARD-EB", "name": "EB-flute board 1200x800", "quantity": "1180.000", "unit": "sheets", "reorder_level": "400.000", "location": "B-04", "updated_at": "2026-11-26 15:30:00+00"}',
	 '{"id": "7b1c0000-0000-4000-8000-000000000001", "facility_id": "la", "sku": "BOARD-EB", "name": "EB-flute board 1200x800", "quantity": "1240.000", "unit": "sheets", "reorder_level": "500.000", "location": "B-04", "updated_at": "2026-11-26 15:29:00+00"}',
	 '{quantity,reorder_level,updated_at}', '4294967297:720', '4294967297:371', now() - interval '185 minutes', now() - interval '186 minutes', 'jonas', 'olga'),
	('0d4b6f5e-0000-4000-8000-000000000005', 'la', now() - interval '1 day', 'public', 'machines', '{"code": "FFG-2"}', 'insert_exists', 'cloud', 'cloud',
	 '{"code": "FFG-2", "name": "Folder gluer", "speed": "180.00", "running": "f"}',
	 '{"code": "FFG-2", "name": "Flexo folder gluer 2", "speed": "240.00", "running": "t"}',
	 '{name,speed,running}', '4294967297:31', '4294967297:12', now() - interval '25 hours', now() - interval '25 hours', '', 'olga');
`
