package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

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
			if err := oneOf("--role", in.Role, roles...); err != nil {
				return err
			}
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
