package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// verifyLook is how often a pass that is under way is looked at.
const verifyLook = 500 * time.Millisecond

func (a *app) verifyCmd() *cobra.Command {
	var in v1.VerifyRequest
	cmd := &cobra.Command{
		Use: "verify FACILITY [TABLE]", Short: "Compare a facility's rows with the region's now, and repair what differs", Args: facilityAndTable,
		ValidArgsFunction: a.facilityArg,
		Long: `Compare a facility's rows with the region's, all of them, at equal positions of
the stream. Work goes on meanwhile on both sides. Master tables are not compared.

The region does this all the time by itself; "verified" in sync status says
with what result. This command begins a pass at once and shows what it finds.

Without --repair nothing is changed. With it, the facility sends the rows that
differ again: rows that are missing or not the same in the region are written
as the facility has them, rows of fact tables that only the region has are
deleted there. An event table may have more rows in the region: those that the
facility has pruned. --dry-run lists what --repair would do.

The exit code is 1 when rows differ and were not repaired.`,
		Example: "  holdfastctl verify la\n  holdfastctl verify la public.orders --repair --dry-run\n  holdfastctl verify la public.orders --repair",
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.DryRun {
				in.Repair = true
			}
			if len(args) == 2 {
				var err error
				if in.Schema, in.Table, err = parseTable(args[1]); err != nil {
					return usageError{err}
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			r, err := a.verify(cmd.Context(), cl, args[0], in)
			if err != nil {
				return err
			}
			if err := a.show(r, func() error { a.printVerify(r); return nil }); err != nil {
				return err
			}
			return verifyError(r)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&in.Repair, "repair", false, "have the facility send the rows that differ again")
	f.BoolVar(&in.DryRun, "dry-run", false, "only list what --repair would do")
	return cmd
}

// facilityAndTable takes a facility and, if given, a table.
func facilityAndTable(cmd *cobra.Command, args []string) error {
	if n := len(args); n == 1 || n == 2 {
		return nil
	}
	err := fmt.Errorf("%s takes a facility and at most one table, not %s", cmd.CommandPath(), plural(len(args), "argument", "arguments"))
	return usageError{hint.Wrap(err, "Write it as: %s", cmd.UseLine())}
}

// verify begins a pass and waits for its end, telling how far it is.
func (a *app) verify(ctx context.Context, cl *v1.Client, facility string, in v1.VerifyRequest) (v1.VerifyRun, error) {
	r, err := cl.StartVerify(ctx, facility, in)
	if err != nil {
		return r, err
	}
	live := !a.asJSON && isTerminal(a.err)
	for r.State == v1.VerifyRunning {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(verifyLook):
		}
		if r, err = cl.VerifyStatus(ctx, facility); err != nil {
			return r, err
		}
		if live {
			fmt.Fprintf(a.err, "\r\x1b[K%s", verifyProgress(r))
		}
	}
	if live {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	return r, nil
}

func verifyProgress(r v1.VerifyRun) string {
	if r.Problem != "" {
		return r.Problem
	}
	done := 0
	for _, t := range r.Tables {
		switch t.State {
		case v1.VerifyRunning:
			text := fmt.Sprintf("%s: %s rows compared", tableName(t.Schema, t.Table), count(t.RowsDone))
			if t.Differing > 0 {
				text += fmt.Sprintf(", %s differ", count(t.Differing))
			}
			return fmt.Sprintf("%d of %d tables, %s", done, len(r.Tables), text)
		case v1.VerifyWaiting:
		default:
			done++
		}
	}
	return fmt.Sprintf("%d of %d tables", done, len(r.Tables))
}

func (a *app) printVerify(r v1.VerifyRun) {
	var rows [][]cell
	for _, t := range r.Tables {
		rows = append(rows, []cell{
			c(tableName(t.Schema, t.Table)), verifyCell(t), c(count(t.RowsDone)), c(t.Position), c(joinProblem(t.Problem, t.Remedy)),
		})
	}
	a.table(a.out, []string{"TABLE", "RESULT", "ROWS", "POSITION", "PROBLEM"}, rows)
	for _, t := range r.Tables {
		if len(t.Rows) == 0 {
			continue
		}
		a.printf("\n%s:\n", tableName(t.Schema, t.Table))
		var rows [][]cell
		for _, d := range t.Rows {
			rows = append(rows, []cell{c("  " + rowKey(d.Key)), c(rowKind(d.Kind)), c(d.Action)})
		}
		a.table(a.out, []string{"  KEY", "IN THE REGION", "REPAIR"}, rows)
		if rest := t.Differing - int64(len(t.Rows)); rest > 0 {
			a.printf("  and %s more\n", count(rest))
		}
	}
	differs, parked := differing(r)
	switch {
	case r.State != v1.VerifyDone:
	case r.DryRun && differs:
		a.printf("\nNothing was changed. With --repair and without --dry-run the repairs are made.\n")
	case !r.Repair && differs:
		a.printf("\nholdfastctl verify %[1]s --repair has the facility send these rows again; holdfastctl verify %[1]s --dry-run shows what that would do.\n", r.Facility)
	}
	if parked {
		a.printf("\nThe region's database refuses the parked rows. Why, and what to do: holdfastctl parked --facility %s\n", r.Facility)
	}
}

// differing tells whether there is anything that a repair can put right, and
// whether there are parked rows, which it cannot. Rows that are not listed
// count as such that it can.
func differing(r v1.VerifyRun) (repairable, parked bool) {
	for _, t := range r.Tables {
		if t.State != v1.VerifyDiffers {
			continue
		}
		repairable = repairable || t.More || t.Differing > int64(len(t.Rows))
		for _, d := range t.Rows {
			if d.Kind == "parked" {
				parked = true
			} else {
				repairable = true
			}
		}
	}
	return repairable, parked
}

func verifyCell(t v1.VerifyTable) cell {
	n := count(t.Differing)
	if t.More {
		n += "+"
	}
	rows := " rows differ"
	if t.Differing == 1 && !t.More {
		rows = " row differs"
	}
	switch t.State {
	case v1.VerifyEqual:
		return cell{"● equal", green}
	case v1.VerifyRepaired:
		return cell{"● equal, " + n + " repaired", green}
	case v1.VerifyDiffers:
		text := "✖ " + n + rows
		if t.Repaired > 0 {
			text += ", " + count(t.Repaired) + " repaired"
		}
		return cell{text, red}
	case v1.VerifyFailed:
		return cell{"▲ not compared", yellow}
	}
	return cell{"○ " + t.State, grey}
}

func rowKind(kind string) string {
	switch kind {
	case "differs":
		return "not the same"
	case "extra":
		return "too many"
	case "parked":
		return "parked"
	}
	return kind
}

func rowKey(key map[string]string) string {
	var parts []string
	for k, v := range key {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func joinProblem(problem, remedy string) string {
	if remedy == "" {
		return problem
	}
	return problem + " – " + remedy
}

// verifyError is why the command's exit code is not 0.
func verifyError(r v1.VerifyRun) error {
	if r.State == v1.VerifyFailed {
		return hint.Wrap(fmt.Errorf("the comparison ended early: %s", r.Problem), "Begin it again when the facility is connected.")
	}
	for _, t := range r.Tables {
		switch t.State {
		case v1.VerifyDiffers:
			return errors.New("the two sides are not the same")
		case v1.VerifyFailed:
			return errors.New("not every table could be compared")
		}
	}
	return nil
}

// verifiedCell is what the continuous comparison of a table has come to.
func (a *app) verifiedCell(t v1.TableAt) cell {
	v := t.Verified
	switch {
	case v == nil && t.Class == "master":
		return cell{"– not compared", grey} // the region owns its rows
	case v == nil || v.EndedAt == nil && v.Differing == 0:
		if v != nil && v.BeganAt != nil {
			return cell{"○ first pass, " + count(v.RowsDone) + " rows", grey}
		}
		return cell{"○ not yet", grey}
	case v.Problem != "":
		return cell{"▲ not compared: " + joinProblem(v.Problem, v.Remedy), yellow}
	case v.Open() > 0:
		rows := " rows differ"
		if v.Open() == 1 {
			rows = " row differs"
		}
		return cell{"✖ " + count(v.Open()) + rows, red}
	}
	return cell{"● equal at " + a.clockTime(v.EqualAt), green}
}
