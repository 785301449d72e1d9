package oncall

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	stepsMax      = 20
	stepPeopleMax = 50
	policyListMax = 1000 // facilities that a policy names
	stepAfterMax  = 7 * 24 * 3600
)

// ListPolicies lists up to limit policies behind the one with the id after; tenant
// "" is all.
func (r *Room) ListPolicies(ctx context.Context, tenant string, after int64, limit int) ([]v1.Policy, error) {
	return policies(ctx, r.db, tenant, nil, after, limit)
}

// Policy returns one policy.
func (r *Room) Policy(ctx context.Context, id int64) (v1.Policy, error) {
	return onePolicy(ctx, r.db, id)
}

// AddPolicy makes a policy. It counts for incidents that open from now on.
func (r *Room) AddPolicy(ctx context.Context, in v1.Policy, by string) (v1.Policy, error) {
	var id int64
	err := r.change(ctx, by, "policy.add", func(tx pgx.Tx) (map[string]any, error) {
		if err := checkTenant(ctx, tx, in.Tenant); err != nil {
			return nil, err
		}
		if err := checkPolicy(ctx, tx, 0, &in); err != nil {
			return nil, err
		}
		var err error
		id, err = insertPolicy(ctx, tx, in)
		return map[string]any{"policy": id, "name": in.Name, "tenant": in.Tenant, "steps": in.Steps}, err
	})
	if err != nil {
		return v1.Policy{}, err
	}
	return r.Policy(ctx, id)
}

