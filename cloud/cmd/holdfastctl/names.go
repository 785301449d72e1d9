package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// named is something that people call by its name or its number.
type named struct {
	id           int64
	name, tenant string
}

// book finds contacts, schedules and policies by what people type. What it has
// looked up once it keeps for the rest of the command.
type book struct {
	cl        *v1.Client
	contacts  []v1.Contact
	schedules []v1.Schedule
	policies  []v1.Policy
	read      map[string]bool
}

func newBook(cl *v1.Client) *book { return &book{cl: cl, read: map[string]bool{}} }

func (b *book) contact(ctx context.Context, ref, tenant string) (v1.Contact, error) {
	if err := readOnce(b, "contacts", &b.contacts, func() ([]v1.Contact, error) { return b.cl.Contacts(ctx, "") }); err != nil {
		return v1.Contact{}, err
	}
	return pick(b.contacts, "contact", "contacts", ref, tenant, func(c v1.Contact) named { return named{c.ID, c.Name, c.Tenant} })
}

func (b *book) schedule(ctx context.Context, ref, tenant string) (v1.Schedule, error) {
	if err := readOnce(b, "schedules", &b.schedules, func() ([]v1.Schedule, error) { return b.cl.Schedules(ctx, "") }); err != nil {
		return v1.Schedule{}, err
	}
	return pick(b.schedules, "schedule", "schedules", ref, tenant, func(s v1.Schedule) named { return named{s.ID, s.Name, s.Tenant} })
}

func (b *book) policy(ctx context.Context, ref, tenant string) (v1.Policy, error) {
	if err := readOnce(b, "policies", &b.policies, func() ([]v1.Policy, error) { return b.cl.Policies(ctx, "") }); err != nil {
		return v1.Policy{}, err
	}
	return pick(b.policies, "policy", "policies", ref, tenant, func(p v1.Policy) named { return named{p.ID, p.Name, p.Tenant} })
}

// contactIDs turns what people type into numbers.
func (b *book) contactIDs(ctx context.Context, refs []string, tenant string) ([]int64, error) {
	var ids []int64
	for _, ref := range refs {
		c, err := b.contact(ctx, ref, tenant)
		if err != nil {
			return nil, err
		}
		ids = append(ids, c.ID)
	}
	return ids, nil
}

func (b *book) scheduleIDs(ctx context.Context, refs []string, tenant string) ([]int64, error) {
	var ids []int64
	for _, ref := range refs {
		s, err := b.schedule(ctx, ref, tenant)
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

func (b *book) contactName(ctx context.Context, id int64) string {
	c, err := b.contact(ctx, strconv.FormatInt(id, 10), "")
	if err != nil {
		return strconv.FormatInt(id, 10)
	}
	return c.Name
}

func (b *book) scheduleName(ctx context.Context, id int64) string {
	s, err := b.schedule(ctx, strconv.FormatInt(id, 10), "")
	if err != nil {
		return strconv.FormatInt(id, 10)
	}
	return s.Name
}

func readOnce[T any](b *book, what string, into *[]T, read func() ([]T, error)) error {
	if b.read[what] {
		return nil
	}
	list, err := read()
	*into, b.read[what] = list, err == nil
	return err
}

// pick finds one by its number or its name. Of several with that name the
// tenant's own comes first, then the region's.
func pick[T any](list []T, what, cmd, ref, tenant string, of func(T) named) (none T, err error) {
	ref = strings.TrimSpace(ref)
	id, _ := strconv.ParseInt(ref, 10, 64)
	var found []T
	for _, t := range list {
		if of(t).id == id {
			return t, nil
		}
		if strings.EqualFold(of(t).name, ref) {
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		return none, notFoundError{hint.Wrap(fmt.Errorf("there is no %s %q", what, ref), "holdfastctl %s list shows them.", cmd)}
	}
	for _, want := range []string{tenant, ""} {
		for _, t := range found {
			if of(t).tenant == want {
				return t, nil
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var numbers []string
	for _, t := range found {
		numbers = append(numbers, fmt.Sprintf("%d (tenant %s)", of(t).id, of(t).tenant))
	}
	return none, usageError{hint.Wrap(fmt.Errorf("there is more than one %s %q", what, ref), "Give its number: %s.", strings.Join(numbers, ", "))}
}

// numberOf reads the number of something.
func numberOf(what, arg, cmd string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id < 1 {
		return 0, usageError{hint.Wrap(fmt.Errorf("%q is not the number of %s", arg, what), "holdfastctl %s shows the numbers.", cmd)}
	}
	return id, nil
}

// roles are those of accounts and tokens.
var roles = []string{v1.RoleViewer, v1.RoleOperator, v1.RoleAdmin}

// oneOf refuses a flag's value that is none of those that there are; none is right too.
func oneOf(flag, value string, list ...string) error {
	if value == "" || slices.Contains(list, value) {
		return nil
	}
	last := len(list) - 1
	return usageError{hint.Wrap(fmt.Errorf("%s %q: there is no such value", flag, value), "Give %s %s or %s.", flag, strings.Join(list[:last], ", "), list[last])}
}

// limited gives a command that lists something the flag --limit.
func limited(cmd *cobra.Command, limit *int, most int) {
	cmd.Flags().IntVar(limit, "limit", *limit, fmt.Sprintf("how many at most (1 to %d)", most))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *limit < 1 || *limit > most {
			return usageError{hint.Wrap(fmt.Errorf("--limit %d: a list has 1 to %d lines", *limit, most), "Give --limit 1 to %d, or leave it out.", most)}
		}
		return nil
	}
}

// owner is a tenant for people.
func owner(tenant string) string {
	if tenant == "" {
		return "(region)"
	}
	return tenant
}

// words splits a list with commas, without empty entries.
func words(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
