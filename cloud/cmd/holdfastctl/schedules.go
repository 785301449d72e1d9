package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) schedulesCmd() *cobra.Command {
	return group("schedules", "Who is on call when", a.schedulesList(), a.schedulesShow(), a.schedulesAdd(), a.schedulesSet(), a.schedulesRemove(),
		group("override", "Who stands in", a.overrideAdd(), a.overrideRemove()))
}

// scheduleFile is a schedule as people write it; contacts by name or number.
type scheduleFile struct {
	Name      string         `yaml:"name"`
	Tenant    string         `yaml:"tenant,omitempty"`
	TimeZone  string         `yaml:"time_zone"`
	Rotations []rotationFile `yaml:"rotations"`
}

type rotationFile struct {
	Contacts []string `yaml:"contacts"`
	FirstDay string   `yaml:"first_day"`
	Handover string   `yaml:"handover,omitempty"`
	TurnDays int      `yaml:"turn_days"`
	Days     string   `yaml:"days,omitempty"`
	From     string   `yaml:"from,omitempty"`
	To       string   `yaml:"to,omitempty"`
}

const scheduleFileHelp = `
The file is YAML:

  name: plant
  tenant: foo                    # without it: the region's own people
  time_zone: America/Los_Angeles
  rotations:                     # of several that cover a moment the last holds
    - contacts: [Ana Lopez, Ben Kim]
      first_day: 2026-11-30
      handover: "09:00"
      turn_days: 7
    - contacts: [Night desk]
      first_day: 2026-11-30
      turn_days: 1
      days: Mon-Fri
      from: "22:00"
      to: "06:00"`

// scheduleFlags is one rotation on the command line, or a file.
type scheduleFlags struct {
	file, tenant, zone, contacts, hours string
	rotation                            rotationFile
}

func (f *scheduleFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "YAML file with the schedule")
	fl.StringVar(&f.zone, "time-zone", "", "IANA name, such as Europe/Berlin (default UTC)")
	fl.StringVar(&f.contacts, "contacts", "", "who takes turns, in order: names or numbers with commas")
	fl.StringVar(&f.rotation.FirstDay, "first-day", "", "when the first turn begins, such as 2026-11-30 (default today)")
	fl.StringVar(&f.rotation.Handover, "handover", "09:00", "when turns change")
	fl.IntVar(&f.rotation.TurnDays, "turn-days", 7, "how many days a turn has")
	fl.StringVar(&f.rotation.Days, "days", "", "days that are covered, such as Mon-Fri (default every day)")
	fl.StringVar(&f.hours, "hours", "", "hours that are covered, such as 22:00-06:00 (default all)")
}

// read is what the command line says, over what was there.
func (f *scheduleFlags) read(ctx context.Context, b *book, was v1.Schedule, today time.Time) (v1.Schedule, error) {
	if f.file != "" {
		var doc scheduleFile
		if err := config.Load(f.file, &doc); err != nil {
			return was, usageError{hint.Wrap(err, "Correct the file; holdfastctl schedules add --help shows one.")}
		}
		if was.ID != 0 && (doc.Tenant != "" && doc.Tenant != was.Tenant) {
			return was, usageError{hint.Wrap(fmt.Errorf("%s says tenant %s, and the schedule belongs to %s", f.file, doc.Tenant, owner(was.Tenant)), "Correct the file.")}
		}
		if was.ID == 0 {
			was.Tenant = doc.Tenant
		}
		was.Name, was.TimeZone, was.Rotations = doc.Name, doc.TimeZone, nil
		for _, r := range doc.Rotations {
			rot, err := rotation(ctx, b, r, was.Tenant)
			if err != nil {
				return was, err
			}
			was.Rotations = append(was.Rotations, rot)
		}
		return was, nil
	}
	if f.zone != "" {
		was.TimeZone = f.zone
	}
	if f.contacts == "" {
		return was, nil
	}
	f.rotation.Contacts = words(f.contacts)
	if f.rotation.FirstDay == "" {
		if zone, err := time.LoadLocation(was.TimeZone); err == nil {
			today = today.In(zone)
		}
		f.rotation.FirstDay = today.Format(time.DateOnly)
	}
	if f.hours != "" {
		var ok bool
		if f.rotation.From, f.rotation.To, ok = strings.Cut(f.hours, "-"); !ok {
			return was, usageError{hint.Wrap(fmt.Errorf("%q are no hours", f.hours), "Write them as 22:00-06:00.")}
		}
	}
	rot, err := rotation(ctx, b, f.rotation, was.Tenant)
	was.Rotations = []v1.Rotation{rot}
	return was, err
}