// SetPolicy replaces a policy. Incidents that run through it go on with the new steps.
func (r *Room) SetPolicy(ctx context.Context, id int64, in v1.Policy, by string) (v1.Policy, error) {
	err := r.change(ctx, by, "policy.change", func(tx pgx.Tx) (map[string]any, error) {
		was, err := onePolicy(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if in.Tenant != was.Tenant {
			return nil, wrong("tenant", fmt.Sprintf("%s cannot go over to another tenant", was.Name), "Add a policy there, and remove this one.")
		}
		saw := in.Version
		in.ID, in.Edition = was.ID, was.Edition
		if err := checkPolicy(ctx, tx, id, &in); err != nil {
			return nil, err
		}
		if err := unseen("policy", was.Name, saw, was.Edition, in, was); err != nil {
			return nil, err
		}
		return map[string]any{"policy": id, "name": in.Name, "steps": in.Steps}, updatePolicy(ctx, tx, id, in, by)
	})
	if err != nil {
		return v1.Policy{}, err
	}
	return r.Policy(ctx, id)
}

// RemovePolicy ends a policy. Incidents that run through it go on to its end.
func (r *Room) RemovePolicy(ctx context.Context, id int64, by string, now time.Time) error {
	return r.change(ctx, by, "policy.remove", func(tx pgx.Tx) (map[string]any, error) {
		p, err := onePolicy(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		return map[string]any{"policy": id, "name": p.Name, "tenant": p.Tenant}, removePolicy(ctx, tx, id, now)
	})
}

// checkPolicy also brings what it was given into form. id is its own.
func checkPolicy(ctx context.Context, tx pgx.Tx, id int64, in *v1.Policy) error {
	var err error
	if in.Name, err = name(in.Name); err != nil {
		return err
	}
	if in.Severity == "" {
		in.Severity = string(detect.Warning)
	}
	if rank(in.Severity) < 0 {
		return wrong("severity", fmt.Sprintf("there is no severity %.40q", in.Severity), "It is info, warning or critical.")
	}
	for i, k := range in.Kinds {
		if _, ok := kinds[detect.Kind(k)]; !ok {
			return wrong(fmt.Sprintf("kinds[%d]", i), fmt.Sprintf("there is no kind of incident %.40q", k), "The kinds are %s.", strings.Join(Kinds(), ", "))
		}
	}
	if err := checkFacilities(ctx, tx, in.Tenant, in.Facilities); err != nil {
		return err
	}
	if err := checkSteps(ctx, tx, in.Tenant, in.Steps); err != nil {
		return err
	}
	other, err := policyNamed(ctx, tx, in.Tenant, in.Name)
	if err != nil {
		return err
	}
	if other != 0 && other != id {
		return refused(fmt.Sprintf("there is a policy %q already", in.Name), "Choose another name, or change that one (number %d).", other)
	}
	return nil
}

func checkFacilities(ctx context.Context, tx pgx.Tx, tenant string, ids []string) error {
	if len(ids) > policyListMax {
		return wrong("facilities", fmt.Sprintf("%d facilities are too many", len(ids)), "Name at most %d; none means all of the tenant's.", policyListMax)
	}
	if len(ids) == 0 {
		return nil
	}
	owner, err := tenantsOf(ctx, tx, ids)
	if err != nil {
		return err
	}
	for i, f := range ids {
		field := fmt.Sprintf("facilities[%d]", i)
		of, ok := owner[f]
		if !ok {
			return wrong(field, fmt.Sprintf("there is no facility %.80q", f), "holdfastctl facility list shows them.")
		}
		if tenant != "" && of != tenant {
			return wrong(field, fmt.Sprintf("facility %s belongs to tenant %s, not %s", f, of, tenant), "Name facilities of tenant %s.", tenant)
		}
	}
	return nil
}

// checkSteps also puts them into the order in which they are taken.
func checkSteps(ctx context.Context, tx pgx.Tx, tenant string, steps []v1.PolicyStep) error {
	if len(steps) == 0 || len(steps) > stepsMax {
		return wrong("steps", fmt.Sprintf("a policy cannot have %d steps", len(steps)), "Give 1 to %d steps, each with who is told and after how long.", stepsMax)
	}
	slices.SortStableFunc(steps, func(a, b v1.PolicyStep) int { return a.After - b.After })
	for i, s := range steps {
		at := func(field string) string { return fmt.Sprintf("steps[%d].%s", i, field) }
		switch {
		case len(s.Contacts) == 0 && len(s.Schedules) == 0:
			return wrong(at("contacts"), "the step tells nobody", "Name contacts, or a schedule whose people are on call then.")
		case len(s.Contacts) > stepPeopleMax || len(s.Schedules) > stepPeopleMax:
			return wrong(at("contacts"), "the step names too many", "Name at most %d contacts and schedules.", stepPeopleMax)
		case s.After < 0 || s.After > stepAfterMax:
			return wrong(at("after_s"), fmt.Sprintf("%d seconds cannot be waited", s.After), "Give 0 to %d seconds, which is a week.", stepAfterMax)
		case s.Offer != "" && s.Offer != "fallback":
			return wrong(at("offer"), fmt.Sprintf("there is nothing to offer called %.40q", s.Offer), "It is fallback, or nothing.")
		}
		for j, c := range s.Channels {
			if !knownChannel(c) {
				return wrong(fmt.Sprintf("steps[%d].channels[%d]", i, j), fmt.Sprintf("there is no channel %.40q", c),
					"The channels are sms, voice, email, teams, slack, pagerduty, webhook and mqtt.")
			}
		}
		if err := checkPeople(ctx, tx, at("contacts"), tenant, s.Contacts); err != nil {
			return err
		}
		if err := checkScheduleIDs(ctx, tx, at("schedules"), tenant, s.Schedules); err != nil {
			return err
		}
	}
	return nil
}

func knownChannel(c string) bool {
	switch channel.Kind(c) {
	case channel.SMS, channel.Voice, channel.Email, channel.Teams, channel.Slack, channel.PagerDuty, channel.Webhook, channel.MQTT:
		return true
	}
	return false
}

func checkScheduleIDs(ctx context.Context, tx pgx.Tx, field, tenant string, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	owner, err := scheduleTenants(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		of, ok := owner[id]
		if !ok {
			return wrong(field, fmt.Sprintf("there is no schedule %d", id), "holdfastctl schedules list shows them.")
		}
		if of != "" && of != tenant {
			return hint.Wrap(&InvalidError{Field: field, Text: fmt.Sprintf("schedule %d belongs to tenant %s", id, of)}, "Name schedules of the same tenant, or of the region.")
		}
	}
	return nil
}
