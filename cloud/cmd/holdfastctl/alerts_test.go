package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// writes makes a file in the shell's home and returns its path.
func (s *shell) writes(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.env["HOME"], name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// fails runs a command line that must fail with a code, and say what to do.
func (s *shell) fails(code int, text string, args ...string) {
	s.t.Helper()
	got := s.run(args...)
	if got.code != code {
		s.t.Errorf("%v: exit %d, want %d\n%s%s", args, got.code, code, got.out, got.err)
	}
	wants(s.t, got.err, "error: ", "to do: ", text)
}

func TestWhoIsToldIsSetUpFromTheCommandLine(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la", "--time-zone", "America/Los_Angeles")
	s.ok("facility", "add", "sf")
	if out := s.ok("oncall"); strings.Count(out, "no policy of operations concerns it") != 2 {
		t.Errorf("not each facility of which operations would not hear:\n%s", out)
	}
	signedIn(t, r.URL, r.Admin.Token).ok("facility", "remove", "sf", "--yes")
	wants(t, s.ok("contacts", "list"), "No contacts yet", "contacts add")
	wants(t, s.ok("policies", "list"), "nobody is told of anything", "policies standard")
	wants(t, s.ok("oncall"), "nobody is told: no policy of tenant foo concerns it", "holdfastctl policies standard --tenant foo")

	wants(t, s.ok("contacts", "add", "Ana Lopez", "--tenant", "foo", "--time-zone", "America/Los_Angeles", "--method", "sms=+1 213 555 0123", "--method", "voice=+12135550123"),
		"Added contact Ana Lopez, number 1", "sms +12135550123 is method 1", "holdfastctl channel test 1")
	s.ok("contacts", "add", "Ben Kim", "--tenant", "foo", "--method", "email=ben@example.com")
	s.ok("contacts", "add", "Customer success", "--method", "email=success@example.com")
	r.Provider.Refuse(errors.New("no_team"))
	hook := "https://hooks.slack.com/services/T000/B000/verysecretpart9Zx7"
	out := s.ok("contacts", "method", "add", "ben kim", "webhook", "--address-file", s.writes("hook.url", hook+"\n"), "--secret-file", s.writes("hook.secret", "signing-secret"))
	wants(t, out, "https://hooks.slack.com/…9Zx7", "It cannot be used: no_team")
	r.Provider.Refuse(nil)
	wants(t, s.ok("contacts", "method", "check", "5"), "channel test 5")
	out = s.ok("contacts", "list", "--tenant", "foo")
	wants(t, out, "Ana Lopez", "+12135550123", "○ checked, not proved")
	if all := out + s.ok("contacts", "list", "--json"); strings.Contains(all, "verysecret") || strings.Contains(all, "signing-secret") || strings.Contains(out, "success") {
		t.Errorf("shown: %s", all)
	}
	wants(t, s.ok("contacts", "change", "Ben Kim", "--time-zone", "Europe/Berlin"), "Ben Kim, Europe/Berlin")

	today := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	s.ok("schedules", "add", "plant", "--tenant", "foo", "--time-zone", "America/Los_Angeles", "--contacts", "Ana Lopez, Ben Kim", "--first-day", today, "--handover", "00:00")
	wants(t, s.ok("oncall"), "plant", "● Ana Lopez")
	wants(t, s.ok("schedules", "override", "add", "plant", "--contact", "Ben Kim", "--for", "8h"), "Ben Kim stands in")
	wants(t, s.ok("oncall"), "● Ben Kim (stands in)")
	wants(t, s.ok("schedules", "show", "plant"), "Ana Lopez, Ben Kim, each for 7 days", "Ben Kim stands in from", "override 1")
	s.ok("schedules", "override", "remove", "plant", "1")
	plan := s.ok("schedules", "show", "plant", "--yaml")
	plan = strings.Replace(plan, "turn_days: 7", "turn_days: 1\n  days: Mon-Fri\n  from: \"22:00\"\n  to: \"06:00\"", 1)
	wants(t, s.ok("schedules", "set", "plant", "-f", s.writes("plant.yaml", plan)), "each for 1 day", "Mon-Fri, 22:00-06:00")
	wants(t, s.ok("schedules", "list"), "plant", "America/Los_Angeles", "Mon-Fri")

	out = s.ok("policies", "add", "plant", "--tenant", "foo", "--kind", "offline,unstable", "--facility", "la",
		"--step", "10m Customer success offer fallback", "--step", "0s Ana Lopez, schedule:plant by sms,voice")
	wants(t, out, "Policy", "plant, number 1", "1. 0s Ana Lopez, schedule:plant by sms,voice", "2. 10m Customer success offer fallback", "offline unstable, at la")
	wants(t, s.ok("oncall"), "nobody is told: no policy of operations concerns it")
	rule := s.ok("policies", "show", "plant", "--yaml")
	wants(t, rule, "after: 10m", "- Customer success")
	rule = strings.Replace(rule, "after: 10m", "after: 90s", 1)
	wants(t, s.ok("policies", "set", "plant", "-f", s.writes("policy.yaml", rule)), "2. 90s Customer success offer fallback")
	wants(t, s.ok("policies", "set", "plant", "--severity", "critical"), "critical, offline")
	wants(t, s.ok("policies", "list"), "plant", "critical, offline unstable, at la", "90s Customer success offer fallback")
	s.ok("policies", "add", "-f", s.writes("ops.yaml", "name: operations\nseverity: critical\nsteps:\n  - after: 0s\n    contacts: [Customer success]\n"))
	wants(t, s.ok("oncall"), "Somebody is told when any of 1 facility goes offline.")
	wants(t, s.ok("policies", "standard", "--tenant", "foo", "--first", "Ana Lopez", "--next", "Ben Kim", "--success", "Customer success"),
		"1. 0s Ana Lopez\n", "2. 2m Ana Lopez by voice", "3. 10m Ben Kim", "4. 1h Ana Lopez, Customer success offer fallback")

	s.fails(exitRefused, "Take Ana Lopez out", "contacts", "remove", "Ana Lopez", "--yes")
	s.fails(exitRefused, "--yes", "contacts", "remove", "Ana Lopez")
	s.fails(exitRefused, "Take it out there first", "schedules", "remove", "plant", "--yes")
	s.fails(exitRefused, "Add another way first", "contacts", "method", "remove", "4", "--yes")
	s.fails(exitNotFound, "contacts list", "contacts", "remove", "Nobody", "--yes")
	s.fails(exitUsage, "Europe/Berlin", "contacts", "add", "Cleo", "--time-zone", "Mars")
	s.fails(exitUsage, "The tenants are foo", "contacts", "add", "Cleo", "--tenant", "bar")
	s.fails(exitUsage, "country's code", "contacts", "method", "add", "Ben Kim", "sms", "555 0123")
	s.fails(exitUsage, "--address-file", "contacts", "method", "add", "Ben Kim", "slack")
	s.fails(exitUsage, "sms=+12135550123", "contacts", "add", "Cleo", "--method", "sms")
	s.fails(exitUsage, "--contacts", "schedules", "add", "x")
	s.fails(exitUsage, "schedules add --help", "schedules", "add", "-f", s.writes("bad.yaml", "nmae: x\n"))
	s.fails(exitUsage, "22:00-06:00", "schedules", "add", "x", "--contacts", "Ana Lopez", "--hours", "22:00", "--tenant", "foo")
	s.fails(exitUsage, "either a name or -f", "schedules", "add", "x", "-f", "y.yaml")
	s.fails(exitUsage, "2026-12-24", "schedules", "override", "add", "plant", "--contact", "Ben Kim", "--to", "Christmas")
	s.fails(exitUsage, "--step", "policies", "add", "x")
	s.fails(exitUsage, "0s Ana Lopez", "policies", "add", "x", "--step", "10m")
	s.fails(exitUsage, "1h", "policies", "add", "x", "--step", "later Ana Lopez")
	s.fails(exitNotFound, "contacts list", "policies", "add", "x", "--step", "0s Nobody")
	s.fails(exitUsage, "other tenants' facilities", "policies", "add", "x", "--step", "0s Ana Lopez")
	s.fails(exitUsage, "The kinds are", "policies", "set", "plant", "--kind", "flood")
	s.fails(exitUsage, "Give --tenant", "policies", "standard")
	s.fails(exitUsage, "--step", "policies", "set", "plant")
	viewer := signedIn(t, r.URL, r.Viewer.Token)
	viewer.fails(exitRefused, "role operator", "contacts", "add", "Eve")

	for _, p := range []string{"plant", "standard", "operations"} {
		s.ok("policies", "remove", p, "--yes")
	}
	s.ok("schedules", "remove", "plant", "--yes")
	wants(t, s.ok("contacts", "method", "remove", "4", "--yes"), "Removed method 4")
	wants(t, s.ok("contacts", "remove", "Ana Lopez", "--yes"), "Removed contact Ana Lopez")
}

func TestANameThatTwoTenantsHaveIsAskedFor(t *testing.T) {
	t.Parallel()
	list := []v1.Contact{{ID: 1, Name: "Ana", Tenant: "foo"}, {ID: 2, Name: "Ana", Tenant: "bar"}, {ID: 3, Name: "Ops"}, {ID: 4, Name: "ops", Tenant: "foo"}}
	find := func(ref, tenant string) (int64, error) {
		c, err := pick(list, "contact", "contacts", ref, tenant, func(c v1.Contact) named { return named{c.ID, c.Name, c.Tenant} })
		return c.ID, err
	}
	for _, c := range []struct {
		ref, tenant string
		want        int64
	}{{"ana", "foo", 1}, {"Ana", "bar", 2}, {"2", "foo", 2}, {"OPS", "foo", 4}, {"ops", "bar", 3}, {"ops", "", 3}} {
		if got, err := find(c.ref, c.tenant); err != nil || got != c.want {
			t.Errorf("%q for %q: %d, %v", c.ref, c.tenant, got, err)
		}
	}
	if _, err := find("Ana", ""); exitCode(err) != exitUsage {
		t.Errorf("one of two was taken: %v", err)
	}
	if _, err := find("Eve", ""); exitCode(err) != exitNotFound {
		t.Errorf("%v", err)
	}
}

func TestWorkIsAnnouncedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la")
	wants(t, s.ok("maintenance", "list"), "No work is announced")
	wants(t, s.ok("maintenance", "add", "la", "--for", "2h", "--reason", "new switch"), "Nobody is paged about la until", "maintenance end 1")
	wants(t, s.ok("oncall"), "nobody is told before", "announced work", "maintenance end 1")
	s.ok("maintenance", "add", "la", "--in", "3h", "--for", "1h", "--reason", "meter")
	wants(t, s.ok("maintenance", "list"), "◆ under way", "new switch", "◷ to come", "meter")
	for length, want := range map[string]string{"9h": "cannot be announced for 9h0m0s", "0s": "cannot be announced for 0s", "-1h": "cannot be announced for -1h0m0s", "30s": "Give --for 1m to 8h"} {
		s.fails(exitUsage, want, "maintenance", "add", "la", "--for", length, "--reason", "x")
	}
	s.fails(exitUsage, "for how long is missing", "maintenance", "add", "la", "--reason", "x")
	s.fails(exitUsage, "--reason 'new switch", "maintenance", "add", "la", "--for", "1h")
	s.fails(exitUsage, "cannot begin 1h0m0s ago", "maintenance", "add", "la", "--for", "1h", "--in", "-1h", "--reason", "x")
	for _, list := range [][]string{{"incidents"}, {"conflicts"}, {"events", "la"}, {"audit"}, {"parked", "list"}} {
		for _, n := range []string{"0", "-1", "501"} {
			s.fails(exitUsage, "--limit "+n+": a list has 1 to", append(list, "--limit", n)...)
		}
	}
	s.fails(exitNotFound, "facility list", "maintenance", "add", "nowhere", "--for", "1h", "--reason", "x")
	s.fails(exitUsage, "maintenance list", "maintenance", "end", "la")
	wants(t, s.ok("maintenance", "end", "1"), "told again")
	s.fails(exitRefused, "maintenance list", "maintenance", "end", "1")
	wants(t, s.ok("maintenance", "list", "--all", "--facility", "la"), "○ ended by test operator")
}

