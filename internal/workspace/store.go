package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/web"
)

var (
	errNotFound = errors.New("not found")
	// errChanged: someone else changed the row since it was read.
	errChanged = errors.New("changed by someone else meanwhile")
)

// pageMax is how many rows one page or API answer holds at most.
const pageMax = 200

// store reads and writes one facility's rows.
type store struct {
	pool     *pgxpool.Pool
	facility string
}

// write runs fn in a transaction that says who makes it: where two sides
// change a row at once, people see by whom each version is.
func (s store) write(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if who, ok := web.From(ctx); ok && who.Name != "" {
			if _, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, 'holdfast.author', $1::text)`, who.Name); err != nil {
				return fmt.Errorf("say who writes: %w", err)
			}
		}
		return fn(tx)
	})
}

const orderColumns = `id::text, facility_id, number, customer, product, quantity, unit,
	coalesce(to_char(due_date, 'YYYY-MM-DD'), ''), status, notes, created_by, created_at, updated_at`

func scanOrder(row pgx.CollectableRow) (Order, error) {
	var o Order
	err := row.Scan(&o.ID, &o.Facility, &o.Number, &o.Customer, &o.Product, &o.Quantity, &o.Unit,
		&o.DueDate, &o.Status, &o.Notes, &o.CreatedBy, &o.CreatedAt, &o.UpdatedAt)
	return o, err
}

// orderQuery selects orders, newest first. After continues behind the order
// with that id.
type orderQuery struct {
	Status string // a code, "open" for all that are not shipped or cancelled, "" for all
	Text   string // in number, customer or product
	After  string
	Limit  int
}

func (s store) orders(ctx context.Context, q orderQuery) ([]Order, error) {
	if q.Limit <= 0 || q.Limit > pageMax {
		q.Limit = pageMax
	}
	rows, err := s.pool.Query(ctx, `
		SELECT `+orderColumns+`
		FROM orders
		WHERE facility_id = $1
		  AND ($2 = '' OR status = $2 OR ($2 = 'open' AND status NOT IN ('shipped', 'cancelled')))
		  AND ($3 = '' OR position(lower($3) IN lower(number || ' ' || customer || ' ' || product)) > 0)
		  AND ($4 = '' OR (created_at, id) < (SELECT created_at, id FROM orders WHERE id = nullif($4, '')::uuid))
		ORDER BY created_at DESC, id DESC
		LIMIT $5`, s.facility, q.Status, q.Text, q.After, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanOrder)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	return list, nil
}

// openCounts returns how many orders stand at each status.
func (s store) openCounts(ctx context.Context) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, `SELECT status, count(*) FROM orders WHERE facility_id = $1 GROUP BY status`, s.facility)
	if err != nil {
		return nil, fmt.Errorf("count orders: %w", err)
	}
	counts := map[string]int{}
	var status string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&status, &n}, func() error { counts[status] = n; return nil })
	if err != nil {
		return nil, fmt.Errorf("count orders: %w", err)
	}
	return counts, nil
}

func (s store) order(ctx context.Context, id string) (Order, error) {
	if !isUUID(id) {
		return Order{}, errNotFound
	}
	rows, err := s.pool.Query(ctx, `SELECT `+orderColumns+` FROM orders WHERE facility_id = $1 AND id = $2`, s.facility, id)
	if err != nil {
		return Order{}, fmt.Errorf("read order: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	if errors.Is(err, pgx.ErrNoRows) {
		return Order{}, errNotFound
	}
	if err != nil {
		return Order{}, fmt.Errorf("read order: %w", err)
	}
	return o, nil
}

// create adds the order under its ID. made is false if that ID is there
// already: then the order that is there is returned.
func (s store) create(ctx context.Context, o Order, req request) (_ Order, made bool, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
		INSERT INTO orders (id, facility_id, number, customer, product, quantity, unit, due_date, status, notes, created_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, '')::date, $9, $10, $11)
		ON CONFLICT (id) DO NOTHING`,
			o.ID, s.facility, o.Number, o.Customer, o.Product, o.Quantity, o.Unit, o.DueDate, o.Status, o.Notes, o.CreatedBy)
		if err != nil {
			return err
		}
		made = tag.RowsAffected() == 1
		return req.remember(ctx, tx, o.ID, made)
	})
	if err != nil {
		return Order{}, false, fmt.Errorf("save order: %w", err)
	}
	o, err = s.order(ctx, o.ID)
	return o, made, err
}

