package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) auditCmd() *cobra.Command {
	limit := 50
	cmd := &cobra.Command{
		Use: "audit", Short: "Who changed what in the region, newest first", Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			page, err := cl.Audit(cmd.Context(), limit, "")
			if err != nil {
				return err
			}
			return a.show(page.Items, func() error {
				rows := make([][]cell, 0, len(page.Items))
				for _, e := range page.Items {
					rows = append(rows, []cell{c(a.when(e.At)), c(e.Who), c(e.What), c(detailText(e.Detail))})
				}
				a.table(a.out, []string{"AT", "WHO", "WHAT", "DETAIL"}, rows)
				return nil
			})
		},
	}
	limited(cmd, &limit, 500)
	return cmd
}

func detailText(d map[string]any) string {
	parts := make([]string, 0, len(d))
	for k, v := range d {
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
