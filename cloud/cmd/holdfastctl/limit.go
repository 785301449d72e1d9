package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) facilityLimit() *cobra.Command {
	var in v1.Limit
	var none bool
	cmd := &cobra.Command{
		Use: "limit ID", Short: "Say how fast a facility's changes may travel", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Long: `Say how fast a facility's changes may travel, in kilobytes (1000 bytes) per second, for each direction by itself.

A window is a time of the week with a limit of its own, by the facility's clock; the first that fits holds, and
outside of them --kbps, or no limit. What is set replaces what was set before, and counts at once. Changes wait for
their turn in the queue; acknowledgements and heartbeats do not count. Without flags the present limit is shown.`,
		Example: "  holdfastctl facility limit la --kbps 500 --window 'Mon-Fri 06:00-22:00=100'\n" +
			"  holdfastctl facility limit la --window '22:00-06:00=none' --window '06:00-22:00=50'\n  holdfastctl facility limit la --none",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			given := cmd.Flags().Changed("kbps") || len(in.Windows) > 0
			if none && given {
				return hint.Wrap(errors.New("--none lifts the limit, and another was given"), "Give one of them.")
			}
			var f v1.Facility
			if none || given {
				f, err = cl.SetLimit(cmd.Context(), args[0], in)
			} else {
				f, err = cl.Facility(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return a.show(f, func() error { a.printf("%s: %s\n", f.ID, limitText(f.Limit)); return nil })
		},
	}
	cmd.Flags().IntVar(&in.KBps, "kbps", 0, "kilobytes per second outside of the windows; 0 is no limit")
	cmd.Flags().StringArrayVar(&in.Windows, "window", nil, "days, hours and KB/s, such as 'Mon-Fri 06:00-22:00=100'; may be given more than once")
	cmd.Flags().BoolVar(&none, "none", false, "lift the limit")
	return cmd
}

// limitText is what is set, and what holds now.
func limitText(l *v1.Limit) string {
	if l == nil {
		return "no limit"
	}
	text := kbps(l.Now) + " now"
	if len(l.Windows) > 0 {
		text += fmt.Sprintf(" (%s; else %s)", strings.Join(l.Windows, "; "), kbps(l.KBps))
	}
	return text
}

func kbps(n int) string {
	if n == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d KB/s", n)
}
