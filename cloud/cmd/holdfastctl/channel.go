package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// deliveryLook is how often a message that is under way is looked at.
const deliveryLook = 250 * time.Millisecond

func (a *app) channelCmd() *cobra.Command {
	return group("channel", "The ways by which the region tells people", a.channelList(), a.channelTest())
}

func (a *app) channelList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "How each channel fares, and when something last arrived by it", Aliases: []string{"ls"}, Args: takes(0),
		Example: "  holdfastctl channel list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Channels(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(append([]v1.ChannelState{}, list...), func() error {
				var rows [][]cell
				for _, s := range list {
					rows = append(rows, []cell{
						c(s.Channel), channelCell(s), c(count(s.Waiting)), c(count(s.Sent24h)), c(count(s.Failed24)), c(a.clockTime(s.TakenAt)), c(a.clockTime(s.ProvedAt)), c(s.Problem),
					})
				}
				a.table(a.out, []string{"CHANNEL", "STATE", "WAITING", "SENT 24 H", "FAILED 24 H", "LAST TAKEN", "LAST PROVED", "PROBLEM"}, rows)
				return nil
			})
		},
	}
}

func channelCell(s v1.ChannelState) cell {
	switch {
	case !s.Ready:
		return cell{"○ not set up", grey}
	case s.Broken:
		return cell{"✖ fails", red}
	case s.Problem != "":
		return cell{"▲ ready, with a problem", yellow}
	case s.ProvedAt == nil && s.TakenAt == nil:
		return cell{"▲ never tried", yellow}
	}
	return cell{"● ready", green}
}

func (a *app) channelTest() *cobra.Command {
	wait := time.Minute
	cmd := &cobra.Command{
		Use: "test METHOD", Short: "Send a test to a contact's method, and wait until it has arrived", Args: takes(1),
		Long: `Send a test to a contact's method and wait for what the provider says: that an SMS
was delivered, that somebody answered a call and pressed a key. Other channels say
no more than that they took it.

The exit code is 1 when it did not arrive, or when nothing was heard in time.`,
		Example: "  holdfastctl contacts list\n  holdfastctl channel test 7\n  holdfastctl channel test 7 --wait 2m --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := numberOf("a method", args[0], "contacts list")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			d, err := a.sendTest(cmd.Context(), cl, id, wait)
			if err != nil {
				return err
			}
			if err := a.show(d, func() error { a.printDeliveries([]v1.Delivery{d}); return nil }); err != nil {
				return err
			}
			return testError(d, wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", wait, "how long to wait for the receipt")
	return cmd
}

// sendTest waits until nothing more is to come, telling each step.
func (a *app) sendTest(ctx context.Context, cl *v1.Client, method int64, wait time.Duration) (v1.Delivery, error) {
	d, err := cl.TestMethod(ctx, method)
	if err != nil {
		return d, err
	}
	told := ""
	for deadline := time.Now().Add(wait); ; {
		if now := d.State + a.deliveryNote(d); now != told && !a.asJSON {
			told = now
			a.printf("%s\n", strings.TrimSpace(fmt.Sprintf("%s %s: %s %s", d.Name, d.Channel, deliveryCell(d).text, a.deliveryNote(d))))
		}
		if arrived(d) || gone(d) || !time.Now().Before(deadline) {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(deliveryLook):
		}
		if d, err = cl.Delivery(ctx, d.ID); err != nil {
			return d, err
		}
	}
}

// arrived says that a message has come as far as its channel can tell.
func arrived(d v1.Delivery) bool {
	switch d.State {
	case "delivered", "reached":
		return true
	case "accepted", "sent":
		return d.Channel != "sms" && d.Channel != "voice"
	}
	return false
}

// gone says that it will not arrive any more.
func gone(d v1.Delivery) bool {
	switch d.State {
	case "failed", "cancelled", "capped", "expired":
		return true
	}
	return false
}

func testError(d v1.Delivery, wait time.Duration) error {
	switch {
	case arrived(d):
		return nil
	case gone(d):
		what := d.State
		if d.Error != "" {
			what += ": " + d.Error
		}
		return hint.Wrap(errors.New("the test did not arrive: "+what), "Correct the address or the channel's configuration: holdfastctl contacts list, holdfastctl channel list.")
	case d.AcceptedAt != nil:
		return hint.Wrap(fmt.Errorf("%s took the test, and said nothing more within %s", d.Provider, wait), "Ask %s whether it arrived, or wait longer with --wait.", d.Name)
	}
	return hint.Wrap(fmt.Errorf("the test was not sent within %s", wait), "holdfastctl channel list says how the channel fares.")
}
