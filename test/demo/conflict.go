package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// A conflict on cue: the link is cut, the same order is changed on both sides,
// and the link comes back. What then happens is the product's.

// conflictWithin bounds how long both sides may take to agree: the tunnel comes
// back first.
const conflictWithin = 60 * time.Second

// conflict is what came of it; holdfastctl demo conflict reads it.
type conflict struct {
	ID       string          `json:"id"`
	Facility string          `json:"facility"`
	Order    string          `json:"order"` // its number
	OrderID  string          `json:"order_id"`
	Kind     string          `json:"kind"`
	Decision string          `json:"decision"`
	Fields   []string        `json:"fields"`
	EdgeRow  json.RawMessage `json:"edge_row"`
	CloudRow json.RawMessage `json:"cloud_row"`
	EdgeBy   string          `json:"edge_by"`
	CloudBy  string          `json:"cloud_by"`
	At       time.Time       `json:"at"`
	Stands   string          `json:"stands"` // the notes that both sides have now
}

// conflictAt serves POST /conflict/{facility}.
func (d *demo) conflictAt(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("facility")
	d.mu.Lock()
	e := d.edges[id]
	_, cut := d.cutAt[id]
	d.mu.Unlock()
	switch {
	case e == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "the demo has no facility %q", id)
		return
	case cut:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%s is cut off; restore it first", id)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), conflictWithin)
	defer cancel()
	c, err := d.makeConflict(ctx, e)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, err)
		return
	}
	answer(w, c)
}

func (d *demo) makeConflict(ctx context.Context, e *site.Edge) (conflict, error) {
	region, err := pgx.Connect(ctx, d.site.RegionDSN(pgcluster.Owner, pgcluster.Database))
	if err != nil {
		return conflict{}, fmt.Errorf("reach the region's database: %w", err)
	}
	defer region.Close(context.WithoutCancel(ctx))
	c := conflict{Facility: e.ID}
	err = region.QueryRow(ctx, `SELECT id::text, number FROM orders WHERE facility_id = $1 AND status NOT IN ('shipped', 'cancelled')
		ORDER BY created_at LIMIT 1`, e.ID).Scan(&c.OrderID, &c.Order)
	if err != nil {
		return c, fmt.Errorf("find an open order of %s in the region: %w", e.ID, err)
	}
	var known []string // of earlier times
	if err := region.QueryRow(ctx, `SELECT coalesce(array_agg(id::text), '{}') FROM holdfast.conflict WHERE facility_id = $1`, e.ID).Scan(&known); err != nil {
		return c, fmt.Errorf("list the conflicts of %s: %w", e.ID, err)
	}
	e.Cut()
	defer e.Restore()
	if err := edit(ctx, e, c.OrderID); err != nil {
		return c, err
	}
	err = pgx.BeginFunc(ctx, region, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, 'holdfast.author', 'head office')`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE orders SET notes = 'Head office: hold this order until it is paid (' || $2 || ')', updated_at = now()
			WHERE id = $1`, c.OrderID, rand.Text()[:4])
		return err
	})
	if err != nil {
		return c, fmt.Errorf("change the order in the region: %w", err)
	}
	e.Restore()
	err = d.awaitConflict(ctx, region, known, &c)
	return c, err
}

// edit changes the order at the facility, in the facility's own database.
func edit(ctx context.Context, e *site.Edge, order string) error {
	local, err := pgx.Connect(ctx, e.DSN(pgcluster.App, pgcluster.Database))
	if err != nil {
		return fmt.Errorf("reach the database of %s: %w", e.ID, err)
	}
	defer local.Close(context.WithoutCancel(ctx))
	return pgx.BeginFunc(ctx, local, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, 'holdfast.author', $1::text)`, crews[e.ID][0])
		if err != nil {
			return fmt.Errorf("say who changes the order: %w", err)
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET notes = 'Packed and waiting at gate 4 (' || $2 || ')', updated_at = now() WHERE id = $1`,
			order, rand.Text()[:4])
		if err != nil {
			return fmt.Errorf("change the order at %s: %w", e.ID, err)
		}
		return nil
	})
}

// awaitConflict waits until the decision has reached the region.
func (d *demo) awaitConflict(ctx context.Context, region *pgx.Conn, known []string, c *conflict) error {
	for {
		err := region.QueryRow(ctx, `SELECT id::text, kind, decision, fields, edge_row, cloud_row, edge_by, cloud_by, at,
				(SELECT notes FROM orders WHERE orders.id::text = $2)
			FROM holdfast.conflict WHERE facility_id = $1 AND table_name = 'orders' AND key->>'id' = $2 AND id::text <> ALL ($3) LIMIT 1`, c.Facility, c.OrderID, known).
			Scan(&c.ID, &c.Kind, &c.Decision, &c.Fields, &c.EdgeRow, &c.CloudRow, &c.EdgeBy, &c.CloudBy, &c.At, &c.Stands)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until both sides agree about order %s: %w", c.Order, ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}
