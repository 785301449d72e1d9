package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// What the deliverers write, and what comes back from providers.
const (
	// A message to a person by one way waits for the one before that is still on
	// its way: nobody is to hear first that it is over and then that it began.
	// Whose lease has run out is claimed again.
	sqlClaim = `
WITH due AS (
    SELECT d.id, d.state = 'leased' AS lost FROM holdfast.delivery d
    WHERE d.channel = $1 AND (d.state IN ('pending', 'held') AND d.not_before <= $2 OR d.state = 'leased' AND d.lease_until < $2)
      AND ` + sqlHost + ` = $5
      AND (d.event IN ('trigger', 'test') OR NOT EXISTS (
           SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.method = d.method AND o.id <> d.id AND o.state = 'leased'))
    ORDER BY d.priority DESC, d.not_before LIMIT $4 FOR UPDATE SKIP LOCKED),
taken AS (
    UPDATE holdfast.delivery d SET state = 'leased', lease_until = $3, lease_token = gen_random_uuid(), attempts = d.attempts + 1, held_reason = ''
    FROM due WHERE d.id = due.id RETURNING d.*, due.lost),
noted AS (
    INSERT INTO holdfast.delivery_attempt (delivery, no, began_at) SELECT id, attempts, $2 FROM taken)
` + sqlJob + `
FROM taken d` + sqlJobJoins + `
ORDER BY d.priority DESC, d.not_before`

	// The first trigger of a round that is not the first, by one way.
	sqlAgain = `(d.round > 0 AND d.event = 'trigger' AND EXISTS (
         SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.method = d.method AND o.event = 'trigger' AND o.round < d.round AND o.accepted_at IS NOT NULL)
     AND NOT EXISTS (
         SELECT FROM holdfast.delivery o WHERE o.incident = d.incident AND o.method = d.method AND o.event = 'trigger' AND o.round = d.round AND o.accepted_at IS NOT NULL AND o.id <> d.id))`

	// The order is that of job.
	sqlJob = `
SELECT d.id::text, coalesce(d.lease_token::text, ''), d.attempts, d.lost, d.event, d.channel, d.audience, d.tenant, d.offer, ` + sqlAgain + `, d.created_at, d.method, m.address,
       coalesce(m.settings, '{}'), m.removed_at IS NOT NULL OR m.id IS NULL, coalesce(c.name, ''),
       EXISTS (SELECT FROM holdfast.delivery_attempt a WHERE a.delivery = d.id AND a.no < d.attempts AND a.outcome IN ('', 'unknown')),
       coalesce((SELECT min(a.began_at) FROM holdfast.delivery_attempt a WHERE a.delivery = d.id), d.created_at),
       d.incident, coalesce(i.kind, ''), coalesce(i.severity, ''), coalesce(i.facility, ''), coalesce(f.tenant, ''), coalesce(f.name, ''),
       coalesce(f.time_zone, ''), coalesce(i.summary, ''), coalesce(i.evidence, '{}'), coalesce(i.since, d.created_at), i.resolved_at,
       CASE WHEN d.tenant <> '' THEN coalesce(e.acked_by, '') ELSE coalesce(i.acked_by, '') END,
       CASE WHEN d.tenant <> '' THEN e.acked_at IS NOT NULL ELSE i.acked_at IS NOT NULL END, coalesce(i.maintenance, false), i.parent IS NOT NULL`
	sqlJobJoins = `
LEFT JOIN holdfast.contact_method m ON m.id = d.method
LEFT JOIN holdfast.contact c ON c.id = d.contact
LEFT JOIN holdfast.incident i ON i.id = d.incident
LEFT JOIN holdfast.escalation e ON e.incident = d.incident AND e.policy = d.policy
LEFT JOIN holdfast.facility f ON f.id = i.facility`

	// The facilities of a region's incident: all, or a customer's.
	sqlPartsOf = `
SELECT p.kind, p.summary, p.evidence, p.since, g.id, coalesce(nullif(g.name, ''), g.id), g.time_zone, p.resolved_at IS NOT NULL
FROM holdfast.incident p JOIN holdfast.facility g ON g.id = p.facility
WHERE p.parent = $1 AND ($2 = '' OR g.tenant = $2) AND NOT p.maintenance
ORDER BY p.resolved_at IS NOT NULL, p.since, p.id LIMIT $3`

	sqlOneJob = sqlJob + ` FROM (SELECT *, false AS lost FROM holdfast.delivery WHERE id = $1) d` + sqlJobJoins

	sqlLockIncident = `SELECT FROM holdfast.incident WHERE id = $1 FOR NO KEY UPDATE`

	// Who has it, as far as it concerns a message: see escalation.acked_at. It is
	// asked when the incident is locked: a statement that waits for a lock sees the
	// other tables as they were before.
	sqlNow = `
SELECT i.resolved_at IS NOT NULL, CASE WHEN d.tenant <> '' THEN e.acked_at IS NOT NULL ELSE i.acked_at IS NOT NULL END, i.maintenance
FROM holdfast.incident i
LEFT JOIN holdfast.delivery d ON d.id = $2
LEFT JOIN holdfast.escalation e ON e.incident = d.incident AND e.policy = d.policy
WHERE i.id = $1`

	// A receipt may have come before the provider's own answer; states only go forward.
	sqlTaken = `
UPDATE holdfast.delivery
SET state = CASE WHEN array_position($7::text[], state) > array_position($7::text[], $3) THEN state ELSE $3 END,
    provider = $4, provider_id = CASE WHEN $5 = '' THEN provider_id ELSE $5 END, cost_micros = $6, cost_unit = $9, price_at = $10,
    accepted_at = coalesce(accepted_at, $8),
    done_at = CASE WHEN $3 IN ('delivered', 'reached') THEN coalesce(done_at, $8) ELSE done_at END,
    error = '', held_reason = '', lease_until = NULL, lease_token = NULL
WHERE id = $1 AND lease_token = $2`

	// Not taken: it waits, or has come to its end. done_at is set for the latter.
	sqlNotTaken = `
UPDATE holdfast.delivery
SET state = $3, error = $4, held_reason = $5, not_before = coalesce($6, not_before), attempts = attempts - $8,
    done_at = $7, lease_until = NULL, lease_token = NULL
WHERE id = $1 AND lease_token = $2 AND state = 'leased'`

	sqlAttempted = `UPDATE holdfast.delivery_attempt SET ended_at = $3, outcome = $4, detail = $5 WHERE delivery = $1 AND no = $2`
	sqlUntried   = `DELETE FROM holdfast.delivery_attempt WHERE delivery = $1 AND no = $2`

	// Was nobody told of the incident before, though there was no announced work? It
	// is asked when the incident is locked, so that of two messages that are taken at
	// once one is the first.
	sqlFirst = `
SELECT NOT EXISTS (SELECT FROM holdfast.delivery d WHERE d.incident = i.id AND d.event = 'trigger' AND d.accepted_at IS NOT NULL AND d.id <> $2)
   AND NOT EXISTS (SELECT FROM holdfast.maintenance m WHERE m.facility = i.facility AND m.starts_at <= $3 AND coalesce(m.ended_at, m.ends_at) > i.opened_at)
FROM holdfast.incident i WHERE i.id = $1`

	// What has arrived can be used, whatever was found before.
	sqlProved = `
UPDATE holdfast.contact_method m SET proved_at = $2, problem = ''
FROM holdfast.delivery d WHERE d.id = $1 AND m.id = d.method AND (m.proved_at IS NULL OR m.proved_at < $2)`

	sqlMethodTook = `
UPDATE holdfast.contact_method m SET taken_at = $2
FROM holdfast.delivery d WHERE d.id = $1 AND m.id = d.method AND (m.taken_at IS NULL OR m.taken_at < $2)`

	// While a provider fails, what is due waits. The first time the incident's timeline says so.
	sqlHold = `
WITH due AS (
    SELECT d.id, d.state = 'pending' AS fresh FROM holdfast.delivery d
    WHERE d.channel = $1 AND d.state IN ('pending', 'held') AND d.not_before <= $2 AND ` + sqlHost + ` = $5 FOR UPDATE SKIP LOCKED),
held AS (
    UPDATE holdfast.delivery d SET state = 'held', not_before = $3, held_reason = $4 FROM due WHERE d.id = due.id RETURNING d.incident, d.contact, due.fresh)
INSERT INTO holdfast.incident_event (incident, at, what, who, detail)
SELECT h.incident, $2, 'held', coalesce(c.name, ''), $1 || ': ' || $4 FROM held h LEFT JOIN holdfast.contact c ON c.id = h.contact
WHERE h.fresh AND h.incident IS NOT NULL`

	// When the number got messages, how many of this incident, and how many pages of it.
	// A number is one, whoever has it and however often it was entered ($1 is one of
	// its methods).
	sqlSent = `
WITH same AS (SELECT m.id FROM holdfast.contact_method o JOIN holdfast.contact_method m ON m.channel = o.channel AND m.address = o.address WHERE o.id = $1)
SELECT ARRAY(SELECT s.at FROM (
           SELECT accepted_at AS at FROM holdfast.delivery WHERE method IN (SELECT id FROM same) AND accepted_at > $3 AND id <> $2
           UNION ALL SELECT $4::timestamptz FROM holdfast.delivery WHERE channel = $6 AND state = 'leased' AND method IN (SELECT id FROM same) AND id < $2) s ORDER BY 1),
       (SELECT count(*) FROM holdfast.delivery WHERE incident = $5 AND method IN (SELECT id FROM same) AND accepted_at IS NOT NULL AND event <> 'resolve' AND id <> $2),
       (SELECT count(*) FROM holdfast.delivery WHERE incident = $5 AND method IN (SELECT id FROM same) AND accepted_at IS NOT NULL AND event = 'trigger' AND id <> $2)`

	// A delivery by its id, or by what the provider calls it.
	sqlFindDelivery = `
SELECT d.id::text, d.incident, d.state, d.channel, d.event, coalesce(c.name, ''), CASE WHEN d.tenant <> '' THEN d.policy END, d.method FROM holdfast.delivery d
LEFT JOIN holdfast.contact c ON c.id = d.contact
WHERE CASE WHEN $1 <> '' THEN d.id = nullif($1, '')::uuid ELSE d.provider = $2 AND d.provider_id = $3 AND d.provider_id <> '' END`

	sqlReceipt = `
INSERT INTO holdfast.delivery_receipt (delivery, event_id, at, state, detail) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`

	sqlAdvance = `
UPDATE holdfast.delivery
SET state = CASE WHEN array_position($5::text[], state) < array_position($5::text[], $2) THEN $2 ELSE state END,
    accepted_at = CASE WHEN $2 = 'failed' THEN accepted_at ELSE coalesce(accepted_at, $3) END,
    done_at = CASE WHEN array_position($5::text[], state) < array_position($5::text[], $2) AND $2 IN ('failed', 'delivered', 'reached') THEN $3 ELSE done_at END,
    provider = CASE WHEN provider = '' THEN $6 ELSE provider END,
    provider_id = CASE WHEN provider_id = '' THEN $7 ELSE provider_id END,
    error = CASE WHEN $2 = 'failed' AND array_position($5::text[], state) < array_position($5::text[], $2) THEN $4 ELSE error END
WHERE id = $1 RETURNING state`

	sqlNote = `INSERT INTO holdfast.incident_event (incident, at, what, who, detail) VALUES ($1, $2, $3, $4, $5)`
)

