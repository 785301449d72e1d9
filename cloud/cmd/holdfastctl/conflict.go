package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// valueMaxRunes is how much of a value the side-by-side view shows.
const valueMaxRunes = 44

func (a *app) conflictsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Both versions of one row side by side, and the row as it is now", Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := conflictID(args[0]); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			d, err := cl.Conflict(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(d, func() error {
				var zone *time.Location
				if f, err := cl.Facility(cmd.Context(), d.Facility); err == nil { // else its zone is not shown
					zone, _ = time.LoadLocation(f.TimeZone)
				}
				a.printConflict(d, zone)
				return nil
			})
		},
	}
}

func (a *app) printConflict(d v1.ConflictDetail, zone *time.Location) {
	state := conflictState(d.State)
	stateText := a.paint(a.out)(state.colour, state.text)
	if r := d.Review; r != nil {
		stateText += " by " + r.By + ", " + a.when(r.At)
		if r.Note != "" {
			stateText += ": " + oneLine(r.Note)
		}
	}
	atEdge := a.whoWhen(d.EdgeBy, d.EdgeAt, zone) + ", transaction " + d.EdgeSeq
	inCloud := [2]string{"Region changed it", a.whoWhen(d.CloudBy, d.CloudAt, zone) + ", transaction " + d.CloudSeq}
	if d.Policy == "corrected" {
		atEdge, inCloud[0] = "what had been parked in the region, and refused there", "Region corrected it"
	}
	a.pairs(a.out, [][2]string{
		{"Conflict", d.ID},
		{"Row", tableName(d.Schema, d.Table) + " " + oneLine(d.Label) + " of " + d.Facility},
		{"What", d.Summary},
		{"Facility changed it", atEdge},
		inCloud,
		{"Decided", a.whoWhen("", &d.At, zone)},
		{"State", stateText},
	})
	a.printf("\n")
	header := []string{"", "COLUMN", "FACILITY", "REGION", "NOW"}
	if d.Decision == "edge" {
		header[2] += " (stood)"
	}
	if d.Decision == "cloud" {
		header[3] += " (stood)"
	}
	var rows [][]cell
	for _, col := range d.Columns {
		mark, colour := "", ""
		if col.Differs {
			mark, colour = "≠", yellow
		}
		now := cell{valueText(col.Now, d.Now.Exists), ""}
		if col.Changed {
			now = cell{now.text + " (changed since)", yellow}
		}
		edge, cloud := sideText(col.Edge, col.EdgeSent, d.HasEdge), sideText(col.Cloud, col.CloudSent, d.HasCloud)
		if d.Decision == "merged" && col.Stood == "edge" {
			edge += " (stood)"
		}
		if d.Decision == "merged" && col.Stood == "cloud" {
			cloud += " (stood)"
		}
		rows = append(rows, []cell{
			{mark, colour},
			{col.Name, colour},
			{edge, colour},
			{cloud, colour},
			now,
		})
	}
	a.table(a.out, header, rows)
	a.printLongValues(d)
	a.printf("\n")
	switch {
	case d.Now.Problem != "":
		a.printf("%s %s\n", a.paint(a.out)(yellow, "note: the row as it is now could not be read:"), d.Now.Problem)
	case !d.Now.Exists && d.Now.Changed:
		a.printf("%s\n", a.paint(a.out)(yellow, "note: the row has been deleted since the decision."))
	case d.Now.Changed:
		a.printf("%s\n", a.paint(a.out)(yellow, "note: the row has changed since the decision."))
	}
	switch d.State {
	case v1.ConflictOpen:
		a.printf("Leave it as it is:        holdfastctl conflicts ack %s --note '…'\n", d.ID)
		a.printf("Write the other version:  holdfastctl conflicts restore %s --dry-run\n", d.ID)
	case v1.ConflictRestored:
		stands := "region"
		if d.Stands == "edge" {
			stands = "facility"
		}
		a.printf("The %s's version was written last. Write the other one again: holdfastctl conflicts restore %s --dry-run\n", stands, d.ID)
	case v1.ConflictAcknowledged:
		a.printf("Take that back:           holdfastctl conflicts reopen %s\n", d.ID)
	}
}

