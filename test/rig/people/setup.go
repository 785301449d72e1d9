package people

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// The people's names and addresses.
const (
	Pat        = "Pat, shift lead"
	PatsNumber = "+12135550123"
	chat       = "Plant chat"
	success    = "Customer success"
	olga       = "Olga, operations"
	leads      = "shift leads"
	// Drill is the region's own contact for the daily drill.
	Drill = "Drill"
	// DrillsMail is where the daily drill's mail goes.
	DrillsMail   = "drill@holdfast.example"
	drillsNumber = "+12135550199"
)

// SetUp says to the region who is told of a tenant's facilities: its shift lead
// Pat, who is on call, the plant's chat rooms, and the region's own operations. What
// is there already stays as it is, so that it may be called again.
func (p *People) SetUp(ctx context.Context, api *v1.Client, tenant string) error {
	s := setup{api: api}
	var err error
	if s.have, err = api.Contacts(ctx, ""); err != nil {
		return fmt.Errorf("list who is told: %w", err)
	}
	pat := s.contact(ctx, v1.Contact{Tenant: tenant, Name: Pat, TimeZone: "America/Los_Angeles"},
		v1.MethodAdd{Channel: "sms", Address: PatsNumber},
		v1.MethodAdd{Channel: "voice", Address: PatsNumber},
		v1.MethodAdd{Channel: "email", Address: "pat@plant.example"})
	room := s.contact(ctx, v1.Contact{Tenant: tenant, Name: chat, TimeZone: "America/Los_Angeles"},
		v1.MethodAdd{Channel: "slack", Address: p.slackHook},
		v1.MethodAdd{Channel: "teams", Address: p.Teams.URL()})
	s.contact(ctx, v1.Contact{Name: "Operations", TimeZone: "UTC"},
		v1.MethodAdd{Channel: "pagerduty", Address: p.pagerKey},
		v1.MethodAdd{Channel: "webhook", Address: p.url + "/webhook/alerts"},
		v1.MethodAdd{Channel: "mqtt", Address: "incident"})
	ops := s.contact(ctx, v1.Contact{Name: olga, TimeZone: "Europe/Berlin"}, v1.MethodAdd{Channel: "email", Address: "olga@holdfast.example"})
	paid := s.contact(ctx, v1.Contact{Name: success, TimeZone: "UTC"}, v1.MethodAdd{Channel: "email", Address: "success@holdfast.example"})
	s.contact(ctx, v1.Contact{Name: Drill, TimeZone: "UTC"}, // every channel that somebody else is told by
		v1.MethodAdd{Channel: "email", Address: DrillsMail}, // first: the drill may go out as soon as there is one
		v1.MethodAdd{Channel: "sms", Address: drillsNumber},
		v1.MethodAdd{Channel: "voice", Address: drillsNumber},
		v1.MethodAdd{Channel: "slack", Address: p.slackHook},
		v1.MethodAdd{Channel: "teams", Address: p.Teams.URL()},
		v1.MethodAdd{Channel: "pagerduty", Address: p.pagerKey},
		v1.MethodAdd{Channel: "webhook", Address: p.url + "/webhook/alerts"},
		v1.MethodAdd{Channel: "mqtt", Address: "drill"})
	turns := s.onCall(ctx, v1.Schedule{Tenant: tenant, Name: leads, TimeZone: "America/Los_Angeles"}, pat)
	s.onCall(ctx, v1.Schedule{Name: "operations", TimeZone: "UTC"}, ops)
	s.policy(ctx, v1.StandardPolicy{Tenant: tenant, Name: "standard", Schedules: []int64{turns}, First: []int64{room}, Success: []int64{paid}})
	return s.err
}

// setup does one thing after the other until one fails.
type setup struct {
	api  *v1.Client
	have []v1.Contact
	err  error
}

// contact returns the id of somebody who has these ways to be told.
func (s *setup) contact(ctx context.Context, c v1.Contact, methods ...v1.MethodAdd) int64 {
	if s.err != nil {
		return 0
	}
	at := slices.IndexFunc(s.have, func(h v1.Contact) bool { return h.Tenant == c.Tenant && h.Name == c.Name })
	if at >= 0 {
		c = s.have[at]
	} else if c, s.err = s.api.AddContact(ctx, c); s.err != nil {
		s.err = fmt.Errorf("add a contact: %w", s.err)
		return 0
	}
	for _, m := range methods {
		if slices.ContainsFunc(c.Methods, func(h v1.Method) bool { return h.Channel == m.Channel }) {
			continue
		}
		added, err := s.api.AddMethod(ctx, c.ID, m)
		if err == nil && added.Problem != "" {
			err = fmt.Errorf("%s", added.Problem)
		}
		if err != nil {
			s.err = fmt.Errorf("tell %s by %s: %w", c.Name, m.Channel, err)
			return 0
		}
	}
	return c.ID
}

// onCall returns the id of a schedule in which somebody is always on call.
func (s *setup) onCall(ctx context.Context, in v1.Schedule, who int64) int64 {
	if s.err != nil {
		return 0
	}
	have, err := s.api.Schedules(ctx, in.Tenant)
	if err != nil {
		s.err = fmt.Errorf("list the schedules: %w", err)
		return 0
	}
	at := slices.IndexFunc(have, func(h v1.Schedule) bool { return h.Tenant == in.Tenant && h.Name == in.Name })
	if at >= 0 {
		if in = have[at]; len(in.Rotations) > 0 {
			return in.ID
		}
	}
	in.Rotations = []v1.Rotation{{Contacts: []int64{who}, FirstDay: "2026-01-05", Handover: "06:00", TurnDays: 7}}
	if at >= 0 {
		in, err = s.api.SetSchedule(ctx, in)
	} else {
		in, err = s.api.AddSchedule(ctx, in)
	}
	if err != nil {
		s.err = fmt.Errorf("set up who is on call: %w", err)
	}
	return in.ID
}

func (s *setup) policy(ctx context.Context, in v1.StandardPolicy) {
	if s.err != nil {
		return
	}
	have, err := s.api.Policies(ctx, in.Tenant)
	if err == nil && !slices.ContainsFunc(have, func(h v1.Policy) bool { return h.Tenant == in.Tenant }) {
		_, err = s.api.AddStandardPolicy(ctx, in)
	}
	if err != nil {
		s.err = fmt.Errorf("set up who is told of an outage: %w", err)
	}
}
