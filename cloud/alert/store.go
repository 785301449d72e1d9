package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/detect"
)

// What the leader writes. Whoever changes an incident with its deliveries locks
// the incident first, several in the order of their numbers.
const (
	// The lease is taken when it is free, or ours already. Who is fit to judge also
	// takes it from who is not; and who is not takes it when nobody has for a while, or
	// when it is free and he does no harm ($6).
	sqlLead = `
INSERT INTO holdfast.alert_leader AS l (holder, until, fit) VALUES ($1, $2, $4)
ON CONFLICT ("only") DO UPDATE SET holder = excluded.holder, until = excluded.until, fit = excluded.fit
      WHERE l.holder = excluded.holder OR excluded.fit AND (l.until < $3 OR NOT l.fit) OR $6 AND l.until < $3 OR l.until < $5
RETURNING holder::text`

	// Within a transaction: nobody takes the lease until it has ended. When its process
	// is gone, and the connection does not know, it ends after 5 s by itself.
	sqlFence = `SELECT set_config('idle_in_transaction_session_timeout', '5s', true) FROM holdfast.alert_leader WHERE holder = $1 FOR SHARE`

	sqlRelease = `UPDATE holdfast.alert_leader SET until = $2 WHERE holder = $1`

	sqlSubject = `
SELECT i.id, i.kind, coalesce(i.facility, ''), coalesce(f.tenant, ''), i.severity, i.summary, i.opened_at, i.parent,
       '', i.maintenance, i.acked_at IS NOT NULL, ''
FROM holdfast.incident i
LEFT JOIN holdfast.facility f ON f.id = i.facility
WHERE `
	// Read several times a second: it joins nothing, and brings no words that are long.
	sqlOpen = `
SELECT id, kind, coalesce(facility, ''), '', severity, summary, opened_at, parent, '', maintenance, acked_at IS NOT NULL, md5(array_to_string(evidence, E'\n'))
FROM holdfast.incident WHERE resolved_at IS NULL ORDER BY id`
	sqlLock = sqlSubject + `i.resolved_at IS NULL AND i.id = ANY($1) ORDER BY i.id FOR NO KEY UPDATE OF i`

	// A facility that was removed meanwhile is left out.
	sqlInsert = `
WITH new AS (
    INSERT INTO holdfast.incident (kind, facility, parent, severity, summary, evidence, since, opened_at)
    SELECT u.kind, f.id, p.id, u.severity, u.summary, string_to_array(u.evidence, E'\n'), u.since, $1
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[]) WITH ORDINALITY
         AS u (kind, facility, parent, severity, summary, evidence, since, n)
    LEFT JOIN holdfast.facility f ON f.id = u.facility
    LEFT JOIN holdfast.incident p ON p.kind = u.parent AND p.facility IS NULL AND p.resolved_at IS NULL
    WHERE u.facility = '' OR f.id IS NOT NULL
    ORDER BY u.n
    ON CONFLICT DO NOTHING
    RETURNING *)
SELECT n.id, n.kind, coalesce(n.facility, ''), coalesce(f.tenant, ''), n.severity, n.summary, n.opened_at, n.parent,
       '', n.maintenance, false, ''
FROM new n
LEFT JOIN holdfast.facility f ON f.id = n.facility
ORDER BY n.id`

	sqlUpdate = `
UPDATE holdfast.incident i
SET severity = u.severity, summary = u.summary, evidence = string_to_array(u.evidence, E'\n'),
    parent = (SELECT p.id FROM holdfast.incident p WHERE p.kind = u.parent AND p.facility IS NULL AND p.resolved_at IS NULL)
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u (id, severity, summary, evidence, parent)
WHERE i.id = u.id AND i.resolved_at IS NULL`

	sqlResolve = `UPDATE holdfast.incident SET resolved_at = $2, resolved_by = '', remind_at = NULL WHERE id = ANY($1) AND resolved_at IS NULL`

	// A message that may have been handed to a provider: it was taken, is on its
	// way, or an attempt ended without a clear answer.
	sqlHanded = `(d.accepted_at IS NOT NULL OR d.state = 'leased'
      OR EXISTS (SELECT FROM holdfast.delivery_attempt a WHERE a.delivery = d.id AND a.outcome IN ('', 'unknown', 'accepted')))`

	// Each way by which somebody may have been told of it brings the end of it, too;
	// but no phone rings for that, unless nothing else has got through to its owner.
	sqlResolves = `
INSERT INTO holdfast.delivery (incident, policy, round, step, event, audience, tenant, contact, method, channel, priority, created_at, not_before)
SELECT DISTINCT ON (d.incident, d.method) d.incident, d.policy, d.round, d.step, 'resolve', d.audience, d.tenant, d.contact, d.method, d.channel,
       CASE d.audience WHEN 'operations' THEN $4::integer ELSE $3::integer END, $2, $2
FROM holdfast.delivery d
WHERE d.incident = ANY($1) AND d.event = 'trigger' AND d.method IS NOT NULL AND ` + sqlHanded + `
  AND (d.channel <> 'voice' OR NOT EXISTS (
       SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.contact = d.contact AND o.event = 'trigger' AND o.channel <> 'voice'
         AND o.method IS NOT NULL AND o.state IN ('accepted', 'sent', 'delivered', 'reached')))
ORDER BY d.incident, d.method, d.created_at DESC
ON CONFLICT DO NOTHING`

	// The same for what people should know meanwhile; $5 knows it already. Of an
	// audience, and of a policy, unless empty. Nobody is called for it who can be
	// told in another way.
	sqlUpdates = `
INSERT INTO holdfast.delivery (incident, policy, round, step, event, audience, tenant, contact, method, channel, priority, created_at, not_before)
SELECT DISTINCT ON (d.method) d.incident, d.policy, d.round, d.step, 'update', d.audience, d.tenant, d.contact, d.method, d.channel,
       CASE d.audience WHEN 'operations' THEN $4::integer ELSE $3::integer END, $2, $2
FROM holdfast.delivery d
WHERE d.incident = $1 AND d.event = 'trigger' AND d.method IS NOT NULL AND d.method <> $5 AND ($6 = '' OR d.audience = $6) AND ($7::bigint IS NULL OR d.policy = $7)
  AND (d.channel <> 'voice' OR NOT EXISTS (SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.contact = d.contact
                                           AND o.event = 'trigger' AND o.channel <> 'voice'))
  AND ` + sqlHanded + `
ORDER BY d.method, d.created_at DESC
ON CONFLICT DO NOTHING`

	// What waits is not sent any more: all, an audience's, or own: what belongs to
	// the incident's own acknowledgement, but for offers. That of a region's incident is operations'.
	sqlCancel = `
UPDATE holdfast.delivery SET state = 'cancelled', done_at = $2, held_reason = ''
WHERE incident = ANY($1) AND event = ANY($3::text[]) AND state IN ('pending', 'held')
  AND ($4 IN ('', audience) OR $4 = 'own' AND offer = '' AND (audience = 'operations' OR (SELECT i.facility IS NOT NULL FROM holdfast.incident i WHERE i.id = incident)))`

	sqlEndTimers = `
UPDATE holdfast.escalation SET next_at = NULL, early_at = NULL
WHERE incident = ANY($1) AND (next_at IS NOT NULL OR early_at IS NOT NULL) AND $2 IN ('', audience)`

	// Those that run of what an incident's own acknowledgement is about.
	sqlOwnTimers = `
SELECT e.incident, e.policy, e.audience, e.tenant, e.step, e.round, e.started_at, e.next_at, e.early_at, e.acked_at, e.acked_by FROM holdfast.escalation e
WHERE e.incident = $1 AND (e.next_at IS NOT NULL OR e.early_at IS NOT NULL)
  AND (e.audience = 'operations' OR (SELECT i.facility IS NOT NULL FROM holdfast.incident i WHERE i.id = e.incident))
ORDER BY e.policy FOR UPDATE OF e`

	// Customers' people have what is theirs of a region's incident.
	sqlPolicyTimer = `
SELECT incident, policy, audience, tenant, step, round, started_at, next_at, early_at, acked_at, acked_by FROM holdfast.escalation
WHERE incident = $1 AND policy = $2 FOR UPDATE`
	sqlPolicyAck    = `SELECT acked_by, acked_at FROM holdfast.escalation WHERE incident = $1 AND policy = $2`
	sqlCancelPolicy = `
UPDATE holdfast.delivery SET state = 'cancelled', done_at = $3, held_reason = ''
WHERE incident = $1 AND policy = $2 AND event = 'trigger' AND offer = '' AND state IN ('pending', 'held')`

	sqlGroup = `SELECT policy FROM holdfast.escalation WHERE incident = $1`

	// Which of these have been told to a customer as incidents of their own?
	sqlToldCustomer = `
SELECT DISTINCT incident FROM holdfast.escalation WHERE incident = ANY($1) AND audience = 'customer'`

	sqlRounds = `SELECT incident, policy, round FROM holdfast.escalation WHERE incident = ANY($1)`

	sqlTimers = `
INSERT INTO holdfast.escalation AS e (incident, policy, step, round, started_at, next_at, early_at, audience, tenant, acked_at, acked_by)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::timestamptz[], $11::text[])
ON CONFLICT (incident, policy) DO UPDATE
SET acked_at = excluded.acked_at, acked_by = excluded.acked_by, step = excluded.step, round = excluded.round, started_at = excluded.started_at, next_at = excluded.next_at, early_at = excluded.early_at`

	sqlDeliveries = `
INSERT INTO holdfast.delivery (incident, policy, step, round, event, audience, contact, method, channel, priority, offer, tenant, created_at, not_before)
SELECT u.*, $1, $1
FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::integer[], $12::text[], $13::text[]) AS u
ON CONFLICT DO NOTHING`

	sqlEvents = `
INSERT INTO holdfast.incident_event (incident, at, what, who, detail)
SELECT u.incident, $1, u.what, u.who, u.detail FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS u (incident, what, who, detail, n)
ORDER BY u.n`

	sqlQuiet = `UPDATE holdfast.incident SET maintenance = true WHERE id = ANY($1)`
	sqlLoud  = `UPDATE holdfast.incident SET maintenance = false WHERE id = ANY($1)`

	sqlUnack = `UPDATE holdfast.incident SET acked_at = NULL, acked_by = NULL, acked_how = NULL, remind_at = NULL WHERE id = ANY($1)`

	// Is anything due? Asked several times a second, and answered from indexes.
	sqlDue = `
SELECT EXISTS (SELECT FROM holdfast.escalation WHERE next_at <= $1) OR EXISTS (SELECT FROM holdfast.escalation WHERE early_at <= $1),
       EXISTS (SELECT FROM holdfast.incident i WHERE i.resolved_at IS NULL AND NOT i.maintenance AND i.remind_at <= $1
               AND NOT ($2 AND i.facility IS NOT NULL OR coalesce(i.facility, '') = ANY($3::text[]) OR ` + sqlCondition + ` = ANY($3::text[])))`

	// As unsure names an incident.
	sqlCondition = `(i.kind || '/' || coalesce(i.facility, ''))`

	// Whether an incident's own reminder waits, $3 for all and $4 of some.
	sqlUnsure = `($3 AND i.facility IS NOT NULL OR coalesce(i.facility, '') = ANY($4::text[]) OR ` + sqlCondition + ` = ANY($4::text[]))`

	// What unsure leaves to be done. A customer's part of a region's incident goes on when
	// it is sure that one of his facilities is still out; operations' goes on.
	sqlSure = `
CASE WHEN ` + sqlUnsure + ` THEN false
     WHEN i.facility IS NOT NULL OR e.tenant = '' THEN true
     ELSE NOT $3 AND (cardinality($4::text[]) = 0 OR (e.incident, e.tenant) IN (
          SELECT i.parent, f.tenant FROM holdfast.incident i JOIN holdfast.facility f ON f.id = i.facility
          WHERE i.parent IS NOT NULL AND i.resolved_at IS NULL AND i.facility <> ALL($4::text[]) AND ` + sqlCondition + ` <> ALL($4::text[]))) END`

	sqlDueIncidents = `
SELECT DISTINCT incident FROM (
    SELECT incident, tenant FROM holdfast.escalation WHERE next_at <= $1 UNION ALL SELECT incident, tenant FROM holdfast.escalation WHERE early_at <= $1) e
JOIN holdfast.incident i ON i.id = e.incident
WHERE ` + sqlSure + `
ORDER BY incident LIMIT $2`

	// An SMS that is on a phone has reached somebody; what a webhook or a chat has taken
	// may be read by nobody.
	sqlDueTimers = `
SELECT e.incident, e.policy, e.audience, e.tenant, e.step, e.round, e.started_at, e.next_at, e.early_at, e.acked_at, e.acked_by,
       EXISTS (SELECT FROM holdfast.delivery d WHERE d.incident = e.incident AND d.policy = e.policy AND d.round = e.round
               AND (d.state = 'reached' OR d.state = 'delivered' AND d.channel = 'sms')),
       e.tenant <> '' AND NOT EXISTS (SELECT FROM holdfast.incident p JOIN holdfast.facility f ON f.id = p.facility
                                      WHERE p.parent = e.incident AND f.tenant = e.tenant AND p.resolved_at IS NULL AND NOT p.maintenance),
       EXISTS (SELECT FROM holdfast.delivery d WHERE d.incident = e.incident AND d.policy = e.policy AND d.event = 'trigger')
FROM holdfast.escalation e JOIN holdfast.incident i ON i.id = e.incident
WHERE e.incident = ANY($2) AND (e.next_at <= $1 OR e.early_at <= $1) AND ` + sqlSure + `
ORDER BY e.incident, e.policy LIMIT $5 FOR UPDATE OF e`

	sqlForgotten = `
SELECT i.id, coalesce(i.acked_by, ''), i.acked_at FROM holdfast.incident i
WHERE i.resolved_at IS NULL AND NOT i.maintenance AND i.remind_at <= $1 AND NOT ` + sqlUnsure + `
ORDER BY i.id LIMIT $2 FOR NO KEY UPDATE`

	sqlLastEvent = `SELECT coalesce(max(id), 0) FROM holdfast.incident_event`

	// Where somebody was told of nothing and nobody can be told next, the next step is taken at once.
	sqlHurry = `
UPDATE holdfast.escalation e SET next_at = $2, early_at = NULL
FROM holdfast.delivery d
WHERE d.id = $1 AND d.event = 'trigger' AND e.incident = d.incident AND e.policy = d.policy AND e.round = d.round AND e.step = d.step + 1
  AND e.early_at IS NOT NULL AND e.next_at > $2
  AND NOT EXISTS (SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.policy = d.policy AND o.round = d.round AND o.step = d.step
                  AND o.event = 'trigger' AND o.contact = d.contact AND o.id <> d.id AND o.state NOT IN ('failed', 'cancelled', 'capped', 'expired'))`

	sqlDrill = `SELECT max(opened_at) FROM holdfast.incident WHERE kind = $1`

	sqlTestMethods = `
SELECT m.contact, m.id, c.name, m.channel FROM holdfast.contact_method m JOIN holdfast.contact c ON c.id = m.contact
WHERE m.contact = $1 AND m.removed_at IS NULL AND c.removed_at IS NULL ORDER BY m.id`
	sqlHasWays = `SELECT EXISTS (` + sqlTestMethods + `)`
)

