package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) incidentsCmd() *cobra.Command {
	var f v1.IncidentFilter
	var open, all bool
	limit := 100
	cmd := &cobra.Command{
		Use: "incidents", Short: "What is wrong now, and who has it",
		Long: `What is wrong with facilities or the region now, newest first, and who has it.

With --all also what is over. holdfastctl incidents show NUMBER has all that
happened: every message, and whether it arrived.`,
		Example: "  holdfastctl incidents\n  holdfastctl incidents --all --facility la\n  holdfastctl incidents show 17\n  holdfastctl ack 17 --note 'the provider is on it'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if id, err := strconv.ParseInt(args[0], 10, 64); err == nil {
					return usageError{hint.Wrap(fmt.Errorf("there is no command %q under %s", args[0], cmd.CommandPath()), "Write it as: %s show %d", cmd.CommandPath(), id)}
				}
				return usageError{hint.Wrap(fmt.Errorf("there is no command %q under %s", args[0], cmd.CommandPath()), "See %s --help.", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if open && all {
				return usageError{hint.Wrap(errors.New("--open and --all exclude each other"), "Give one of them; --open is the default.")}
			}
			if all {
				f.State = "all"
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			page, err := cl.Incidents(cmd.Context(), f, limit, "")
			if err != nil {
				return err
			}
			return a.show(page.Items, func() error { a.printIncidents(page, all, f.Facility+f.Tenant+f.Kind != ""); return nil })
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&open, "open", false, "what is not over (default)")
	fl.BoolVar(&all, "all", false, "also what is over")
	fl.StringVar(&f.Facility, "facility", "", "of this facility only")
	fl.StringVar(&f.Tenant, "tenant", "", "of this tenant's facilities only")
	fl.StringVar(&f.Kind, "kind", "", "of this kind only, such as offline")
	limited(cmd, &limit, 499)
	cmd.AddCommand(a.incidentsShow())
	return cmd
}

func (a *app) printIncidents(page v1.Page[v1.Incident], all, narrowed bool) {
	if len(page.Items) == 0 {
		switch {
		case narrowed:
			a.printf("No incident is as you asked for. holdfastctl incidents --all shows all that there were.\n")
		case all:
			a.printf("No incidents.\n")
		default:
			a.printf("Nothing is wrong now. holdfastctl incidents --all shows what was.\n")
		}
		return
	}
	rows := make([][]cell, 0, len(page.Items))
	for _, i := range page.Items {
		since := i.Since
		rows = append(rows, []cell{
			c(fmt.Sprint(i.ID)), incidentCell(i), severityCell(i.Severity), c(placeOf(i)), c(i.Summary), c(a.clockTime(&since)), c(toldText(i)),
		})
	}
	a.table(a.out, []string{"NO", "STATE", "SEVERITY", "WHERE", "WHAT", "SINCE", "TOLD"}, rows)
	if page.Next != "" {
		a.printf("There are more; --limit shows them.\n")
	}
}

func incidentCell(i v1.Incident) cell {
	switch {
	case i.ResolvedAt != nil:
		return cell{"○ over", grey}
	case i.AckedAt != nil:
		return cell{"◆ " + i.AckedBy + " has it", yellow}
	case i.Kind == "drill":
		return cell{"○ a test", grey}
	case i.Quiet:
		return cell{"◇ announced work", grey}
	}
	return cell{"✖ nobody has it", red}
}

func severityCell(s string) cell {
	switch s {
	case "critical":
		return cell{"▲ critical", red}
	case "warning":
		return cell{"△ warning", yellow}
	}
	return c("· " + s)
}

func placeOf(i v1.Incident) string {
	switch {
	case i.Facility == "":
		return "(region)"
	case i.Name != "" && i.Name != i.Facility:
		return i.Facility + " (" + i.Name + ")"
	}
	return i.Facility
}

// toldText is what became of an incident's messages, in short.
func toldText(i v1.Incident) string {
	text := plural(i.Told, "message", "messages")
	if i.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", i.Waiting)
	}
	if i.Failed > 0 {
		text += fmt.Sprintf(", %d failed", i.Failed)
	}
	return text
}

// costText is what an incident's SMS and calls cost, as far as it is known; "" when there were none.
func costText(i v1.Incident) string {
	switch {
	case i.CostUnit == "" && i.Unpriced == 0:
		return ""
	case i.CostUnit == "":
		return "the provider has not said it (yet)"
	case i.Unpriced > 0:
		return fmt.Sprintf("%s, without %s whose price is not known (yet)", price(i.Cost, i.CostUnit), plural(i.Unpriced, "message", "messages"))
	}
	return price(i.Cost, i.CostUnit)
}

// price writes millionths of a currency.
func price(micros int64, unit string) string {
	return fmt.Sprintf("%.4f %s", float64(micros)/1e6, unit)
}

func (a *app) incidentsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NUMBER", Short: "One incident: what is known, what happened, and every message", Args: takes(1),
		Example: "  holdfastctl incidents show 17",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("an incident", args[0], "incidents --all")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			d, err := cl.Incident(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.show(d, func() error { a.printIncident(d); return nil })
		},
	}
}

