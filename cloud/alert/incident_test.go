package alert

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

func TestATriggerIsToldOnceAndItsResolveFollows(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna := r.contact("foo", "anna", channel.SMS, channel.Email)
	r.policy(Customer, step{Contacts: []int64{anna}})
	f := r.offline("la")
	r.holds(f)
	for range 3 {
		r.turn()
	}
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/sms")
	d := r.incident("la")
	if d.Since.Sub(f.Since).Abs() > time.Millisecond || d.OpenedAt.Sub(d.Since) < 8*time.Second {
		t.Errorf("it is not backdated: since %s, opened %s", d.Since, d.OpenedAt)
	}
	if !slices.Equal(d.Evidence, f.Evidence) || d.Name != "Plant la" || d.Tenant != "foo" || d.Told != 2 || d.Cost != 15000 {
		t.Errorf("the incident is shown as %+v", d.Incident)
	}
	m := r.peer.got(channel.Trigger)[0]
	if i := m.Incident; i.AckURL != "https://region.example/ack/"+m.Delivery || i.TimeZone != "America/Los_Angeles" || len(i.Actions) < 3 || i.DedupKey == "" || m.Repeat {
		t.Errorf("the message is %+v", m)
	}

	r.holds()
	for range 3 {
		r.turn()
	}
	r.want("resolves", r.to(channel.Resolve), "anna/email", "anna/sms")
	got := r.peer.got(channel.Resolve)[0]
	if got.Incident.DedupKey != m.Incident.DedupKey || got.Incident.Resolved.IsZero() || got.Incident.AckURL != "" {
		t.Errorf("the resolve is %+v", got)
	}
	if d = r.incident("la"); d.ResolvedAt == nil || d.NextAt != nil {
		t.Errorf("it is not over: %+v", d.Incident)
	}
	r.want("the timeline", timeline(d), "opened", "escalated", "told", "told", "resolved", "told", "told")

	r.holds(f)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != 4 {
		t.Errorf("%d triggers after it came back, want 4", n)
	}
}

// What the region decides and what it stores is one: an incident is there with its messages, or not at all.
func TestIncidentAndMessagesCommitTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.holds(r.offline("la"))
	r.look() // takes the lease
	r.holds()
	r.look()
	r.holds(r.offline("la"))
	r.a.faults.Commit.FailAfter(1)
	r.look()
	if d := r.incident("la"); d.Waiting != 1 { // it is stored, and the one who did it does not know
		t.Errorf("%+v", d.Incident)
	}
	r.start() // another process goes on, and does not know what was stored
	r.pass(10 * time.Second)
	for range 3 {
		r.turn()
	}
	if n := len(r.to(channel.Trigger)); n != 1 {
		t.Errorf("%d triggers, want 1", n)
	}
}

func TestWhatCannotBeJudgedNeitherOpensNorResolves(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}})
	r.holds(r.offline("la"))
	r.turn()

	blind := detect.Finding{Kind: detect.Blind, Severity: detect.Critical, Since: r.now(), Summary: "Both canaries are late"}
	r.holds(blind, r.offline("ny")) // la is back, or is it
	r.held()
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms", "ops/pagerduty", "ops/pagerduty")
	r.want("resolves", r.to(channel.Resolve))

	r.holds(r.offline("ny"))
	r.held("la", "ny")
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "ops/pagerduty")
	if d := r.incident("la"); d.ResolvedAt != nil {
		t.Error("it resolved although it cannot be judged")
	}
	r.holds()
	r.turn()
	if d := r.incident("la"); d.ResolvedAt == nil {
		t.Error("it is still open")
	}
}

// A judge who has stopped judging says neither that something is wrong nor that it is over.
func TestAWordThatIsOldChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}})
	r.holds(r.offline("la"), detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Summary: "Many at once"})
	r.turn()
	stale := r.now()
	r.a.c.Word = func() detect.Word { return detect.Word{At: stale} }
	r.pass(time.Minute)
	r.turn()
	r.want("resolves", r.to(channel.Resolve))
	if d := r.incident("la"); d.ResolvedAt != nil {
		t.Error("it resolved")
	}
}

