// Package dashboardtest fills a region's database with incidents and people, and
// reads them as the dashboard wants them, for its tests.
//
// In:  the tests of cloud/dashboard and test/browser.
// Out: the region's PostgreSQL.
package dashboardtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/dashboard"
)

// Alerts are the tables' incidents and messages. Nothing is sent.
type Alerts struct{ DB *pgxpool.Pool }

const sqlIncidents = `
	SELECT i.id, i.kind, i.severity, coalesce(i.facility, ''), coalesce(f.name, ''), coalesce(f.tenant, ''), coalesce(f.time_zone, ''), i.parent,
	       i.summary, i.evidence, i.since, i.opened_at, i.maintenance, i.acked_at, coalesce(i.acked_by, ''), coalesce(i.acked_how, ''),
	       i.remind_at, i.resolved_at, coalesce(i.resolved_by, ''), (SELECT min(next_at) FROM holdfast.escalation e WHERE e.incident = i.id),
	       d.told, d.waiting, d.failed, d.cost
	  FROM holdfast.incident i LEFT JOIN holdfast.facility f ON f.id = i.facility
	 CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE accepted_at IS NOT NULL)::int AS told, count(*) FILTER (WHERE state IN ('pending', 'held', 'leased'))::int AS waiting,
	       count(*) FILTER (WHERE state IN ('failed', 'expired'))::int AS failed, coalesce(sum(cost_micros), 0)::bigint AS cost
	       FROM holdfast.delivery WHERE incident = i.id) d
	 WHERE ($1 = '' OR ($1 = 'open') = (i.resolved_at IS NULL)) AND ($2 = '' OR i.facility = $2) AND ($3 = '' OR i.kind = $3) AND ($4 = '' OR f.tenant = $4)
	   AND ($5 = 0 OR i.id < $5) AND ($6 < 0 OR i.id = $6) AND ($7 < 0 OR i.parent = $7)
	 ORDER BY i.id DESC LIMIT $8`

func (a Alerts) incidents(ctx context.Context, f dashboard.IncidentFilter, id, parent int64) ([]v1.Incident, error) {
	rows, err := a.DB.Query(ctx, sqlIncidents, f.State, f.Facility, f.Kind, f.Tenant, f.Before, id, parent, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[v1.Incident])
}

// Incidents implements dashboard.Alerts.
func (a Alerts) Incidents(ctx context.Context, f dashboard.IncidentFilter) ([]v1.Incident, error) {
	return a.incidents(ctx, f, -1, -1)
}

// Incident implements dashboard.Alerts.
func (a Alerts) Incident(ctx context.Context, id int64) (d v1.IncidentDetail, err error) {
	list, err := a.incidents(ctx, dashboard.IncidentFilter{Limit: 1}, id, -1)
	if err != nil {
		return d, err
	}
	if len(list) == 0 {
		return d, dashboard.ErrNotFound
	}
	d.Incident = list[0]
	rows, err := a.DB.Query(ctx, `SELECT at, what, who, detail FROM holdfast.incident_event WHERE incident = $1 ORDER BY id`, id)
	if err != nil {
		return d, err
	}
	if d.Timeline, err = pgx.CollectRows(rows, pgx.RowToStructByPos[v1.IncidentEvent]); err != nil {
		return d, err
	}
	if d.Deliveries, err = a.deliveries(ctx, id, ""); err != nil {
		return d, err
	}
	d.Parts, err = a.incidents(ctx, dashboard.IncidentFilter{Limit: 1000}, -1, id)
	return d, err
}

func (a Alerts) deliveries(ctx context.Context, incident int64, id string) ([]v1.Delivery, error) {
	rows, err := a.DB.Query(ctx, `
		SELECT d.id::text, d.incident, d.event, d.audience, d.contact, coalesce(c.name, ''), d.method, d.channel, d.step, d.state, d.created_at, d.not_before,
		       d.held_reason, d.accepted_at, d.done_at, d.attempts, d.provider, d.provider_id, d.error, d.cost_micros
		  FROM holdfast.delivery d LEFT JOIN holdfast.contact c ON c.id = d.contact
		 WHERE ($1 = 0 OR d.incident = $1) AND ($2 = '' OR d.id::text = $2) ORDER BY d.created_at, c.name, d.channel`, incident, id)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d v1.Delivery, err error) {
		err = row.Scan(&d.ID, &d.Incident, &d.Event, &d.Audience, &d.Contact, &d.Name, &d.Method, &d.Channel, &d.Step, &d.State, &d.CreatedAt, &d.NotBefore,
			&d.HeldReason, &d.AcceptedAt, &d.DoneAt, &d.Attempts, &d.Provider, &d.ProviderID, &d.Error, &d.Cost)
		return d, err
	})
	for i := range list {
		rows, err := a.DB.Query(ctx, `SELECT at, state, detail FROM holdfast.delivery_receipt WHERE delivery = $1 ORDER BY at`, list[i].ID)
		if err != nil {
			return nil, err
		}
		if list[i].Receipts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[v1.Receipt]); err != nil {
			return nil, err
		}
	}
	return list, err
}

