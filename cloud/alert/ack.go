package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
)

// TakenError says that somebody has an incident already.
type TakenError struct {
	By string
	At time.Time
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s has acknowledged it already, at %s", e.By, e.At.UTC().Format(clock))
}

// What people are answered. It says nothing of incidents to a number that was not told of them.
const (
	answerUnknown = "We do not know this number for an open incident. Please use the link in the message, or call whoever runs your region."
	answerWhich   = "More than one incident is open. Please reply with the number that is in the message."
	answerOver    = "It is over already. Nothing is left to do."
	answerTest    = "Thank you. The test has reached you."
	answerYours   = "You have acknowledged it already."
)

// Acknowledge takes somebody's word from a channel, and returns what to answer him;
// with channel.ErrStranger when it is of a number that was not told.
func (a *Alerter) Acknowledge(ctx context.Context, ack channel.Ack) (answer string, err error) {
	by := acknowledgement{how: ack.How, by: shorten(ack.By, nameMaxBytes)}
	err = pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		id, err := a.whose(ctx, tx, ack, &by)
		if err != nil {
			return err
		}
		if id == 0 {
			return errTest
		}
		return a.acknowledge(ctx, tx, id, by)
	})
	taken, isTaken := errors.AsType[*TakenError](err)
	switch {
	case errors.Is(err, errTest):
		// What reached somebody is stored though no incident was acknowledged.
		return answerTest, a.reached(ctx, ack.Delivery)
	case errors.Is(err, errWhich):
		return answerWhich, nil
	case errors.Is(err, ErrNotFound) && ack.From != "":
		return answerUnknown, channel.ErrStranger
	case errors.Is(err, ErrNotFound):
		return answerUnknown, nil
	case errors.Is(err, ErrOver):
		return answerOver, a.reached(ctx, ack.Delivery)
	case isTaken && taken.By == by.by:
		return answerYours, a.reached(ctx, ack.Delivery)
	case isTaken:
		return fmt.Sprintf("%s has had it since %s.", taken.By, taken.At.UTC().Format(clock)), a.reached(ctx, ack.Delivery)
	case err != nil:
		return "", fmt.Errorf("acknowledge: %w", err)
	}
	a.tell()
	return "Thank you, " + by.by + ". You have it, and nobody else is called.", nil
}

var (
	errTest  = errors.New("a test")
	errWhich = errors.New("several incidents are open")
)

// acknowledgement is who takes an incident on, and how that is known.
type acknowledgement struct {
	by, how, note string
	delivery      string // that was answered; "" when not known
	method        int64  // by which he knows it already; 0 for none
	policy        *int64 // a customer's people take what is theirs of a region's incident
}

const (
	// A number is known when a contact with it was told of the incident. The
	// newest message is the one that is answered; one that nobody has comes before
	// those of which is said who has them.
	sqlWhoseNumber = `
SELECT incident, delivery, method, name, policy, waits FROM (
  SELECT DISTINCT ON (d.incident) d.incident, d.id::text AS delivery, d.method, c.name, CASE WHEN d.tenant <> '' THEN d.policy END AS policy,
    CASE WHEN d.tenant <> '' THEN e.acked_at IS NULL ELSE i.acked_at IS NULL END AS waits, d.created_at
  FROM holdfast.delivery d
  JOIN holdfast.incident i ON i.id = d.incident
  JOIN holdfast.contact_method m ON m.id = d.method
  JOIN holdfast.contact c ON c.id = d.contact
  LEFT JOIN holdfast.escalation e ON e.incident = d.incident AND e.policy = d.policy
  WHERE m.address = $1 AND m.channel IN ('sms', 'voice') AND d.event = 'trigger' AND ` + sqlHanded + `
    AND ($2 = 0 AND i.resolved_at IS NULL OR i.id = $2) AND ($3 = '' OR d.id = nullif($3, '')::uuid)
  ORDER BY d.incident, waits DESC, d.created_at DESC) told
ORDER BY waits DESC, created_at DESC LIMIT 2`

	sqlAck = `
UPDATE holdfast.incident SET acked_at = $2, acked_by = $3, acked_how = $4, remind_at = $5 WHERE id = $1`

	sqlAckState = `
SELECT resolved_at IS NOT NULL, facility IS NULL, coalesce(acked_by, ''), acked_at FROM holdfast.incident WHERE id = $1 FOR NO KEY UPDATE`
)