func TestOperationsAreToldOfTheRegionAndCustomersOfTheirFacilities(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny", "sf", "own")
	if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.facility (id, tenant, name) VALUES ('bonn', 'bar', 'Werk Bonn')`); err != nil {
		t.Fatal(err)
	}
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("foo", "ben", channel.Email)}})
	r.policy(Customer, step{Contacts: []int64{r.contact("bar", "birgit", channel.Email)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("bar", "bernd", channel.Email)}})
	r.roster.policies[1].Tenant = "bar"
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}}, step{After: time.Minute, Contacts: []int64{r.contact("", "boss", channel.PagerDuty)}})
	r.holds(r.offline("own")) // one alone, before it is the region's
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "ops/pagerduty")

	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	all := func(facilities ...string) []detect.Finding {
		list := []detect.Finding{outage}
		for _, f := range facilities {
			one := r.offline(f)
			one.Of = detect.Outage
			list = append(list, one)
		}
		return list
	}
	r.holds(all("own", "la", "ny", "bonn")...)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "birgit/email", "ops/pagerduty", "ops/pagerduty")
	parent := r.incident("")
	if len(parent.Parts) != 4 {
		t.Errorf("the region's incident has %d parts, want 4", len(parent.Parts))
	}
	last := func(to string) channel.Incident {
		list := slices.DeleteFunc(r.peer.got(channel.Trigger), func(m taken) bool { return m.To != to })
		return list[len(list)-1].Incident
	}
	if i := last("anna/email"); !slices.Equal(i.Affected, []string{"Plant own", "Plant la", "Plant ny"}) || !strings.HasPrefix(i.Summary, "3 of your facilities are affected (many facilities of the region") {
		t.Errorf("a customer with several is told %+v", i)
	}
	if i := last("birgit/email"); i.Name != "Werk Bonn" || i.Facility != "bonn" || i.Kind != "offline" || len(i.Affected) != 0 || !strings.Contains(i.Summary, "heard of it (many") {
		t.Errorf("a customer with one is told %+v", i)
	}
	if i := last("ops/pagerduty"); len(i.Affected) != 4 || i.Kind != "outage" {
		t.Errorf("operations are told %+v", i)
	}

	// A customer's answer stops what goes to his people, operations' what goes to theirs.
	birgits := r.delivery("birgit/email", channel.Trigger)
	if answer, err := r.a.Acknowledge(t.Context(), channel.Ack{Delivery: birgits.ID, How: "link"}); err != nil || !strings.Contains(answer, "birgit") {
		t.Errorf("%q, %v", answer, err)
	}
	if answer, _ := r.a.Acknowledge(t.Context(), channel.Ack{Delivery: birgits.ID, How: "link"}); answer != answerYours {
		t.Errorf("%q", answer)
	}
	if d := r.incident(""); d.AckedAt != nil {
		t.Error("a customer has taken the region's incident from operations")
	}
	r.holds(all("own", "la", "ny", "bonn", "sf")...) // one more of a customer who knows
	r.pass(time.Minute)
	r.turn()
	if _, err := r.a.AcknowledgeBy(t.Context(), parent.ID, "omar", "cli", ""); err != nil {
		t.Fatal(err)
	}
	r.pass(10 * time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email", "ben/email", "birgit/email", "boss/pagerduty", "ops/pagerduty", "ops/pagerduty")
	r.want("updates", r.to(channel.Update), "birgit/email", "boss/pagerduty", "ops/pagerduty")
	if u := r.peer.got(channel.Update)[0]; u.To == "birgit/email" && u.Incident.AckedBy != "birgit" {
		t.Errorf("%+v", u.Incident)
	}

	// The region's condition is over, and one facility is not back: after a while it is told by itself.
	r.holds(r.offline("sf"))
	r.turn()
	n := len(r.to(channel.Trigger))
	r.want("resolves", r.to(channel.Resolve), "anna/email", "anna/email", "ben/email", "ben/email", "birgit/email", "boss/pagerduty", "ops/pagerduty", "ops/pagerduty")
	r.pass(partedAfter + time.Second)
	r.turn()
	r.want("triggers", slices.DeleteFunc(r.to(channel.Trigger)[:], func(to string) bool { return to != "anna/email" }), "anna/email", "anna/email", "anna/email")
	if m := len(r.to(channel.Trigger)); m != n+2 {
		t.Errorf("%d more are told of what is left, want 2", m-n)
	}
	if d := r.incident("sf"); d.Parent != nil {
		t.Error("it is still part of what is over")
	}
}

func TestWhatBecomesCriticalIsToldAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben := r.contact("foo", "anna", channel.Email), r.contact("foo", "ben", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}})
	r.policy(Customer, step{Contacts: []int64{ben}})
	r.roster.policies[1].Least = detect.Critical
	f := detect.Finding{Kind: detect.DiskFilling, Facility: "la", Severity: detect.Warning, Since: r.now(), Summary: "full in 20 h"}
	r.holds(f)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email")
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("la").ID, "omar", "cli", "will buy one"); err != nil {
		t.Fatal(err)
	}
	f.Summary = "full in 19 h"
	r.holds(f)
	r.turn()
	if d := r.incident("la"); d.Summary != "full in 19 h" || d.AckedBy != "omar" {
		t.Errorf("%+v", d.Incident)
	}
	r.want("triggers", r.to(channel.Trigger), "anna/email")

	f.Severity = detect.Critical
	r.holds(f)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "ben/sms")
	if d := r.incident("la"); d.Severity != "critical" || d.AckedAt != nil {
		t.Errorf("%+v", d.Incident)
	}
}

func TestAnnouncedWorkPagesNobodyUntilItEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.roster.work("la", r.now().Add(time.Hour))
	r.holds(r.offline("la"))
	r.turn()
	r.want("triggers", r.to(channel.Trigger))
	if d := r.incident("la"); !d.Quiet || d.NextAt != nil {
		t.Errorf("%+v", d.Incident)
	}
	r.pass(time.Hour + time.Second)
	r.turn()
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms")
}

func TestWorkThatIsAnnouncedLaterCancelsPagesAndNeverTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben := r.contact("foo", "anna", channel.SMS), r.contact("foo", "ben", channel.SMS, channel.Webhook)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: time.Minute, Contacts: []int64{ben}})
	r.peer.says(func(m taken, n int) int {
		if m.To == "ben/webhook" {
			return 503
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	r.pass(time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms", "ben/sms")
	r.roster.work("la", r.now().Add(time.Hour))
	r.pass(6 * time.Second)
	r.look()
	if d := r.delivery("ben/webhook", channel.Trigger); d.State != "cancelled" {
		t.Errorf("the page that waited is %s", d.State)
	}
	r.peer.says(nil)
	r.pass(time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms", "ben/sms")
	r.holds() // over during the work
	r.turn()
	r.pass(time.Minute)
	r.turn()
	// The webhook's provider failed: whether it has the page is not known.
	r.want("resolves", r.to(channel.Resolve), "anna/sms", "ben/sms", "ben/webhook")
}

func TestOneThatCannotBeStoredKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny", "sf")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.roster.fail = "ny"
	r.holds(r.offline("la"), r.offline("ny"), r.offline("sf"), r.offline("gone"))
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms", "anna/sms")
	if got := r.audited(); !strings.Contains(got, "offline of ny cannot be stored") {
		t.Errorf("the auditor finds %q", got)
	}
	r.roster.fail = ""
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms", "anna/sms", "anna/sms")
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
}

func TestAFacilityThatIsNotThereCostsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.holds(r.offline("gone"))
	r.look()
	changed := r.a.Changed()
	r.look()
	select {
	case <-changed:
		t.Error("it was tried again at once")
	default:
	}
	if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.facility (id, tenant) VALUES ('gone', 'foo')`); err != nil {
		t.Fatal(err)
	}
	r.pass(strangeFor)
	r.look()
	if d := r.incident("gone"); d.Kind != "offline" {
		t.Errorf("%+v", d.Incident)
	}
}

