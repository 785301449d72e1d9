package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) accountCmd() *cobra.Command {
	return group("account", "People who may sign in", a.accountAdd(), a.accountList(), a.accountPasswd(), a.accountRole(), a.accountRemove())
}

// password reads a new password from a file, or asks for it twice.
func (a *app) password(file string) (string, error) {
	if file != "" {
		return readSecretFile(file)
	}
	first, err := a.readSecret("New password: ")
	if errors.Is(err, errNoTerminal) {
		return "", usageError{hint.Wrap(err, "Give a file that holds it with --password-file.")}
	}
	if err != nil {
		return "", err
	}
	again, err := a.readSecret("The same again: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", usageError{hint.Wrap(errors.New("the two passwords differ"), "Try again.")}
	}
	return first, nil
}

func readSecretFile(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", usageError{hint.Wrap(fmt.Errorf("read the password: %w", err), "Name a file that holds the password on its first line.")}
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return strings.TrimRight(line, "\r"), nil
}

func (a *app) accountAdd() *cobra.Command {
	var in v1.AccountAdd
	var file string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Let a person sign in", Args: takes(1),
		Example: "  holdfastctl account add maria --role operator",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.Name = args[0]
			if in.Password, err = a.password(file); err != nil {
				return err
			}
			acc, err := cl.AddAccount(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.show(acc, func() error { a.printf("Added account %s with role %s.\n", acc.Name, acc.Role); return nil })
		},
	}
	cmd.Flags().StringVar(&in.Role, "role", v1.RoleViewer, "viewer, operator or admin")
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password; without it you are asked")
	return cmd
}

func (a *app) accountList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List accounts", Aliases: []string{"ls"}, Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Accounts(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(append([]v1.Account{}, list...), func() error {
				rows := make([][]cell, 0, len(list))
				for _, acc := range list {
					rows = append(rows, []cell{c(acc.Name), c(acc.Role), c(a.when(acc.CreatedAt))})
				}
				a.table(a.out, []string{"ACCOUNT", "ROLE", "ADDED"}, rows)
				return nil
			})
		},
	}
}

func (a *app) accountPasswd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "passwd NAME", Short: "Set a password; signs the account out everywhere", Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := a.password(file)
			if err != nil {
				return err
			}
			return a.changeAccount(cmd, args[0], v1.AccountChange{Password: password})
		},
	}
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password; without it you are asked")
	return cmd
}

func (a *app) accountRole() *cobra.Command {
	return &cobra.Command{
		Use: "role NAME viewer|operator|admin", Short: "Set a role; signs the account out everywhere", Args: takes(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAccount(cmd, args[0], v1.AccountChange{Role: args[1]})
		},
	}
}

func (a *app) changeAccount(cmd *cobra.Command, name string, in v1.AccountChange) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	acc, err := cl.ChangeAccount(cmd.Context(), name, in)
	if err != nil {
		return err
	}
	return a.show(acc, func() error {
		a.printf("Changed account %s (role %s); it must sign in again.\n", acc.Name, acc.Role)
		return nil
	})
}

func (a *app) accountRemove() *cobra.Command {
	return a.dangerous("remove NAME", "End an account", "End an account with its sessions and the tokens it got by signing in.",
		"Account %s will be removed.",
		func(cmd *cobra.Command, cl *v1.Client, name string) error {
			if err := cl.RemoveAccount(cmd.Context(), name); err != nil {
				return err
			}
			return a.show(map[string]string{"removed": name}, func() error { a.printf("Removed account %s.\n", name); return nil })
		})
}

func (a *app) tokenCmd() *cobra.Command {
	return group("token", "API tokens, which let programs in", a.tokenAdd(), a.tokenList(), a.tokenRemove())
}

