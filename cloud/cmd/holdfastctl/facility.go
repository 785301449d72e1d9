package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) facilityCmd() *cobra.Command {
	cmd := group("facility", "Facilities and their boxes",
		a.facilityAdd(), a.facilityList(), a.facilityShow(), a.facilityLimit(), a.facilityToken(), a.facilityRemove(), a.facilityRevoke())
	cmd.Aliases = []string{"facilities"}
	return cmd
}

func (a *app) facilityAdd() *cobra.Command {
	var in v1.FacilityAdd
	var ttl time.Duration
	var tokenOut string
	cmd := &cobra.Command{
		Use: "add ID", Short: "Add a facility and print the one-time token for its box", Args: takes(1),
		Example: "  holdfastctl facility add la --name 'Los Angeles' --time-zone America/Los_Angeles\n  holdfastctl facility add la --token-out la.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			in.ID, in.TokenTTL = args[0], int(ttl.Seconds())
			added, err := cl.AddFacility(cmd.Context(), in)
			if err != nil {
				return err
			}
			if err := writeSecret(tokenOut, added.Token.Secret); err != nil {
				return err
			}
			return a.show(added, func() error {
				a.printf("Added facility %s of tenant %s.\n", added.Facility.ID, added.Facility.Tenant)
				a.printEnrolSecret(added.Token, tokenOut)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "name for people")
	f.StringVar(&in.Tenant, "tenant", "", "customer that it belongs to (default: the region's)")
	f.StringVar(&in.TimeZone, "time-zone", "", "IANA time zone (default UTC)")
	tokenFlags(cmd, &ttl, &tokenOut)
	return cmd
}

func tokenFlags(cmd *cobra.Command, ttl *time.Duration, out *string) {
	cmd.Flags().DurationVar(ttl, "ttl", 0, "how long the token may be used (default 72 hours)")
	cmd.Flags().StringVar(out, "token-out", "", "also write the token to this file, closed to others")
}

func writeSecret(path, secret string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return hint.Wrap(fmt.Errorf("write the secret: %w", err), "Name a file that you may write; the secret was made and is lost, so make a new one.")
	}
	// A file that was there before keeps its mode otherwise.
	if err := f.Chmod(0o600); err != nil {
		_ = f.Close()
		return fmt.Errorf("close %s to others: %w", path, err)
	}
	if _, err := f.WriteString(secret + "\n"); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the secret: %w", err)
	}
	return f.Close()
}

func (a *app) printEnrolSecret(t v1.EnrolSecret, file string) {
	a.printf("\nEnrolment token, shown only now; good once, until %s:\n\n", a.when(t.ExpiresAt))
	a.printf("  %s\n\n", t.Secret)
	if file != "" {
		a.printf("It is in %s too. ", file)
	}
	a.printf("Use it on the box: holdfast-edge enrol --token-file FILE\n")
}

func (a *app) facilityList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List facilities", Aliases: []string{"ls"}, Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Facilities(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(append([]v1.Facility{}, list...), func() error {
				rows := make([][]cell, 0, len(list))
				for _, f := range list {
					rows = append(rows, []cell{c(f.ID), c(f.Name), c(f.Tenant), c(f.TimeZone), c(boxText(f)), c(a.when(f.CreatedAt))})
				}
				a.table(a.out, []string{"FACILITY", "NAME", "TENANT", "TIME ZONE", "BOX", "ADDED"}, rows)
				return nil
			})
		},
	}
}

func boxText(f v1.Facility) string {
	switch {
	case f.Device != nil:
		return "enrolled (" + strconv.Itoa(f.Device.Enrolment) + ")"
	case f.TokenExpiresAt != nil:
		return "token waits"
	case f.Enrolments > 0:
		return "revoked"
	}
	return "none"
}

func (a *app) facilityShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one facility, its box and its state", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Example:           "  holdfastctl facility show la",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			f, err := cl.Facility(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			s, err := cl.FacilityStatus(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			both := struct {
				v1.Facility
				Status v1.FacilityStatus `json:"status"`
			}{f, s}
			return a.show(both, func() error { a.printFacility(f, s); return nil })
		},
	}
}

