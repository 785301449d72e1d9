package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/edge"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Exit codes, as holdfastctl has them.
const (
	exitFailed      = 1
	exitUsage       = 2 // the command line or the configuration is wrong
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5 // the box's database does not answer
)

// coded is an error with the exit code that it ends the program with.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

func exit(code int, err error) error { return coded{err, code} }

func exitCode(err error) int {
	if c, ok := errors.AsType[coded](err); ok {
		return c.code
	}
	return exitFailed
}

// load reads the configuration file.
func load(file string) (edge.Config, error) {
	c, err := edge.LoadConfig(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = hint.Wrap(errors.New(err.Error()), "Name the box's file with -c FILE; in a checkout with a demo: -c .demo/la/edge.yaml")
	}
	if err != nil {
		return c, exit(exitUsage, err)
	}
	return c, nil
}

func takes(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		err := fmt.Errorf("%s takes %d arguments, not %d", cmd.CommandPath(), n, len(args))
		return exit(exitUsage, hint.Wrap(err, "Write it as: %s", cmd.UseLine()))
	}
}