func TestPlanDecidesFromTheLevel(t *testing.T) {
	t.Parallel()
	parent := int64(7)
	open := func(id int64, f string, change ...func(*subject)) subject {
		s := subject{ID: id, Kind: detect.Offline, Facility: f, Severity: detect.Critical, Summary: "x"}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	find := func(f string, change ...func(*detect.Finding)) detect.Finding {
		x := detect.Finding{Kind: detect.Offline, Facility: f, Severity: detect.Critical, Summary: "x"}
		for _, c := range change {
			c(&x)
		}
		return x
	}
	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical}
	of := func(f *detect.Finding) { f.Of = detect.Outage }
	part := func(s *subject) { s.Parent, s.ParentKind = &parent, detect.Outage }
	for _, tc := range []struct {
		name                     string
		word                     detect.Word
		open                     []subject
		opens, updates, resolves int
		joined, parted           bool
	}{
		{"nothing", detect.Word{}, nil, 0, 0, 0, false, false},
		{"new", detect.Word{Findings: []detect.Finding{find("la")}}, nil, 1, 0, 0, false, false},
		{"as it was", detect.Word{Findings: []detect.Finding{find("la")}}, []subject{open(1, "la")}, 0, 0, 0, false, false},
		{"gone", detect.Word{}, []subject{open(1, "la")}, 0, 0, 1, false, false},
		{"another", detect.Word{Findings: []detect.Finding{find("ny")}}, []subject{open(1, "la")}, 1, 0, 1, false, false},
		{"held", detect.Word{Held: true, Findings: []detect.Finding{find("ny"), outage}}, []subject{open(1, "la")}, 1, 0, 0, false, false},
		{"one held", detect.Word{HeldOf: map[string]bool{"la": true}, Findings: []detect.Finding{find("ny")}}, []subject{open(1, "la")}, 1, 0, 0, false, false},
		{"joins", detect.Word{Findings: []detect.Finding{find("la", of), outage}}, []subject{open(1, "la")}, 1, 1, 0, true, false},
		{"is part", detect.Word{Findings: []detect.Finding{find("la", of), outage}}, []subject{open(1, "la", part), {ID: 7, Kind: detect.Outage, Severity: detect.Critical}}, 0, 0, 0, false, false},
		{"parts", detect.Word{Findings: []detect.Finding{find("la")}}, []subject{open(1, "la", part)}, 0, 1, 0, false, true},
		{"says something else", detect.Word{Findings: []detect.Finding{find("la", func(f *detect.Finding) { f.Evidence = []string{"a", "b"} })}}, []subject{open(1, "la")}, 0, 1, 0, false, false},
		{"says the same", detect.Word{Findings: []detect.Finding{find("la", func(f *detect.Finding) { f.Evidence = []string{"a", "b"} })}}, []subject{open(1, "la", func(s *subject) { s.Evidence = fingerprint([]string{"a", "b"}) })}, 0, 0, 0, false, false},
		{"of nothing", detect.Word{Findings: []detect.Finding{find("la", of)}}, []subject{open(1, "la")}, 0, 0, 0, false, false},
	} {
		got := plan(tc.word, tc.open)
		if len(got.opens) != tc.opens || len(got.updates) != tc.updates || len(got.resolves) != tc.resolves {
			t.Errorf("%s: %d open, %d change, %d resolve; want %d, %d, %d", tc.name, len(got.opens), len(got.updates), len(got.resolves), tc.opens, tc.updates, tc.resolves)
		}
		for _, u := range got.updates {
			if u.joined != tc.joined || u.parted != tc.parted {
				t.Errorf("%s: %+v", tc.name, u)
			}
		}
	}
}

