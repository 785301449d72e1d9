package main

import (
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/config"
)

func (a *app) tokenCmd() *cobra.Command {
	return group("token", "API tokens, which let programs in", a.tokenAdd(), a.tokenList(), a.tokenRemove())
}

func (a *app) tokenAdd() *cobra.Command {
	var in v1.APITokenAdd
	var ttl config.Duration
	var out string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Let a program in; prints the token, once", Args: takes(1),
		Example: "  holdfastctl token add grafana --role viewer --ttl 365d --out grafana.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("--role", in.Role, roles...); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.Name, in.TTL = args[0], int(time.Duration(ttl).Seconds())
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
	cmd.Flags().Var(&ttl, "ttl", "how long it is good, such as 12h or 90d; 0 is for ever")
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
						if t.ExpiresAt.Before(a.clock()) {
							until = "over since " + until
						}
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
