package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) resyncCmd() *cobra.Command {
	var in v1.ResyncRequest
	var up, down bool
	cmd := &cobra.Command{
		Use: "resync FACILITY [TABLE...]", Short: "Send a facility's tables again", Args: takesAtLeast(1),
		ValidArgsFunction: a.facilityArg,
		Long: `Send tables again, all that are synced when none is named: by key ranges, beside
the live stream, without emptying anything first. What is equal stays as it is,
what is missing or different is put right.

Each table is sent by the side that owns its rows: fact and event tables by the
facility, master tables by the region. So of a fact table, the region follows
the facility.

With --down the region sends, fact tables too. That is for a box whose database
was lost or is an old backup; a box that takes another's place gets this by
itself. What was changed at the facility and has not been seen by the region
yet stands all the same.`,
		Example: `  holdfastctl resync la --dry-run
  holdfastctl resync la public.orders
  holdfastctl resync la --down`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args[1:] {
				schema, table, err := parseTable(arg)
				if err != nil {
					return usageError{err}
				}
				in.Tables = append(in.Tables, v1.TableName{Schema: schema, Table: table})
			}
			switch {
			case up && down:
				return usageError{hint.Wrap(errors.New("--up and --down exclude each other"), "Leave both away to have each table sent by the side that owns its rows.")}
			case up:
				in.Direction = v1.ResyncUp
			case down:
				in.Direction = v1.ResyncDown
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			r, err := cl.Resync(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			return a.show(r, func() error { a.printResync(r); return nil })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&up, "up", false, "only what the facility sends")
	f.BoolVar(&down, "down", false, "only what the region sends, fact tables included")
	f.BoolVar(&in.DryRun, "dry-run", false, "only say what would be sent")
	return cmd
}

func (a *app) printResync(r v1.Resync) {
	verb := "sends"
	if r.DryRun {
		verb = "would send"
	}
	if len(r.Up)+len(r.Down) == 0 {
		a.printf("There is nothing to send: no table goes that way.\n")
		return
	}
	if len(r.Up) > 0 {
		a.printf("%s %s again: %s.\n", r.Facility, verb, names(r.Up))
	}
	if len(r.Down) > 0 {
		a.printf("The region %s to %s again: %s.\n", verb, r.Facility, names(r.Down))
	}
	if !r.DryRun {
		a.printf("The live stream goes on meanwhile. Watch it with: holdfastctl sync status %s\n", r.Facility)
	}
}

func names(list []v1.TableName) string {
	all := make([]string, len(list))
	for i, n := range list {
		all[i] = tableName(n.Schema, n.Table)
	}
	return strings.Join(all, ", ")
}

// printDown shows how far the region's changes have come at a facility.
func (a *app) printDown(d *v1.DownStatus) {
	if d == nil || len(d.Loads) == 0 {
		return
	}
	rows := make([][]cell, 0, len(d.Loads))
	for _, l := range d.Loads {
		state := cell{"▲ on its way", yellow}
		if l.DoneAt != nil {
			state = cell{"● sent " + a.when(*l.DoneAt), green}
		}
		rows = append(rows, []cell{c(tableName(l.Schema, l.Table)), c(l.Reason), c(count(l.Rows)), state})
	}
	a.printf("\n")
	a.table(a.out, []string{"SENT DOWN", "WHY", "ROWS", "STATE"}, rows)
}

func downText(d *v1.DownStatus, when func() string) string {
	return fmt.Sprintf("the facility has %d:%d of the region's changes (heard %s)", d.Epoch, d.Seq, when())
}