func TestIncidentsAreSeenAndTakenOnFromTheCommandLine(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la", "--name", "Los Angeles", "--time-zone", "America/Los_Angeles")
	s.ok("contacts", "add", "Ana Lopez", "--tenant", "foo", "--method", "email=ana@example.com")
	s.ok("policies", "standard", "--tenant", "foo", "--first", "Ana Lopez")
	wants(t, s.ok("incidents"), "Nothing is wrong now")
	r.Below.Hold(detect.Finding{
		Kind: detect.Offline, Facility: "la", Severity: detect.Critical, Since: time.Now().Add(-8 * time.Second),
		Summary: "nothing is heard of Los Angeles", Evidence: []string{"no heartbeat for 8 s", "the tunnel does not answer"},
	})
	r.Alert()
	s.until("1 message", "incidents", "--open", "--facility", "la")
	wants(t, s.ok("incidents"), "✖ nobody has it", "▲ critical", "la (Los Angeles)", "nothing is heard of Los Angeles")
	wants(t, s.ok("incidents", "show", "1"), "1, offline", "there 20", "- the tunnel does not answer", "opened", "Ana Lopez", "◐ accepted", "by test", "Next step")
	wants(t, s.ok("ack", "1", "--note", "the provider is on it"), "test operator has incident 1", "told again")
	wants(t, s.ok("incidents"), "◆ test operator has it")
	wants(t, s.ok("incidents", "show", "1"), "it makes an offer, and is taken though test operator takes care")
	s.fails(exitRefused, "incidents show 1", "ack", "1")
	s.fails(exitNotFound, "incidents --all", "ack", "99")
	s.fails(exitUsage, "incidents shows", "ack", "la")
	s.fails(exitUsage, "no command", "incidents", "bogus")
	s.fails(exitUsage, "exclude each other", "incidents", "--open", "--all")
	r.Below.Hold()
	s.until("Nothing is wrong now", "incidents")
	wants(t, s.ok("incidents", "--all"), "○ over")
	wants(t, s.ok("incidents", "show", "1"), "the provider is on it", "Over")
	var list []v1.Incident
	if err := json.Unmarshal([]byte(s.ok("incidents", "--all", "--json")), &list); err != nil || len(list) != 1 || list[0].AckedBy != "test operator" {
		t.Errorf("%+v, %v", list, err)
	}
}