func (a *app) printIncident(d v1.IncidentDetail) {
	paint := a.paint(a.out)
	state, severity := incidentCell(d.Incident), severityCell(d.Severity)
	since := a.when(d.Since)
	if d.TimeZone != "" {
		since += ", there " + localTime(d.Since, d.TimeZone)
	}
	rows := [][2]string{
		{"Incident", fmt.Sprintf("%d, %s", d.ID, d.Kind)},
		{"Where", placeOf(d.Incident)},
		{"What", d.Summary},
		{"State", paint(state.colour, state.text)},
		{"Severity", paint(severity.colour, severity.text)},
		{"Since", since},
		{"Known", a.when(d.OpenedAt)},
	}
	if d.AckedAt != nil {
		rows = append(rows, [2]string{"Acknowledged", fmt.Sprintf("by %s by %s, %s", d.AckedBy, d.AckedHow, a.when(*d.AckedAt))})
	}
	if d.ResolvedAt == nil && d.NextAt != nil {
		text := a.when(*d.NextAt)
		if d.AckedAt != nil && d.Facility != "" {
			text += ": it makes an offer, and is taken though " + d.AckedBy + " takes care"
		}
		rows = append(rows, [2]string{"Next step", text})
	}
	if d.ResolvedAt == nil && d.RemindAt != nil {
		rows = append(rows, [2]string{"Told again", a.when(*d.RemindAt)})
	}
	if d.ResolvedAt != nil {
		rows = append(rows, [2]string{"Over", a.when(*d.ResolvedAt) + " after " + span(d.ResolvedAt.Sub(d.Since))})
	}
	if text := costText(d.Incident); text != "" {
		rows = append(rows, [2]string{"Cost", text})
	}
	a.pairs(a.out, rows)
	for _, line := range d.Evidence {
		a.printf("  - %s\n", line)
	}
	if len(d.Parts) > 0 {
		var at []string
		for _, p := range d.Parts {
			at = append(at, fmt.Sprintf("%s (%d)", p.Facility, p.ID))
		}
		a.printf("Part of it: %s\n", strings.Join(at, ", "))
	}
	if len(d.Timeline) > 0 {
		a.printf("\n")
		var lines [][]cell
		for _, e := range d.Timeline {
			lines = append(lines, []cell{c(a.clockTime(&e.At)), c(e.What), c(e.Who), c(e.Detail)})
		}
		a.table(a.out, []string{"AT", "WHAT", "WHO", "DETAIL"}, lines)
	}
	if len(d.Deliveries) > 0 {
		a.printf("\n")
		a.printDeliveries(d.Deliveries)
	}
}

func (a *app) printDeliveries(list []v1.Delivery) {
	var rows [][]cell
	for _, d := range list {
		rows = append(rows, []cell{c(d.Name), c(d.Channel), c(d.Event), deliveryCell(d), c(a.clockTime(&d.CreatedAt)), c(a.deliveryNote(d))})
		for _, r := range d.Receipts {
			rows = append(rows, []cell{c(""), c(""), c(""), c("  " + r.State), c(a.clockTime(&r.At)), c(r.Detail)})
		}
	}
	a.table(a.out, []string{"TO", "BY", "WHY", "STATE", "AT", "DETAIL"}, rows)
}

func deliveryCell(d v1.Delivery) cell {
	switch d.State {
	case "reached", "delivered":
		return cell{"● " + d.State, green}
	case "failed", "expired":
		return cell{"✖ " + d.State, red}
	case "capped", "cancelled":
		return cell{"○ " + d.State, grey}
	case "accepted", "sent":
		return cell{"◐ " + d.State, ""}
	}
	return cell{"… " + d.State, yellow}
}

// deliveryNote says why a message is where it is.
func (a *app) deliveryNote(d v1.Delivery) string {
	switch {
	case d.Error != "":
		return d.Error
	case d.HeldReason != "" && d.DoneAt == nil && d.AcceptedAt == nil:
		why := d.HeldReason // it begins with the time, which is said here with how far it is
		if _, reason, ok := strings.Cut(why, ", because "); ok {
			why = reason
		}
		return "held until " + a.clockTime(&d.NotBefore) + ", because " + why
	case d.Provider != "" && d.CostUnit != "":
		return "by " + d.Provider + ", " + price(d.Cost, d.CostUnit)
	case d.Provider != "":
		return "by " + d.Provider
	}
	return ""
}

func (a *app) ackCmd() *cobra.Command {
	var in v1.IncidentAck
	cmd := &cobra.Command{
		Use: "ack NUMBER", Short: "Take an incident on: nobody else is told from then on", Args: takes(1),
		Long: `Take an incident on. Nobody else is told from then on. If it is not over after two
hours, it is told again.`,
		Example: "  holdfastctl ack 17 --note 'the provider is on it'",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("an incident", args[0], "incidents")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			i, err := cl.AcknowledgeIncident(cmd.Context(), id, in)
			if err != nil {
				return err
			}
			return a.show(i, func() error {
				a.printf("%s has incident %d: %s.\n", i.AckedBy, i.ID, strings.TrimSuffix(i.Summary, "."))
				if i.RemindAt != nil {
					a.printf("It is told again %s, unless it is over by then.\n", a.when(*i.RemindAt))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&in.Note, "note", "", "is kept in the incident's timeline")
	return cmd
}