// ranks are the states in the order in which a message goes through them; it
// never goes back. A failure after a provider took it can still turn out wrong.
// What was cancelled, capped or expired is not in it, and stays so.
var ranks = []string{"pending", "held", "leased", "accepted", "sent", "failed", "delivered", "reached"}

// job is one message to be sent.
type job struct {
	ID, Token                    string
	No                           int  // of the attempt, from 1
	Lost                         bool // the attempt before has not said what came of it
	Event                        channel.Event
	Channel                      channel.Kind
	Audience                     Audience
	Of                           string // whose facilities it is about, of a region's incident; "" for all
	Offer                        string
	Again                        bool // it was told by this way before, and not yet since nothing came of that
	CreatedAt                    time.Time
	Method                       *int64
	Address                      *string
	Settings                     map[string]string
	Gone                         bool // the contact does not have the address any more
	Contact                      string
	Unsure                       bool      // an attempt before may have arrived
	FirstAt                      time.Time // when the first attempt began
	Incident                     *int64    // nil: a test
	Kind, Severity               string
	Facility, Tenant, Name, Zone string
	Summary                      string
	Evidence                     []string
	Since                        time.Time
	Resolved                     *time.Time
	AckedBy                      string
	Acked, Maintenance, Regional bool
}

// stale reports whether a message that was cut off must not be sent again,
// because its incident has gone on meanwhile.
func (j job) stale() bool {
	if !j.Lost {
		return false
	}
	switch j.Event {
	case channel.Trigger:
		return j.Resolved != nil || j.Acked && j.Offer == "" || j.Maintenance
	case channel.Update:
		return j.Resolved != nil
	}
	return false
}