// printLongValues prints whole what the view side by side has cut short and
// who decides must read: the two versions where they differ.
func (a *app) printLongValues(d v1.ConflictDetail) {
	for _, col := range d.Columns {
		if !col.Differs || !isLong(col.Edge) && !isLong(col.Cloud) {
			continue
		}
		a.printf("\n%s in full\n", col.Name)
		for _, side := range []struct {
			name  string
			value *string
		}{{"facility", col.Edge}, {"region", col.Cloud}} {
			if isLong(side.value) {
				a.printf("  %-9s %s\n", side.name+":", oneLine(*side.value))
			}
		}
	}
}

func isLong(v *string) bool { return v != nil && utf8.RuneCountInString(*v) > valueMaxRunes }

// whoWhen names a person and a time in this computer's zone and the
// facility's own.
func (a *app) whoWhen(who string, at *time.Time, zone *time.Location) string {
	if at == nil {
		return strings.TrimPrefix(who+", time not known", ", ")
	}
	text := a.when(*at)
	if zone != nil && at.In(zone).Format("15:04 MST") != at.Local().Format("15:04 MST") {
		text += "; " + at.In(zone).Format("Mon 15:04:05 MST") + " there"
	}
	if who != "" {
		return who + ", " + text
	}
	return text
}

func sideText(v *string, sent, row bool) string {
	if row && !sent {
		return "(not touched)"
	}
	return valueText(v, row)
}

func valueText(v *string, row bool) string {
	switch {
	case !row:
		return "(no row)"
	case v == nil:
		return "NULL"
	case *v == "":
		return `""`
	}
	s := []rune(oneLine(*v))
	if len(s) > valueMaxRunes {
		return string(s[:valueMaxRunes-1]) + "…"
	}
	return string(s)
}

