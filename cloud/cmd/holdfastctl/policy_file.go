package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

// policyFile is a policy as people write it; contacts and schedules by name or number.
type policyFile struct {
	Name       string     `yaml:"name"`
	Tenant     string     `yaml:"tenant,omitempty"`
	Severity   string     `yaml:"severity,omitempty"`
	Kinds      []string   `yaml:"kinds,omitempty"`
	Facilities []string   `yaml:"facilities,omitempty"`
	Steps      []stepFile `yaml:"steps"`
}

type stepFile struct {
	After     string   `yaml:"after"`
	Contacts  []string `yaml:"contacts,omitempty"`
	Schedules []string `yaml:"schedules,omitempty"`
	Channels  []string `yaml:"channels,omitempty"`
	Offer     string   `yaml:"offer,omitempty"`
}

const policyFileHelp = `
The file is YAML:

  name: plant
  tenant: foo                    # without it: the region's own people
  severity: warning              # at least
  kinds: [offline, unstable]     # without it: all that concern them
  facilities: [la]               # without it: all of the tenant's
  steps:
    - after: 0s
      contacts: [Ana Lopez]
      schedules: [plant]
    - after: 2m
      contacts: [Ana Lopez]
      channels: [voice]
    - after: 60m
      contacts: [Customer success]
      offer: fallback`

const schedulePrefix = "schedule:"

func readPolicyFile(ctx context.Context, b *book, path string, was v1.Policy) (v1.Policy, error) {
	var doc policyFile
	if err := config.Load(path, &doc); err != nil {
		return was, usageError{hint.Wrap(err, "Correct the file; holdfastctl policies add --help shows one.")}
	}
	if was.ID != 0 && doc.Tenant != was.Tenant {
		return was, usageError{hint.Wrap(fmt.Errorf("%s says tenant %s, and the policy belongs to %s", path, owner(doc.Tenant), owner(was.Tenant)), "Correct the file.")}
	}
	p := v1.Policy{ID: was.ID, Tenant: doc.Tenant, Name: doc.Name, Kinds: doc.Kinds, Facilities: doc.Facilities, Severity: doc.Severity}
	for i, f := range doc.Steps {
		s, err := f.step(ctx, b, p.Tenant)
		if err != nil {
			return was, fmt.Errorf("%s: step %d: %w", path, i+1, err)
		}
		p.Steps = append(p.Steps, s)
	}
	return p, nil
}

// parseStep reads "10m Ana Lopez, schedule:plant by sms,voice offer fallback".
func parseStep(text string) (stepFile, error) {
	var f stepFile
	after, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	f.After = after
	rest, f.Offer, _ = strings.Cut(rest, " offer ")
	who, by, _ := strings.Cut(rest, " by ")
	f.Offer, f.Channels = strings.TrimSpace(f.Offer), words(by)
	for _, w := range words(who) {
		if name, ok := strings.CutPrefix(w, schedulePrefix); ok {
			f.Schedules = append(f.Schedules, name)
		} else {
			f.Contacts = append(f.Contacts, w)
		}
	}
	if len(f.Contacts)+len(f.Schedules) == 0 {
		return f, usageError{hint.Wrap(fmt.Errorf("the step %q tells nobody", text), "Write it as '0s Ana Lopez, schedule:plant', or '2m Ana Lopez by voice'.")}
	}
	return f, nil
}

// step looks up whom it names.
func (f stepFile) step(ctx context.Context, b *book, tenant string) (s v1.PolicyStep, err error) {
	after, err := time.ParseDuration(f.After)
	if err != nil || after < 0 || after%time.Second != 0 {
		return s, usageError{hint.Wrap(fmt.Errorf("%q is not how long to wait", f.After), "Write 0s, 90s, 10m or 1h.")}
	}
	s = v1.PolicyStep{After: int(after / time.Second), Channels: f.Channels, Offer: f.Offer}
	if s.Contacts, err = b.contactIDs(ctx, f.Contacts, tenant); err != nil {
		return s, err
	}
	s.Schedules, err = b.scheduleIDs(ctx, f.Schedules, tenant)
	return s, err
}

func policyFileOf(ctx context.Context, b *book, p v1.Policy) policyFile {
	doc := policyFile{Name: p.Name, Tenant: p.Tenant, Severity: p.Severity, Kinds: p.Kinds, Facilities: p.Facilities}
	for _, s := range p.Steps {
		doc.Steps = append(doc.Steps, stepFileOf(ctx, b, s))
	}
	return doc
}

func stepFileOf(ctx context.Context, b *book, s v1.PolicyStep) stepFile {
	f := stepFile{After: waitText(s.After), Channels: s.Channels, Offer: s.Offer}
	for _, id := range s.Contacts {
		f.Contacts = append(f.Contacts, b.contactName(ctx, id))
	}
	for _, id := range s.Schedules {
		f.Schedules = append(f.Schedules, b.scheduleName(ctx, id))
	}
	return f
}

// waitText is a number of seconds as people write it.
func waitText(seconds int) string {
	switch {
	case seconds != 0 && seconds%3600 == 0:
		return fmt.Sprintf("%dh", seconds/3600)
	case seconds != 0 && seconds%60 == 0:
		return fmt.Sprintf("%dm", seconds/60)
	}
	return fmt.Sprintf("%ds", seconds)
}
