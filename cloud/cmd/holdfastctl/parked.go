package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) parkedCmd() *cobra.Command {
	list := a.parkedList()
	cmd := &cobra.Command{
		Use: "parked", Short: "Changes that a database refused, and what to do about them",
		Long: `Changes that the region's database refused, or a facility's: a unique value
that another row has, a check, a missing column. Such a change waits, with what comes later of
the same row and what refers to it; everything else flows. It is tried again
by itself, so that it goes when its cause does.

Without a command it lists what waits.`,
		Example: "  holdfastctl parked --facility la\n  holdfastctl parked show 17\n  holdfastctl parked edit 17 --set name=Bolt\n  holdfastctl parked discard 17 --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{hint.Wrap(fmt.Errorf("there is no command %q under %s", args[0], cmd.CommandPath()), "See %s --help.", cmd.CommandPath())}
			}
			return list.RunE(cmd, args)
		},
	}
	cmd.Flags().AddFlagSet(list.Flags())
	cmd.AddCommand(list, a.parkedShow(), a.parkedEdit(), a.parkedDiscard(), a.parkedRetry())
	return cmd
}

func (a *app) parkedList() *cobra.Command {
	var f v1.ParkedFilter
	limit := 100
	cmd := &cobra.Command{
		Use: "list", Short: "What waits, newest first", Aliases: []string{"ls"}, Args: takes(0),
		Example: "  holdfastctl parked list --facility la --reason unique\n  holdfastctl parked list --state all --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			page, err := cl.Parked(cmd.Context(), f, limit, "")
			if err != nil {
				return err
			}
			return a.show(page.Items, func() error { a.printParked(page); return nil })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Facility, "facility", "", "of this facility only")
	fl.StringVar(&f.Table, "table", "", "of this table only, such as public.orders")
	fl.StringVar(&f.Reason, "reason", "", "with this reason only, such as unique")
	fl.StringVar(&f.State, "state", "", "waiting (default), applied, discarded, replaced or all")
	limited(cmd, &limit, 500)
	return cmd
}

func (a *app) printParked(page v1.Page[v1.Parked]) {
	if len(page.Items) == 0 {
		a.printf("Nothing is parked.\n")
		return
	}
	rows := make([][]cell, 0, len(page.Items))
	for _, p := range page.Items {
		rows = append(rows, []cell{
			c(strconv.FormatInt(p.ID, 10)), c(p.Facility), c(parkedAt(p)), c(tableName(p.Schema, p.Table)), c(oneLine(p.Label)), c(p.Op), parkedCell(p), c(a.clockTime(&p.ParkedAt)), c(p.Brief()),
		})
	}
	a.table(a.out, []string{"ID", "FACILITY", "REFUSED", "TABLE", "ROW", "CHANGE", "WHY", "SINCE", "MESSAGE"}, rows)
	if page.Next != "" {
		a.printf("There are more; narrow the list or raise --limit.\n")
	}
}

// parkedAt is which side's database refuses the change.
func parkedAt(p v1.Parked) string {
	if p.Direction == "down" {
		return "at the facility"
	}
	return "in the region"
}

func parkedCell(p v1.Parked) cell {
	switch p.State {
	case "waiting":
		return cell{"▲ " + p.Reason, yellow}
	case "applied":
		return cell{"● applied", green}
	}
	return cell{"○ " + p.State, grey}
}

func keyText(key map[string]*string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(key)) {
		parts = append(parts, name+"="+parkedValue(key[name]))
	}
	return strings.Join(parts, " ")
}

func parkedValue(v *string) string {
	if v == nil {
		return "NULL"
	}
	return *v
}

func parkedID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id < 1 {
		return 0, usageError{hint.Wrap(fmt.Errorf("%q is not a parked change's number", s), "holdfastctl parked list shows the numbers.")}
	}
	return id, nil
}

// parkedDo is a command about one parked change.
func (a *app) parkedDo(cmd *cobra.Command, do func(cmd *cobra.Command, cl *v1.Client, id int64) error) *cobra.Command {
	cmd.Args = takes(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := parkedID(args[0])
		if err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		return do(cmd, cl, id)
	}
	return cmd
}