func rotation(ctx context.Context, b *book, r rotationFile, tenant string) (v1.Rotation, error) {
	ids, err := b.contactIDs(ctx, r.Contacts, tenant)
	return v1.Rotation{Contacts: ids, FirstDay: r.FirstDay, Handover: r.Handover, TurnDays: r.TurnDays, Days: r.Days, From: r.From, To: r.To}, err
}

func (a *app) schedulesList() *cobra.Command {
	tenant := ""
	cmd := &cobra.Command{
		Use: "list", Short: "List schedules", Aliases: []string{"ls"}, Args: takes(0),
		Example: "  holdfastctl schedules list --tenant foo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Schedules(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return a.show(append([]v1.Schedule{}, list...), func() error {
				if len(list) == 0 {
					a.printf("No schedules yet. A policy can also name contacts directly.\n")
					return nil
				}
				b := newBook(cl)
				var rows [][]cell
				for _, s := range list {
					head := []cell{c(fmt.Sprint(s.ID)), c(s.Name), c(owner(s.Tenant)), c(s.TimeZone)}
					if len(s.Rotations) == 0 {
						rows = append(rows, append(head, cell{"▲ nobody takes turns", yellow}))
					}
					for _, r := range s.Rotations {
						rows = append(rows, append(head, c(rotationText(cmd.Context(), b, r))))
						head = []cell{c(""), c(""), c(""), c("")}
					}
				}
				a.table(a.out, []string{"NO", "SCHEDULE", "TENANT", "TIME ZONE", "TURNS"}, rows)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant only")
	return cmd
}

func rotationText(ctx context.Context, b *book, r v1.Rotation) string {
	var names []string
	for _, id := range r.Contacts {
		names = append(names, b.contactName(ctx, id))
	}
	text := fmt.Sprintf("%s, each for %s from %s, handover %s", strings.Join(names, ", "), plural(r.TurnDays, "day", "days"), r.FirstDay, r.Handover)
	if r.Days != "" {
		text += ", " + r.Days
	}
	if r.From != "" {
		text += ", " + r.From + "-" + r.To
	}
	return text
}

func (a *app) schedulesShow() *cobra.Command {
	asYAML := false
	cmd := &cobra.Command{
		Use: "show SCHEDULE", Short: "Show one schedule, and who stands in", Args: takes(1),
		Example: "  holdfastctl schedules show plant\n  holdfastctl schedules show plant --yaml > plant.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			s, err := b.schedule(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if asYAML {
				return a.printYAML(scheduleFileOf(cmd.Context(), b, s))
			}
			return a.show(s, func() error { a.printSchedule(cmd.Context(), b, s); return nil })
		},
	}
	cmd.Flags().BoolVar(&asYAML, "yaml", false, "print the file that schedules set takes")
	return cmd
}

func (a *app) printSchedule(ctx context.Context, b *book, s v1.Schedule) {
	a.pairs(a.out, [][2]string{{"Schedule", fmt.Sprintf("%s, number %d", s.Name, s.ID)}, {"Tenant", owner(s.Tenant)}, {"Time zone", s.TimeZone}})
	for i, r := range s.Rotations {
		a.printf("%d. %s\n", i+1, rotationText(ctx, b, r))
	}
	for _, o := range s.Overrides {
		a.printf("%s stands in from %s until %s (override %d, by %s)\n", b.contactName(ctx, o.Contact), localTime(o.StartsAt, s.TimeZone), localTime(o.EndsAt, s.TimeZone), o.ID, o.By)
	}
}

// localTime is a moment by the clock of a place.
func localTime(t time.Time, zone string) string {
	if loc, err := time.LoadLocation(zone); err == nil {
		t = t.In(loc)
	}
	return t.Format("2006-01-02 15:04 MST")
}