// claim leases up to n messages that are due to one destination; host is "" for a channel's provider.
func (s store) claim(ctx context.Context, k channel.Kind, host string, now, until time.Time, n int) ([]job, error) {
	rows, err := s.db.Query(ctx, sqlClaim, k, now, until, n, host)
	if err != nil {
		return nil, fmt.Errorf("claim messages of %s: %w", k, err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		return nil, fmt.Errorf("claim messages of %s: %w", k, err)
	}
	return jobs, nil
}

func (s store) job(ctx context.Context, id string) (job, error) {
	rows, err := s.db.Query(ctx, sqlOneJob, id)
	if err != nil {
		return job{}, fmt.Errorf("read message %s: %w", id, err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[job])
	if errors.Is(err, pgx.ErrNoRows) {
		return j, ErrNotFound
	}
	if err != nil {
		return j, fmt.Errorf("read message %s: %w", id, err)
	}
	return j, nil
}

// part is a facility's incident that is part of the region's.
type part struct {
	Kind, Summary        string
	Evidence             []string
	Since                time.Time
	Facility, Name, Zone string
	Over                 bool
}

// partsMax is how many facilities a message of a region's incident lists.
const partsMax = 200

func (s store) parts(ctx context.Context, incident int64, tenant string) ([]part, error) {
	rows, err := s.db.Query(ctx, sqlPartsOf, incident, tenant, partsMax)
	if err != nil {
		return nil, fmt.Errorf("read the facilities of incident %d: %w", incident, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
	if err != nil {
		return nil, fmt.Errorf("read the facilities of incident %d: %w", incident, err)
	}
	return list, nil
}

func (s store) hold(ctx context.Context, k channel.Kind, host string, now, until time.Time, why string) error {
	reason := "held until " + until.Format(clock) + ", because " + cmp.Or(host, "the provider") + " fails: " + why
	if _, err := s.db.Exec(ctx, sqlHold, k, now, until, shorten(reason, detailMaxBytes), host); err != nil {
		return fmt.Errorf("hold messages of %s: %w", k, err)
	}
	return nil
}

func (s store) sent(ctx context.Context, j job, now time.Time) (sent []time.Time, ofIncident, pages int, err error) {
	err = s.db.QueryRow(ctx, sqlSent, j.Method, j.ID, now.Add(-limitMax), now, j.Incident, j.Channel).Scan(&sent, &ofIncident, &pages)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("count what a number was sent: %w", err)
	}
	return sent, ofIncident, pages, nil
}

// complete stores what became of an attempt. lost is true when its lease had
// gone to another: nothing was stored; first when it is the first message of a
// facility's outage that was taken, and no announced work kept it back.
func (s store) complete(ctx context.Context, j job, o outcome, now time.Time) (lost, first bool, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if o.attempt == "accepted" {
			return s.taken(ctx, tx, j, o, now, &lost, &first)
		}
		var resolved, acked, maintenance bool
		if j.Incident != nil {
			if _, err := tx.Exec(ctx, sqlLockIncident, *j.Incident); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, sqlNow, *j.Incident, j.ID).Scan(&resolved, &acked, &maintenance); err != nil {
				return err
			}
		}
		overtaken := resolved && (j.Event == channel.Trigger || j.Event == channel.Update) ||
			(acked && j.Offer == "" || maintenance) && j.Event == channel.Trigger
		var done, before *time.Time
		switch waits := o.state == "pending" || o.state == "held"; {
		case waits && overtaken:
			o.state, o.reason, done = "cancelled", "", &now
		case waits:
			before = &o.before
		default:
			done = &now
		}
		untried := 0
		if o.attempt == "" {
			untried = 1
		}
		tag, err := tx.Exec(ctx, sqlNotTaken, j.ID, j.Token, o.state, o.err, shorten(o.reason, detailMaxBytes), before, done, untried)
		if err != nil {
			return err
		}
		if lost = tag.RowsAffected() == 0; lost {
			return nil
		}
		if o.attempt == "" {
			_, err = tx.Exec(ctx, sqlUntried, j.ID, j.No)
		} else {
			_, err = tx.Exec(ctx, sqlAttempted, j.ID, j.No, now, o.attempt, o.err)
		}
		if err != nil {
			return err
		}
		return s.notTaken(ctx, tx, j, o, now)
	})
	if err != nil {
		return false, false, fmt.Errorf("store what became of a message: %w", err)
	}
	return lost, first && !lost, nil
}

