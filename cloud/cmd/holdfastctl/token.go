package main

import (
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

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
