package alert

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
)

// States of Filter.
const (
	Open     = "open"     // not over, whether somebody has it or not
	Waiting  = "waiting"  // not over, and nobody has it
	Acked    = "acked"    // not over, and somebody has it
	Resolved = "resolved" // over
)

// Filter picks incidents; empty fields pick all.
type Filter struct {
	State    string // one of the above
	Facility string
	Tenant   string
	Kind     string
	// Before is the id that the list begins under, 0 for the newest.
	Before int64
	Limit  int // default and at most 500
}

const listMax = 500

// List returns incidents, newest first.
func (a *Alerter) List(ctx context.Context, f Filter) ([]v1.Incident, error) {
	if f.Limit <= 0 || f.Limit > listMax {
		f.Limit = listMax
	}
	return a.store.list(ctx, f)
}

// One returns one incident, or ErrNotFound.
func (a *Alerter) One(ctx context.Context, id int64) (v1.Incident, error) {
	list, err := a.store.incidents(ctx, sqlOneIncident, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return v1.Incident{}, err
	}
	return list[0], nil
}

// Detail returns one incident with its timeline, messages and parts, or ErrNotFound.
func (a *Alerter) Detail(ctx context.Context, id int64) (d v1.IncidentDetail, err error) {
	if d.Incident, err = a.One(ctx, id); err != nil {
		return d, err
	}
	if d.Timeline, err = a.store.timeline(ctx, id); err != nil {
		return d, err
	}
	if d.Deliveries, err = a.store.deliveries(ctx, sqlDeliveriesOf, id); err != nil {
		return d, err
	}
	d.Parts, err = a.store.incidents(ctx, sqlParts, id)
	return d, err
}

// Delivery returns one message, or ErrNotFound.
func (a *Alerter) Delivery(ctx context.Context, id string) (v1.Delivery, error) {
	if !isUUID.MatchString(id) {
		return v1.Delivery{}, ErrNotFound
	}
	list, err := a.store.deliveries(ctx, sqlOneDelivery, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return v1.Delivery{}, err
	}
	return list[0], nil
}

// Test sends a test by one of a contact's methods and returns its delivery, which
// Delivery can be asked for; ErrNotFound when there is no such method.
func (a *Alerter) Test(ctx context.Context, method int64, by string) (v1.Delivery, error) {
	id, err := a.store.test(ctx, method, by, a.moment(), priority(channel.Test, "", Customer))
	if err != nil {
		return v1.Delivery{}, err
	}
	a.tell()
	return a.Delivery(ctx, id)
}

// ChannelStates returns how each channel fares, in the order in which they are shown.
func (a *Alerter) ChannelStates(ctx context.Context) ([]v1.ChannelState, error) {
	stats, err := a.store.channels(ctx, a.moment())
	if err != nil {
		return nil, err
	}
	all := make([]v1.ChannelState, 0, len(channels))
	for _, k := range channels {
		d := a.deliverers[k]
		s := v1.ChannelState{Channel: string(k), Ready: d.sender != nil}
		if d.sender == nil {
			s.Problem = d.missing()
		} else if a.c.Wrong != nil {
			s.Problem = a.c.Wrong(k)
		}
		if broken, why := d.broken(); why != "" {
			s.Broken, s.Problem = broken, why
		}
		if st, ok := stats[string(k)]; ok {
			s.Waiting, s.Sent24h, s.Failed24, s.ProvedAt, s.TakenAt = st.Waiting, st.Sent, st.Failed, st.ProvedAt, st.TakenAt
		}
		all = append(all, s)
	}
	return all, nil
}

// Told returns how fast facilities' outages of the last days were known and told.
func (a *Alerter) Told(ctx context.Context, days int) (v1.Told, error) {
	if days < 1 || days > 366 {
		return v1.Told{}, fmt.Errorf("%d days: choose 1 to 366", days)
	}
	return a.store.told(ctx, days, a.moment().Add(-time.Duration(days)*24*time.Hour))
}
