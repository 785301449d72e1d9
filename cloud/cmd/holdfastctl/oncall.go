package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// onCallNow is what holdfastctl oncall shows.
type onCallNow struct {
	Schedules   []v1.OnCall      `json:"schedules"`
	Coverage    []v1.Coverage    `json:"coverage"`
	Maintenance []v1.Maintenance `json:"maintenance"`
}

func (a *app) onCallCmd() *cobra.Command {
	return &cobra.Command{
		Use: "oncall", Short: "Who is on call now, and which facilities nobody is told of", Args: takes(0),
		Long: `Show who is on call now of each schedule, and until when; and of which facilities
nobody would be told if they went offline.`,
		Example: "  holdfastctl oncall\n  holdfastctl oncall --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var now onCallNow
			if now.Schedules, err = cl.OnCall(cmd.Context()); err != nil {
				return err
			}
			if now.Coverage, err = cl.Coverage(cmd.Context()); err != nil {
				return err
			}
			if now.Maintenance, err = cl.Maintenance(cmd.Context(), "", false); err != nil {
				return err
			}
			return a.show(now, func() error { a.printOnCall(now); return nil })
		},
	}
}

func (a *app) printOnCall(now onCallNow) {
	var rows [][]cell
	for _, s := range now.Schedules {
		who := cell{"▲ nobody", yellow}
		if s.Contact != nil {
			who = cell{"● " + s.Who, green}
		}
		if s.Override {
			who.text += " (stands in)"
		}
		until := "–"
		if s.Until != nil {
			until = a.clockTime(s.Until)
		}
		rows = append(rows, []cell{c(s.Name), c(owner(s.Tenant)), who, c(until)})
	}
	if len(rows) > 0 {
		a.table(a.out, []string{"SCHEDULE", "TENANT", "ON CALL", "UNTIL"}, rows)
	}
	var silent [][]cell
	for _, f := range now.Coverage {
		if f.Customer.Problem != "" {
			silent = append(silent, []cell{c(f.Facility), c(f.Tenant), {f.Customer.Problem, red}, c(f.Customer.Remedy)})
		}
		if f.Operations.Problem != "" {
			silent = append(silent, []cell{c(f.Facility), c(owner("")), {f.Operations.Problem, red}, c(f.Operations.Remedy)})
		}
	}
	for _, m := range now.Maintenance {
		if at := time.Now(); !m.StartsAt.After(at) && m.EndsAt.After(at) && m.EndedAt == nil {
			silent = append(silent, []cell{c(m.Facility), c(""), {"nobody is told before " + a.clockTime(&m.EndsAt) + ": announced work", yellow}, c("holdfastctl maintenance end " + strconv.FormatInt(m.ID, 10))})
		}
	}
	if len(silent) == 0 {
		a.printf("Somebody is told when any of %s goes offline.\n", plural(len(now.Coverage), "facility", "facilities"))
		return
	}
	if len(rows) > 0 {
		fmt.Fprintln(a.out)
	}
	a.table(a.out, []string{"FACILITY", "TENANT", "IF IT GOES OFFLINE", "TO DO"}, silent)
}
