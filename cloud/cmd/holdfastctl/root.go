package main

import (
	"github.com/spf13/cobra"
)

const rootHelp = `holdfastctl looks after a Holdfast region: its facilities, their boxes, and
what is synced.

It finds the region by, in this order:
  --url and --token-file
  HOLDFAST_URL and HOLDFAST_TOKEN_FILE
  ~/.config/holdfast/ctl.yaml, which holdfastctl login writes
  .demo/ctl.yaml, when it is run in a checkout with a demo

Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  there is no such thing
  4  refused: not allowed, not confirmed, or in conflict with what is there
  5  the region does not answer`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfastctl",
		Short:         "Look after a Holdfast region",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.began = true
		},
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.asJSON, "json", false, "print JSON, for programs")
	f.StringVar(&a.url, "url", "", "address of the region, such as http://127.0.0.1:8080")
	f.StringVar(&a.tokenFile, "token-file", "", "file that holds the API token")
	root.CompletionOptions.HiddenDefaultCmd = false

	root.AddCommand(
		a.fleetCmd(), a.facilityCmd(), a.syncCmd(), a.verifyCmd(), a.resyncCmd(), a.conflictsCmd(), a.parkedCmd(), a.tablesCmd(), a.migrateCmd(), a.eventsCmd(),
		a.accountCmd(), a.tokenCmd(), a.auditCmd(), a.loginCmd(),
		a.incidentsCmd(), a.ackCmd(), a.onCallCmd(), a.channelCmd(), a.contactsCmd(), a.schedulesCmd(), a.policiesCmd(), a.maintenanceCmd(),
		a.demoCmd(), a.versionCmd(),
	)
	return root
}
