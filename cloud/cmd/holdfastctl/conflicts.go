package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

const conflictsHelp = `A conflict is a row that the facility and the region both changed before either
had heard of the other. The facility's box has decided already whose version
stands, so nothing waits for you: a conflict is news, and both versions are kept.

Without a command this lists the conflicts that nobody has dealt with, newest
first. Look at one with "show"; then leave it as it is with "ack", or write the
other version with "restore".`

// conflictsWatchEvery is how often --watch asks.
const conflictsWatchEvery = 2 * time.Second

// conflictFlags are the filter as flags.
type conflictFlags struct {
	v1.ConflictFilter
	from, to string
}

func (f *conflictFlags) register(cmd *cobra.Command, withState bool) {
	fl := cmd.Flags()
	fl.StringVar(&f.Facility, "facility", "", "of this facility only")
	fl.StringVar(&f.Table, "table", "", "of this table only, such as public.orders")
	fl.StringVar(&f.Kind, "kind", "", "insert_exists, update_origin_differs, update_deleted (the facility deleted it) or delete_origin_differs (the region deleted it)")
	fl.StringVar(&f.Decision, "decision", "", "whose version stood: edge, cloud or merged")
	fl.StringVar(&f.Text, "text", "", "with this in a value or in an author's name")
	fl.StringVar(&f.from, "since", "", "decided since: 90m, 12h, 2026-11-26, or 2026-11-26T14:00:00+01:00")
	fl.StringVar(&f.to, "until", "", "decided before that, written likewise")
	if withState {
		fl.StringVar(&f.State, "state", v1.ConflictOpen, "open, acknowledged, restored or all")
	}
}

// filter reads the times and the table's name. What can match nothing is
// refused: an empty list would be taken for good news.
func (f *conflictFlags) filter(now time.Time) (v1.ConflictFilter, error) {
	out := f.ConflictFilter
	for _, c := range []struct {
		flag, value string
		list        []string
	}{
		{"--state", f.State, []string{v1.ConflictOpen, v1.ConflictAcknowledged, v1.ConflictRestored, "all"}},
		{"--kind", f.Kind, []string{"insert_exists", "update_origin_differs", "update_deleted", "delete_origin_differs"}},
		{"--decision", f.Decision, []string{"edge", "cloud", "merged"}},
	} {
		if err := oneOf(c.flag, c.value, c.list...); err != nil {
			return out, err
		}
	}
	if f.Table != "" {
		schema, table, err := parseTable(f.Table)
		if err != nil {
			return out, usageError{err}
		}
		out.Table = schema + "." + table
	}
	var err error
	if out.From, err = parseMoment("--since", f.from, now); err != nil {
		return out, err
	}
	if out.To, err = parseMoment("--until", f.to, now); err != nil {
		return out, err
	}
	return out, checkSpan(out.From, out.To, now)
}

// checkSpan refuses a span in which nothing can have happened.
func checkSpan(from, to, now time.Time) error {
	switch {
	case from.After(now):
		return usageError{hint.Wrap(fmt.Errorf("--since %s has not come yet", from.Local().Format(time.RFC3339)), "Give a time that is over, such as --since 12h.")}
	case !from.IsZero() && !to.IsZero() && !from.Before(to):
		return usageError{hint.Wrap(errors.New("--since is not before --until"), "Give the earlier one to --since: --since 20h --until 12h is from 20 to 12 hours ago.")}
	}
	return nil
}

// checkTable refuses a table that is not synced and of which nothing was found.
func checkTable(ctx context.Context, cl *v1.Client, name string) error {
	list, err := cl.Tables(ctx, "")
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.Schema+"."+t.Table == name {
			return nil
		}
	}
	return notFoundError{hint.Wrap(fmt.Errorf("no table %s is synced", name), "holdfastctl tables list shows those that are.")}
}

var uuidShape = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// conflictID checks what is to be a conflict's id.
func conflictID(s string) error {
	if !uuidShape.MatchString(s) {
		return usageError{hint.Wrap(fmt.Errorf("%q is not a conflict's id", s), "holdfastctl conflicts --state all shows the ids, in the last column.")}
	}
	return nil
}

// parseMoment reads a time, a day of this computer's zone, or how long ago.
func parseMoment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil { //nolint:gosmopolitan // the operator's own day is meant
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usageError{hint.Wrap(fmt.Errorf("%s %q is not a time", flag, s), "Write it as 12h, 2026-11-26, or 2026-11-26T14:00:00+01:00.")}
	}
	return t, nil
}

