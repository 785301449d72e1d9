package oncall

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// tenantsMax is of how many tenants one transaction asks before it reads all: a
// thousand facilities that are silent at once are told of in one transaction, and
// the time for that is counted.
const tenantsMax = 8

// snapshot is what one transaction has read of who is told. Each thing is read
// once, so that all that is decided in it is decided on the same.
type snapshot struct {
	tx     pgx.Tx    // which it is of; it is held, so that no other one is taken for it
	since  time.Time // overrides that ended before are not in it
	all    bool
	whose  map[string]bool // the tenants that are in it
	plans  map[int64]plan
	of     map[string][]int64 // the plans of a tenant, in their order
	others map[int64]plan     // that are none of theirs; see other
	people people

	workAt time.Time // the moment of work; zero: not read yet
	work   map[string]time.Time
}

// plan is a policy with its steps.
type plan struct {
	policy
	steps  []stepRow
	people *people // of one that is not in the snapshot; nil: the snapshot's
}

// look returns what the transaction has read of a tenant and of operations, and
// reads it if need be.
func (r *Room) look(ctx context.Context, tx pgx.Tx, tenant string, at time.Time) (*snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen
	if s == nil || s.tx != tx || at.Before(s.since) {
		s = &snapshot{
			tx: tx, since: at, whose: map[string]bool{}, plans: map[int64]plan{},
			others: map[int64]plan{}, people: nobody(),
		}
	}
	var whose []string
	for _, t := range []string{"", tenant} {
		if !s.all && !s.whose[t] && !slices.Contains(whose, t) {
			whose = append(whose, t)
		}
	}
	if len(whose) == 0 {
		return s, nil
	}
	s.all = len(s.whose) > tenantsMax
	if s.all {
		whose = nil
	}
	found, err := rules(ctx, tx, whose)
	if err != nil {
		return nil, err
	}
	if err := r.fill(ctx, tx, &s.people, found, s.plans, s.since); err != nil {
		return nil, err
	}
	for _, t := range whose {
		s.whose[t] = true
	}
	s.of = map[string][]int64{}
	for _, id := range slices.Sorted(maps.Keys(s.plans)) {
		t := s.plans[id].Tenant
		s.of[t] = append(s.of[t], id)
	}
	r.seen = s
	return s, nil
}

// fill reads the steps of policies, and whom they name.
func (r *Room) fill(ctx context.Context, tx pgx.Tx, p *people, found []policy, into map[int64]plan, since time.Time) error {
	if len(found) == 0 {
		return nil
	}
	var ids, turns, who []int64
	for _, one := range found {
		ids = append(ids, one.ID)
		into[one.ID] = plan{policy: one}
	}
	steps, err := stepsOf(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, s := range steps {
		one := into[s.Policy]
		one.steps = append(one.steps, s)
		into[s.Policy] = one
		turns = append(turns, s.Schedules...)
		who = append(who, s.Contacts...)
	}
	if len(turns) > 0 {
		list, err := schedules(ctx, tx, "", turns, 0, everything, since)
		if err != nil {
			return err
		}
		for _, doc := range list {
			for _, rot := range doc.Rotations {
				who = append(who, rot.Contacts...)
			}
			for _, o := range doc.Overrides {
				who = append(who, o.Contact)
			}
		}
		r.addSchedules(p, list)
	}
	who = slices.DeleteFunc(who, func(id int64) bool { _, known := p.methods[id]; return known })
	if len(who) == 0 {
		return nil
	}
	methods, err := methodsOf(ctx, tx, who)
	if err != nil {
		return err
	}
	p.addMethods(methods)
	return nil
}

// other reads a policy that is none of the tenant's for incidents that run through
// it: it was removed meanwhile.
func (r *Room) other(ctx context.Context, tx pgx.Tx, seen *snapshot, id int64, at time.Time) (plan, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one, ok := seen.others[id]; ok {
		return one, true, nil
	}
	found, err := rule(ctx, tx, id)
	if err != nil || len(found) == 0 {
		return plan{}, false, err
	}
	p := nobody()
	into := map[int64]plan{}
	err = r.fill(ctx, tx, &p, found, into, at)
	if err != nil {
		return plan{}, false, err
	}
	one := into[id]
	one.people = &p
	seen.others[id] = one
	return one, true, nil
}

// concerned lists the policies that an incident runs through, in their order.
func (s *snapshot) concerned(sub alert.Subject) []policy {
	ids := s.of[""]
	if sub.Tenant != "" {
		ids = slices.Concat(ids, s.of[sub.Tenant])
	}
	var out []policy
	for _, id := range ids {
		if p := s.plans[id]; p.concerns(sub) {
			out = append(out, p.policy)
		}
	}
	slices.SortFunc(out, func(a, b policy) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// toldAtOnce is which methods the policies before one of the same audience tell at once.
func (s *snapshot) toldAtOnce(before policy, sub alert.Subject, at time.Time) map[int64]bool {
	told := map[int64]bool{}
	for _, p := range s.concerned(sub) {
		if p.ID >= before.ID || p.audience() != before.audience() {
			continue
		}
		for _, step := range s.plans[p.ID].steps {
			if step.After > 0 {
				continue
			}
			for _, t := range s.people.targets(step, at) {
				told[t.Method] = true
			}
		}
	}
	return told
}

// workUntil is until when a facility's announced work lasts, if there is some.
func (r *Room) workUntil(ctx context.Context, tx pgx.Tx, facility string, at time.Time) (time.Time, bool, error) {
	s, err := r.look(ctx, tx, "", at)
	if err != nil {
		return time.Time{}, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.workAt.Equal(at) || s.work == nil {
		if s.work, err = work(ctx, tx, at); err != nil {
			return time.Time{}, false, err
		}
		s.workAt = at
	}
	until, ok := s.work[facility]
	return until, ok, nil
}

// addSchedules leaves out a schedule that somebody spoiled past the API: the
// others of the step must be told nevertheless.
func (r *Room) addSchedules(p *people, list []v1.Schedule) {
	for _, doc := range list {
		s, err := parseSchedule(doc)
		if err != nil {
			r.log.Error("nobody is on call of a schedule that cannot be read", "schedule", doc.Name, "err", err)
			continue
		}
		p.schedules[doc.ID] = s
	}
}
