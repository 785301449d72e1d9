package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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
		if text := readable(v); text != "" {
			parts = append(parts, k+"="+text)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// readable is a value of JSON as people write it; "" for what is empty.
func readable(v any) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		for _, one := range v {
			parts = append(parts, readable(one))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if text := readable(v[k]); text != "" {
				parts = append(parts, k+" "+text)
			}
		}
		return "(" + strings.Join(parts, ", ") + ")"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
