// Command holdfast-demo runs a region and two facilities on this machine: the
// real programs, each with its own PostgreSQL, a real broker and a real
// tunnel, with relays in between that can drop every packet, and a made-up
// shift of workers at each facility.
//
// In:  make demo, make demo-up, make demo-down.
// Out: bin/holdfast-cloud and bin/holdfast-edge, which it starts; .demo/, where
// all of it lives; the facilities' workspace API.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
)

func main() {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	// A terminal that is closed means the same as Ctrl-C in it.
	ctx, hangup := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer hangup()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "holdfast-demo:", err)
		if advice := hint.Of(err); advice != "" {
			fmt.Fprintln(os.Stderr, advice)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	opt := options{}
	foreground := func(cmd *cobra.Command, _ []string) error {
		return withPlace(opt, func(p place) error { return runDemo(cmd.Context(), p, opt, cmd.OutOrStdout()) })
	}
	root := &cobra.Command{
		Use:           "holdfast-demo",
		Short:         "Run a region and two facilities on this machine; Ctrl-C stops them",
		Args:          cobra.NoArgs,
		RunE:          foreground,
		SilenceErrors: true, SilenceUsage: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&opt.checkout, "checkout", "", "the checkout to run in (default: the one around the working directory)")
	f.BoolVar(&opt.noShift, "no-shift", false, "let nobody work; the data stays as it is")
	f.StringVar(&opt.logLevel, "log-level", "info", "of the region and the boxes: debug, info, warn or error")
	root.AddCommand(
		&cobra.Command{Use: "run", Short: "The same as without a command", Args: cobra.NoArgs, RunE: foreground},
		&cobra.Command{
			Use: "up", Short: "Start in the background; returns when all is ready", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withPlace(opt, func(p place) error { return up(cmd.Context(), p, opt, cmd.OutOrStdout()) })
			},
		},
		&cobra.Command{
			Use: "down", Short: "Stop all of it, also what a crash left behind", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withPlace(opt, func(p place) error { return down(cmd.Context(), p, cmd.OutOrStdout()) })
			},
		},
		&cobra.Command{
			Use: "status", Short: "What runs, and where", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withPlace(opt, func(p place) error { return showStatus(cmd.Context(), p, cmd.OutOrStdout()) })
			},
		},
	)
	return root
}

type options struct {
	checkout string
	logLevel string
	noShift  bool
}

func withPlace(o options, do func(place) error) error {
	p, err := findPlace(o.checkout)
	if err != nil {
		return err
	}
	return do(p)
}
