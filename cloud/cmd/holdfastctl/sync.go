package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func (a *app) syncCmd() *cobra.Command {
	return group("sync", "How far the facilities' streams have come", &cobra.Command{
		Use: "status FACILITY", Short: "Queue, lag, position, throughput and tables of one facility", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Example:           "  holdfastctl sync status la\n  holdfastctl sync status la --json | jq .position.seq",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.SyncStatus(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(s, func() error { a.printSync(s); return nil })
		},
	})
}

func (a *app) printSync(s v1.SyncStatus) {
	state := stateCell(s.State)
	stream := "not connected"
	if s.Connected {
		stream = "connected"
	}
	rows := [][2]string{
		{"Facility", s.Facility},
		{"State", a.paint(a.out)(state.colour, state.text)},
		{"Stream", stream},
		{"Queue", reported(s.Queue, s.ReportedAt, a.clock())},
	}
	if s.Queue.FullAt != nil {
		rows = append(rows, [2]string{"Full", fullText(s.Queue, a.clock())})
	}
	if s.Limit != nil {
		rows = append(rows, [2]string{"Limit", limitText(s.Limit)})
	}
	for _, stall := range s.Stalled {
		rows = append(rows, [2]string{"Stands still", a.paint(a.out)(red, "✖ "+stall.Text) + ", since " + a.when(stall.Since)})
	}
	if s.Connected {
		rows = append(rows, [2]string{"Lag", lagText(s.Lag)})
	}
	if s.Waits != "" {
		rows = append(rows, [2]string{"Waits", a.paint(a.out)(red, "✖ "+s.Waits)})
		if s.Remedy != "" {
			rows = append(rows, [2]string{"Remedy", s.Remedy})
		}
	}
	if s.AtBox > 0 {
		rows = append(rows, [2]string{"Parked there", a.paint(a.out)(yellow, fmt.Sprintf("▲ %s from the region; see: holdfastctl parked --facility %s", plural(int(s.AtBox), "change", "changes"), s.Facility))})
	}
	if s.Parked > 0 {
		rows = append(rows, [2]string{"Parked", a.paint(a.out)(yellow, fmt.Sprintf("▲ %s; see: holdfastctl parked --facility %s", plural(int(s.Parked), "row parked", "rows parked"), s.Facility))})
	}
	for _, t := range s.PassedOver {
		text := fmt.Sprintf("✖ %s: %s changes (%s)", tableName(t.Schema, t.Table), count(t.Changes), t.Message)
		label := "Passed over"
		if t.Direction == "down" {
			label += " there"
		}
		rows = append(rows, [2]string{label, a.paint(a.out)(red, text)}, [2]string{"Remedy", t.Remedy})
	}
	if s.Queue.OldestUnsentAt != nil {
		rows = append(rows, [2]string{"Oldest unsent", a.when(*s.Queue.OldestUnsentAt)})
	}
	if p := s.Position; p == nil {
		rows = append(rows, [2]string{"Position", "nothing has arrived yet"})
	} else {
		rows = append(rows,
			[2]string{"Position", fmt.Sprintf("%d:%d (epoch:seq), source LSN %s", p.Epoch, p.Seq, p.SourceLSN)},
			[2]string{"Committed there", a.whenPtr(p.SourceCommitAt)}, [2]string{"Applied here", a.when(p.AppliedAt)})
	}
	if s.Down != nil {
		rows = append(rows, [2]string{"Way down", downText(s.Down, func() string { return a.when(s.Down.At) })})
	}
	t := s.Throughput
	rows = append(rows, [2]string{"Throughput", fmt.Sprintf("%.1f tx/s, %.1f changes/s; %s changes in %s transactions since the region started",
		t.TransactionRate, t.ChangeRate, count(t.Changes), count(t.Transactions))})
	a.pairs(a.out, rows)
	a.printf("\n")
	if len(s.Tables) == 0 {
		a.printf("No tables are synced. Add one with: holdfastctl tables add public.orders --class fact\n")
		return
	}
	a.printTablesAt(s)
	a.printDown(s.Down)
}