// Whoever judges cannot say that he hangs.
func TestOperationsAreToldWhenNothingIsJudgedAnyMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	r.a.timing.poll = stuckAfter / 4
	fresh := r.a.c.Word
	last := r.now()
	r.a.c.Word = func() detect.Word { return detect.Word{At: last} }
	r.pass(time.Hour) // this process stood still: that alone is not it
	for range 3 {
		r.turn()
	}
	r.want("too early", r.to(channel.Trigger))
	for range 2 {
		r.turn()
	}
	r.want("triggers", r.to(channel.Trigger), "ops/email")
	if i := r.incident(""); i.Kind != string(detect.Blind) || i.Severity != string(detect.Critical) {
		t.Errorf("%+v", i.Incident)
	}
	r.a.c.Word = fresh
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "ops/email")
}

func TestACustomerWhoseFacilitiesAreBackIsCalledNoMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.facility (id, tenant, name) VALUES ('bonn', 'bar', 'Werk Bonn')`); err != nil {
		t.Fatal(err)
	}
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("foo", "ben", channel.Email)}})
	r.policy(Customer, step{Contacts: []int64{r.contact("bar", "birgit", channel.Email)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("bar", "bernd", channel.Email)}})
	r.roster.policies[1].Tenant = "bar"
	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	la, bonn := r.offline("la"), r.offline("bonn")
	la.Of, bonn.Of = detect.Outage, detect.Outage
	r.holds(outage, la, bonn)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "birgit/email")
	r.holds(outage, bonn)
	r.turn()
	r.pass(11 * time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "bernd/email", "birgit/email")
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/email", "bernd/email", "birgit/email")
}

// One facility of the first outage is not back when many fall silent again: all are
// told of the second one as they were of the first.
func TestASecondOutageIsToldAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}})
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}})
	outage := func() detect.Finding {
		return detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	}
	part := func(facility string) detect.Finding {
		f := r.offline(facility)
		f.Of = detect.Outage
		return f
	}
	first := outage()
	r.holds(first, part("la"), part("ny"))
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "ops/pagerduty")
	before := r.incident("").ID
	r.holds(first, part("la"))
	r.turn()
	r.pass(10 * time.Minute)
	second := outage()
	r.holds(second, r.offline("la"), part("ny"))
	r.turn() // the first is over
	r.want("resolves", r.to(channel.Resolve), "anna/email", "ops/pagerduty")
	r.turn()
	if d := r.incident(""); d.ID == before || d.ResolvedAt != nil || len(d.Parts) != 1 || d.Parts[0].Facility != "ny" {
		t.Errorf("the region's incident is %+v", d)
	}
	told := r.to(channel.Trigger)
	for _, who := range []string{"anna/email", "ops/pagerduty"} {
		if n := len(slices.DeleteFunc(slices.Clone(told), func(to string) bool { return to != who })); n < 2 {
			t.Errorf("%s got %d messages of two outages", who, n)
		}
	}
}

// The tunnels of many break at once: one ticket to operations, and each customer who
// asked for it is told of his. One of them is down still when many break again.
func TestManyTunnelsAreOneTicketAndASecondTimeIsToldAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny", "sf")
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}})
	down := func(facility, summary string, of detect.Kind) detect.Finding {
		return detect.Finding{Kind: detect.TunnelDown, Facility: facility, Severity: detect.Warning, Since: r.now(), Summary: summary, Of: of}
	}
	many := down("", "The tunnels of 3 facilities of this region went down at once.", "")
	la, ny, sf := down("la", "la's tunnel is down", detect.TunnelDown), down("ny", "ny's tunnel is down", detect.TunnelDown), down("sf", "sf's tunnel is down", detect.TunnelDown)
	r.holds(many, la, ny, sf)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "ops/email")
	for _, m := range r.peer.got(channel.Trigger) {
		i := m.Incident
		if m.To == "ops/email" && (i.Summary != many.Summary || i.Region != "us-east" || i.Facility != "" || len(i.Affected) != 3) {
			t.Errorf("operations are told %+v", i)
		}
	}
	if i := r.incident("la"); i.Parent == nil || *i.Parent != r.incident("").ID {
		t.Errorf("a facility's is no part: %+v", i)
	}

	r.holds(many, la)
	r.turn()
	r.pass(10 * time.Minute)
	many.Since = r.now()
	r.holds(many, la, ny)
	r.turn() // the first is over
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/email", "ops/email")
	r.want("triggers of both", r.to(channel.Trigger), "anna/email", "anna/email", "ops/email", "ops/email")
	if d := r.incident(""); len(d.Parts) != 2 {
		t.Errorf("the second has the parts %+v", d.Parts)
	}
}

// Who is left of the first is told as a part of the second, or else he would believe that it is over.
func TestWhoIsLeftOfTheFirstIsToldOfTheSecond(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.facility SET tenant = 'bar' WHERE id = 'ny'`); err != nil {
		t.Fatal(err)
	}
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}})
	down := func(facility string, of detect.Kind) detect.Finding {
		return detect.Finding{Kind: detect.TelemetryDown, Facility: facility, Severity: detect.Warning, Since: r.now(), Summary: "no heartbeats", Of: of}
	}
	many, la := down("", ""), down("la", detect.TelemetryDown)
	r.holds(many, la)
	r.turn()
	r.pass(10 * time.Minute)
	many.Since = r.now()
	r.holds(many, la, down("ny", detect.TelemetryDown))
	r.turn()
	r.turn()
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email")
	r.want("resolves", r.to(channel.Resolve), "anna/email")
}

func TestWhatHasLongBeenOverIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	ops := r.contact("", "ops", channel.Email)
	r.policy(Operations, step{Contacts: []int64{ops}})
	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	la, ny := r.offline("la"), r.offline("ny")
	la.Of = detect.Outage
	r.holds(outage, la, ny)
	r.turn()
	if _, err := r.a.Test(t.Context(), r.method("ops", channel.Email), "ben"); err != nil {
		t.Fatal(err)
	}
	r.deliver()
	for _, ended := range []time.Duration{0, 3 * time.Hour} {
		if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.maintenance (facility, starts_at, ends_at, reason, created_by) VALUES ('la', $1, $2, 'a switch', 'test')`,
			r.now().Add(ended-time.Hour), r.now().Add(ended)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.`+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r.holds(ny) // one lasts
	r.turn()
	r.pass(keptFor - time.Hour)
	r.look()
	if n := count("incident"); n != 3 {
		t.Fatalf("%d incidents are kept, want 3", n)
	}
	if n := count("maintenance"); n != 2 {
		t.Errorf("%d announcements of work are kept, want 2", n)
	}
	r.pass(2 * time.Hour)
	r.look() // the parts
	r.pass(pruneEvery)
	r.look() // and the region's
	if d := r.incident("ny"); d.ResolvedAt != nil {
		t.Error("it is still so")
	}
	if n := count("maintenance"); n != 1 {
		t.Errorf("%d announcements of work are kept, want 1", n)
	}
	if n := count("incident"); n != 1 {
		t.Errorf("%d incidents are kept, want 1", n)
	}
	var others int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.delivery d LEFT JOIN holdfast.incident i ON i.id = d.incident WHERE i.facility IS DISTINCT FROM 'ny'`).Scan(&others); err != nil || others != 0 {
		t.Errorf("%d messages of what is gone are kept, %v", others, err)
	}
}

func TestNobodyIsRefusedForHisAlphabet(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.holds(r.offline("la"))
	r.turn()
	if d, err := r.a.AcknowledgeBy(t.Context(), r.incident("la").ID, "omar", "dashboard", strings.Repeat("ж", 500)); err != nil || d.AckedBy != "omar" {
		t.Errorf("%+v, %v", d, err)
	}
}

// What is over wakes nobody; but whom nothing but a call has reached is called.
func TestNoPhoneRingsForTheEndUnlessNothingElseGotThrough(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ways []channel.Kind
		sms  int // what the provider answers to SMS
		want []string
	}{
		"an SMS was taken":     {[]channel.Kind{channel.SMS, channel.Voice}, 200, []string{"anna/sms"}},
		"an email was taken":   {[]channel.Kind{channel.SMS, channel.Voice, channel.Email}, 400, []string{"anna/email"}},
		"the SMS was refused":  {[]channel.Kind{channel.SMS, channel.Voice}, 400, []string{"anna/voice"}},
		"there is only a call": {[]channel.Kind{channel.Voice}, 200, []string{"anna/voice"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "la")
			r.peer.says(func(m taken, _ int) int {
				if m.Kind == channel.SMS {
					return c.sms
				}
				return 200
			})
			r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", c.ways...)}})
			r.holds(r.offline("la"))
			r.turn()
			r.holds()
			r.turn()
			r.want("told of the end", r.to(channel.Resolve), c.want...)
		})
	}
}

// Another's SMS is no word to somebody: each contact is looked at by himself.
func TestTheEndReachesEverybodyWhoWasCalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS, channel.Voice), r.contact("foo", "ben", channel.Voice)}})
	r.holds(r.offline("la"))
	r.turn()
	r.holds()
	r.turn()
	r.want("told of the end", r.to(channel.Resolve), "anna/sms", "ben/voice")
}

func TestWhatIsKnownNowIsWrittenAndWakesNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}})
	f := r.offline("la")
	says := func(evidence ...string) {
		f.Evidence = evidence
		r.holds(f)
		r.turn()
	}
	shows := func(evidence ...string) {
		t.Helper()
		r.want("the evidence", r.incident("la").Evidence, evidence...)
	}
	says("last heartbeat 8 s ago")
	for _, evidence := range [][]string{{"it was asked and is silent", "queue \u00fc: 3 rows"}, {}, {"a line\nthat is one"}} {
		r.pass(quietWords + time.Second)
		says(evidence...)
		if len(evidence) == 1 {
			evidence = []string{"a line that is one"}
		}
		shows(evidence...)
		before := r.count(`SELECT xmin::text::bigint FROM holdfast.incident`)
		r.pass(quietWords + time.Second)
		r.turn()
		if r.count(`SELECT xmin::text::bigint FROM holdfast.incident`) != before {
			t.Errorf("%q is written again", evidence)
		}
		r.pass(quietWords + time.Second)
		says("and")
		says("and so on") // within a moment
		shows("and")
	}
	r.want("triggers", r.to(channel.Trigger), "anna/email")
	if n := len(r.incident("la").Timeline); n != 3 {
		t.Errorf("%d lines in the timeline, want 3", n)
	}
}
