package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) contactsCmd() *cobra.Command {
	return group("contacts", "Who can be told, and how", a.contactsList(), a.contactsAdd(), a.contactsChange(), a.contactsRemove(),
		group("method", "The ways to reach a contact", a.methodAdd(), a.methodCheck(), a.methodRemove()))
}

func (a *app) contactsList() *cobra.Command {
	tenant := ""
	cmd := &cobra.Command{
		Use: "list", Short: "List contacts, with the ways to reach them", Aliases: []string{"ls"}, Args: takes(0),
		Long:    "List contacts, with the ways to reach them. Addresses that are secrets are shown only in part.",
		Example: "  holdfastctl contacts list\n  holdfastctl contacts list --tenant foo --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Contacts(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return a.show(append([]v1.Contact{}, list...), func() error { a.printContacts(list); return nil })
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant only")
	return cmd
}

func (a *app) printContacts(list []v1.Contact) {
	if len(list) == 0 {
		a.printf("No contacts yet. Add one: holdfastctl contacts add 'Ana Lopez' --tenant foo --method sms=+12135550123\n")
		return
	}
	var rows [][]cell
	for _, p := range list {
		head := []cell{c(fmt.Sprint(p.ID)), c(p.Name), c(owner(p.Tenant)), c(p.TimeZone)}
		if len(p.Methods) == 0 {
			rows = append(rows, append(head, c("–"), c("–"), c("–"), cell{"▲ cannot be reached", yellow}))
		}
		for _, m := range p.Methods {
			rows = append(rows, append(head, c(fmt.Sprint(m.ID)), c(m.Channel), c(m.Address), a.methodCell(m)))
			head = []cell{c(""), c(""), c(""), c("")}
		}
	}
	a.table(a.out, []string{"NO", "CONTACT", "TENANT", "TIME ZONE", "METHOD", "CHANNEL", "ADDRESS", "STATE"}, rows)
}

func (a *app) methodCell(m v1.Method) cell {
	switch {
	case m.Problem != "":
		return cell{"✖ " + m.Problem, red}
	case m.ProvedAt != nil:
		return cell{"● proved " + a.clockTime(m.ProvedAt), green}
	case m.Unchecked != "":
		return cell{"▲ not checked yet: " + m.Unchecked, yellow}
	case m.TakenAt != nil:
		return cell{"◐ taken " + a.clockTime(m.TakenAt) + ", not proved", ""}
	}
	return cell{"○ checked, not proved", ""}
}

func (a *app) contactsAdd() *cobra.Command {
	var in v1.Contact
	var methods []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add somebody who can be told", Args: takes(1),
		Long: `Add somebody who can be told: a person, or a team with a channel of its own.
Without --tenant it belongs to the region's own people.

Each --method is a channel and an address. Addresses that are secrets are better
given to contacts method add, which reads them from a file.`,
		Example: "  holdfastctl contacts add 'Ana Lopez' --tenant foo --time-zone America/Los_Angeles --method sms=+12135550123 --method voice=+12135550123\n" +
			"  holdfastctl contacts add 'Night shift' --method email=night@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			var ways []v1.MethodAdd
			for _, m := range methods {
				kind, address, ok := strings.Cut(m, "=")
				if !ok {
					return usageError{hint.Wrap(fmt.Errorf("%q is no channel with an address", m), "Write it as sms=+12135550123 or email=ana@example.com.")}
				}
				ways = append(ways, v1.MethodAdd{Channel: kind, Address: address})
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.Name = args[0]
			p, err := cl.AddContact(cmd.Context(), in)
			if err != nil {
				return err
			}
			for _, w := range ways {
				m, err := cl.AddMethod(cmd.Context(), p.ID, w)
				if err != nil {
					return hint.Wrap(fmt.Errorf("contact %s was added, but not its %s address: %w", p.Name, w.Channel, err),
						"Correct it and add it: holdfastctl contacts method add %d %s ADDRESS", p.ID, w.Channel)
				}
				p.Methods = append(p.Methods, m)
			}
			return a.show(p, func() error {
				a.printf("Added contact %s, number %d.\n", p.Name, p.ID)
				for _, m := range p.Methods {
					a.printMethod(m)
				}
				if len(p.Methods) == 0 {
					a.printf("Say how %s is reached: holdfastctl contacts method add %d sms +12135550123\n", p.Name, p.ID)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&in.Tenant, "tenant", "", "whose people it belongs to (default: the region's own)")
	cmd.Flags().StringVar(&in.TimeZone, "time-zone", "", "IANA name, such as Europe/Berlin (default UTC)")
	cmd.Flags().StringArrayVar(&methods, "method", nil, "channel and address, such as sms=+12135550123; may be given more than once")
	return cmd
}

// printMethod says that a method is there, and what is wrong with it.
func (a *app) printMethod(m v1.Method) {
	paint := a.paint(a.out)
	a.printf("%s %s is method %d.", m.Channel, m.Address, m.ID)
	if m.Problem != "" {
		a.printf(" %s %s", paint(red, "✖ It cannot be used:"), m.Problem)
	} else {
		if m.Unchecked != "" {
			a.printf(" %s %s.", paint(yellow, "▲ It is not checked yet:"), m.Unchecked)
		}
		a.printf(" Try it: holdfastctl channel test %d", m.ID)
	}
	a.printf("\n")
}

func (a *app) contactsChange() *cobra.Command {
	var name, zone string
	cmd := &cobra.Command{
		Use: "change CONTACT", Short: "Give a contact another name or time zone", Args: takes(1),
		Example: "  holdfastctl contacts change 'Ana Lopez' --time-zone Europe/Berlin",
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" && zone == "" {
				return usageError{hint.Wrap(errors.New("nothing to change was given"), "Give --name or --time-zone.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			p, err := newBook(cl).contact(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if name != "" {
				p.Name = name
			}
			if zone != "" {
				p.TimeZone = zone
			}
			if p, err = cl.ChangeContact(cmd.Context(), p); err != nil {
				return err
			}
			return a.show(p, func() error { a.printf("Contact %d is %s, %s.\n", p.ID, p.Name, p.TimeZone); return nil })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "another name")
	cmd.Flags().StringVar(&zone, "time-zone", "", "IANA name, such as Europe/Berlin")
	return cmd
}

func (a *app) contactsRemove() *cobra.Command {
	cmd := a.dangerous("remove CONTACT", "Remove a contact", "Remove a contact, by name or number. Refused while a policy or a schedule needs it.",
		"Contact %s will not be told of anything any more.",
		func(cmd *cobra.Command, cl *v1.Client, ref string) error {
			p, err := newBook(cl).contact(cmd.Context(), ref, "")
			if err != nil {
				return err
			}
			if err := cl.RemoveContact(cmd.Context(), p.ID); err != nil {
				return err
			}
			return a.show(map[string]any{"removed": p.ID}, func() error { a.printf("Removed contact %s.\n", p.Name); return nil })
		})
	cmd.Example = "  holdfastctl contacts remove 'Ana Lopez'"
	return cmd
}

func (a *app) methodAdd() *cobra.Command {
	var addressFile, secretFile string
	var set map[string]string
	cmd := &cobra.Command{
		Use: "add CONTACT CHANNEL [ADDRESS]", Short: "Add a way to reach a contact",
		Long: `Add a way to reach a contact: sms or voice with a phone number, email with a mail
address, teams, slack or webhook with the URL that the service shows, pagerduty
with a routing key, mqtt with the last level of a topic.

The channel looks at the address at once, without telling anybody. Whoever knows
the address of teams, slack, webhook or pagerduty can use it: give it in a file,
so that it does not stay in the shell's history.`,
		Example: "  holdfastctl contacts method add 'Ana Lopez' sms +12135550123\n" +
			"  holdfastctl contacts method add Operations slack --address-file slack.url\n" +
			"  holdfastctl contacts method add Operations webhook https://example.com/holdfast --secret-file webhook.secret",
		Args: func(cmd *cobra.Command, args []string) error {
			if n := len(args); n == 3 && addressFile == "" || n == 2 && addressFile != "" {
				return nil
			}
			return usageError{hint.Wrap(fmt.Errorf("%s takes a contact, a channel and one address, not %s", cmd.CommandPath(), plural(len(args), "argument", "arguments")),
				"Write it as: %s, with the address or with --address-file", cmd.UseLine())}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in := v1.MethodAdd{Channel: args[1], Settings: set}
			if addressFile == "" {
				in.Address = args[2]
			} else {
				address, err := readOneLine(addressFile)
				if err != nil {
					return err
				}
				in.Address = address
			}
			if secretFile != "" {
				secret, err := readOneLine(secretFile)
				if err != nil {
					return err
				}
				if in.Settings == nil {
					in.Settings = map[string]string{}
				}
				in.Settings["secret"] = secret
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			p, err := newBook(cl).contact(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			m, err := cl.AddMethod(cmd.Context(), p.ID, in)
			if err != nil {
				return err
			}
			return a.show(m, func() error { a.printf("%s: ", p.Name); a.printMethod(m); return nil })
		},
	}
	cmd.Flags().StringVar(&addressFile, "address-file", "", "file that holds the address")
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "file that holds the secret which messages are signed with (webhook)")
	cmd.Flags().StringToStringVar(&set, "set", nil, "a setting of the channel, name=value; may be given more than once")
	return cmd
}

// readOneLine reads one line that is nobody else's business.
func readOneLine(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", usageError{hint.Wrap(fmt.Errorf("read the secret: %w", err), "Name a file that holds it and nothing else.")}
	}
	s := strings.TrimSpace(string(raw))
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", usageError{hint.Wrap(fmt.Errorf("%s does not hold one line", path), "The file must hold the address or the secret and nothing else.")}
	}
	return s, nil
}

func (a *app) methodCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check METHOD", Short: "Have the channel look at an address again, without telling anybody", Args: takes(1),
		Example: "  holdfastctl contacts method check 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("a method", args[0], "contacts list")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			m, err := cl.CheckMethod(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(m, func() error { a.printMethod(m); return nil })
		},
	}
}

func (a *app) methodRemove() *cobra.Command {
	cmd := a.dangerous("remove METHOD", "Remove a way to reach a contact",
		"Remove a way to reach a contact, by its number. Refused for the last one of somebody whom a policy or a schedule needs.",
		"Nothing will be sent to method %s any more.",
		func(cmd *cobra.Command, cl *v1.Client, arg string) error {
			id, err := numberOf("a method", arg, "contacts list")
			if err != nil {
				return err
			}
			if err := cl.RemoveMethod(cmd.Context(), id); err != nil {
				return err
			}
			return a.show(map[string]any{"removed": id}, func() error { a.printf("Removed method %d.\n", id); return nil })
		})
	cmd.Example = "  holdfastctl contacts method remove 7 --yes"
	return cmd
}