func (a *app) printFacility(f v1.Facility, s v1.FacilityStatus) {
	state := stateCell(s.State)
	rows := [][2]string{
		{"Facility", f.ID},
		{"Name", f.Name},
		{"Tenant", f.Tenant},
		{"Time zone", f.TimeZone},
		{"Added", a.when(f.CreatedAt)},
	}
	if f.RemovedAt != nil {
		rows = append(rows, [2]string{"Removed", a.when(*f.RemovedAt)})
	}
	rows = append(rows,
		[2]string{"State", a.paint(a.out)(state.colour, state.text)},
		[2]string{"Why", s.Reason}, [2]string{"Links", links(s)},
		[2]string{"Last heard", a.whenPtr(s.LastHeardAt)}, [2]string{"Last through tunnel", a.whenPtr(s.TunnelAt)},
		[2]string{"Queue", a.queueOf(s)}, [2]string{"Lag", lagOf(s)}, [2]string{"Database", s.Database})
	if f.Limit != nil {
		rows = append(rows, [2]string{"Limit", limitText(f.Limit)})
	}
	if s.Queue.OldestUnsentAt != nil {
		rows = append(rows, [2]string{"Oldest unsent", a.when(*s.Queue.OldestUnsentAt)})
	}
	if s.DiskFree != nil && s.DiskTotal != nil {
		rows = append(rows, [2]string{"Disk free", size(*s.DiskFree) + " of " + size(*s.DiskTotal)})
	}
	if s.Temperature != nil {
		rows = append(rows, [2]string{"Temperature", strconv.FormatFloat(*s.Temperature, 'f', 1, 64) + " °C"})
	}
	if s.Watchdog != "" {
		rows = append(rows, [2]string{"Watchdog", s.Watchdog})
	}
	if f.Device == nil {
		rows = append(rows, [2]string{"Box", boxText(f)})
	} else {
		rows = append(rows,
			[2]string{"Box", fmt.Sprintf("number %d, enrolled %s", f.Device.Enrolment, a.when(f.Device.EnrolledAt))},
			[2]string{"Certificate until", a.when(f.Device.CertificateNotAfter)},
			[2]string{"Agent", f.Device.AgentVersion})
	}
	if f.TokenExpiresAt != nil {
		rows = append(rows, [2]string{"Enrolment token", "waits until " + a.when(*f.TokenExpiresAt)})
	}
	a.pairs(a.out, rows)
}

func (a *app) facilityToken() *cobra.Command {
	var ttl time.Duration
	var tokenOut string
	cmd := &cobra.Command{
		Use: "token ID", Short: "Make a new enrolment token, for a new or another box", Args: takes(1),
		ValidArgsFunction: a.facilityArg,
		Long: `Make a new one-time enrolment token. Earlier unused ones of the facility end. The box that uses it replaces the one before.

The new box begins with what its own database has, which may be nothing: the
region keeps the facility's rows and sends them down beside the people's work.
The box before it is outside; what it had not sent stays there.`,
		Example: "  holdfastctl facility token la --ttl 1h --token-out la.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			t, err := cl.NewToken(cmd.Context(), args[0], v1.TokenRequest{TTL: int(ttl.Seconds())})
			if err != nil {
				return err
			}
			if err := writeSecret(tokenOut, t.Secret); err != nil {
				return err
			}
			return a.show(t, func() error {
				a.printEnrolSecret(t, tokenOut)
				a.printf("The box that uses it takes the place of the one before, and gets the facility's rows from the region.\n")
				return nil
			})
		},
	}
	tokenFlags(cmd, &ttl, &tokenOut)
	return cmd
}

func (a *app) facilityRemove() *cobra.Command {
	cmd := a.dangerous("remove ID", "Remove a facility for good",
		"Remove a facility: its box is thrown out and its tokens end. Its rows stay in the region. Its id cannot be used again.",
		"Facility %s will be removed for good and its box thrown out. Its rows stay in the region.",
		func(cmd *cobra.Command, cl *v1.Client, id string) error {
			if err := cl.RemoveFacility(cmd.Context(), id); err != nil {
				return err
			}
			return a.show(map[string]string{"removed": id}, func() error { a.printf("Removed facility %s.\n", id); return nil })
		})
	cmd.ValidArgsFunction = a.facilityArg
	return cmd
}

func (a *app) facilityRevoke() *cobra.Command {
	cmd := a.dangerous("revoke ID", "Throw a facility's box out, for example when it was stolen",
		"Revoke the box of a facility: its certificate is refused, its connections close. It goes on working for its people, but nothing of it reaches the region until a box is enrolled again with a new token.",
		"The box of facility %s will be cut off from the region until it is enrolled again.",
		func(cmd *cobra.Command, cl *v1.Client, id string) error {
			if err := cl.RevokeDevice(cmd.Context(), id); err != nil {
				return err
			}
			return a.show(map[string]string{"revoked": id}, func() error {
				a.printf("Revoked the box of %s. A new token for it: holdfastctl facility token %s\n", id, id)
				return nil
			})
		})
	cmd.ValidArgsFunction = a.facilityArg
	return cmd
}

// dangerous is a command that asks before it does.
func (a *app) dangerous(use, short, long, warning string, do func(*cobra.Command, *v1.Client, string) error) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: takes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, fmt.Sprintf(warning, args[0]), args[0]); err != nil {
				return err
			}
			return do(cmd, cl, args[0])
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
