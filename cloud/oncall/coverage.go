package oncall

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// Coverage says of up to limit facilities behind the one with the id after who
// is told when one goes offline, and plainly when nobody is; only names one. Whom
// nothing can be sent to is not told.
func (r *Room) Coverage(ctx context.Context, only, after string, limit int, now time.Time) ([]v1.Coverage, error) {
	sites, err := facilities(ctx, r.db, only, after, limit)
	if err != nil {
		return nil, err
	}
	all, err := policies(ctx, r.db, "", nil, 0, everything)
	if err != nil {
		return nil, err
	}
	plans, err := schedules(ctx, r.db, "", nil, 0, everything, now)
	if err != nil {
		return nil, err
	}
	methods, err := everyMethod(ctx, r.db)
	if err != nil {
		return nil, err
	}
	p := nobody()
	r.addSchedules(&p, plans)
	p.addMethods(slices.DeleteFunc(methods, func(m methodRow) bool {
		return r.check[channel.Kind(m.Channel)] == nil || m.shown().Problem != ""
	}))
	byTenant := map[string][]v1.Policy{}
	for _, doc := range all {
		byTenant[doc.Tenant] = append(byTenant[doc.Tenant], doc)
	}
	out := make([]v1.Coverage, 0, len(sites))
	for _, f := range sites {
		s := alert.Subject{Kind: detect.Offline, Severity: detect.Critical, Tenant: f.Tenant, Facility: f.ID}
		c := v1.Coverage{Facility: f.ID, Name: f.Name, Tenant: f.Tenant}
		c.Customer = p.listeners(byTenant[f.Tenant], s, now)
		c.Operations = p.listeners(byTenant[""], s, now)
		explain(&c.Customer, "tenant "+f.Tenant, "holdfastctl policies standard --tenant "+f.Tenant+" --first NAME")
		explain(&c.Operations, "operations", "holdfastctl policies add NAME --step '0s NAME'")
		out = append(out, c)
	}
	return out, nil
}

// listeners is who is told by the policies of one audience.
func (p *people) listeners(list []v1.Policy, s alert.Subject, at time.Time) v1.Listeners {
	out := v1.Listeners{Policies: []string{}, People: []string{}}
	for _, doc := range list {
		if !(policy{Tenant: doc.Tenant, Kinds: doc.Kinds, Facilities: doc.Facilities, Severity: doc.Severity}).concerns(s) {
			continue
		}
		out.Policies = append(out.Policies, doc.Name)
		for _, step := range doc.Steps {
			for _, t := range p.targets(stepRow{Contacts: step.Contacts, Schedules: step.Schedules, Channels: step.Channels}, at) {
				if !slices.Contains(out.People, t.Name) {
					out.People = append(out.People, t.Name)
				}
			}
		}
	}
	return out
}

// explain says why nobody is told, where that is so.
func explain(l *v1.Listeners, whose, newPolicy string) {
	switch {
	case len(l.Policies) == 0:
		l.Problem = fmt.Sprintf("nobody is told: no policy of %s concerns it", whose)
		l.Remedy = "Make one: " + newPolicy
	case len(l.People) == 0:
		l.Problem = fmt.Sprintf("nobody is told: policy %s reaches nobody now", l.Policies[0])
		l.Remedy = "Give its people a number or an address that can be used: holdfastctl contacts method add NAME sms +12135550123. " +
			"holdfastctl contacts list shows what is wrong with theirs; holdfastctl oncall shows whether anybody is on call."
	}
}