func (s store) taken(ctx context.Context, tx pgx.Tx, j job, o outcome, now time.Time, lost, first *bool) error {
	if j.Event == channel.Trigger && j.Kind == string(detect.Offline) {
		if _, err := tx.Exec(ctx, sqlLockIncident, *j.Incident); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, sqlFirst, *j.Incident, j.ID, now).Scan(first); err != nil {
			return err
		}
	}
	r := o.result
	tag, err := tx.Exec(ctx, sqlTaken, j.ID, j.Token, o.state, r.Provider, r.ProviderID, r.Price.Micros, ranks, now, r.Price.Unit, o.priceAt)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlAttempted, j.ID, j.No, now, "accepted", ""); err != nil {
		return err
	}
	if *lost = tag.RowsAffected() == 0; *lost {
		return nil
	}
	if _, err := tx.Exec(ctx, sqlMethodTook, j.ID, now); err != nil {
		return err
	}
	// The broker's word is all there can be: nobody answers what programs read.
	if r.State == channel.Delivered || r.State == channel.Reached || j.Channel == channel.MQTT {
		if _, err := tx.Exec(ctx, sqlProved, j.ID, now); err != nil {
			return err
		}
	}
	if j.Incident == nil {
		return nil
	}
	_, err = tx.Exec(ctx, sqlNote, *j.Incident, now, "told", j.Contact, fmt.Sprintf("%s of %s: %s by %s", j.Channel, j.Event, o.state, r.Provider))
	return err
}

// notTaken draws the consequences: a page that cannot reach its contact goes to the next at once.
func (s store) notTaken(ctx context.Context, tx pgx.Tx, j job, o outcome, now time.Time) error {
	if j.Incident == nil {
		return nil
	}
	switch o.state {
	case "held":
		_, err := tx.Exec(ctx, sqlNote, *j.Incident, now, "held", j.Contact, string(j.Channel)+": "+o.reason)
		return err
	case "failed", "expired", "capped":
		_, err := tx.Exec(ctx, sqlNote, *j.Incident, now, "noted", j.Contact, fmt.Sprintf("%s of %s %s: %s", j.Channel, j.Event, o.state, o.err))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, sqlHurry, j.ID, now)
		return err
	}
	return nil
}
