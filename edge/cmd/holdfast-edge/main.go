// Command holdfast-edge is the agent on a facility's box.
//
// In:  systemd, or whoever starts it, with one configuration file.
// Out: edge, which it only builds and runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/edge"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/version"
)

func main() {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "holdfast-edge:", err)
		if advice := hint.Of(err); advice != "" {
			fmt.Fprintln(os.Stderr, advice)
		}
		os.Exit(exitCode(err))
	}
}

func command() *cobra.Command {
	var file string
	root := &cobra.Command{
		Use:           "holdfast-edge",
		Short:         "The Holdfast agent on a facility's box",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit(exitUsage, hint.Wrap(err, "See %s --help.", cmd.CommandPath()))
	})
	root.PersistentFlags().StringVarP(&file, "config", "c", "/etc/holdfast/edge.yaml", "configuration file")
	root.AddCommand(
		&cobra.Command{
			Use: "run", Short: "Run the agent until it is told to stop", Args: takes(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := load(file)
				if err != nil {
					return err
				}
				e, err := edge.New(c, edge.Deps{Version: version.String()})
				if err != nil {
					return err
				}
				return e.Run(cmd.Context())
			},
		},
		enrolCommand(&file),
		tokenCommand(&file),
		&cobra.Command{
			Use: "config", Short: "Print the configuration file with its defaults and what each setting means", Args: takes(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				c := edge.DefaultConfig()
				return config.Print(cmd.OutOrStdout(), &c)
			},
		},
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: takes(0),
			Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
		},
	)
	return root
}

func enrolCommand(file *string) *cobra.Command {
	var tokenFile string
	c := &cobra.Command{
		Use:   "enrol",
		Short: "Make this box a facility's, with the one-time token of `holdfastctl facility add`",
		Long: "Make this box a facility's. The keys are made here and never leave the box.\n" +
			"The token is read from --token-file, or from standard input, so that it does not show in a process list.",
		Example: "  echo hf1_… | holdfast-edge enrol -c /etc/holdfast/edge.yaml",
		Args:    takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := load(*file)
			if err != nil {
				return err
			}
			token, err := readToken(cmd.InOrStdin(), tokenFile)
			if err != nil {
				return err
			}
			id, err := edge.Enrol(cmd.Context(), conf, token, version.String())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "This box is now %s of %s in region %s.\n", id.Facility, id.Tenant, id.Region)
			if id.Enrolment > 1 {
				fmt.Fprintf(cmd.OutOrStdout(), "It replaces box %d. The region sends it the facility's rows once the agent runs.\n", id.Enrolment-1)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Start the agent: holdfast-edge run -c %s\n", *file)
			return nil
		},
	}
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the token (default: standard input)")
	return c
}

// readToken reads one line of at most 4 KiB.
func readToken(in io.Reader, file string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", hint.Wrap(errors.New("no token given"), "Get one with `holdfastctl facility add NAME` and pipe it in, or use --token-file.")
	}
	return token, nil
}