func (a *app) conflictsCmd() *cobra.Command {
	var f conflictFlags
	limit, watch := 50, false
	cmd := &cobra.Command{
		Use: "conflicts", Short: "Rows that both sides changed: list them, look, acknowledge, restore", Long: conflictsHelp,
		Aliases: []string{"conflict"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usageError{hint.Wrap(fmt.Errorf("there is no command %q under %s", args[0], cmd.CommandPath()), "See %s --help; one conflict is shown by: %s show ID", cmd.CommandPath(), cmd.CommandPath())}
		},
		Example: `  holdfastctl conflicts
  holdfastctl conflicts --facility la --table public.orders --since 12h
  holdfastctl conflicts --state all --text A-10482 --json
  holdfastctl conflicts --watch`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter(a.clock())
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchConflicts(cmd.Context(), cl, filter)
			}
			page, err := cl.Conflicts(cmd.Context(), filter, limit, "")
			if err != nil {
				return err
			}
			if len(page.Items) == 0 && filter.Table != "" {
				if err := checkTable(cmd.Context(), cl, filter.Table); err != nil {
					return err
				}
			}
			if len(page.Items) == 0 && filter.Facility != "" {
				// A misspelt facility must not look like one without conflicts.
				if _, err := cl.Facility(cmd.Context(), filter.Facility); err != nil {
					return err
				}
			}
			return a.show(page.Items, func() error { a.printConflicts(page, filter); return nil })
		},
	}
	f.register(cmd, true)
	limited(cmd, &limit, 500)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print further ones as they come, until interrupted")
	cmd.AddCommand(a.conflictsShow(), a.conflictsAck(), a.conflictsReopen(), a.conflictsRestore())
	return cmd
}

func (a *app) printConflicts(page v1.Page[v1.Conflict], f v1.ConflictFilter) {
	if len(page.Items) == 0 {
		if f.State == v1.ConflictOpen {
			a.printf("No open conflicts. Those that were dealt with: holdfastctl conflicts --state all\n")
		} else {
			a.printf("No conflicts match.\n")
		}
		return
	}
	a.table(a.out, conflictHeader, a.conflictRows(page.Items))
	if page.Next != "" {
		a.printf("\nThere are more: narrow the list (--facility, --table, --since), or --limit 500.\n")
	}
	a.printf("\nLook at one: holdfastctl conflicts show %s\n", page.Items[0].ID)
}

var conflictHeader = []string{"DECIDED", "FACILITY", "TABLE", "ROW", "WHAT", "STANDS", "STATE", "ID"}

func (a *app) conflictRows(list []v1.Conflict) [][]cell {
	rows := make([][]cell, 0, len(list))
	for _, x := range list {
		rows = append(rows, []cell{
			c(a.clockTime(&x.At)), c(x.Facility), c(tableName(x.Schema, x.Table)), c(oneLine(x.Label)), c(conflictWhat(x)),
			c(standsWord(x.Decision)), conflictState(x.State), c(x.ID),
		})
	}
	return rows
}

func conflictWhat(x v1.Conflict) string {
	if x.Policy == "corrected" {
		return "corrected while it was parked"
	}
	switch x.Kind {
	case "insert_exists":
		return "both added it"
	case "update_origin_differs":
		return "both changed it"
	case "update_deleted":
		return "facility deleted, region changed"
	case "delete_origin_differs":
		return "region deleted, facility changed"
	}
	return x.Kind
}

func standsWord(decision string) string {
	switch decision {
	case "edge":
		return "facility's"
	case "cloud":
		return "region's"
	}
	return decision
}

func conflictState(state string) cell {
	switch state {
	case v1.ConflictOpen:
		return cell{"▲ open", yellow}
	case v1.ConflictAcknowledged:
		return cell{"● acknowledged", green}
	case v1.ConflictRestored:
		return cell{"● other version written", green}
	}
	return cell{state, grey}
}

// watchConflicts prints what is there, then what comes, until interrupted.
// With --json each is one line.
func (a *app) watchConflicts(ctx context.Context, cl *v1.Client, f v1.ConflictFilter) error {
	tick := time.NewTicker(conflictsWatchEvery)
	defer tick.Stop()
	var seen []string
	first, silent := true, false
	for {
		page, err := cl.Conflicts(ctx, f, 500, "")
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: that is how watching ends
		case err != nil && first:
			return err
		case err != nil:
			if !silent {
				fmt.Fprintf(a.err, "%s\n", a.paint(a.err)(yellow, "no news since "+a.when(a.clock())+": "+err.Error()))
			}
			silent = true
		default:
			var fresh []v1.Conflict
			var ids []string
			for _, x := range slices.Backward(page.Items) { // the newest last, as they come
				ids = append(ids, x.ID)
				if !slices.Contains(seen, x.ID) {
					fresh = append(fresh, x)
				}
			}
			if err := a.printFresh(fresh, first); err != nil {
				return err
			}
			seen, first, silent = ids, false, false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) printFresh(list []v1.Conflict, first bool) error {
	if a.asJSON {
		enc := json.NewEncoder(a.out)
		for _, x := range list {
			if err := enc.Encode(x); err != nil {
				return err
			}
		}
		return nil
	}
	if first {
		a.printf("%s. Waiting for more; Ctrl-C ends.\n", plural(len(list), "conflict", "conflicts"))
	}
	if len(list) > 0 {
		a.table(a.out, conflictHeader, a.conflictRows(list))
	}
	return nil
}
