package oncall

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/channel"
)

var _ alert.Roster = (*Room)(nil)

// Policies lists the policies that an incident runs through: the tenant's and
// operations', all that concern it.
func (r *Room) Policies(ctx context.Context, tx pgx.Tx, s alert.Subject) ([]int64, error) {
	seen, err := r.look(ctx, tx, s.Tenant, s.OpenedAt)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, p := range seen.concerned(s) {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// Step returns who a step of a policy is at a moment. Whom several policies of
// one audience would tell at once is told by the first of them only. An incident
// that runs through a policy which was removed meanwhile goes on to its end.
func (r *Room) Step(ctx context.Context, tx pgx.Tx, policyID int64, no int, s alert.Subject, at time.Time) (alert.Step, bool, error) {
	seen, err := r.look(ctx, tx, s.Tenant, at)
	if err != nil {
		return alert.Step{}, false, err
	}
	plan, ok := seen.plans[policyID]
	if !ok {
		plan, ok, err = r.other(ctx, tx, seen, policyID, at)
	}
	if err != nil || !ok || no < 0 || no >= len(plan.steps) {
		return alert.Step{}, false, err
	}
	step := plan.steps[no]
	people := seen.people
	if plan.people != nil {
		people = *plan.people
	}
	out := alert.Step{
		Policy: policyID, No: no, After: time.Duration(step.After) * time.Second, Audience: plan.audience(), Offer: step.Offer,
		Targets: people.targets(step, at),
	}
	if step.After == 0 {
		told := seen.toldAtOnce(plan.policy, s, at)
		all := len(out.Targets)
		out.Targets = slices.DeleteFunc(out.Targets, func(t alert.Target) bool { return told[t.Method] })
		out.Covered = all > 0 && len(out.Targets) == 0
	}
	return out, true, nil
}

// Maintenance returns until when a facility is under announced work.
func (r *Room) Maintenance(ctx context.Context, tx pgx.Tx, facility string, at time.Time) (time.Time, bool, error) {
	return r.workUntil(ctx, tx, facility, at)
}

// people is what is known of those whom steps name.
type people struct {
	schedules map[int64]Schedule
	methods   map[int64][]methodRow // by contact
}

func nobody() people {
	return people{schedules: map[int64]Schedule{}, methods: map[int64][]methodRow{}}
}

func (p *people) addMethods(list []methodRow) {
	for _, m := range list {
		p.methods[m.Contact] = append(p.methods[m.Contact], m)
	}
}

// contacts is who a step names at a moment, each once, on call first.
func (p *people) contacts(s stepRow, at time.Time) []int64 {
	var ids []int64
	for _, id := range s.Schedules {
		if sched, ok := p.schedules[id]; ok {
			if c := sched.who(at).Contact; c != 0 {
				ids = union(ids, []int64{c})
			}
		}
	}
	return union(ids, s.Contacts)
}

// targets is all ways by which a step tells them.
func (p *people) targets(s stepRow, at time.Time) []alert.Target {
	var out []alert.Target
	for _, c := range p.contacts(s, at) {
		for _, m := range p.methods[c] {
			if len(s.Channels) > 0 && !slices.Contains(s.Channels, m.Channel) {
				continue
			}
			out = append(out, alert.Target{
				Contact: c, Method: m.ID, Name: m.Name, Channel: channel.Kind(m.Channel), Address: m.Address, Settings: m.Settings,
			})
		}
	}
	return out
}