// reported is the queue as the facility last told it, and when that was.
func reported(q v1.Queue, at *time.Time, now time.Time) string {
	if at == nil {
		return "not known: the facility has not been heard yet"
	}
	return queueText(q) + " (as it said " + relative(*at, now) + ")"
}

// fullText is when a queue will be full, in words.
func fullText(q v1.Queue, now time.Time) string {
	left := q.FullAt.Sub(now)
	if left <= 0 {
		return "about now"
	}
	return fmt.Sprintf("in about %s at this rate (%s/h of %s)", span(left), size(q.FillRate*3600), size(q.LimitBytes))
}

func (a *app) printTablesAt(s v1.SyncStatus) {
	rows := make([][]cell, 0, len(s.Tables))
	for _, t := range s.Tables {
		state := tableStateCell(t.State)
		if t.State == "streaming" && !s.Connected {
			state = cell{"○ waits for the stream", grey}
		}
		rows = append(rows, []cell{c(tableName(t.Schema, t.Table)), state, c(count(t.RowsLoaded)), c(count(t.Changes)), c(strconv.FormatInt(t.LastSeq, 10)), a.verifiedCell(t), problemCell(t)})
	}
	a.table(a.out, []string{"TABLE", "STATE", "LOADED", "CHANGES", "LAST SEQ", "VERIFIED", "PROBLEM"}, rows)
	a.printDifferences(s.Tables)
}

// problemCell says in a table what is wrong; how columns differ follows below it.
func problemCell(t v1.TableAt) cell {
	problem := t.Problem
	if t.Remedy != "" {
		problem += " – " + t.Remedy
	}
	for _, d := range t.Differs {
		if problem == "" && d.Warning {
			return cell{"▲ its columns do not fit; see below", yellow}
		}
	}
	return c(problem)
}

// printDifferences says how columns differ, and what to do where rows would stop.
func (a *app) printDifferences(list []v1.TableAt) {
	paint := a.paint(a.out)
	for _, t := range list {
		if len(t.Differs) > 0 {
			a.printf("\n%s at %s differs from the region's:\n", tableName(t.Schema, t.Table), t.Facility)
		}
		for _, d := range t.Differs {
			if !d.Warning {
				a.printf("  %s\n", d.Text)
				continue
			}
			a.printf("  %s %s\n", paint(yellow, "▲"), d.Text)
			if d.Remedy != "" {
				a.printf("    %s %s\n", paint(bold, "to do:"), d.Remedy)
			}
		}
	}
}

func tableStateCell(state string) cell {
	switch state {
	case "streaming":
		return cell{"● streaming", green}
	case "loading":
		return cell{"▲ loading", yellow}
	case "refused":
		return cell{"✖ refused", red}
	}
	return cell{"○ " + state, grey}
}

func (a *app) eventsCmd() *cobra.Command {
	limit := 50
	cmd := &cobra.Command{
		Use: "events FACILITY", Short: "What happened to a facility's stream, newest first", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Example:           "  holdfastctl events la --limit 10",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			page, err := cl.Events(cmd.Context(), args[0], limit, "")
			if err != nil {
				return err
			}
			return a.show(page.Items, func() error {
				if len(page.Items) == 0 {
					a.printf("Nothing has happened to the stream of %s that is worth telling.\n", args[0])
					return nil
				}
				rows := make([][]cell, 0, len(page.Items))
				for _, e := range page.Items {
					rows = append(rows, []cell{c(a.when(e.At)), c(e.Kind), c(fmt.Sprintf("%d:%d", e.Epoch, e.Seq)), c(e.Detail)})
				}
				a.table(a.out, []string{"AT", "KIND", "POSITION", "WHAT"}, rows)
				return nil
			})
		},
	}
	limited(cmd, &limit, 500)
	return cmd
}
