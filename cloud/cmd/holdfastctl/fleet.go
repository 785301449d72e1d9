package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

const watchEvery = time.Second

func (a *app) fleetCmd() *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use: "fleet", Short: "Every facility as it is now", Args: takes(0),
		Example: "  holdfastctl fleet\n  holdfastctl fleet --watch\n  holdfastctl fleet --json | jq '.facilities[] | select(.state != \"online\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchFleet(cmd.Context(), cl)
			}
			f, err := cl.Fleet(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(f, func() error { a.printFleet(f); return nil })
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted, once a second")
	return cmd
}

// watchFleet shows the fleet until it is interrupted. While the region does
// not answer it says since when the picture is old, and goes on asking. With
// --json each picture is one line.
func (a *app) watchFleet(ctx context.Context, cl *v1.Client) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last v1.Fleet
	screen := isTerminal(a.out) && !a.asJSON
	for {
		f, err := cl.Fleet(ctx)
		if ctx.Err() != nil {
			return nil // interrupted: that is how watching ends
		}
		if err != nil && last.At.IsZero() {
			return err
		}
		if err == nil {
			last = f
		}
		if screen {
			a.printf("\x1b[H\x1b[2J")
		}
		switch {
		case a.asJSON && err == nil:
			if err := json.NewEncoder(a.out).Encode(f); err != nil {
				return err
			}
		case a.asJSON:
		default:
			a.printFleet(last)
			if err != nil {
				a.printf("%s\n", a.paint(a.out)(yellow, "stale since "+a.when(last.At)+": "+err.Error()))
			}
			if !screen {
				a.printf("\n")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) printFleet(f v1.Fleet) {
	if len(f.Facilities) == 0 {
		a.printf("No facilities yet. Add one with: holdfastctl facility add la\n")
		return
	}
	online := 0
	rows := make([][]cell, 0, len(f.Facilities))
	for _, s := range f.Facilities {
		if s.State == v1.StateOnline {
			online++
		}
		rows = append(rows, []cell{
			c(s.ID), c(s.Name), stateCell(s.State), c(links(s)), c(a.queueOf(s)), c(lagOf(s)),
			c(a.clockTime(s.LastHeardAt)), whyCell(s),
		})
	}
	a.table(a.out, []string{"FACILITY", "NAME", "STATE", "LINKS", "QUEUE", "LAG", "LAST HEARD", "WHY"}, rows)
	a.printf("\n%s of %s online in region %s at %s\n", count(online), plural(len(rows), "facility", "facilities"), f.Region,
		f.At.Local().Format("2006-01-02 15:04:05 MST"))
}

// whyCell is why a facility is not well, in a few words.
func whyCell(s v1.FacilityStatus) cell {
	switch {
	case s.Reason != "":
		return c(s.Reason)
	case len(s.Stalled) > 0:
		return cell{s.Stalled[0].Text, red}
	case s.Parked > 0:
		return cell{plural(int(s.Parked), "change is", "changes are") + " parked", yellow}
	case s.Differing > 0:
		return cell{plural(int(s.Differing), "row differs", "rows differ"), yellow}
	}
	return c("")
}

func stateCell(state string) cell {
	switch state {
	case v1.StateOnline:
		return cell{"● online", green}
	case v1.StateDegraded:
		return cell{"▲ degraded", yellow}
	case v1.StateOffline:
		return cell{"✖ offline", red}
	case v1.StateNew:
		return cell{"○ new", grey}
	}
	return cell{"? " + state, grey}
}

func links(s v1.FacilityStatus) string {
	var up []string
	for _, l := range []struct {
		on   bool
		name string
	}{{s.Heartbeat, "heartbeat"}, {s.Tunnel, "tunnel"}, {s.Stream, "stream"}} {
		if l.on {
			up = append(up, l.name)
		}
	}
	if len(up) == 3 {
		return "all"
	}
	if len(up) == 0 {
		return "none"
	}
	return strings.Join(up, ", ")
}

// queueOf is what waits at a facility. While nothing is heard of it, it is
// only what waited then; more has come since if its people work.
func (a *app) queueOf(s v1.FacilityStatus) string {
	if s.ReportedAt == nil {
		return "–"
	}
	if s.Heartbeat {
		return queueText(s.Queue)
	}
	return "not known; " + queueText(s.Queue) + " at " + a.clockTime(s.ReportedAt)
}

// lagOf is unknown while nothing can arrive: the last figure would look good
// just when it is not.
func lagOf(s v1.FacilityStatus) string {
	if !s.Stream {
		return "–"
	}
	return lagText(s.Lag)
}

func queueText(q v1.Queue) string {
	if q.Transactions == 0 {
		return "empty"
	}
	return fmt.Sprintf("%s tx, %s", count(q.Transactions), size(q.Bytes))
}

func lagText(ms *int64) string {
	if ms == nil {
		return "–"
	}
	return span(time.Duration(*ms) * time.Millisecond)
}
