package workspace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Item is one kind of thing in stock.
type Item struct {
	ID           string    `json:"id"`
	Facility     string    `json:"facility"`
	SKU          string    `json:"sku"`
	Name         string    `json:"name"`
	Quantity     string    `json:"quantity"` // decimal
	Unit         string    `json:"unit"`
	ReorderLevel string    `json:"reorder_level"` // decimal
	Location     string    `json:"location"`
	Low          bool      `json:"low"` // at or below the reorder level
	UpdatedAt    time.Time `json:"updated_at"`
}

// Movement is one change of stock.
type Movement struct {
	ID     string    `json:"id"`
	ItemID string    `json:"item_id"`
	Delta  string    `json:"delta"` // decimal, not zero
	Reason string    `json:"reason"`
	Worker string    `json:"worker"`
	At     time.Time `json:"at"`
}

const itemColumns = `id::text, facility_id, sku, name, trim_scale(quantity)::text, unit,
	trim_scale(reorder_level)::text, location, quantity <= reorder_level, updated_at`

func scanItem(row pgx.CollectableRow) (Item, error) {
	var i Item
	err := row.Scan(&i.ID, &i.Facility, &i.SKU, &i.Name, &i.Quantity, &i.Unit, &i.ReorderLevel, &i.Location, &i.Low, &i.UpdatedAt)
	return i, err
}

// items lists the stock by name; low keeps only what must be ordered again.
func (s store) items(ctx context.Context, text string, low bool) ([]Item, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT `+itemColumns+`
		FROM inventory_items
		WHERE facility_id = $1
		  AND ($2 = '' OR position(lower($2) IN lower(sku || ' ' || name || ' ' || location)) > 0)
		  AND (NOT $3 OR quantity <= reorder_level)
		ORDER BY name, sku LIMIT $4`, s.facility, text, low, pageMax)
	if err != nil {
		return nil, fmt.Errorf("list stock: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanItem)
	if err != nil {
		return nil, fmt.Errorf("list stock: %w", err)
	}
	return list, nil
}

func (s store) item(ctx context.Context, id string) (Item, error) {
	if !isUUID(id) {
		return Item{}, errNotFound
	}
	rows, err := s.pool.Query(ctx, `SELECT `+itemColumns+` FROM inventory_items WHERE facility_id = $1 AND id = $2`, s.facility, id)
	if err != nil {
		return Item{}, fmt.Errorf("read item: %w", err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, scanItem)
	if errors.Is(err, pgx.ErrNoRows) {
		return Item{}, errNotFound
	}
	if err != nil {
		return Item{}, fmt.Errorf("read item: %w", err)
	}
	return i, nil
}

// createItem adds the item under its ID, once.
func (s store) createItem(ctx context.Context, i Item, req request) (_ Item, made bool, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
		INSERT INTO inventory_items (id, facility_id, sku, name, quantity, unit, reorder_level, location)
		VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7::text::numeric, $8)
		ON CONFLICT (id) DO NOTHING`, i.ID, s.facility, i.SKU, i.Name, i.Quantity, i.Unit, i.ReorderLevel, i.Location)
		if err != nil {
			return err
		}
		made = tag.RowsAffected() == 1
		return req.remember(ctx, tx, i.ID, made)
	})
	if err != nil {
		return Item{}, false, fmt.Errorf("save item: %w", err)
	}
	i, err = s.item(ctx, i.ID)
	return i, made, err
}

func (s store) movements(ctx context.Context, itemID string) ([]Movement, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id::text, item_id::text, trim_scale(delta)::text, reason, worker, at
		FROM inventory_transactions WHERE facility_id = $1 AND item_id = $2
		ORDER BY at DESC, id LIMIT 50`, s.facility, itemID)
	if err != nil {
		return nil, fmt.Errorf("list movements: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Movement, err error) {
		err = row.Scan(&m.ID, &m.ItemID, &m.Delta, &m.Reason, &m.Worker, &m.At)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("list movements: %w", err)
	}
	return list, nil
}

// errNegative: the movement would leave less than nothing.
var errNegative = errors.New("less than nothing would be left")

// adjust records a movement under its ID and changes the item's quantity in
// the same transaction. A movement that is there already changes nothing, so
// that a double tap counts once.
func (s store) adjust(ctx context.Context, m Movement, req request) (Item, error) {
	if !isUUID(m.ItemID) {
		return Item{}, errNotFound
	}
	err := s.write(ctx, func(tx pgx.Tx) error {
		var enough bool
		err := tx.QueryRow(ctx, `
			SELECT quantity + $3::text::numeric >= 0 FROM inventory_items
			WHERE facility_id = $1 AND id = $2 FOR UPDATE`, s.facility, m.ItemID, m.Delta).Scan(&enough)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return fmt.Errorf("lock item: %w", err)
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO inventory_transactions (id, facility_id, item_id, delta, reason, worker)
			VALUES ($1, $2, $3, $4::text::numeric, $5, $6) ON CONFLICT (id) DO NOTHING`,
			m.ID, s.facility, m.ItemID, m.Delta, m.Reason, m.Worker)
		if err != nil {
			return fmt.Errorf("record movement: %w", err)
		}
		made := tag.RowsAffected() == 1
		if err := req.remember(ctx, tx, m.ID, made); err != nil || !made {
			return err
		}
		if !enough {
			return errNegative
		}
		_, err = tx.Exec(ctx, `
			UPDATE inventory_items SET quantity = quantity + $3::text::numeric, updated_at = clock_timestamp()
			WHERE facility_id = $1 AND id = $2`, s.facility, m.ItemID, m.Delta)
		if err != nil {
			return fmt.Errorf("change stock: %w", err)
		}
		return nil
	})
	if err != nil {
		return Item{}, err
	}
	return s.item(ctx, m.ItemID)
}

// Signed is the movement's amount with its sign.
func (m Movement) Signed() string {
	if strings.HasPrefix(m.Delta, "-") {
		return "−" + m.Delta[1:]
	}
	return "+" + m.Delta
}