func (a *app) tokenAdd() *cobra.Command {
	var in v1.APITokenAdd
	var ttl time.Duration
	var out string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Let a program in; prints the token, once", Args: takes(1),
		Example: "  holdfastctl token add grafana --role viewer --ttl 8760h --out grafana.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.Name, in.TTL = args[0], int(ttl.Seconds())
			t, err := cl.AddAPIToken(cmd.Context(), in)
			if err != nil {
				return err
			}
			if err := writeSecret(out, t.Secret); err != nil {
				return err
			}
			return a.show(t, func() error {
				if out != "" {
					a.printf("Added token %s with role %s; it is in %s.\n", t.Name, t.Role, out)
					return nil
				}
				a.printf("Added token %s with role %s, shown only now:\n\n  %s\n", t.Name, t.Role, t.Secret)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&in.Role, "role", v1.RoleViewer, "viewer, operator or admin")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is good (default: for ever)")
	cmd.Flags().StringVar(&out, "out", "", "write it to this file, closed to others, instead of showing it")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List API tokens", Aliases: []string{"ls"}, Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.APITokens(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(append([]v1.APIToken{}, list...), func() error {
				rows := make([][]cell, 0, len(list))
				for _, t := range list {
					until := "for ever"
					if t.ExpiresAt != nil {
						until = a.when(*t.ExpiresAt)
					}
					rows = append(rows, []cell{c(t.Name), c(t.Role), c(a.when(t.CreatedAt)), c(until)})
				}
				a.table(a.out, []string{"TOKEN", "ROLE", "ADDED", "GOOD UNTIL"}, rows)
				return nil
			})
		},
	}
}

func (a *app) tokenRemove() *cobra.Command {
	return a.dangerous("remove NAME", "End an API token", "End an API token at once.", "Programs that use token %s will be refused.",
		func(cmd *cobra.Command, cl *v1.Client, name string) error {
			if err := cl.RemoveAPIToken(cmd.Context(), name); err != nil {
				return err
			}
			return a.show(map[string]string{"removed": name}, func() error { a.printf("Removed token %s.\n", name); return nil })
		})
}

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
	cmd.Flags().IntVar(&limit, "limit", limit, "how many at most (1 to 500)")
	return cmd
}

func (a *app) loginCmd() *cobra.Command {
	var name, file string
	cmd := &cobra.Command{
		Use: "login", Short: "Sign in and keep an API token in ~/.config/holdfast/ctl.yaml", Args: takes(0),
		Example: "  holdfastctl login --url https://us-east.example.com --user maria",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := a.configPath()
			if path == "" {
				return usageError{hint.Wrap(errors.New("there is no home folder to keep the token in"), "Set HOME, or make a token with holdfastctl token add and use --token-file.")}
			}
			r, err := a.findRegion()
			if err != nil {
				return err
			}
			if name == "" {
				fmt.Fprint(a.err, "Account: ")
				if name, err = readLine(a.in); err != nil {
					return usageError{hint.Wrap(fmt.Errorf("read the account's name: %w", err), "Give it with --user.")}
				}
			}
			password, err := a.loginPassword(file)
			if err != nil {
				return err
			}
			t, err := (&v1.Client{URL: r.URL}).Login(cmd.Context(), v1.Login{Name: name, Password: password, TokenName: tokenLabel(a.clock())})
			if err != nil {
				return err
			}
			if err := saveConfig(path, ctlConfig{URL: r.URL, Token: t.Secret}); err != nil {
				return err
			}
			t.Secret = ""
			return a.show(t, func() error {
				a.printf("Signed in to %s as %s (%s) until %s.\nThe token is in %s.\n", r.URL, name, t.Role, a.whenPtr(t.ExpiresAt), path)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "user", "", "account; without it you are asked")
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password; without it you are asked")
	return cmd
}

func (a *app) loginPassword(file string) (string, error) {
	if file != "" {
		return readSecretFile(file)
	}
	p, err := a.readSecret("Password: ")
	if errors.Is(err, errNoTerminal) {
		return "", usageError{hint.Wrap(err, "Give a file that holds it with --password-file.")}
	}
	return p, err
}

func tokenLabel(now time.Time) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + " " + now.UTC().Format("2006-01-02T15:04:05.000Z")
}

// saveConfig replaces the file as a whole, closed to others from the start.
func saveConfig(path string, c ctlConfig) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder for %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ctl-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	if _, err := tmp.Write(raw); err != nil {
		_ = tmp.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func detailText(d map[string]any) string {
	parts := make([]string, 0, len(d))
	for k, v := range d {
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