// whose finds the incident that is acknowledged and who does it; 0 for a test. What does not prove
// itself is not found.
func (a *Alerter) whose(ctx context.Context, tx pgx.Tx, ack channel.Ack, by *acknowledgement) (int64, error) {
	if ack.From != "" {
		delivery := strings.ToLower(ack.Delivery)
		if delivery != "" && !isUUID.MatchString(delivery) {
			return 0, ErrNotFound
		}
		rows, err := tx.Query(ctx, sqlWhoseNumber, ack.From, ack.Incident, delivery)
		if err != nil {
			return 0, err
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			Incident int64
			Delivery string
			Method   int64
			Name     string
			Policy   *int64
			Waits    bool
		}])
		switch {
		case err != nil:
			return 0, err
		case len(list) == 0 && delivery != "":
			return a.test(ctx, tx, delivery, ack.From)
		case len(list) == 0:
			return 0, ErrNotFound
		case len(list) > 1 && list[1].Waits:
			return 0, errWhich
		}
		one := list[0]
		by.delivery, by.method, by.by, by.policy = one.Delivery, one.Method, one.Name, one.Policy
		return one.Incident, nil
	}
	if ack.Delivery == "" {
		if ack.Incident == 0 {
			return 0, ErrNotFound
		}
		by.by = cmp.Or(by.by, "somebody")
		return ack.Incident, nil
	}
	f, err := findDelivery(ctx, tx, ack.Delivery, "", "")
	if err != nil {
		return 0, err
	}
	by.by, by.delivery, by.policy = cmp.Or(by.by, f.Contact, "somebody"), f.ID, f.Policy
	if f.Incident == nil {
		return 0, nil
	}
	if f.Method != nil && (f.Channel == channel.SMS || f.Channel == channel.Voice) {
		by.method = *f.Method // it is his alone, and he is answered there
	}
	if ack.Incident != 0 && ack.Incident != *f.Incident {
		return 0, ErrNotFound
	}
	return *f.Incident, nil
}

