package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/edge"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// token is one API token as --json prints it.
type token struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Secret    string     `json:"secret,omitempty"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// nameMaxBytes bounds a token's name, as in the region.
const nameMaxBytes = 200

func tokenCommand(file *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "token",
		Short: "API tokens, which let programs use this box's HTTP API",
		Long: "API tokens let programs use this box's HTTP API, without the region. They are this box's own, and stay\n" +
			"on it: the box that takes its place needs new ones. The agent must run, and this command as its user.",
	}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	// with opens the store for a command; show prints v as JSON, or as words.
	with := func(do func(cmd *cobra.Command, args []string, store web.PGStore) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			conf, err := load(*file)
			if err != nil {
				return err
			}
			store, end, err := edge.Access(cmd.Context(), conf)
			if err != nil {
				return exit(exitUnreachable, err)
			}
			defer end()
			return do(cmd, args, store)
		}
	}
	show := func(cmd *cobra.Command, v any, words func() error) error {
		if !asJSON {
			return words()
		}
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	c.AddCommand(tokenAdd(with, show), tokenList(with, show), tokenRevoke(with, show))
	return c
}

type (
	withStore func(do func(cmd *cobra.Command, args []string, store web.PGStore) error) func(*cobra.Command, []string) error
	shower    func(cmd *cobra.Command, v any, words func() error) error
)

func tokenAdd(with withStore, show shower) *cobra.Command {
	var role, out string
	var ttl config.Duration
	c := &cobra.Command{
		Use: "add NAME", Short: "Let a program in; prints the token, once", Args: takes(1),
		Long:    "Let a program in. A viewer may read, an operator also write. Only a hash of the token is kept, so that it is shown once.",
		Example: "  holdfast-edge token add shop --role operator --ttl 365d --out shop.token",
	}
	c.RunE = with(func(cmd *cobra.Command, args []string, store web.PGStore) error {
		r, err := web.ParseRole(role)
		if err != nil {
			return exit(exitUsage, hint.Wrap(err, "Use --role viewer, operator or admin."))
		}
		if n := len(args[0]); n == 0 || n > nameMaxBytes || ttl < 0 {
			return exit(exitUsage, hint.Wrap(errors.New("the token's name or its --ttl is out of range"), "A name has 1 to %d bytes, and a token is good for some time.", nameMaxBytes))
		}
		list, err := store.Tokens(cmd.Context())
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Name == args[0] {
				return exit(exitRefused, hint.Wrap(fmt.Errorf("there is a token %q already", t.Name), "Choose another name, or revoke that one first: holdfast-edge token revoke %s", t.Name))
			}
		}
		secret, sum := web.NewToken()
		var until time.Time
		t := token{Name: args[0], Role: r.String(), Secret: secret}
		if ttl > 0 {
			until = time.Now().Add(time.Duration(ttl))
			t.ExpiresAt = &until
		}
		if out != "" { // first: a token that cannot be handed over is not made
			if err := writeToken(out, secret); err != nil {
				return err
			}
			t.Secret = ""
		}
		if err := store.PutToken(cmd.Context(), t.Name, sum, r, until); err != nil {
			if out != "" {
				err = errors.Join(err, os.Remove(out))
			}
			return err
		}
		return show(cmd, t, func() error {
			if out != "" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Added token %s with role %s; it is in %s.\n", t.Name, t.Role, out)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Added token %s with role %s, shown only now:\n\n  %s\n", t.Name, t.Role, secret)
			}
			return err
		})
	})
	c.Flags().StringVar(&role, "role", web.Viewer.String(), "viewer, operator or admin")
	c.Flags().Var(&ttl, "ttl", "how long it is good, such as 12h or 90d; 0 is for ever")
	c.Flags().StringVar(&out, "out", "", "write it to this file, closed to others, instead of showing it")
	return c
}

// writeToken makes a file that only its owner can open, from the beginning. One that is
// there may be in use, and stays.
func writeToken(path, secret string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString(secret + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("write the token: %w", err), "Name a new file in a folder that you may write.")
	}
	return nil
}

func tokenList(with withStore, show shower) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List API tokens, without their secrets", Aliases: []string{"ls"}, Args: takes(0),
		RunE: with(func(cmd *cobra.Command, _ []string, store web.PGStore) error {
			entries, err := store.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			list := []token{}
			for _, e := range entries {
				list = append(list, token{Name: e.Name, Role: e.Role, CreatedAt: &e.CreatedAt, ExpiresAt: e.ExpiresAt})
			}
			return show(cmd, list, func() error {
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TOKEN\tROLE\tADDED\tGOOD UNTIL")
				for _, t := range list {
					until := "for ever"
					if t.ExpiresAt != nil {
						until = when(*t.ExpiresAt)
						if t.ExpiresAt.Before(time.Now()) {
							until = "over since " + until
						}
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, t.Role, when(*t.CreatedAt), until)
				}
				return w.Flush()
			})
		}),
	}
}

// when is a time with its zone, and how long ago or ahead it is.
func when(t time.Time) string {
	far := time.Until(t)
	how := "in " + web.Span(far)
	if far < 0 {
		how = web.Span(-far) + " ago"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST") + " (" + how + ")"
}

func tokenRevoke(with withStore, show shower) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End an API token at once", Aliases: []string{"remove"}, Args: takes(1),
		RunE: with(func(cmd *cobra.Command, args []string, store web.PGStore) error {
			err := store.RemoveToken(cmd.Context(), args[0])
			if errors.Is(err, web.ErrUnknown) {
				return exit(exitNotFound, hint.Wrap(fmt.Errorf("there is no token %q", args[0]), "holdfast-edge token list shows the tokens."))
			}
			if err != nil {
				return err
			}
			return show(cmd, map[string]string{"revoked": args[0]}, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "Revoked token %s: programs that use it are refused.\n", args[0])
				return err
			})
		}),
	}
}
