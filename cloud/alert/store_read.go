package alert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// What is shown. The orders are those of the documents' fields.
const (
	sqlIncident = `
SELECT i.id, i.kind, i.severity, coalesce(i.facility, ''), coalesce(f.name, ''), coalesce(f.tenant, ''), coalesce(f.time_zone, ''), i.parent,
       i.summary, i.evidence, i.since, i.opened_at, i.maintenance, i.acked_at, coalesce(i.acked_by, ''), coalesce(i.acked_how, ''), i.remind_at,
       i.resolved_at, coalesce(i.resolved_by, ''),
       (SELECT min(e.next_at) FROM holdfast.escalation e WHERE e.incident = i.id),
       coalesce(n.told, 0), coalesce(n.waiting, 0), coalesce(n.failed, 0),
       coalesce(n.cost, 0), coalesce(n.unit, ''), coalesce(n.unpriced, 0)
FROM holdfast.incident i
LEFT JOIN holdfast.facility f ON f.id = i.facility
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.accepted_at IS NOT NULL AND d.state <> 'failed')::int AS told,
           count(*) FILTER (WHERE d.state IN ('pending', 'held', 'leased'))::int AS waiting,
           count(*) FILTER (WHERE d.state IN ('failed', 'capped', 'expired'))::int AS failed,
           sum(d.cost_micros)::bigint AS cost, max(d.cost_unit) AS unit,
           count(*) FILTER (WHERE d.channel IN ('sms', 'voice') AND d.accepted_at IS NOT NULL AND d.cost_unit = '')::int AS unpriced
    FROM holdfast.delivery d WHERE d.incident = i.id) n ON true
`
	sqlListIncidents = sqlIncident + `
WHERE ($1 = '' OR $1 = 'open' AND i.resolved_at IS NULL OR $1 = 'waiting' AND i.resolved_at IS NULL AND i.acked_at IS NULL
       OR $1 = 'acked' AND i.resolved_at IS NULL AND i.acked_at IS NOT NULL OR $1 = 'resolved' AND i.resolved_at IS NOT NULL)
  AND ($2 = '' OR i.facility = $2) AND ($3 = '' OR f.tenant = $3) AND ($4 = '' OR i.kind = $4) AND ($5::bigint = 0 OR i.id < $5)
`
	sqlListOrder = `ORDER BY i.id DESC LIMIT $6`
	// Written out, so that those that are open are found by their own index: they
	// are few, and asked for each second.
	sqlListNotOver = `  AND i.resolved_at IS NULL
`
	sqlOneIncident = sqlIncident + `WHERE i.id = $1`
	sqlParts       = sqlIncident + `WHERE i.parent = $1 ORDER BY i.resolved_at IS NOT NULL, f.name, i.id LIMIT 1000`

	sqlTimeline = `SELECT at, what, who, detail FROM holdfast.incident_event WHERE incident = $1 ORDER BY id LIMIT 2000`

	sqlDelivery = `
SELECT d.id::text, d.incident, d.event, d.audience, d.contact, coalesce(c.name, ''), d.method, d.channel, d.step, d.state, d.created_at, d.not_before,
       d.held_reason, d.accepted_at, d.done_at, d.attempts, d.provider, d.provider_id, d.error, d.cost_micros, d.cost_unit
FROM holdfast.delivery d LEFT JOIN holdfast.contact c ON c.id = d.contact
`
	sqlDeliveriesOf = sqlDelivery + `WHERE d.incident = $1 ORDER BY d.created_at, d.step, d.id LIMIT 2000`
	sqlOneDelivery  = sqlDelivery + `WHERE d.id = $1::uuid`

	sqlReceipts = `
SELECT delivery::text, at, state, detail FROM holdfast.delivery_receipt WHERE delivery = ANY($1::uuid[]) ORDER BY at, event_id LIMIT 5000`

	sqlTest = `
INSERT INTO holdfast.delivery (event, audience, contact, method, channel, priority, created_at, not_before)
SELECT 'test', CASE c.tenant WHEN '' THEN 'operations' ELSE 'customer' END, m.contact, m.id, m.channel, $3, $2, $2
FROM holdfast.contact_method m JOIN holdfast.contact c ON c.id = m.contact
WHERE m.id = $1 AND m.removed_at IS NULL AND c.removed_at IS NULL RETURNING id::text`

	sqlChannels = `
SELECT k.channel,
       (SELECT count(*) FROM holdfast.delivery d WHERE d.channel = k.channel AND d.state IN ('pending', 'held', 'leased'))::int,
       coalesce(d.sent, 0), coalesce(d.failed, 0), m.proved_at, m.taken_at
FROM unnest($1::text[]) AS k (channel)
LEFT JOIN (SELECT channel, max(proved_at) AS proved_at, max(taken_at) AS taken_at FROM holdfast.contact_method WHERE removed_at IS NULL GROUP BY channel) m ON m.channel = k.channel
LEFT JOIN (SELECT channel, count(*) FILTER (WHERE accepted_at IS NOT NULL)::int AS sent, count(*) FILTER (WHERE state IN ('failed', 'expired'))::int AS failed
           FROM holdfast.delivery WHERE created_at > $2 GROUP BY channel) d ON d.channel = k.channel`

	// A facility's outage that nobody had announced: from the last thing heard
	// until it was known, and until the first message was taken. Where announced
	// work kept that back, it says nothing of how fast we are.
	sqlTold = `
SELECT count(*)::int, count(t.first)::int,
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM i.opened_at - i.since)), '{0,0,0}')::float8[],
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM t.first - i.since)), '{0,0,0}')::float8[]
FROM holdfast.incident i
LEFT JOIN LATERAL (SELECT min(d.accepted_at) AS first FROM holdfast.delivery d WHERE d.incident = i.id AND d.event = 'trigger') t ON true
WHERE i.kind = $1 AND i.opened_at > $2
  AND NOT EXISTS (SELECT FROM holdfast.maintenance m WHERE m.facility = i.facility AND m.starts_at <= coalesce(t.first, i.opened_at) AND coalesce(m.ended_at, m.ends_at) > i.opened_at)`
)

