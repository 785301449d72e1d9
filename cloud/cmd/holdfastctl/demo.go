package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/internal/hint"
)

// demoStatus is what the demo's supervisor answers; test/demo serves it.
type demoStatus struct {
	Facilities []demoFacility `json:"facilities"`
}

type demoFacility struct {
	ID      string     `json:"id"`
	Cut     bool       `json:"cut"`
	CutAt   *time.Time `json:"cut_at,omitempty"`
	Address string     `json:"address"`
	// Actions is what the made-up shift has done; Failed what it was refused.
	Actions int64 `json:"actions"`
	Failed  int64 `json:"failed"`
	// Dropped is how many packets the cut has swallowed.
	Dropped int64 `json:"dropped"`
}

func (a *app) demoCmd() *cobra.Command {
	cmd := group("demo", "Cut and restore the demo's links",
		a.demoDo("cut", "Drop every packet between a facility and its region, on both paths"),
		a.demoDo("restore", "Let the packets through again"),
		a.demoConflict(), a.demoStatus())
	cmd.Long = "Commands for the demo that make demo or make demo-up started in this checkout."
	return cmd
}

func (a *app) demoDo(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " FACILITY", Short: short, Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Example:           "  holdfastctl demo " + verb + " la",
		RunE: func(cmd *cobra.Command, args []string) error {
			var f demoFacility
			if err := a.demoCall(cmd.Context(), http.MethodPost, "/"+verb+"/"+url.PathEscape(args[0]), &f); err != nil {
				return err
			}
			return a.show(f, func() error {
				if f.Cut {
					a.printf("%s is cut off since %s. Its people work on at %s\nBring it back with: holdfastctl demo restore %s\n", f.ID, a.whenPtr(f.CutAt), f.Address, f.ID)
					return nil
				}
				a.printf("%s is connected again. Watch it catch up with: holdfastctl fleet --watch\n", f.ID)
				return nil
			})
		},
	}
}

// demoConflict is what came of a conflict that was made on cue.
type demoConflict struct {
	ID       string    `json:"id"`
	Facility string    `json:"facility"`
	Order    string    `json:"order"`
	OrderID  string    `json:"order_id"`
	Kind     string    `json:"kind"`
	Decision string    `json:"decision"`
	Fields   []string  `json:"fields"`
	EdgeRow  demoRow   `json:"edge_row"`
	CloudRow demoRow   `json:"cloud_row"`
	EdgeBy   string    `json:"edge_by"`
	CloudBy  string    `json:"cloud_by"`
	At       time.Time `json:"at"`
	Stands   string    `json:"stands"`
}

type demoRow map[string]*string

func (r demoRow) notes() string {
	if v := r["notes"]; v != nil {
		return *v
	}
	return "–"
}

func (a *app) demoConflict() *cobra.Command {
	return &cobra.Command{
		Use: "conflict FACILITY", Short: "Have both sides change the same order without knowing of each other", Args: takes(1),
		Long:              "Cut a facility's link, change the same order there and in the region, bring the link back, and wait until both sides agree.",
		ValidArgsFunction: a.facilityArg,
		Example:           "  holdfastctl demo conflict la",
		RunE: func(cmd *cobra.Command, args []string) error {
			var k demoConflict
			if err := a.demoCall(cmd.Context(), http.MethodPost, "/conflict/"+url.PathEscape(args[0]), &k); err != nil {
				return err
			}
			return a.show(k, func() error {
				a.printf("While %s was cut off, both sides changed order %s:\n", k.Facility, k.Order)
				a.table(a.out, []string{"SIDE", "BY", "NOTES"}, [][]cell{
					{c(k.Facility), c(k.EdgeBy), c(k.EdgeRow.notes())}, {c("region"), c(k.CloudBy), c(k.CloudRow.notes())},
				})
				stands := map[string]string{"edge": k.Facility + "'s version stands", "cloud": "the region's version stands", "merged": "each side's own columns stand"}
				a.printf("Decided: %s, %s. The order's notes are now: %s\n", k.Kind, stands[k.Decision], k.Stands)
				return nil
			})
		},
	}
}

func (a *app) demoStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "What runs in the demo, and which links are cut", Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s demoStatus
			if err := a.demoCall(cmd.Context(), http.MethodGet, "/status", &s); err != nil {
				return err
			}
			return a.show(s, func() error {
				rows := make([][]cell, 0, len(s.Facilities))
				for _, f := range s.Facilities {
					link := cell{"● connected", green}
					if f.Cut {
						link = cell{"✖ cut " + a.clockTime(f.CutAt), red}
					}
					rows = append(rows, []cell{c(f.ID), c(f.Address), link, c(count(f.Actions)), c(count(f.Failed)), c(count(f.Dropped))})
				}
				a.table(a.out, []string{"FACILITY", "ADDRESS", "LINK", "ACTIONS", "REFUSED", "DROPPED"}, rows)
				return nil
			})
		},
	}
}

// demoCall asks the supervisor over its socket in the .demo folder.
func (a *app) demoCall(ctx context.Context, method, path string, out any) error {
	dir, err := a.demoDir()
	if err != nil {
		return err
	}
	const advice = "Start it with make demo or make demo-up, and run this in the same checkout."
	if dir == "" {
		return notFoundError{hint.Wrap(errors.New("there is no demo here"), advice)}
	}
	socket := filepath.Join(dir, "control.sock")
	hc := &http.Client{Timeout: 90 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	defer hc.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://demo"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the demo: %w", err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return notFoundError{hint.Wrap(errors.New("the demo does not run"), advice)}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the demo's answer: %w", err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return notFoundError{hint.Wrap(errors.New(string(raw)), "holdfastctl demo status shows the demo's facilities.")}
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the demo answered %s: %s", resp.Status, raw)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the demo's answer: %w", err)
	}
	return nil
}
