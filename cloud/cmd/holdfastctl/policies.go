package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) policiesCmd() *cobra.Command {
	return group("policies", "Who is told of an incident, and who next when nobody answers",
		a.policiesList(), a.policiesShow(), a.policiesAdd(), a.policiesStandard(), a.policiesSet(), a.policiesRemove())
}

func (a *app) policiesList() *cobra.Command {
	tenant := ""
	cmd := &cobra.Command{
		Use: "list", Short: "List policies", Aliases: []string{"ls"}, Args: takes(0),
		Example: "  holdfastctl policies list\n  holdfastctl policies list --tenant foo --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Policies(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return a.show(append([]v1.Policy{}, list...), func() error {
				if len(list) == 0 {
					a.printf("No policies yet, so nobody is told of anything. Make one: holdfastctl policies standard --tenant foo --first 'Ana Lopez'\n")
					return nil
				}
				b := newBook(cl)
				var rows [][]cell
				for _, p := range list {
					head := []cell{c(fmt.Sprint(p.ID)), c(p.Name), c(owner(p.Tenant)), c(concernText(p))}
					for _, s := range p.Steps {
						rows = append(rows, append(head, c(stepText(cmd.Context(), b, s))))
						head = []cell{c(""), c(""), c(""), c("")}
					}
				}
				a.table(a.out, []string{"NO", "POLICY", "TENANT", "CONCERNS", "STEPS"}, rows)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant only")
	return cmd
}

// concernText says of what a policy tells.
func concernText(p v1.Policy) string {
	text := p.Severity
	if p.Severity != "critical" {
		text += " and worse"
	}
	if len(p.Kinds) > 0 {
		text += ", " + strings.Join(p.Kinds, " ")
	}
	if len(p.Facilities) > 0 {
		text += ", at " + strings.Join(p.Facilities, " ")
	}
	return text
}

// stepText is a step as --step takes it.
func stepText(ctx context.Context, b *book, s v1.PolicyStep) string {
	f := stepFileOf(ctx, b, s)
	who := f.Contacts
	for _, name := range f.Schedules {
		who = append(who, schedulePrefix+name)
	}
	text := f.After + " " + strings.Join(who, ", ")
	if len(f.Channels) > 0 {
		text += " by " + strings.Join(f.Channels, ",")
	}
	if f.Offer != "" {
		text += " offer " + f.Offer
	}
	return text
}

func (a *app) policiesShow() *cobra.Command {
	asYAML := false
	cmd := &cobra.Command{
		Use: "show POLICY", Short: "Show one policy", Args: takes(1),
		Example: "  holdfastctl policies show plant\n  holdfastctl policies show plant --yaml > plant.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			p, err := b.policy(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if asYAML {
				return a.printYAML(policyFileOf(cmd.Context(), b, p))
			}
			return a.show(p, func() error { a.printPolicy(cmd.Context(), b, p); return nil })
		},
	}
	cmd.Flags().BoolVar(&asYAML, "yaml", false, "print the file that policies set takes")
	return cmd
}

func (a *app) printPolicy(ctx context.Context, b *book, p v1.Policy) {
	a.pairs(a.out, [][2]string{{"Policy", fmt.Sprintf("%s, number %d", p.Name, p.ID)}, {"Tenant", owner(p.Tenant)}, {"Concerns", concernText(p)}})
	for i, s := range p.Steps {
		a.printf("%d. %s\n", i+1, stepText(ctx, b, s))
	}
}

// policyFlags is a policy on the command line, or a file.
type policyFlags struct {
	file, tenant, severity string
	kinds, facilities      []string
	steps                  []string
}

func (f *policyFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "YAML file with the policy")
	fl.StringVar(&f.severity, "severity", "", "of incidents at least this severe: info, warning (default) or critical")
	fl.StringSliceVar(&f.kinds, "kind", nil, "of incidents of this kind only, such as offline; may be given more than once")
	fl.StringSliceVar(&f.facilities, "facility", nil, "at this facility only; may be given more than once")
	fl.StringArrayVar(&f.steps, "step", nil, "who is told after how long, such as '10m Ana Lopez, schedule:plant by sms,voice'; may be given more than once")
}

func (f *policyFlags) given() bool {
	return f.file != "" || f.severity != "" || len(f.kinds)+len(f.facilities)+len(f.steps) > 0
}

// read is what the command line says, over what was there.
func (f *policyFlags) read(ctx context.Context, b *book, was v1.Policy) (v1.Policy, error) {
	if f.file != "" {
		return readPolicyFile(ctx, b, f.file, was)
	}
	if f.severity != "" {
		was.Severity = f.severity
	}
	if len(f.kinds) > 0 {
		was.Kinds = f.kinds
	}
	if len(f.facilities) > 0 {
		was.Facilities = f.facilities
	}
	if len(f.steps) == 0 {
		return was, nil
	}
	was.Steps = nil
	for _, text := range f.steps {
		doc, err := parseStep(text)
		if err != nil {
			return was, err
		}
		s, err := doc.step(ctx, b, was.Tenant)
		if err != nil {
			return was, err
		}
		was.Steps = append(was.Steps, s)
	}
	return was, nil
}