// until runs a command line again until its answer has a text.
func (s *shell) until(text string, args ...string) {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		out := s.ok(args...)
		if strings.Contains(out, text) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not come:\n%s", text, out)
		}
		select {
		case <-s.t.Context().Done():
			s.t.Fatal(s.t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestATestSaysWhetherItArrived(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("contacts", "add", "Olga", "--method", "email=olga@example.com", "--method", "sms=+12135550123")
	// A phone is told once a minute: each test has a number of its own.
	s.ok("contacts", "add", "Pat", "--method", "sms=+12135550124", "--method", "sms=+12135550125")
	wants(t, s.ok("channel", "list"), "sms", "▲ never tried", "mqtt", "○ not set up", "no broker")
	s.fails(exitFailed, "channel list", "channel", "test", "1", "--wait", "10ms")
	r.Alert()
	wants(t, s.ok("channel", "test", "1"), "Olga", "email", "◐ accepted", "by test")
	s.fails(exitFailed, "Ask Olga", "channel", "test", "2", "--wait", "2s")

	// The provider says that the SMS was delivered.
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- deliverSMS(t, r, stop) }()
	out := s.run("channel", "test", "3", "--json")
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var d v1.Delivery
	if err := json.Unmarshal([]byte(out.out), &d); err != nil || out.code != exitOK || d.State != "delivered" || len(d.Receipts) != 1 {
		t.Errorf("exit %d: %+v, %v %s", out.code, d, err, out.err)
	}
	r.Provider.Refuse(errors.New("unknown subscriber"))
	s.fails(exitFailed, "Correct the address", "channel", "test", "4")
	s.fails(exitNotFound, "contacts list", "channel", "test", "99")
	s.fails(exitUsage, "contacts list", "channel", "test", "Olga")
}

// deliverSMS has every SMS that the provider takes delivered, until it is told to stop.
func deliverSMS(t *testing.T, r *apitest.Server, stop <-chan struct{}) error {
	for {
		for i, m := range r.Provider.Sent() {
			if m.Kind != channel.SMS {
				continue
			}
			err := r.Alerter.Receipt(t.Context(), channel.Receipt{
				Delivery: m.Delivery, Provider: "test", EventID: fmt.Sprint(i), State: channel.Delivered,
			})
			if err != nil {
				return err
			}
		}
		select {
		case <-stop:
			return nil
		case <-t.Context().Done():
			return t.Context().Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestEachAlertCommandHasAnExample(t *testing.T) {
	t.Parallel()
	a := &app{env: func(string) string { return "" }}
	ours := map[string]bool{"incidents": true, "ack": true, "oncall": true, "channel": true, "contacts": true, "schedules": true, "policies": true, "maintenance": true}
	n := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() {
			n++
			if cmd.Example == "" || cmd.Short == "" {
				t.Errorf("%s has no example", cmd.CommandPath())
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	for _, cmd := range a.root().Commands() {
		if ours[cmd.Name()] {
			look(cmd)
		}
	}
	if n < 25 {
		t.Errorf("only %d commands", n)
	}
}

func TestAChannelWithAProblemIsNotJustReady(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		is   v1.ChannelState
		want string
	}{
		{v1.ChannelState{Ready: true}, "▲ never tried"},
		{v1.ChannelState{Ready: true, TakenAt: new(time.Time)}, "● ready"},
		{v1.ChannelState{Ready: true, Problem: "535: user or password wrong"}, "▲ ready, with a problem"},
		{v1.ChannelState{Ready: true, Broken: true, Problem: "503"}, "✖ fails"},
		{v1.ChannelState{Problem: "It is not set up."}, "○ not set up"},
	} {
		if got := channelCell(c.is).text; got != c.want {
			t.Errorf("%+v: %q, want %q", c.is, got, c.want)
		}
	}
}

func TestWhatAnIncidentCostIsSaidAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	for want, i := range map[string]v1.Incident{
		"":                                   {Told: 3}, // by email
		"the provider has not said it (yet)": {Unpriced: 2},
		"0.0158 USD":                         {Cost: 15800, CostUnit: "USD"},
		"0.0000 USD":                         {CostUnit: "USD"},
		"0.0079 EUR, without 1 message whose price is not known (yet)":  {Cost: 7900, CostUnit: "EUR", Unpriced: 1},
		"0.0079 EUR, without 2 messages whose price is not known (yet)": {Cost: 7900, CostUnit: "EUR", Unpriced: 2},
	} {
		if got := costText(i); got != want {
			t.Errorf("%+v: %q, want %q", i, got, want)
		}
	}
}