func scheduleFileOf(ctx context.Context, b *book, s v1.Schedule) scheduleFile {
	doc := scheduleFile{Name: s.Name, Tenant: s.Tenant, TimeZone: s.TimeZone, Rotations: []rotationFile{}}
	for _, r := range s.Rotations {
		f := rotationFile{FirstDay: r.FirstDay, Handover: r.Handover, TurnDays: r.TurnDays, Days: r.Days, From: r.From, To: r.To}
		for _, id := range r.Contacts {
			f.Contacts = append(f.Contacts, b.contactName(ctx, id))
		}
		doc.Rotations = append(doc.Rotations, f)
	}
	return doc
}

func (a *app) printYAML(doc any) error {
	raw, err := yaml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	a.printf("%s", raw)
	return nil
}

func (a *app) schedulesAdd() *cobra.Command {
	var f scheduleFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a schedule: people who take turns",
		Long: "Add a schedule: people who take turns, by the clock of one time zone. With flags it has one rotation; a file may have more.\n" + scheduleFileHelp,
		Example: "  holdfastctl schedules add plant --tenant foo --time-zone America/Los_Angeles --contacts 'Ana Lopez,Ben Kim' --handover 09:00\n" +
			"  holdfastctl schedules add -f plant.yaml",
		Args: nameOrFile(&f.file),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file == "" && f.contacts == "" {
				return usageError{hint.Wrap(errors.New("nobody takes turns"), "Name them with --contacts, or write a file and give -f.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			s := v1.Schedule{Tenant: f.tenant, TimeZone: "UTC"}
			if len(args) == 1 {
				s.Name = args[0]
			}
			if s, err = f.read(cmd.Context(), newBook(cl), s, a.clock()); err != nil {
				return err
			}
			if s, err = cl.AddSchedule(cmd.Context(), s); err != nil {
				return err
			}
			return a.show(s, func() error {
				a.printf("Added schedule %s, number %d. Who is on call now: holdfastctl oncall\n", s.Name, s.ID)
				return nil
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "whose people it is of (default: the region's own)")
	return cmd
}

// nameOrFile takes a name, or none when a file says it.
func nameOrFile(file *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && *file == "" || len(args) == 0 && *file != "" {
			return nil
		}
		return usageError{hint.Wrap(fmt.Errorf("%s takes either a name or -f with a file that says it", cmd.CommandPath()), "Write it as: %s, or with -f FILE alone", cmd.UseLine())}
	}
}

func (a *app) schedulesSet() *cobra.Command {
	var f scheduleFlags
	cmd := &cobra.Command{
		Use: "set SCHEDULE", Short: "Replace who takes turns", Args: takes(1),
		Long:    "Replace who takes turns of a schedule, with flags by one rotation, or by what a file says. Who stands in stays.\n" + scheduleFileHelp,
		Example: "  holdfastctl schedules set operations --contacts 'Olga,Ravi' --time-zone Europe/Berlin\n  holdfastctl schedules set plant -f plant.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file == "" && f.contacts == "" && f.zone == "" {
				return usageError{hint.Wrap(errors.New("nothing to change was given"), "Give --contacts, --time-zone or -f.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			b := newBook(cl)
			s, err := b.schedule(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if s, err = f.read(cmd.Context(), b, s, a.clock()); err != nil {
				return err
			}
			if s, err = cl.SetSchedule(cmd.Context(), s); err != nil {
				return err
			}
			return a.show(s, func() error { a.printSchedule(cmd.Context(), b, s); return nil })
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) schedulesRemove() *cobra.Command {
	cmd := a.dangerous("remove SCHEDULE", "Remove a schedule", "Remove a schedule, by name or number. Refused while a policy needs it.",
		"Nobody will be on call of schedule %s any more.",
		func(cmd *cobra.Command, cl *v1.Client, ref string) error {
			s, err := newBook(cl).schedule(cmd.Context(), ref, "")
			if err != nil {
				return err
			}
			if err := cl.RemoveSchedule(cmd.Context(), s.ID); err != nil {
				return err
			}
			return a.show(map[string]any{"removed": s.ID}, func() error { a.printf("Removed schedule %s.\n", s.Name); return nil })
		})
	cmd.Example = "  holdfastctl schedules remove plant"
	return cmd
}