const stepHelp = `
A step is written as AFTER WHO, with commas between several; WHO is a contact's
name or number, or schedule:NAME for whoever is on call then. "by" names the
channels (default all that they have), "offer fallback" offers that the cloud
takes over:

  0s Ana Lopez, schedule:plant
  2m Ana Lopez by voice
  60m Customer success offer fallback
`

func (a *app) policiesAdd() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a policy",
		Long: "Add a policy: who is told of an incident, and who next when nobody answers. An\nincident runs through all policies that concern it. Without --tenant it tells the\nregion's own people, of all tenants' facilities.\n" + stepHelp + policyFileHelp,
		Example: "  holdfastctl policies add plant --tenant foo --step '0s Ana Lopez, schedule:plant' --step '2m Ana Lopez by voice' --step '10m Ben Kim'\n" +
			"  holdfastctl policies add -f plant.yaml",
		Args: nameOrFile(&f.file),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file == "" && len(f.steps) == 0 {
				return usageError{hint.Wrap(errors.New("the policy tells nobody"), "Give a --step for each who is told, or write a file and give -f.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			p := v1.Policy{Tenant: f.tenant}
			if len(args) == 1 {
				p.Name = args[0]
			}
			if p, err = f.read(cmd.Context(), b, p); err != nil {
				return err
			}
			if p, err = cl.AddPolicy(cmd.Context(), p); err != nil {
				return err
			}
			return a.show(p, func() error { a.printPolicy(cmd.Context(), b, p); return nil })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "whose facilities it is for, and whose people it tells (default: the region's own)")
	return cmd
}

func (a *app) policiesStandard() *cobra.Command {
	var in v1.StandardPolicy
	var first, next, success, turns string
	cmd := &cobra.Command{
		Use: "standard", Short: "Add the policy that most tenants want", Args: takes(0),
		Long: `Add the policy that most tenants want:

  at once        --first, by all channels that they have
  after 2 min    --first again, by voice
  after 10 min   --next
  after an hour  --success and --first, with the offer that the cloud takes over`,
		Example: "  holdfastctl policies standard --tenant foo --first 'Ana Lopez,Ben Kim' --next 'Cleo Park' --success 'Customer success'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.Tenant == "" || first == "" && turns == "" {
				return usageError{hint.Wrap(errors.New("whose policy it is, or who is told first, is missing"), "Give --tenant, and --first or --schedule.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			for _, list := range []struct {
				text string
				ids  *[]int64
			}{{first, &in.First}, {next, &in.Next}, {success, &in.Success}} {
				if *list.ids, err = b.contactIDs(cmd.Context(), words(list.text), in.Tenant); err != nil {
					return err
				}
			}
			if in.Schedules, err = b.scheduleIDs(cmd.Context(), words(turns), in.Tenant); err != nil {
				return err
			}
			p, err := cl.AddStandardPolicy(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.show(p, func() error { a.printPolicy(cmd.Context(), b, p); return nil })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&in.Tenant, "tenant", "", "whose facilities it is for")
	fl.StringVar(&in.Name, "name", "", "its name (default standard)")
	fl.StringSliceVar(&in.Facilities, "facility", nil, "at this facility only; may be given more than once")
	fl.StringVar(&first, "first", "", "who is told at once: contacts by name or number, with commas")
	fl.StringVar(&turns, "schedule", "", "tell whoever is on call of these schedules with them")
	fl.StringVar(&next, "next", "", "who is told when nobody has answered after 10 minutes")
	fl.StringVar(&success, "success", "", "customer success, who is told after an hour")
	return cmd
}

func (a *app) policiesSet() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use: "set POLICY", Short: "Change a policy", Args: takes(1),
		Long:    "Change a policy. What is given replaces what it was, all steps by all steps. Incidents that run through it go on with the new steps.\n" + stepHelp + policyFileHelp,
		Example: "  holdfastctl policies set operations --step '0s schedule:operations' --step '10m Olga by voice'\n  holdfastctl policies set plant -f plant.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.given() {
				return usageError{hint.Wrap(errors.New("nothing to change was given"), "Give --step, --severity, --kind, --facility or -f.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			p, err := b.policy(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if p, err = f.read(cmd.Context(), b, p); err != nil {
				return err
			}
			if p, err = cl.SetPolicy(cmd.Context(), p); err != nil {
				return err
			}
			return a.show(p, func() error { a.printPolicy(cmd.Context(), b, p); return nil })
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) policiesRemove() *cobra.Command {
	cmd := a.dangerous("remove POLICY", "Remove a policy", "Remove a policy, by name or number. Incidents that run through it go on to its end.",
		"Policy %s will not tell anybody of new incidents.",
		func(cmd *cobra.Command, cl *v1.Client, ref string) error {
			p, err := newBook(cl).policy(cmd.Context(), ref, "")
			if err != nil {
				return err
			}
			if err := cl.RemovePolicy(cmd.Context(), p.ID); err != nil {
				return err
			}
			return a.show(map[string]any{"removed": p.ID}, func() error { a.printf("Removed policy %s.\n", p.Name); return nil })
		})
	cmd.Example = "  holdfastctl policies remove plant"
	return cmd
}
