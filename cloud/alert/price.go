package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// What a message cost its provider tells some time after it was sent. It is asked
// a few times by whoever sends on the channel; if it does not say it by then, the
// cost stays unknown, and nobody is disturbed.

const (
	// pricesEvery and pricesMax bound how many prices are asked for: more than
	// messages are sent in an hour, and few enough to leave the provider's patience to them.
	pricesEvery = 5 * time.Second
	pricesMax   = 10
)

const (
	// Whoever is asked for has its next time already: no end of a process asks more often.
	sqlUnpriced = `
UPDATE holdfast.delivery d
SET price_asks = d.price_asks + 1,
    price_at = CASE WHEN d.price_asks + 1 < cardinality($4::float8[]) THEN $2 + make_interval(secs => ($4::float8[])[d.price_asks + 2]) END
WHERE id IN (SELECT id FROM holdfast.delivery WHERE channel = $1 AND price_at <= $2 ORDER BY price_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id::text, provider_id`

	sqlPriced = `UPDATE holdfast.delivery SET cost_micros = $2, cost_unit = $3, price_at = NULL WHERE id = $1`
)

// unpriced is a message of which it is not known what it cost.
type unpriced struct{ ID, ProviderID string }

// prices asks for what messages cost, as far as it is time to. What is asked for
// goes on beside the messages, and not for long.
func (d *deliverer) prices(ctx context.Context, under *errgroup.Group) error {
	p, ok := d.sender.(channel.Pricer)
	now := d.a.moment()
	if !ok || now.Before(d.pricesAt) {
		return nil
	}
	d.pricesAt = now.Add(pricesEvery)
	if broken, _ := d.broken(); broken {
		return nil
	}
	list, err := d.a.store.unpriced(ctx, d.kind, now, d.a.timing.prices)
	if err != nil || len(list) == 0 {
		return err
	}
	under.Go(func() error {
		ctx, cancel := context.WithTimeout(ctx, d.a.timing.send)
		defer cancel()
		for _, u := range list {
			price, ok, err := p.Price(ctx, u.ProviderID)
			if err == nil && ok {
				err = d.a.store.priced(ctx, u.ID, price)
			}
			if err != nil {
				d.a.log.Debug("what a message cost is not known", "delivery", u.ID, "err", err)
			}
		}
		d.a.tell()
		return nil
	})
	return nil
}

// askPriceAt is when the price of a message is asked for that was taken now; nil for never.
func (d *deliverer) askPriceAt(now time.Time, r channel.Result) *time.Time {
	if _, ok := d.sender.(channel.Pricer); !ok || r.ProviderID == "" || r.Price.Unit != "" {
		return nil
	}
	at := now.Add(d.a.timing.prices[0])
	return &at
}

func (s store) unpriced(ctx context.Context, k channel.Kind, now time.Time, waits []time.Duration) ([]unpriced, error) {
	seconds := make([]float64, len(waits))
	for i, w := range waits {
		seconds[i] = w.Seconds()
	}
	rows, err := s.db.Query(ctx, sqlUnpriced, k, now, pricesMax, seconds)
	if err != nil {
		return nil, fmt.Errorf("look for messages of %s without a price: %w", k, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unpriced])
	if err != nil {
		return nil, fmt.Errorf("look for messages of %s without a price: %w", k, err)
	}
	return list, nil
}

func (s store) priced(ctx context.Context, id string, p channel.Price) error {
	if _, err := s.db.Exec(ctx, sqlPriced, id, p.Micros, p.Unit); err != nil {
		return fmt.Errorf("store what a message cost: %w", err)
	}
	return nil
}
