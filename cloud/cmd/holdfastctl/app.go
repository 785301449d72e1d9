package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// app is one run of the command line. Tests give it their own ends.
type app struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	env func(string) string
	now func() time.Time // nil means time.Now
	dir string           // where to look for a demo; "" means the working directory

	asJSON    bool
	url       string
	tokenFile string

	// began is set once the arguments have been understood: an error before
	// that is a mistake in the command line.
	began bool
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, a *app, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !a.began && exitCode(err) == exitFailed {
		err = usageError{hint.Wrap(err, "See %s --help.", cmd.CommandPath())}
	}
	if !a.began {
		a.asJSON = a.asJSON || slices.Contains(args, "--json") // the flags may not have been read
	}
	a.complain(err)
	return exitCode(err)
}

// complain says on one line what happened and on one what to do.
func (a *app) complain(err error) {
	what, remedy := explain(err)
	if a.asJSON {
		doc := map[string]any{"error": what, "remedy": remedy, "exit": exitCode(err)}
		if p, ok := errors.AsType[*v1.Problem](err); ok {
			doc["error"], doc["problem"] = p.Detail, p
		}
		_ = json.NewEncoder(a.err).Encode(doc)
		return
	}
	paint := a.paint(a.err)
	fmt.Fprintf(a.err, "%s %s\n", paint(red, "error:"), what)
	if remedy != "" {
		fmt.Fprintf(a.err, "%s %s\n", paint(bold, "to do:"), remedy)
	}
}

// show prints v as JSON, or calls human.
func (a *app) show(v any, human func() error) error {
	if a.asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	return human()
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

func (a *app) clock() time.Time {
	if a.now != nil {
		return a.now()
	}
	return time.Now()
}

func (a *app) workDir() (string, error) {
	if a.dir != "" {
		return a.dir, nil
	}
	return os.Getwd()
}

var errUnconfirmed = errors.New("it was not confirmed, so nothing was done")

// confirm asks for the name of what will be thrown out. A script says --yes.
func (a *app) confirm(yes bool, warning, name string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.in) {
		return refusedError{hint.Wrap(errUnconfirmed, "Run it in a terminal to be asked, or add --yes.")}
	}
	fmt.Fprintf(a.err, "%s\nType %s to go on: ", warning, name)
	line, err := readLine(a.in)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if line != name {
		return refusedError{hint.Wrap(errUnconfirmed, "Type exactly %s to confirm.", name)}
	}
	return nil
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{hint.Wrap(fmt.Errorf("there is no command %q under %s", args[0], cmd.CommandPath()), "See %s --help.", cmd.CommandPath())}
			}
			return cmd.Help()
		},
	}
	c.AddCommand(subs...)
	return c
}

// takes is how many arguments a command has; the error names them.
func takes(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		err := fmt.Errorf("%s takes %s, not %d", cmd.CommandPath(), plural(n, "argument", "arguments"), len(args))
		return usageError{hint.Wrap(err, "Write it as: %s", cmd.UseLine())}
	}
}

func takesAtLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		err := fmt.Errorf("%s takes %s or more, not %d", cmd.CommandPath(), plural(n, "argument", "arguments"), len(args))
		return usageError{hint.Wrap(err, "Write it as: %s", cmd.UseLine())}
	}
}

// facilityArg completes the id of a facility, when the region answers.
func (a *app) facilityArg(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cl, err := a.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := cl.Facilities(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []cobra.Completion
	for _, f := range list {
		ids = append(ids, cobra.CompletionWithDesc(f.ID, f.Name))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
