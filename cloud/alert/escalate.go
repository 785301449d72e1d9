package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// A policy's step is taken, and the time of the next one set, in one transaction
// with the step's messages: a timer is a row, so no process's end loses it.

// takeSteps takes those of incidents' steps that are due.
func (a *Alerter) takeSteps(ctx context.Context, tx pgx.Tx, b *batch, ids []int64, u unsure) error {
	list, err := lock(ctx, tx, ids)
	if err != nil {
		return err
	}
	open := byID(list)
	var over, work []int64
	for _, id := range ids {
		s, there := open[id]
		if !there || s.Maintenance {
			over = append(over, id)
			continue
		}
		w, err := a.windowOf(ctx, tx, b, s.Facility)
		if err != nil {
			return err
		}
		if w.ok {
			work = append(work, id)
			b.hold(id, w)
		}
	}
	if err := a.stop(ctx, tx, b, work); err != nil {
		return err
	}
	if err := write(ctx, tx, "end the escalations", sqlEndTimers, over, ""); err != nil {
		return err
	}
	timers, err := dueTimers(ctx, tx, b, ids, u)
	if err != nil {
		return err
	}
	for _, t := range timers {
		if err := a.takeStep(ctx, tx, b, open[t.Incident], t); err != nil {
			return err
		}
	}
	return nil
}

// dueTimer is a timer that is due, whether its round has reached somebody,
// whether all that it is about is over already (a customer's part of a region's
// incident), and whether it has ever paged anybody.
type dueTimer struct {
	timer
	Reached, Over, Paged bool
}