// Acknowledge implements dashboard.Alerts.
func (a Alerts) Acknowledge(ctx context.Context, id int64, by, note string) error {
	return pgx.BeginFunc(ctx, a.DB, func(tx pgx.Tx) error {
		var over, acked bool
		err := tx.QueryRow(ctx, `SELECT resolved_at IS NOT NULL, acked_at IS NOT NULL FROM holdfast.incident WHERE id = $1 FOR UPDATE`, id).Scan(&over, &acked)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return dashboard.ErrNotFound
		case err != nil:
			return err
		case over:
			return dashboard.ErrEnded
		case acked:
			return nil
		}
		_, err = tx.Exec(ctx, `
			WITH i AS (UPDATE holdfast.incident SET acked_at = $2::timestamptz, acked_by = $3, acked_how = 'dashboard', remind_at = $2::timestamptz + interval '2 hours' WHERE id = $1),
			     d AS (UPDATE holdfast.delivery SET state = 'cancelled', done_at = $2, held_reason = 'somebody has answered' WHERE incident = $1 AND state IN ('pending', 'held')),
			     e AS (UPDATE holdfast.escalation SET next_at = NULL WHERE incident = $1)
			INSERT INTO holdfast.incident_event (incident, at, what, who, detail) VALUES ($1, $2, 'acknowledged', $3, $4)`, id, time.Now(), by, note)
		return err
	})
}

// Channels implements dashboard.Alerts.
func (a Alerts) Channels(ctx context.Context) ([]v1.ChannelState, error) {
	proved := func(ago time.Duration) *time.Time { t := time.Now().Add(-ago); return &t }
	list := []v1.ChannelState{
		{Channel: "sms", Ready: true, Sent24h: 41, Failed24: 1, ProvedAt: proved(17 * time.Minute)},
		{Channel: "voice", Ready: true, Broken: true, Problem: "Twilio answers 503 since 16:58", Sent24h: 12, Failed24: 6, ProvedAt: proved(3 * time.Hour)},
		{Channel: "email", Ready: true, ProvedAt: proved(15 * 24 * time.Hour)},
		{Channel: "slack", Ready: false, Problem: "the signing secret's file cannot be read; write it to the file that slack.signing_secret_file names"},
		{Channel: "mqtt", Ready: true},
	}
	for i := range list {
		err := a.DB.QueryRow(ctx, `SELECT count(*)::int FROM holdfast.delivery WHERE channel = $1 AND state IN ('pending', 'held', 'leased')`, list[i].Channel).Scan(&list[i].Waiting)
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Told implements dashboard.Alerts.
func (a Alerts) Told(ctx context.Context, from, to time.Time) (t v1.Told, err error) {
	err = a.DB.QueryRow(ctx, `
		WITH s AS (SELECT extract(epoch FROM i.opened_at - i.since)::float8 AS found,
		                  extract(epoch FROM (SELECT min(accepted_at) FROM holdfast.delivery d WHERE d.incident = i.id) - i.since)::float8 AS told
		             FROM holdfast.incident i WHERE i.opened_at >= $1 AND i.opened_at < $2)
		SELECT count(*)::int, coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY found), 0), coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY found), 0),
		       coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY found), 0), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY told), 0),
		       coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY told), 0), coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY told), 0) FROM s`, from, to).
		Scan(&t.Incidents, &t.Detect.P50, &t.Detect.P95, &t.Detect.P99, &t.Tell.P50, &t.Tell.P95, &t.Tell.P99)
	return t, err
}

// TestSend implements dashboard.Alerts.
func (a Alerts) TestSend(ctx context.Context, method int64, _ string) (id string, err error) {
	err = a.DB.QueryRow(ctx, `
		INSERT INTO holdfast.delivery (event, audience, contact, method, channel, created_at, not_before)
		SELECT 'test', 'operations', contact, id, channel, $2, $2 FROM holdfast.contact_method WHERE id = $1 RETURNING id::text`, method, time.Now()).Scan(&id)
	return id, err
}

// Delivery implements dashboard.Alerts.
func (a Alerts) Delivery(ctx context.Context, id string) (v1.Delivery, error) {
	list, err := a.deliveries(ctx, 0, id)
	if err == nil && len(list) != 1 {
		err = dashboard.ErrNotFound
	}
	if err != nil {
		return v1.Delivery{}, err
	}
	return list[0], nil
}
