package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) maintenanceCmd() *cobra.Command {
	return group("maintenance", "Announced work at facilities: nobody is paged meanwhile", a.maintenanceList(), a.maintenanceAdd(), a.maintenanceEnd())
}

func (a *app) maintenanceList() *cobra.Command {
	var facility string
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List announced work", Aliases: []string{"ls"}, Args: takes(0),
		Example: "  holdfastctl maintenance list\n  holdfastctl maintenance list --facility la --all",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Maintenance(cmd.Context(), facility, all)
			if err != nil {
				return err
			}
			return a.show(append([]v1.Maintenance{}, list...), func() error {
				if len(list) == 0 {
					a.printf("No work is announced.\n")
					return nil
				}
				var rows [][]cell
				for _, m := range list {
					rows = append(rows, []cell{c(fmt.Sprint(m.ID)), c(m.Facility), a.workCell(m), c(a.clockTime(&m.StartsAt)), c(a.clockTime(&m.EndsAt)), c(m.CreatedBy), c(m.Reason)})
				}
				a.table(a.out, []string{"NO", "FACILITY", "STATE", "FROM", "UNTIL", "BY", "REASON"}, rows)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&facility, "facility", "", "at this facility only")
	cmd.Flags().BoolVar(&all, "all", false, "also what has ended")
	return cmd
}

func (a *app) workCell(m v1.Maintenance) cell {
	now := a.clock()
	switch {
	case m.EndedAt != nil:
		return cell{"○ ended by " + m.EndedBy, grey}
	case !m.EndsAt.After(now):
		return cell{"○ over", grey}
	case m.StartsAt.After(now):
		return c("◷ to come")
	}
	return cell{"◆ under way", yellow}
}

func (a *app) maintenanceAdd() *cobra.Command {
	var in v1.MaintenanceAdd
	var length, ahead time.Duration
	cmd := &cobra.Command{
		Use: "add FACILITY", Short: "Announce work: what is wrong is seen, and nobody is paged", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Long: `Announce work at a facility. Until it ends, what is wrong there is seen, and nobody
is paged. It ends by itself, after 8 hours at the latest; announce it again to renew it.`,
		Example: "  holdfastctl maintenance add la --for 2h --reason 'new switch in the server room'\n" +
			"  holdfastctl maintenance add la --in 3h --for 90m --reason 'power is off for the meter'",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !cmd.Flags().Changed("for"):
				return usageError{hint.Wrap(errors.New("for how long is missing"), "Give --for, such as --for 2h.")}
			case length < time.Minute || length > 8*time.Hour:
				return usageError{hint.Wrap(fmt.Errorf("work cannot be announced for %s", length), "Give --for 1m to 8h; announce it again when it takes longer.")}
			case ahead < 0:
				return usageError{hint.Wrap(fmt.Errorf("work cannot begin %s ago", -ahead), "Give --in as a time from now on, such as --in 3h, or leave it out.")}
			case strings.TrimSpace(in.Reason) == "":
				return usageError{hint.Wrap(errors.New("what is done there is missing"), "Give --reason, such as --reason 'new switch in the server room'.")}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.Facility, in.For, in.StartsIn = args[0], int(length.Seconds()), int(ahead.Seconds())
			m, err := cl.AddMaintenance(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.show(m, func() error {
				a.printf("Nobody is paged about %s until %s. To end it early: holdfastctl maintenance end %d\n", m.Facility, a.when(m.EndsAt), m.ID)
				return nil
			})
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long, such as 2h; 1m to 8h")
	cmd.Flags().DurationVar(&ahead, "in", 0, "when it begins, from now on (default at once)")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "what is done")
	return cmd
}

func (a *app) maintenanceEnd() *cobra.Command {
	return &cobra.Command{
		Use: "end NUMBER", Short: "End announced work early, or call it off", Args: takes(1),
		Example: "  holdfastctl maintenance end 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("announced work", args[0], "maintenance list")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			m, err := cl.EndMaintenance(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(m, func() error {
				a.printf("The work at %s has ended: what is wrong there is told again.\n", m.Facility)
				return nil
			})
		},
	}
}