func (a *app) parkedShow() *cobra.Command {
	return a.parkedDo(&cobra.Command{
		Use: "show ID", Short: "One parked change, beside the row that is in its way",
	}, func(cmd *cobra.Command, cl *v1.Client, id int64) error {
		p, err := cl.ParkedRow(cmd.Context(), id)
		if err != nil {
			return err
		}
		return a.show(p, func() error { a.printParkedRow(p); return nil })
	})
}

func (a *app) printParkedRow(p v1.ParkedRow) {
	state := parkedCell(p.Parked)
	rows := [][2]string{
		{"Change", fmt.Sprintf("%d, %s of %s %s", p.ID, p.Op, tableName(p.Schema, p.Table), oneLine(p.Label))},
		{"Facility", p.Facility},
		{"Refused", parkedAt(p.Parked)},
		{"Key", keyText(p.Key)},
		{"State", a.paint(a.out)(state.colour, state.text)},
	}
	if p.State == "waiting" {
		rows = append(rows, [2]string{"Message", p.Message + waitsFor(p, ": ")}, [2]string{"Remedy", p.Remedy})
	} else {
		rows = append(rows, [2]string{"Was refused", p.Message})
	}
	rows = append(rows, [][2]string{
		{"Transaction", fmt.Sprintf("%d:%d, committed there %s", p.Epoch, p.Seq, a.whenPtr(p.CommitAt))},
		{"Parked", a.when(p.ParkedAt)},
	}...)
	if p.TriedAt != nil {
		rows = append(rows, [2]string{"Tried again", plural(p.Attempts, "time", "times") + ", last " + a.when(*p.TriedAt)})
	}
	rows = append(rows, [2]string{"Edited by", p.EditedBy}, [2]string{"Ended by", p.EndedBy})
	if p.EndedAt != nil {
		rows = append(rows, [2]string{"Ended", a.when(*p.EndedAt)})
	}
	if p.State == "waiting" {
		rows = append(rows, [2]string{"Waits for it", waitsText(p)})
	}
	a.pairs(a.out, rows)
	a.printf("\n")
	header := []string{"COLUMN", "PARKED"}
	if p.Blocking != "" {
		header = append(header, "IN THE WAY ("+p.Blocking+")")
	}
	var table [][]cell
	for _, col := range p.Columns {
		value := "(not sent)"
		if col.Sent {
			value = parkedValue(col.Value)
		}
		row := []cell{c(col.Name), c(value)}
		if p.Blocking != "" {
			row = append(row, c(parkedValue(col.Blocking)))
			if col.Differs {
				row[1].colour, row[2].colour = yellow, yellow
			}
		}
		table = append(table, row)
	}
	a.table(a.out, header, table)
}

func waitsText(p v1.ParkedRow) string {
	if p.Behind+p.Dependants == 0 {
		return "nothing"
	}
	return plural(p.Behind, "later change of the row", "later changes of the row") + ", " + plural(p.Dependants, "change that refers to it", "changes that refer to it")
}

// parkedOutcome says what came of trying a change. One that was refused again is an error.
func (a *app) parkedOutcome(p v1.ParkedRow, done string) error {
	err := a.show(p, func() error {
		a.printf(done, p.ID)
		switch p.Outcome {
		case v1.ParkedApplied:
			a.printf(": applied.\n")
		case v1.ParkedEnded:
			a.printf(": it was %s meanwhile.\n", p.State)
		case v1.ParkedRefused:
			a.printf(".\n")
		default:
			a.printf(": it still waits%s. See: holdfastctl parked show %d\n", waitsFor(p, " for "), p.ID)
		}
		return nil
	})
	if err == nil && p.Outcome == v1.ParkedRefused {
		err = hint.Wrap(fmt.Errorf("parked change %d was refused again: %s", p.ID, p.Brief()), "%s", p.Remedy)
	}
	return err
}

