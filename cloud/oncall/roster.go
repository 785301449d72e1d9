package oncall

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
)

var _ alert.Roster = (*Room)(nil)

// Policies lists the policies that an incident runs through: the tenant's and
// operations', all that concern it.
func (r *Room) Policies(ctx context.Context, tx pgx.Tx, s alert.Subject) ([]int64, error) {
	found, err := concerned(ctx, tx, s)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, p := range found {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

func concerned(ctx context.Context, db querier, s alert.Subject) ([]policy, error) {
	found, err := rules(ctx, db, s.Tenant)
	return slices.DeleteFunc(found, func(p policy) bool { return !p.concerns(s) }), err
}

// Step returns who a step of a policy is at a moment. Whom several policies of
// one audience would tell at once is told by the first of them only. An incident
// that runs through a policy which was removed meanwhile goes on to its end.
func (r *Room) Step(ctx context.Context, tx pgx.Tx, policyID int64, no int, s alert.Subject, at time.Time) (alert.Step, bool, error) {
	step, tenant, ok, err := stepAt(ctx, tx, policyID, no)
	if err != nil || !ok {
		return alert.Step{}, false, err
	}
	audience := policy{Tenant: tenant}.audience()
	targets, err := r.targetsOf(ctx, tx, step, at)
	if err != nil {
		return alert.Step{}, false, err
	}
	if step.After == 0 && len(targets) > 0 {
		others, err := r.toldAtOnce(ctx, tx, policyID, audience, s, at)
		if err != nil {
			return alert.Step{}, false, err
		}
		targets = slices.DeleteFunc(targets, func(t alert.Target) bool { return others[t.Method] })
	}
	return alert.Step{
		Policy: policyID, No: no, After: time.Duration(step.After) * time.Second, Audience: audience, Targets: targets, Offer: step.Offer,
	}, true, nil
}

// toldAtOnce is which methods the policies before this one tell at once.
func (r *Room) toldAtOnce(ctx context.Context, db querier, before int64, audience alert.Audience, s alert.Subject, at time.Time) (map[int64]bool, error) {
	found, err := concerned(ctx, db, s)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, p := range found {
		if p.ID < before && p.audience() == audience {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	steps, err := stepsOf(ctx, db, ids)
	if err != nil {
		return nil, err
	}
	told := map[int64]bool{}
	for _, step := range steps {
		if step.After > 0 {
			continue
		}
		targets, err := r.targetsOf(ctx, db, step, at)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			told[t.Method] = true
		}
	}
	return told, nil
}

// Maintenance returns until when a facility is under announced work.
func (r *Room) Maintenance(ctx context.Context, tx pgx.Tx, facility string, at time.Time) (time.Time, bool, error) {
	return workUntil(ctx, tx, facility, at)
}

// targetsOf reads who a step tells at a moment.
func (r *Room) targetsOf(ctx context.Context, db querier, s stepRow, at time.Time) ([]alert.Target, error) {
	var p people
	if len(s.Schedules) > 0 {
		list, err := schedules(ctx, db, "", s.Schedules, 0, everything, at)
		if err != nil {
			return nil, err
		}
		r.addSchedules(&p, list)
	}
	ids := p.contacts(s, at)
	if len(ids) == 0 {
		return nil, nil
	}
	methods, err := methodsOf(ctx, db, ids)
	if err != nil {
		return nil, err
	}
	p.addMethods(methods)
	return p.targets(s, at), nil
}

// people is what is known of those whom steps name.
type people struct {
	schedules map[int64]Schedule
	methods   map[int64][]methodRow // by contact
}

// addSchedules leaves out a schedule that somebody spoiled past the API: the
// others of the step must be told nevertheless.
func (r *Room) addSchedules(p *people, list []v1.Schedule) {
	p.schedules = make(map[int64]Schedule, len(list))
	for _, doc := range list {
		s, err := parseSchedule(doc)
		if err != nil {
			r.log.Error("nobody is on call of a schedule that cannot be read", "schedule", doc.Name, "err", err)
			continue
		}
		p.schedules[doc.ID] = s
	}
}

func (p *people) addMethods(list []methodRow) {
	p.methods = map[int64][]methodRow{}
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