func (s store) list(ctx context.Context, f Filter) ([]v1.Incident, error) {
	sql := sqlListIncidents
	if f.State == Open || f.State == Waiting || f.State == Acked {
		sql += sqlListNotOver
	}
	return s.incidents(ctx, sql+sqlListOrder, f.State, f.Facility, f.Tenant, f.Kind, f.Before, f.Limit)
}

func (s store) incidents(ctx context.Context, sql string, args ...any) ([]v1.Incident, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[v1.Incident])
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	return list, nil
}

func (s store) timeline(ctx context.Context, id int64) ([]v1.IncidentEvent, error) {
	rows, err := s.db.Query(ctx, sqlTimeline, id)
	if err != nil {
		return nil, fmt.Errorf("read the timeline of incident %d: %w", id, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[v1.IncidentEvent])
	if err != nil {
		return nil, fmt.Errorf("read the timeline of incident %d: %w", id, err)
	}
	return list, nil
}

func (s store) deliveries(ctx context.Context, sql string, args ...any) ([]v1.Delivery, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d v1.Delivery, err error) {
		err = row.Scan(&d.ID, &d.Incident, &d.Event, &d.Audience, &d.Contact, &d.Name, &d.Method, &d.Channel, &d.Step, &d.State, &d.CreatedAt, &d.NotBefore,
			&d.HeldReason, &d.AcceptedAt, &d.DoneAt, &d.Attempts, &d.Provider, &d.ProviderID, &d.Error, &d.Cost, &d.CostUnit)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	return list, s.receipts(ctx, list)
}

// receipts adds what providers have said of messages.
func (s store) receipts(ctx context.Context, list []v1.Delivery) error {
	ids, at := make([]string, len(list)), make(map[string]int, len(list))
	for i, d := range list {
		ids[i], at[d.ID] = d.ID, i
	}
	rows, err := s.db.Query(ctx, sqlReceipts, ids)
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	var id string
	var r v1.Receipt
	_, err = pgx.ForEachRow(rows, []any{&id, &r.At, &r.State, &r.Detail}, func() error {
		d := &list[at[id]]
		d.Receipts = append(d.Receipts, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	return nil
}

func (s store) test(ctx context.Context, method int64, by string, now time.Time, priority int) (id string, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, sqlTest, method, now, priority).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, 'test message', $2)`, by, map[string]any{"method": method, "delivery": id})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("send a test by method %d: %w", method, err)
	}
	return id, nil
}

// channelStats is what the tables say of a channel.
type channelStats struct {
	Channel               string
	Waiting, Sent, Failed int
	ProvedAt, TakenAt     *time.Time
}

func (s store) channels(ctx context.Context, now time.Time) (map[string]channelStats, error) {
	names := make([]string, len(channels))
	for i, k := range channels {
		names[i] = string(k)
	}
	rows, err := s.db.Query(ctx, sqlChannels, names, now.Add(-24*time.Hour))
	if err != nil {
		return nil, fmt.Errorf("count messages by channel: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[channelStats])
	if err != nil {
		return nil, fmt.Errorf("count messages by channel: %w", err)
	}
	all := make(map[string]channelStats, len(list))
	for _, st := range list {
		all[st.Channel] = st
	}
	return all, nil
}

func (s store) told(ctx context.Context, days int, since time.Time) (v1.Told, error) {
	t := v1.Told{Days: days}
	var detected, tell []float64
	if err := s.db.QueryRow(ctx, sqlTold, detect.Offline, since).Scan(&t.Incidents, &t.ToldOf, &detected, &tell); err != nil {
		return t, fmt.Errorf("measure how fast was told: %w", err)
	}
	t.Detect = v1.Quantiles{P50: detected[0], P95: detected[1], P99: detected[2]}
	t.Tell = v1.Quantiles{P50: tell[0], P95: tell[1], P99: tell[2]}
	return t, nil
}