// waitsFor names the change that another follows.
func waitsFor(p v1.ParkedRow, before string) string {
	if p.WaitsFor == 0 {
		return ""
	}
	return fmt.Sprintf("%sparked change %d", before, p.WaitsFor)
}

func (a *app) parkedEdit() *cobra.Command {
	var set, null []string
	cmd := a.parkedDo(&cobra.Command{
		Use: "edit ID --set COLUMN=VALUE", Short: "Correct a parked change and try it at once",
		Long: `Correct a parked change. The row becomes what it says then, in the region and
at the facility, as a change made by you; the facility's version is kept among
the conflicts. Values are written as PostgreSQL prints them; --null sets a
column to NULL.`,
		Example: "  holdfastctl parked edit 17 --set name='Bolt, long' --null note",
	}, func(cmd *cobra.Command, cl *v1.Client, id int64) error {
		in := v1.ParkedEdit{Set: map[string]*string{}}
		for _, s := range set {
			name, value, ok := strings.Cut(s, "=")
			if !ok || name == "" {
				return usageError{hint.Wrap(fmt.Errorf("--set %q has no COLUMN=", s), "Write it as --set column=value.")}
			}
			in.Set[name] = &value
		}
		for _, name := range null {
			in.Set[name] = nil
		}
		if len(in.Set) == 0 {
			return usageError{hint.Wrap(errors.New("nothing is set"), "Say what to correct: --set column=value or --null column.")}
		}
		p, err := cl.EditParked(cmd.Context(), id, in)
		if err != nil {
			return err
		}
		return a.parkedOutcome(p, "Corrected parked change %d")
	})
	cmd.Flags().StringArrayVar(&set, "set", nil, "a column and its new value; may be given more than once")
	cmd.Flags().StringArrayVar(&null, "null", nil, "a column to set to NULL; may be given more than once")
	return cmd
}

func (a *app) parkedDiscard() *cobra.Command {
	yes, dry := false, false
	cmd := a.parkedDo(&cobra.Command{
		Use: "discard ID", Short: "Discard a parked change for good",
		Long: `Discard a parked change: the region goes without it. What waits behind it is
tried next, and what refers to its row does not wait for it any more. The
audit log keeps what it said, and who discarded it.`,
	}, func(cmd *cobra.Command, cl *v1.Client, id int64) error {
		would, err := cl.DiscardParked(cmd.Context(), id, v1.ParkedDiscard{DryRun: true})
		if err != nil {
			return err
		}
		what := fmt.Sprintf("the %s of %s %s from %s", would.Row.Op, tableName(would.Row.Schema, would.Row.Table), keyText(would.Row.Key), would.Row.Facility)
		if dry {
			return a.show(would, func() error {
				a.printf("Would discard %s; it holds up %s.\n", what, waitsText(would.Row))
				return nil
			})
		}
		if err := a.confirm(yes, fmt.Sprintf("Parked change %d, %s, will be discarded for good. It holds up %s.", id, what, waitsText(would.Row)), strconv.FormatInt(id, 10)); err != nil {
			return err
		}
		done, err := cl.DiscardParked(cmd.Context(), id, v1.ParkedDiscard{})
		if err != nil {
			return err
		}
		return a.show(done, func() error { a.printf("Discarded %s.\n", what); return nil })
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be discarded")
	return cmd
}

func (a *app) parkedRetry() *cobra.Command {
	facility := ""
	cmd := &cobra.Command{
		Use: "retry [ID]", Short: "Try a parked change now, or all of them",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return takes(1)(cmd, args)
			}
			var id int64
			if len(args) == 1 {
				var err error
				if id, err = parkedID(args[0]); err != nil {
					return err
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			if id > 0 {
				p, err := cl.RetryParked(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.parkedOutcome(p, "Tried parked change %d")
			}
			n, err := cl.RetryAllParked(cmd.Context(), facility)
			if err != nil {
				return err
			}
			return a.show(n, func() error {
				a.printf("%s tried now.\n", plural(int(n.Rows), "parked change is", "parked changes are"))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&facility, "facility", "", "of this facility only")
	return cmd
}