// store is the tables of incidents and messages.
type store struct{ db *pgxpool.Pool }

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func subjects(ctx context.Context, q querier, sql string, args ...any) ([]subject, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the open incidents: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[subject])
	if err != nil {
		return nil, fmt.Errorf("read the open incidents: %w", err)
	}
	return list, nil
}

// open returns the open incidents, as far as plan wants to know of them.
func (s store) open(ctx context.Context) ([]subject, error) {
	list, err := subjects(ctx, s.db, sqlOpen)
	if err != nil {
		return nil, err
	}
	kinds := make(map[int64]detect.Kind)
	for _, o := range list {
		if o.Facility == "" {
			kinds[o.ID] = o.Kind
		}
	}
	for i, o := range list {
		if o.Parent != nil {
			list[i].ParentKind = kinds[*o.Parent]
		}
	}
	return list, nil
}

// lock returns those of the incidents that are open still, and keeps others from changing them.
func lock(ctx context.Context, tx pgx.Tx, ids []int64) ([]subject, error) {
	return subjects(ctx, tx, sqlLock, ids)
}

func (s store) due(ctx context.Context, now time.Time, u unsure) (timers, reminders bool, err error) {
	if err := s.db.QueryRow(ctx, sqlDue, now, u.all, u.of).Scan(&timers, &reminders); err != nil {
		return false, false, fmt.Errorf("look for what is due: %w", err)
	}
	return timers, reminders, nil
}

