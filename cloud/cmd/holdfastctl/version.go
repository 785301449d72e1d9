package main

import (
	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	buildinfo "github.com/agogsaas/holdfast/internal/version"
)

func (a *app) versionCmd() *cobra.Command {
	client := false
	cmd := &cobra.Command{
		Use: "version", Short: "Versions of this program and of the region", Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := struct {
				Client string      `json:"client"`
				URL    string      `json:"url,omitempty"`
				Source string      `json:"source,omitempty"`
				Region *v1.Version `json:"region,omitempty"`
			}{Client: buildinfo.String()}
			if !client {
				r, err := a.findRegion()
				if err != nil {
					return err
				}
				cl, err := a.client()
				if err != nil {
					return err
				}
				v, err := cl.Version(cmd.Context())
				if err != nil {
					return err
				}
				out.URL, out.Source, out.Region = r.URL, r.Source, &v
			}
			return a.show(out, func() error {
				rows := [][2]string{{"holdfastctl", buildinfo.String()}}
				if out.Region != nil {
					rows = append(rows, [2]string{"Region", out.Region.Region + " " + out.Region.Version},
						[2]string{"Address", out.URL + " (from " + out.Source + ")"})
				}
				a.pairs(a.out, rows)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&client, "client", false, "only this program's, without asking the region")
	return cmd
}
