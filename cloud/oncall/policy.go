package oncall

import (
	"slices"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// told says who is told of a kind by a policy that names none.
type told int

const (
	everybody  told = iota // the facility's own people, and operations
	operations             // operations only: the facility's people can do nothing about it
	named                  // only by policies that name it
)

var kinds = map[detect.Kind]told{
	detect.Offline:      everybody,
	detect.Unstable:     everybody,
	detect.QueueFilling: everybody,
	detect.DiskFilling:  everybody,
	detect.DatabaseDown: everybody,
	detect.Temperature:  everybody,

	detect.TunnelDown:    operations,
	detect.TelemetryDown: operations,
	detect.NoProgress:    operations,
	detect.ClockOff:      operations,
	detect.WatchdogOff:   operations,
	detect.Certificate:   operations,
	detect.ParkedRows:    operations,
	detect.Mismatch:      operations,
	detect.Blind:         operations,
	detect.Outage:        operations,
	detect.Alerting:      operations,

	detect.Drill: named, // every day, through every channel: nobody wants that by default
}

// Kinds lists what a policy can name, in order.
func Kinds() []string {
	var out []string
	for k := range kinds {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}

// rank orders severities.
func rank(s string) int {
	return slices.Index([]string{string(detect.Info), string(detect.Warning), string(detect.Critical)}, s)
}

// policy is who is told of what, without its steps.
type policy struct {
	ID           int64
	Tenant, Name string
	Kinds        []string
	Facilities   []string
	Severity     string // at least
	v1.Edition
}

// audience is whose people it tells.
func (p policy) audience() alert.Audience {
	if p.Tenant == "" {
		return alert.Operations
	}
	return alert.Customer
}

// concerns says whether an incident runs through the policy.
func (p policy) concerns(s alert.Subject) bool {
	if p.Tenant != "" && p.Tenant != s.Tenant || rank(string(s.Severity)) < rank(p.Severity) {
		return false
	}
	if len(p.Facilities) > 0 && !slices.Contains(p.Facilities, s.Facility) {
		return false
	}
	if len(p.Kinds) > 0 {
		return slices.Contains(p.Kinds, string(s.Kind))
	}
	switch kinds[s.Kind] { // one that is not known is everybody's: it may matter
	case operations:
		return p.Tenant == ""
	case named:
		return false
	}
	return true
}

// Standard is the policy that most tenants want: everybody at once, a call
// again after two minutes, the next people after ten, and after an hour
// customer success, with the offer that the cloud takes over.
func Standard(in v1.StandardPolicy) v1.Policy {
	p := v1.Policy{Tenant: in.Tenant, Name: in.Name, Severity: string(detect.Warning), Facilities: in.Facilities}
	if p.Name == "" {
		p.Name = "standard"
	}
	p.Steps = []v1.PolicyStep{
		{After: 0, Contacts: in.First, Schedules: in.Schedules},
		{After: 2 * 60, Contacts: in.First, Schedules: in.Schedules, Channels: []string{"voice"}},
	}
	if len(in.Next) > 0 {
		p.Steps = append(p.Steps, v1.PolicyStep{After: 10 * 60, Contacts: in.Next})
	}
	p.Steps = append(p.Steps, v1.PolicyStep{
		After: 60 * 60, Contacts: union(in.First, in.Success), Schedules: in.Schedules, Offer: "fallback",
	})
	return p
}

func union(a, b []int64) []int64 {
	out := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