// oneLine keeps text of others from moving the cursor or colouring the screen.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func (a *app) conflictsAck() *cobra.Command {
	var f conflictFlags
	note, all, yes := "", false, false
	cmd := &cobra.Command{
		Use: "ack ID… | --all-matching", Short: "Leave conflicts as they were decided", Aliases: []string{"acknowledge"},
		Long: `Leave conflicts as they were decided. Nothing is changed but the list: both
versions stay on record. "reopen" takes it back.

With --all-matching, all open conflicts that the filters pick are acknowledged
at once; how many they are is shown first, and asked for.`,
		Example: `  holdfastctl conflicts ack 0d4b6f5e-0000-4000-8000-000000000001 --note 'asked Maria: 2500 is right'
  holdfastctl conflicts ack --all-matching --facility la --table public.inventory_items`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{hint.Wrap(errors.New("name the conflicts, or say --all-matching"), "Write it as: %s", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args { // all of them, before the first is changed
				if err := conflictID(id); err != nil {
					return err
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			if all {
				return a.ackAll(cmd, cl, &f, note, yes)
			}
			done := make([]v1.Conflict, 0, len(args))
			for _, id := range args {
				x, err := cl.AcknowledgeConflict(cmd.Context(), id, v1.ConflictAcknowledge{Note: note})
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				done = append(done, x)
			}
			return a.show(done, func() error {
				for _, x := range done {
					a.printf("Acknowledged: %s %s of %s stays as it is.\n", tableName(x.Schema, x.Table), oneLine(x.Label), x.Facility)
				}
				return nil
			})
		},
	}
	f.register(cmd, false)
	cmd.Flags().StringVar(&note, "note", "", "what you found out, for those who look later")
	cmd.Flags().BoolVar(&all, "all-matching", false, "all open conflicts that the filters pick")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) ackAll(cmd *cobra.Command, cl *v1.Client, f *conflictFlags, note string, yes bool) error {
	filter, err := f.filter(a.clock())
	if err != nil {
		return err
	}
	n, err := cl.CountConflicts(cmd.Context(), filter)
	if err != nil {
		return err
	}
	if n.Open == 0 && filter.Table != "" {
		if err := checkTable(cmd.Context(), cl, filter.Table); err != nil {
			return err
		}
	}
	if n.Open == 0 {
		return a.show(v1.ConflictsAcknowledged{}, func() error { a.printf("No open conflicts match.\n"); return nil })
	}
	if err := a.confirm(yes, fmt.Sprintf("%s will be acknowledged and leave the list.", plural(int(n.Open), "open conflict", "open conflicts")), strconv.FormatInt(n.Open, 10)); err != nil {
		return err
	}
	done, err := cl.AcknowledgeConflicts(cmd.Context(), v1.ConflictAcknowledgeMany{Filter: filter, Count: n.Open, Note: note})
	if err != nil {
		return err
	}
	return a.show(done, func() error {
		a.printf("Acknowledged %s.\n", plural(int(done.Acknowledged), "conflict", "conflicts"))
		return nil
	})
}

func (a *app) conflictsReopen() *cobra.Command {
	return &cobra.Command{
		Use: "reopen ID", Short: "Take an acknowledgement back", Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := conflictID(args[0]); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			x, err := cl.ReopenConflict(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(x, func() error { a.printf("%s is open again.\n", x.ID); return nil })
		},
	}
}

func (a *app) conflictsRestore() *cobra.Command {
	var in v1.ConflictRestore
	version, yes := "", false
	cmd := &cobra.Command{
		Use: "restore ID", Short: "Write the version of a row that did not stand", Args: takes(1),
		Long: `Write the version of a row that did not stand. It is an ordinary change in the
region, which flows down to the facility. A row that had been deleted is added
again; where the other version was a delete, the row is deleted.

What will be written is shown first, and asked for. If the row has changed since
the decision it is refused, and --force is needed.`,
		Example: `  holdfastctl conflicts restore 0d4b6f5e-0000-4000-8000-000000000001 --dry-run
  holdfastctl conflicts restore 0d4b6f5e-0000-4000-8000-000000000001 --note 'customer wants 3000'
  holdfastctl conflicts restore 0d4b6f5e-0000-4000-8000-000000000004 --version region --force --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch version {
			case "", "edge", "cloud":
				in.Version = version
			case "facility":
				in.Version = "edge"
			case "region":
				in.Version = "cloud"
			default:
				return usageError{hint.Wrap(fmt.Errorf("--version %q is neither side", version), "Say --version facility or --version region.")}
			}
			if err := conflictID(args[0]); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			look := in
			look.DryRun = true
			plan, err := cl.RestoreConflict(cmd.Context(), args[0], look)
			if err != nil {
				return err
			}
			if in.DryRun {
				return a.show(plan, func() error { a.printPlan(plan); return nil })
			}
			if !a.asJSON {
				a.printPlan(plan)
			}
			if !yes {
				if err := a.confirm(false, "", "yes"); err != nil {
					return err
				}
			}
			in.Seen = plan.Seen
			done, err := cl.RestoreConflict(cmd.Context(), args[0], in)
			if err != nil {
				if p, ok := errors.AsType[*v1.Problem](err); ok && strings.Contains(p.Remedy, "force it") {
					return hint.Wrap(err, "Look at the row first; to write the version all the same, add --force.")
				}
				return err
			}
			return a.show(done, func() error {
				a.printf("Done. It flows to the facility as any change in the region does.\n")
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&in.DryRun, "dry-run", false, "only show what would be written, and whether the database would take it")
	fl.BoolVar(&in.Force, "force", false, "also when the row has changed since the decision")
	fl.StringVar(&version, "version", "", "facility or region: whose version to write (default: the one that did not stand)")
	fl.StringVar(&in.Note, "note", "", "why, for those who look later")
	fl.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) printPlan(p v1.ConflictRestoration) {
	whose := map[string]string{"edge": "facility's", "cloud": "region's"}[p.Version]
	table := tableName(p.Schema, p.Table)
	switch p.Write {
	case "none":
		a.printf("The row in %s is already as the %s version says: nothing needs to be written.\n", table, whose)
	case "insert":
		a.printf("The %s version will be added to %s:\n", whose, table)
	case "delete":
		a.printf("The %s version is that the row is deleted. This row of %s will go:\n", whose, table)
	default:
		a.printf("The %s version will be written to %s:\n", whose, table)
	}
	if len(p.Changes) > 0 {
		rows := make([][]cell, 0, len(p.Changes))
		for _, w := range p.Changes {
			rows = append(rows, []cell{c(w.Column), c(valueText(w.From, p.Write != "insert")), c("→"), c(valueText(w.To, p.Write != "delete"))})
		}
		a.table(a.out, []string{"COLUMN", "NOW", "", "WILL BE"}, rows)
	}
	for _, s := range p.Skipped {
		a.printf("%s column %s is not in the region's table and is left out\n", a.paint(a.out)(yellow, "note:"), s)
	}
	for _, w := range p.Warnings {
		a.printf("%s %s\n", a.paint(a.out)(yellow, "note:"), w)
	}
}