// test is whose for a number that answers a test.
func (a *Alerter) test(ctx context.Context, tx pgx.Tx, delivery, from string) (int64, error) {
	var is bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.delivery d JOIN holdfast.contact_method m ON m.id = d.method
		WHERE d.id = $1 AND d.incident IS NULL AND m.address = $2)`, delivery, from).Scan(&is)
	if err == nil && !is {
		err = ErrNotFound
	}
	return 0, err
}

// acknowledge stops what waits, tells those who were told, and sets when it is told again.
func (a *Alerter) acknowledge(ctx context.Context, tx pgx.Tx, id int64, by acknowledgement) error {
	now := a.moment()
	var (
		resolved, regional bool
		who                string
		at                 *time.Time
	)
	err := tx.QueryRow(ctx, sqlAckState, id).Scan(&resolved, &regional, &who, &at)
	if err == nil && by.policy != nil {
		err = tx.QueryRow(ctx, sqlPolicyAck, id, *by.policy).Scan(&who, &at)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err != nil:
		return err
	case resolved:
		return ErrOver
	case at != nil:
		return &TakenError{By: who, At: *at}
	}
	audience := "" // all, but of a region's incident
	if regional {
		audience = string(Operations)
	}
	if by.policy != nil {
		audience = string(Customer)
		err = a.takePart(ctx, tx, id, by, now)
	} else {
		err = a.takeAll(ctx, tx, id, by, now)
	}
	if err != nil {
		return err
	}
	err = write(ctx, tx, "tell the others who has it", sqlUpdates, id, now,
		priority(channel.Update, "", Customer), priority(channel.Update, "", Operations), by.method, audience, by.policy)
	if err != nil {
		return err
	}
	words := "by " + by.how
	if by.note != "" {
		words += ": " + by.note
	}
	if err := write(ctx, tx, "write the timeline", sqlNote, id, now, "acknowledged", by.by, shorten(words, detailMaxBytes)); err != nil {
		return err
	}
	if by.delivery == "" {
		return nil
	}
	return reach(ctx, tx, by.delivery, now)
}

// takeAll stores who has an incident, and stops what waits of it. A region's
// incident is had by operations; its customers have theirs.
func (a *Alerter) takeAll(ctx context.Context, tx pgx.Tx, id int64, by acknowledgement, now time.Time) error {
	ids := []int64{id}
	if err := write(ctx, tx, "store who has it", sqlAck, id, now, by.by, by.how, now.Add(a.timing.remind)); err != nil {
		return err
	}
	if err := write(ctx, tx, "cancel what waits", sqlCancel, ids, now, []string{"trigger"}, own); err != nil {
		return err
	}
	return a.leaveOffers(ctx, tx, id, now)
}

// leaveOffers ends the escalations of an incident that somebody has, but for what
// they offer at its time: who works on it may want that all the more.
func (a *Alerter) leaveOffers(ctx context.Context, tx pgx.Tx, id int64, now time.Time) error {
	open, err := lock(ctx, tx, []int64{id})
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, sqlOwnTimers, id)
	if err != nil {
		return fmt.Errorf("read the escalations: %w", err)
	}
	timers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[timer])
	if err != nil {
		return fmt.Errorf("read the escalations: %w", err)
	}
	b := newBatch(now)
	for i := range timers {
		if err := a.nextOffer(ctx, tx, b, open[0], &timers[i]); err != nil {
			return err
		}
		b.timers = append(b.timers, &timers[i])
	}
	return b.flush(ctx, tx)
}

// takePart is takeAll for what a customer's people are told of a region's
// incident: nobody else's escalation stops.
func (a *Alerter) takePart(ctx context.Context, tx pgx.Tx, id int64, by acknowledgement, now time.Time) error {
	if err := write(ctx, tx, "cancel what waits", sqlCancelPolicy, id, *by.policy, now); err != nil {
		return err
	}
	open, err := lock(ctx, tx, []int64{id})
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, sqlPolicyTimer, id, *by.policy)
	if err != nil {
		return fmt.Errorf("read the escalation: %w", err)
	}
	t, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[timer])
	if err != nil {
		return fmt.Errorf("read the escalation: %w", err)
	}
	s, b := open[0], newBatch(now)
	s.Tenant = t.Tenant
	t.AckedAt, t.AckedBy = &now, by.by
	if err := a.nextOffer(ctx, tx, b, s, &t); err != nil {
		return err
	}
	a.orRemind(&t)
	b.timers = append(b.timers, &t)
	return b.flush(ctx, tx)
}

// reach notes that a person has answered a message: nothing proves more.
func reach(ctx context.Context, tx pgx.Tx, delivery string, now time.Time) error {
	if _, err := tx.Exec(ctx, sqlAdvance, delivery, channel.Reached, now, "", ranks, "", ""); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, sqlProved, delivery, now)
	return err
}

// reached is reach for an answer that changes nothing else.
func (a *Alerter) reached(ctx context.Context, delivery string) error {
	delivery = strings.ToLower(delivery)
	if !isUUID.MatchString(delivery) {
		return nil
	}
	err := pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error { return reach(ctx, tx, delivery, a.moment()) })
	if err != nil {
		return fmt.Errorf("store that a message has reached somebody: %w", err)
	}
	a.tell()
	return nil
}

// AcknowledgeBy takes an incident on for somebody who is signed in. how is
// dashboard or cli. It returns ErrNotFound, ErrOver, or a *TakenError when
// somebody has it already.
func (a *Alerter) AcknowledgeBy(ctx context.Context, id int64, by, how, note string) (v1.Incident, error) {
	if len(note) > noteMaxBytes {
		return v1.Incident{}, fmt.Errorf("the note is longer than %d bytes", noteMaxBytes)
	}
	err := pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		if err := a.acknowledge(ctx, tx, id, acknowledgement{by: shorten(by, nameMaxBytes), how: how, note: note}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, 'incident acknowledged', $2)`, by, map[string]any{"incident": id, "how": how})
		return err
	})
	if err != nil {
		return v1.Incident{}, fmt.Errorf("acknowledge incident %d: %w", id, err)
	}
	a.tell()
	return a.One(ctx, id)
}
