package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) overrideAdd() *cobra.Command {
	var contact, from, to string
	var length time.Duration
	cmd := &cobra.Command{
		Use: "add SCHEDULE", Short: "Have somebody stand in", Args: takes(1),
		Long: `Have somebody stand in for whoever's turn it is. Times are by the schedule's clock.
Where several overlap, the one that was made last holds.`,
		Example: "  holdfastctl schedules override add plant --contact 'Cleo Park' --for 8h\n" +
			"  holdfastctl schedules override add plant --contact 'Cleo Park' --from '2026-12-24 08:00' --to '2026-12-27 08:00'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if contact == "" || (to == "") == (length == 0) {
				return usageError{hint.Wrap(errors.New("who stands in, or until when, is missing"), "Give --contact, and one of --to and --for.")}
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
			p, err := b.contact(cmd.Context(), contact, s.Tenant)
			if err != nil {
				return err
			}
			o := v1.Override{Contact: p.ID, StartsAt: a.clock()}
			if from != "" {
				if o.StartsAt, err = readMoment(from, s.TimeZone); err != nil {
					return err
				}
			}
			o.EndsAt = o.StartsAt.Add(length)
			if to != "" {
				if o.EndsAt, err = readMoment(to, s.TimeZone); err != nil {
					return err
				}
			}
			if s, err = cl.AddOverride(cmd.Context(), s.ID, o); err != nil {
				return err
			}
			return a.show(s, func() error {
				a.printf("%s stands in from %s until %s.\n", p.Name, localTime(o.StartsAt, s.TimeZone), localTime(o.EndsAt, s.TimeZone))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&contact, "contact", "", "who stands in, by name or number")
	cmd.Flags().StringVar(&from, "from", "", "from when on, such as '2026-12-24 08:00' (default now)")
	cmd.Flags().StringVar(&to, "to", "", "until when")
	cmd.Flags().DurationVar(&length, "for", 0, "for how long instead, such as 8h")
	return cmd
}

// readMoment reads a time by the clock of a place, or one with its offset.
func readMoment(s, zone string) (time.Time, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		loc = time.UTC
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{hint.Wrap(fmt.Errorf("%q is no time", s), "Write it as '2026-12-24 08:00' or 2026-12-24T08:00:00+01:00.")}
}

func (a *app) overrideRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove SCHEDULE OVERRIDE", Short: "Take a stand-in back", Args: takes(2),
		Example: "  holdfastctl schedules override remove plant 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("an override", args[1], "schedules show "+args[0])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := newBook(cl).schedule(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if s, err = cl.RemoveOverride(cmd.Context(), s.ID, id); err != nil {
				return err
			}
			return a.show(s, func() error { a.printf("Override %d of schedule %s is gone.\n", id, s.Name); return nil })
		},
	}
}