// update writes the order. If seen is not zero and the row is not of that
// version, nothing is written and the error is errChanged.
func (s store) update(ctx context.Context, o Order, seen time.Time) (Order, error) {
	if !isUUID(o.ID) {
		return Order{}, errNotFound
	}
	var version *time.Time
	if !seen.IsZero() {
		version = &seen
	}
	written := false
	err := s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
		UPDATE orders SET number = $3, customer = $4, product = $5, quantity = $6, unit = $7,
			due_date = nullif($8, '')::date, status = $9, notes = $10, updated_at = clock_timestamp()
		WHERE facility_id = $1 AND id = $2 AND ($11::timestamptz IS NULL OR updated_at = $11)`,
			s.facility, o.ID, o.Number, o.Customer, o.Product, o.Quantity, o.Unit, o.DueDate, o.Status, o.Notes, version)
		written = tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		return Order{}, fmt.Errorf("save order: %w", err)
	}
	now, err := s.order(ctx, o.ID)
	if err == nil && !written {
		return now, errChanged
	}
	return now, err
}

func (s store) lines(ctx context.Context, orderID string) ([]Line, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id::text, position, description, trim_scale(quantity)::text, unit
		FROM order_lines WHERE facility_id = $1 AND order_id = $2 ORDER BY position, id`, s.facility, orderID)
	if err != nil {
		return nil, fmt.Errorf("list lines: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Line, err error) {
		err = row.Scan(&l.ID, &l.Position, &l.Description, &l.Quantity, &l.Unit)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("list lines: %w", err)
	}
	return list, nil
}

// addLine adds the line under its ID at the end of the order, once, and returns
// the one that is there.
func (s store) addLine(ctx context.Context, orderID string, l Line, req request) (_ Line, made bool, err error) {
	if !isUUID(orderID) {
		return Line{}, false, errNotFound
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
		INSERT INTO order_lines (id, facility_id, order_id, position, description, quantity, unit)
		SELECT $1, $2, o.id, 1 + coalesce((SELECT max(position) FROM order_lines WHERE order_id = o.id), 0), $4, $5::text::numeric, $6
		FROM orders o WHERE o.facility_id = $2 AND o.id = $3
		ON CONFLICT (id) DO NOTHING`, l.ID, s.facility, orderID, l.Description, l.Quantity, l.Unit)
		if err != nil {
			return err
		}
		made = tag.RowsAffected() == 1
		if err := req.remember(ctx, tx, l.ID, made); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			SELECT position, description, trim_scale(quantity)::text, unit
			FROM order_lines WHERE facility_id = $1 AND id = $2`, s.facility, l.ID).Scan(&l.Position, &l.Description, &l.Quantity, &l.Unit)
	})
	if errors.Is(err, pgx.ErrNoRows) { // no such order
		return Line{}, false, errNotFound
	}
	if err != nil {
		return Line{}, false, fmt.Errorf("save line: %w", err)
	}
	return l, made, nil
}

// suggestions are the names of customers and products for the order form. The
// region keeps them; where it keeps none, nothing is suggested.
func (s store) suggestions(ctx context.Context) (customers, products []string, err error) {
	for _, q := range []struct {
		sql  string
		into *[]string
	}{
		{`SELECT name FROM customers ORDER BY name LIMIT $1`, &customers},
		{`SELECT name FROM products ORDER BY name LIMIT $1`, &products},
	} {
		rows, err := s.pool.Query(ctx, q.sql, suggestionsMax)
		if err != nil {
			return nil, nil, fmt.Errorf("list suggestions: %w", err)
		}
		if *q.into, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, nil, fmt.Errorf("list suggestions: %w", err)
		}
	}
	return customers, products, nil
}

// suggestionsMax is how many names of each kind a form offers.
const suggestionsMax = 500

// violates reports whether err is the breach of the named constraint.
func violates(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.ConstraintName == constraint
}
