package workspace

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Customers are made-up companies that order packaging.
var Customers = []string{
	"Bluebird Coffee Roasters", "Nordlicht Lampen GmbH", "Pacific Audio Works", "Harbour Street Bakery",
	"Kranich Optik", "Sunset Surf Supply", "Main-Taunus Apotheke", "Redwood Ceramics", "Feinkost Lindner",
	"Cypress Pet Foods", "Altona Fahrradteile", "Golden Poppy Skincare", "Brückner Werkzeuge", "Mesa Electronics Repair",
}

// Products are what they order.
var Products = products

var seedItems = []struct {
	sku, name, unit, location string
	quantity, reorder         int
}{
	{"COR-SW-B", "Corrugated board, single wall B flute", "sheets", "A-01", 8200, 2000},
	{"COR-SW-C", "Corrugated board, single wall C flute", "sheets", "A-02", 5400, 2000},
	{"COR-DW-BC", "Corrugated board, double wall BC flute", "sheets", "A-03", 1850, 2000},
	{"KRF-125", "Kraft liner 125 g/m², reel", "rolls", "B-01", 46, 12},
	{"BUB-50", "Bubble film 50 cm × 100 m", "rolls", "C-01", 310, 80},
	{"BUB-100", "Bubble film 100 cm × 50 m", "rolls", "C-02", 74, 80},
	{"STR-500", "Stretch film 500 mm × 300 m", "rolls", "C-05", 128, 40},
	{"INK-K", "Flexo ink black", "kg", "D-01", 186, 40},
	{"INK-C", "Flexo ink cyan", "kg", "D-01", 92, 40},
	{"INK-M", "Flexo ink magenta", "kg", "D-01", 61, 40},
	{"INK-Y", "Flexo ink yellow", "kg", "D-01", 38, 40},
	{"GLU-DEX", "Dextrin glue", "kg", "D-04", 540, 150},
	{"LBL-100150", "Label roll 100×150, blank", "rolls", "E-02", 620, 150},
	{"TAP-PP48", "PP tape 48 mm × 66 m", "rolls", "E-04", 1440, 360},
	{"PAL-EUR", "Euro pallet 1200×800", "pallets", "Yard", 212, 60},
	{"CRN-50", "Corner protector 50×50×1000", "pcs", "C-07", 3900, 1000},
}

// Seed fills an empty facility with stock and some weeks of orders, in one
// transaction. It does nothing where the facility has items already. The same
// random source gives the same data.
func Seed(ctx context.Context, pool *pgxpool.Pool, facility string, r *rand.Rand) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var seeded bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM inventory_items WHERE facility_id = $1)`, facility).Scan(&seeded); err != nil {
			return err
		}
		if seeded {
			return nil
		}
		b := &pgx.Batch{}
		for _, i := range seedItems {
			id := keyID(facility, "seed-item", i.sku)
			b.Queue(`INSERT INTO inventory_items (id, facility_id, sku, name, quantity, unit, reorder_level, location)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, id, facility, i.sku, i.name, i.quantity, i.unit, i.reorder, i.location)
			b.Queue(`INSERT INTO inventory_transactions (id, facility_id, item_id, delta, reason, worker)
				VALUES ($1, $2, $3, $4, 'First count', 'warehouse')`, keyID(facility, "seed-count", i.sku), facility, id, i.quantity)
		}
		now := time.Now()
		for n := range 40 {
			id := keyID(facility, "seed-order", fmt.Sprint(n))
			at := now.Add(-time.Duration(n*9+r.IntN(9)) * time.Hour)
			status := Statuses[min(n/8, 4)].Code
			if r.IntN(14) == 0 {
				status = "cancelled"
			}
			b.Queue(`INSERT INTO orders (id, facility_id, number, customer, product, quantity, unit, due_date, status, created_by, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, 'pcs', $7, $8, 'office', $9, $9)`,
				id, facility, orderNumber(facility, id, at), Customers[r.IntN(len(Customers))], products[r.IntN(len(products))],
				(1+r.IntN(80))*50, at.AddDate(0, 0, 4+r.IntN(12)).Format(time.DateOnly), status, at)
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("seed facility %s: %w", facility, err)
	}
	return nil
}

// SeedMaster fills a region that has neither with customers and products, for
// all its facilities.
func SeedMaster(ctx context.Context, pool *pgxpool.Pool) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var seeded bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM products)`).Scan(&seeded); err != nil {
			return err
		}
		if seeded {
			return nil
		}
		b := &pgx.Batch{}
		for _, name := range Customers {
			b.Queue(`INSERT INTO customers (id, name) VALUES ($1, $2)`, keyID("", "seed-customer", name), name)
		}
		for i, name := range products {
			b.Queue(`INSERT INTO products (sku, name, price) VALUES ($1, $2, $3::text::numeric)`,
				fmt.Sprintf("P-%03d", i+1), name, fmt.Sprintf("%d.%02d", 1+i*7%40, i*35%100))
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("seed the region's customers and products: %w", err)
	}
	return nil
}