func dueTimers(ctx context.Context, tx pgx.Tx, b *batch, ids []int64, u unsure) ([]dueTimer, error) {
	rows, err := tx.Query(ctx, sqlDueTimers, b.now, ids, u.all, u.of, timersMax)
	if err != nil {
		return nil, fmt.Errorf("read the escalations that are due: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dueTimer])
	if err != nil {
		return nil, fmt.Errorf("read the escalations that are due: %w", err)
	}
	return list, nil
}

func (a *Alerter) takeStep(ctx context.Context, tx pgx.Tx, b *batch, s subject, due dueTimer) error {
	t := &due.timer
	t.paged, t.reached = due.Paged, due.Reached
	b.timers = append(b.timers, t)
	if t.Tenant != "" {
		s.Tenant = t.Tenant // of the region's incident it is the customer's part
	}
	if due.Over {
		// His facilities are back, others' are not. It goes on if one of them joins again.
		next := b.now.Add(partedAfter)
		t.NextAt, t.EarlyAt = &next, nil
		return nil
	}
	has := t.AckedAt != nil // somebody has it of a region's incident
	switch {
	case has && !b.now.Before(t.AckedAt.Add(a.timing.remind)):
		t.AckedAt, t.AckedBy, t.reached = nil, "", false
		t.Step, t.Round, t.StartedAt, t.NextAt = 0, t.Round+1, b.now, &b.now
	case has, s.Acked && (s.Facility != "" || t.Audience == Operations):
		step, ok, err := a.ask(ctx, tx, b, s, t.Policy, t.Step)
		if err != nil {
			return err
		}
		if ok && step.Offer != "" {
			step.No = t.Step
			a.pageStep(b, s, t, step)
			t.Step++
		}
		if err := a.nextOffer(ctx, tx, b, s, t); err != nil {
			return err
		}
		if has {
			a.orRemind(t)
		}
		return nil
	}
	if t.NextAt == nil || t.NextAt.After(b.now) { // it is time to look whether somebody was reached
		t.EarlyAt = nil
		if due.Reached || t.NextAt == nil {
			return nil
		}
		b.note(t.Incident, "noted", "", "nobody was reached within "+span(a.timing.early)+": the next are told now")
		t.NextAt = &b.now
	}
	return a.advance(ctx, tx, b, s, t)
}

// nextOffer moves a timer of what somebody has to the next step that offers
// something, if there is one that has not been taken.
func (a *Alerter) nextOffer(ctx context.Context, tx pgx.Tx, b *batch, s subject, t *timer) error {
	was := t.NextAt
	t.NextAt, t.EarlyAt = nil, nil
	for ; ; t.Step++ {
		step, err := a.stepOf(ctx, tx, b, s, t.Policy, t.Step)
		if err != nil || !step.ok {
			return err
		}
		// Later than at its time means that it was taken, and was to be taken again.
		if at := t.StartedAt.Add(step.after); step.offer != "" && (was == nil || !was.After(at)) {
			t.NextAt = &at
			return nil
		}
	}
}

// orRemind has a customer's people told again of a part that they have, when nothing
// is offered to them before.
func (a *Alerter) orRemind(t *timer) {
	if again := t.AckedAt.Add(a.timing.remind); t.NextAt == nil || t.NextAt.After(again) {
		t.NextAt = &again
	}
}

// advance takes a timer's steps as far as they are due. Of what is critical the last
// one is taken again and again, a round each, until somebody answers; but not where
// there is nobody who could.
func (a *Alerter) advance(ctx context.Context, tx pgx.Tx, b *batch, s subject, t *timer) error {
	for t.NextAt != nil && !t.NextAt.After(b.now) {
		step, ok, err := a.ask(ctx, tx, b, s, t.Policy, t.Step)
		if err != nil {
			return err
		}
		if !ok || step.Audience == Operations && s.Parent != nil { // operations are told of the region's
			t.NextAt, t.EarlyAt = nil, nil
			return nil
		}
		step.No = t.Step
		paged := a.pageStep(b, s, t, step)
		t.paged = t.paged || paged > 0
		t.Step++
		next, err := a.stepOf(ctx, tx, b, s, t.Policy, t.Step)
		if err != nil {
			return err
		}
		if t.NextAt, t.EarlyAt = nil, nil; !next.ok {
			if s.Severity == detect.Critical && t.paged {
				again := b.now.Add(a.timing.again)
				t.Step, t.Round, t.NextAt = t.Step-1, t.Round+1, &again
			}
			return nil
		}
		at := t.StartedAt.Add(next.after)
		t.NextAt = &at
		// An offer is made at its time and not before. Who was told by another policy has his
		// time, and so has who was reached, though nobody is there to be told after him.
		if next.offer != "" || step.Covered || paged == 0 && t.reached {
			continue
		}
		early := b.now
		if paged > 0 {
			early = b.now.Add(a.timing.early)
		}
		if at.Before(early) {
			early = at
		}
		t.EarlyAt = &early
		if paged == 0 {
			t.NextAt = &early // nobody is there to wait for
		}
	}
	return nil
}

// pageStep plans a step's messages and returns how many ways it tells, those of
// another policy that does at this moment included.
func (a *Alerter) pageStep(b *batch, s subject, t *timer, step Step) int {
	var people []string
	ways := make(map[string][]string)
	n := 0
	for _, to := range step.Targets {
		if !b.page(s, t, step, to) {
			continue
		}
		n++
		if !slices.Contains(people, to.Name) {
			people = append(people, to.Name)
		}
		ways[to.Name] = append(ways[to.Name], string(to.Channel))
	}
	for i, p := range people {
		people[i] = p + " (" + strings.Join(ways[p], ", ") + ")"
	}
	switch {
	case n > 0:
		b.note(t.Incident, "escalated", "", fmt.Sprintf("step %d, %s: %s", step.No+1, step.Audience, strings.Join(people, "; ")))
	case step.Covered:
		b.note(t.Incident, "escalated", "", fmt.Sprintf("step %d, %s: another policy tells all of them", step.No+1, step.Audience))
	case len(step.Targets) == 0:
		b.note(t.Incident, "escalated", "", fmt.Sprintf("step %d, %s: nobody is there to be told", step.No+1, step.Audience))
	}
	return len(step.Targets)
}

// stepOf returns when a policy's step is taken. That is the same for all
// incidents, so within a transaction the roster is asked once.
func (a *Alerter) stepOf(ctx context.Context, tx pgx.Tx, b *batch, s subject, policy int64, no int) (due, error) {
	k := stepKey{policy, no}
	if d, ok := b.steps[k]; ok {
		return d, nil
	}
	step, ok, err := a.ask(ctx, tx, b, s, policy, no)
	if err != nil {
		return due{}, err
	}
	d := due{after: step.After, audience: step.Audience, offer: step.Offer, ok: ok}
	b.steps[k] = d
	if ok && step.Audience == Operations {
		b.ops[policy] = true
	}
	return d, nil
}

// ask returns a policy's step and who it is now.
func (a *Alerter) ask(ctx context.Context, tx pgx.Tx, b *batch, s subject, policy int64, no int) (Step, bool, error) {
	k := asked{stepKey: stepKey{policy, no}, incident: s.ID}
	if b.asked.stepKey == k.stepKey && b.asked.incident == k.incident {
		return b.asked.step, true, nil
	}
	step, ok, err := a.c.Roster.Step(ctx, tx, policy, no, s.roster(), b.now)
	if err != nil {
		return step, false, fmt.Errorf("find who is told next of incident %d: %w", s.ID, err)
	}
	if k.step = step; ok {
		b.asked = k
	}
	return step, ok, nil
}

// remind tells again what was acknowledged and then forgotten.
func (a *Alerter) remind(ctx context.Context, tx pgx.Tx, b *batch, u unsure) error {
	rows, err := tx.Query(ctx, sqlForgotten, b.now, timersMax, u.all, u.of)
	if err != nil {
		return fmt.Errorf("look for what was forgotten: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[forgotten])
	if err != nil {
		return fmt.Errorf("look for what was forgotten: %w", err)
	}
	ids := make([]int64, len(list))
	for i, f := range list {
		ids[i] = f.ID
		words := "it is still so"
		if f.At != nil {
			words = f.By + " acknowledged it " + span(b.now.Sub(*f.At)) + " ago, and it is still so"
		}
		b.note(f.ID, "reminded", f.By, words)
	}
	rounds, err := nextRounds(ctx, tx, ids)
	if err != nil {
		return err
	}
	if err := a.again(ctx, tx, b, ids); err != nil {
		return err
	}
	open, err := lock(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, s := range open {
		if s.Kind == detect.Drill {
			continue
		}
		if err := a.start(ctx, tx, b, s, rounds[s.ID], b.now, everybody); err != nil {
			return err
		}
	}
	return nil
}

// forgotten is an incident that was acknowledged, and nothing came of it.
type forgotten struct {
	ID int64
	By string
	At *time.Time
}

// tellTestContact sends a drill by every way that the test contact has.
func (a *Alerter) tellTestContact(ctx context.Context, tx pgx.Tx, b *batch, s subject) error {
	rows, err := tx.Query(ctx, sqlTestMethods, a.c.TestContact)
	if err != nil {
		return fmt.Errorf("read the test contact's addresses: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Contact, Method int64
		Name            string
		Channel         channel.Kind
	}])
	if err != nil {
		return fmt.Errorf("read the test contact's addresses: %w", err)
	}
	for _, m := range list {
		b.deliveries = append(b.deliveries, planned{
			Incident: s.ID, Event: channel.Trigger, Audience: Operations, Contact: m.Contact, Method: m.Method, Channel: m.Channel,
			Priority: priority(channel.Test, s.Severity, Operations),
		})
	}
	b.note(s.ID, "escalated", "", fmt.Sprintf("%d messages to the test contact", len(list)))
	return nil
}

func ints(ctx context.Context, tx querier, sql string, args ...any) ([]int64, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for what is due: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for what is due: %w", err)
	}
	return list, nil
}