func (s store) dueIncidents(ctx context.Context, now time.Time, u unsure) ([]int64, error) {
	return ints(ctx, s.db, sqlDueIncidents, now, timersMax, u.all, u.of)
}

func (s store) lastEvent(ctx context.Context) (id int64, err error) {
	if err := s.db.QueryRow(ctx, sqlLastEvent).Scan(&id); err != nil {
		return 0, fmt.Errorf("read the newest event: %w", err)
	}
	return id, nil
}

func (s store) lastDrill(ctx context.Context) (at *time.Time, err error) {
	if err := s.db.QueryRow(ctx, sqlDrill, detect.Drill).Scan(&at); err != nil {
		return nil, fmt.Errorf("read when the last drill was: %w", err)
	}
	return at, nil
}

// hasWays reports whether a contact can be told in some way.
func (s store) hasWays(ctx context.Context, contact int64) (yes bool, err error) {
	if err := s.db.QueryRow(ctx, sqlHasWays, contact).Scan(&yes); err != nil {
		return false, fmt.Errorf("look for the test contact's addresses: %w", err)
	}
	return yes, nil
}

func insert(ctx context.Context, tx pgx.Tx, now time.Time, list []detect.Finding) ([]subject, error) {
	var (
		n                           = len(list)
		kinds, facilities, parents  = make([]string, n), make([]string, n), make([]string, n)
		severities, summaries, docs = make([]string, n), make([]string, n), make([]string, n)
		since                       = make([]time.Time, n)
	)
	for i, f := range list {
		kinds[i], facilities[i], parents[i] = string(f.Kind), f.Facility, string(f.Of)
		severities[i], summaries[i], docs[i] = string(f.Severity), f.Summary, lines(f.Evidence)
		since[i] = f.Since
		if f.Since.IsZero() || f.Since.After(now) {
			since[i] = now
		}
	}
	return subjects(ctx, tx, sqlInsert, now, kinds, facilities, parents, severities, summaries, docs, since)
}

func change(ctx context.Context, tx pgx.Tx, list []update) error {
	var (
		n                     = len(list)
		ids                   = make([]int64, n)
		severities, summaries = make([]string, n), make([]string, n)
		evidence, parents     = make([]string, n), make([]string, n)
	)
	for i, u := range list {
		ids[i], severities[i], summaries[i], evidence[i], parents[i] = u.ID, string(u.to.Severity), u.to.Summary, lines(u.to.Evidence), string(u.to.Of)
	}
	if _, err := tx.Exec(ctx, sqlUpdate, ids, severities, summaries, evidence, parents); err != nil {
		return fmt.Errorf("update incidents: %w", err)
	}
	return nil
}
