package dashboard

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// policyLine is a policy in words.
type policyLine struct {
	v1.Policy
	Steps []policyStepLine
}

// policyStepLine is one of its steps.
type policyStepLine struct {
	v1.PolicyStep
	People, OnCall []named
	Nobody         bool // all that it named were removed
}

// named is something with a page of its own.
type named struct {
	ID   int64
	Name string
}

// Concerns is what the policy is for.
func (p policyLine) Concerns() string {
	if len(p.Kinds) == 0 {
		return "whatever is wrong"
	}
	words := make([]string, len(p.Kinds))
	for i, k := range p.Kinds {
		words[i] = wordOf(incidentKinds, k)
	}
	return strings.Join(words, ", ")
}

// Where is at which facilities.
func (p policyLine) Where() string {
	switch {
	case len(p.Facilities) > 0:
		return strings.Join(p.Facilities, ", ")
	case p.Tenant == "":
		return "all facilities, and the region itself"
	}
	return "all facilities of " + p.Tenant
}

// Least is from which severity on.
func (p policyLine) Least() string {
	switch p.Severity {
	case "critical":
		return "critical only"
	case "info":
		return "everything"
	}
	return "warnings and critical"
}

// When is when the step is taken.
func (s policyStepLine) When() string {
	if s.After == 0 {
		return "At once"
	}
	return "After " + web.Span(time.Duration(s.After)*time.Second)
}

// By is by which channels.
func (s policyStepLine) By() string {
	if len(s.Channels) == 0 {
		return "by all that they have"
	}
	words := make([]string, len(s.Channels))
	for i, c := range s.Channels {
		words[i] = wordOf(channelWords, c)
	}
	return "by " + strings.Join(words, ", ")
}

type policiesView struct {
	Sections []section
	Policies []policyLine
	CanWork  bool
}

func (u *UI) policiesPage(w http.ResponseWriter, r *http.Request) {
	v := policiesView{Sections: u.sections("/oncall/policies"), CanWork: canWork(r)}
	list, err := u.d.OnCall.ListPolicies(r.Context(), "", 0, listMax)
	var people, schedules map[int64]string
	if err == nil {
		people, schedules, err = u.names(r.Context())
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	for _, p := range list {
		line := policyLine{Policy: p}
		for _, s := range p.Steps {
			step := policyStepLine{PolicyStep: s}
			for _, id := range s.Contacts {
				if name, ok := people[id]; ok {
					step.People = append(step.People, named{id, name})
				}
			}
			for _, id := range s.Schedules {
				if name, ok := schedules[id]; ok {
					step.OnCall = append(step.OnCall, named{id, name})
				}
			}
			step.Nobody = len(step.People)+len(step.OnCall) == 0
			line.Steps = append(line.Steps, step)
		}
		v.Policies = append(v.Policies, line)
	}
	u.pages.Render(w, r, http.StatusOK, "policies", web.Page{Title: "Policies", Active: "/oncall", Live: "/live/oncall", Data: v})
}

// names are the contacts' and the schedules' names by their ids.
func (u *UI) names(ctx context.Context) (people, schedules map[int64]string, err error) {
	contacts, err := u.d.OnCall.ListContacts(ctx, "", 0, listMax)
	if err != nil {
		return nil, nil, err
	}
	list, err := u.d.OnCall.ListSchedules(ctx, "", 0, listMax, time.Now())
	if err != nil {
		return nil, nil, err
	}
	people, schedules = map[int64]string{}, map[int64]string{}
	for _, c := range contacts {
		people[c.ID] = c.Name
	}
	for _, s := range list {
		schedules[s.ID] = s.Name
	}
	return people, schedules, nil
}

// whose names the people of a tenant.
func whose(tenant string) string { return cmp.Or(tenant, "the region's own people") }

// Whose is whose people the policy tells.
func (p policyLine) Whose() string { return whose(p.Tenant) }
