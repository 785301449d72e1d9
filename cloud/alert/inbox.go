package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
)

var _ channel.Inbox = (*Alerter)(nil)

const (
	eventIDMaxBytes = 200
	nameMaxBytes    = 200
	noteMaxBytes    = 2000 // 500 characters of any script
)

var (
	isUUID   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	terminal = map[channel.State]bool{channel.Delivered: true, channel.Reached: true}
)

// found is a delivery that something came back for.
type found struct {
	ID       string
	Incident *int64
	State    string
	Channel  channel.Kind
	Event    channel.Event
	Contact  string
	Policy   *int64 // of a customer's message of a region's incident
	Method   *int64
}

func findDelivery(ctx context.Context, tx pgx.Tx, id, provider, providerID string) (found, error) {
	id = strings.ToLower(id)
	if id != "" && !isUUID.MatchString(id) {
		return found{}, ErrNotFound
	}
	rows, err := tx.Query(ctx, sqlFindDelivery, id, provider, providerID)
	if err != nil {
		return found{}, fmt.Errorf("look for the message: %w", err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[found])
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, pgx.ErrTooManyRows) {
		return f, ErrNotFound
	}
	if err != nil {
		return f, fmt.Errorf("look for the message: %w", err)
	}
	return f, nil
}

// Receipt takes what a provider says of a message later. What comes twice counts
// once, and what comes late does not undo what is known already. It returns
// ErrNotFound for a message that is not known.
func (a *Alerter) Receipt(ctx context.Context, r channel.Receipt) error {
	switch r.State {
	case channel.Accepted, channel.Sent, channel.Delivered, channel.Reached, channel.Failed:
	default:
		return fmt.Errorf("a receipt with the state %q", shorten(string(r.State), 20))
	}
	if len(r.EventID) > eventIDMaxBytes || len(r.ProviderID) > eventIDMaxBytes || len(r.Provider) > nameMaxBytes {
		return errors.New("a receipt with a key that is too long")
	}
	now := a.moment()
	err := pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		f, err := findDelivery(ctx, tx, r.Delivery, r.Provider, r.ProviderID)
		if err != nil {
			return err
		}
		if err := lockOne(ctx, tx, f); err != nil {
			return err
		}
		detail := shorten(r.Detail, detailMaxBytes)
		tag, err := tx.Exec(ctx, sqlReceipt, f.ID, cmp.Or(r.EventID, string(r.State)), now, r.State, detail)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return forward(ctx, tx, f, r, detail, now)
	})
	if errors.Is(err, ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("store a receipt: %w", err)
	}
	a.tell()
	return nil
}

// forward moves a message on, and draws the consequences.
func forward(ctx context.Context, tx pgx.Tx, f found, r channel.Receipt, detail string, now time.Time) error {
	var state string
	err := tx.QueryRow(ctx, sqlAdvance, f.ID, r.State, now, cmp.Or(detail, "the provider says that it did not arrive"), ranks, r.Provider, r.ProviderID).Scan(&state)
	if err != nil {
		return err
	}
	if terminal[r.State] {
		if _, err := tx.Exec(ctx, sqlProved, f.ID, now); err != nil {
			return err
		}
	}
	if f.Incident == nil {
		return nil
	}
	words := fmt.Sprintf("%s of %s: %s", f.Channel, f.Event, r.State)
	if detail != "" {
		words += ", " + detail
	}
	if _, err := tx.Exec(ctx, sqlNote, *f.Incident, now, "receipt", f.Contact, shorten(words, detailMaxBytes)); err != nil {
		return err
	}
	if state == string(channel.Failed) {
		_, err = tx.Exec(ctx, sqlHurry, f.ID, now)
	}
	return err
}

func lockOne(ctx context.Context, tx pgx.Tx, f found) error {
	if f.Incident == nil {
		return nil
	}
	_, err := tx.Exec(ctx, sqlLockIncident, *f.Incident)
	return err
}

// Incident returns what a delivery told of, as it is now.
func (a *Alerter) Incident(ctx context.Context, delivery string) (channel.Message, error) {
	delivery = strings.ToLower(delivery)
	if !isUUID.MatchString(delivery) {
		return channel.Message{}, ErrNotFound
	}
	j, err := a.store.job(ctx, delivery)
	if err != nil {
		return channel.Message{}, err
	}
	return a.message(ctx, j, true)
}
