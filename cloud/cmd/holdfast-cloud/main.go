// Command holdfast-cloud is a region's control plane.
//
// In:  systemd, or whoever starts it, with one configuration file.
// Out: cloud, which it only builds and runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/cloud"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/version"
)

func main() {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "holdfast-cloud:", err)
		if advice := hint.Of(err); advice != "" {
			fmt.Fprintln(os.Stderr, advice)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var file string
	root := &cobra.Command{
		Use:           "holdfast-cloud",
		Short:         "A Holdfast region's control plane",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVarP(&file, "config", "c", "/etc/holdfast/cloud.yaml", "configuration file")
	root.AddCommand(
		&cobra.Command{
			Use: "run", Short: "Run the region until it is told to stop", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := cloud.LoadConfig(file)
				if err != nil {
					return err
				}
				r, err := cloud.New(c, cloud.Deps{Version: version.String()})
				if err != nil {
					return err
				}
				return r.Run(cmd.Context())
			},
		},
		&cobra.Command{
			Use: "config", Short: "Print the configuration file with its defaults and what each setting means", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c := cloud.DefaultConfig()
				return config.Print(cmd.OutOrStdout(), &c)
			},
		},
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
		},
	)
	return root
}
