package oncall

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

func TestEachIncidentRunsThroughThePoliciesThatConcernIt(t *testing.T) {
	all := policy{ID: 1, Severity: "warning"}
	pages := policy{ID: 2, Severity: "critical"}
	foo := policy{ID: 3, Tenant: "foo", Severity: "info"}
	onlyLA := policy{ID: 4, Tenant: "foo", Severity: "warning", Facilities: []string{"la"}}
	quality := policy{ID: 5, Tenant: "foo", Severity: "info", Kinds: []string{"mismatch", "parked_rows"}}
	bar := policy{ID: 6, Tenant: "bar", Severity: "info"}
	drill := policy{ID: 7, Severity: "info", Kinds: []string{"drill"}}
	list := []policy{all, pages, foo, onlyLA, quality, bar, drill}

	subject := func(kind detect.Kind, severity detect.Severity, tenant, facility string) alert.Subject {
		return alert.Subject{Kind: kind, Severity: severity, Tenant: tenant, Facility: facility}
	}
	for _, c := range []struct {
		name string
		s    alert.Subject
		want []int64
	}{
		{"offline is everybody's", subject(detect.Offline, detect.Critical, "foo", "la"), []int64{1, 2, 3, 4}},
		{"of another facility", subject(detect.Offline, detect.Critical, "foo", "sf"), []int64{1, 2, 3}},
		{"of another tenant", subject(detect.Offline, detect.Critical, "bar", "frankfurt"), []int64{1, 2, 6}},
		{"a warning is no page", subject(detect.DiskFilling, detect.Warning, "foo", "la"), []int64{1, 3, 4}},
		{"a note", subject(detect.DiskFilling, detect.Info, "foo", "la"), []int64{3}},
		{"operations' business", subject(detect.TunnelDown, detect.Warning, "foo", "la"), []int64{1}},
		{"unless a policy names it", subject(detect.Mismatch, detect.Warning, "foo", "la"), []int64{1, 5}},
		{"the region's own", subject(detect.Blind, detect.Critical, "", ""), []int64{1, 2}},
		{"what stands still for all", subject(detect.NoProgress, detect.Warning, "", ""), []int64{1}},
		{"the region's clock", subject(detect.ClockOff, detect.Warning, "", ""), []int64{1}},
		{"an outage of many", subject(detect.Outage, detect.Critical, "", ""), []int64{1, 2}},
		{"the drill only where it is named", subject(detect.Drill, detect.Critical, "", ""), []int64{7}},
		{"a kind of a later build is everybody's", subject("volcano", detect.Critical, "foo", "la"), []int64{1, 2, 3, 4}},
	} {
		var got []int64
		for _, p := range list {
			if p.concerns(c.s) {
				got = append(got, p.ID)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: policies %v, want %v", c.name, got, c.want)
		}
	}
	for k, who := range map[detect.Kind]told{
		detect.TunnelDown: operations, detect.TelemetryDown: operations, detect.ParkedRows: operations, detect.Mismatch: operations,
		detect.NoProgress: operations, detect.Certificate: operations, detect.ClockOff: operations, detect.WatchdogOff: operations,
		detect.Blind: operations, detect.Alerting: operations, detect.Drill: named,
		detect.Offline: everybody, detect.Unstable: everybody, detect.QueueFilling: everybody, detect.DiskFilling: everybody,
		detect.DatabaseDown: everybody, detect.Temperature: everybody,
	} {
		if got, ok := kinds[k]; !ok || got != who {
			t.Errorf("%s: %v", k, got)
		}
	}
}

func TestAStepTellsWhoIsOnCallThenAndEachAddressOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	anaID := r.contact("foo", "Ana", "sms +12135550100", "voice +12135550100", "email ana@example.com")
	benID := r.contact("foo", "Ben", "sms +12135550101")
	deskID := r.contact("", "Customer success", "email success@example.com")
	turns := r.schedule(v1.Schedule{Tenant: "foo", Name: "plant", TimeZone: losan, Rotations: []v1.Rotation{
		{Contacts: []int64{benID, anaID}, FirstDay: "2026-05-31", Handover: "06:00", TurnDays: 1},
	}})
	id := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{
		{After: 600, Contacts: []int64{benID, deskID}, Channels: []string{"email", "sms"}, Offer: "fallback"}, // out of order
		{After: 0, Contacts: []int64{anaID}, Schedules: []int64{turns}},
	}})
	s := offline("foo", "la")
	if got := r.policies(s); !slices.Equal(got, []int64{id}) {
		t.Fatalf("policies %v", got)
	}
	// 12:00 UTC is 05:00 in Los Angeles: Ben until six.
	first, told, ok := r.step(id, 0, s)
	if !ok || first.After != 0 || first.Audience != alert.Customer || first.Offer != "" || !slices.Equal(told, []string{"Ben sms", "Ana sms", "Ana voice", "Ana email"}) {
		t.Errorf("first step: %+v %v", first, told)
	}
	if a := first.Targets[0].Address; a != "+12135550101" || first.Targets[0].Contact != benID || first.Targets[0].Method == 0 {
		t.Errorf("target: %+v", first.Targets[0])
	}
	r.now = r.now.Add(2 * time.Hour)
	if _, told, _ := r.step(id, 0, s); !slices.Equal(told, []string{"Ana sms", "Ana voice", "Ana email"}) {
		t.Errorf("after the handover: %v", told)
	}
	second, told, ok := r.step(id, 1, s)
	if !ok || second.After != 10*time.Minute || second.Offer != "fallback" || !slices.Equal(told, []string{"Ben sms", "Customer success email"}) {
		t.Errorf("second step: %+v %v", second, told)
	}
	if _, _, ok := r.step(id, 2, s); ok {
		t.Error("there is a third step")
	}
	if _, _, ok := r.step(id+99, 0, s); ok {
		t.Error("there is a step of a policy that is not there")
	}
	// An incident goes on when its policy is removed, and no new one begins.
	if err := r.RemovePolicy(t.Context(), id, "olga", r.now); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := r.step(id, 1, s); !ok {
		t.Error("the escalation broke off")
	}
	if got := r.policies(s); len(got) != 0 {
		t.Errorf("policies %v", got)
	}
}

func TestWhatTwoPoliciesWouldTellAtOnceIsToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	team := r.contact("", "Operations", "sms +12135550100", "email ops@example.com")
	foos := r.contact("foo", "Ana", "email ops@example.com")
	page := r.policy(v1.Policy{Name: "operations", Severity: "critical", Steps: []v1.PolicyStep{{Contacts: []int64{team}}, {After: 120, Contacts: []int64{team}}}})
	ticket := r.policy(v1.Policy{Name: "tickets", Severity: "info", Steps: []v1.PolicyStep{
		{Contacts: []int64{team}, Channels: []string{"email"}}, {After: 120, Contacts: []int64{team}, Channels: []string{"email"}},
	}})
	customer := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{{Contacts: []int64{foos}}}})
	s := offline("foo", "la")
	if got := r.policies(s); !slices.Equal(got, []int64{page, ticket, customer}) {
		t.Fatalf("policies %v", got)
	}
	for _, c := range []struct {
		policy int64
		no     int
		s      alert.Subject
		want   []string
	}{
		{page, 0, s, []string{"Operations sms", "Operations email"}},
		{ticket, 0, s, nil},
		{ticket, 1, s, []string{"Operations email"}}, // a repetition is meant
		{customer, 0, s, []string{"Ana email"}},
		{ticket, 0, alert.Subject{Kind: detect.TunnelDown, Severity: detect.Warning, Tenant: "foo", Facility: "la"}, []string{"Operations email"}},
	} {
		if step, told, _ := r.step(c.policy, c.no, c.s); !slices.Equal(told, c.want) || step.Covered != (c.want == nil) {
			t.Errorf("policy %d step %d: %v, covered %t, want %v", c.policy, c.no, told, step.Covered, c.want)
		}
	}
}

func TestAnnouncedWorkEndsByItselfAndCanBeRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	until := func(at time.Time) (end time.Time, ok bool) {
		r.within(func(tx pgx.Tx) (err error) {
			end, ok, err = r.Maintenance(ctx, tx, "la", at)
			return err
		})
		return end, ok
	}
	add := func(in v1.MaintenanceAdd) (v1.Maintenance, error) { return r.AddMaintenance(ctx, in, "olga", r.now) }
	m, err := add(v1.MaintenanceAdd{Facility: "la", For: 7200, Reason: " new switch "})
	if err != nil || m.ID == 0 || m.Reason != "new switch" || !m.EndsAt.Equal(r.now.Add(2*time.Hour)) {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, c := range []struct {
		after time.Duration
		ok    bool
	}{{-time.Second, false}, {0, true}, {2*time.Hour - time.Second, true}, {2 * time.Hour, false}} {
		if _, ok := until(r.now.Add(c.after)); ok != c.ok {
			t.Errorf("%s after its start: %v", c.after, ok)
		}
	}
	// Renewed after an hour, it lasts until the later end.
	first := r.now
	r.now = r.now.Add(time.Hour)
	again, err := add(v1.MaintenanceAdd{Facility: "la", For: 8 * 3600, Reason: "it takes longer"})
	if err != nil {
		t.Fatal(err)
	}
	if end, ok := until(r.now); !ok || !end.Equal(first.Add(9*time.Hour)) {
		t.Errorf("until %v %v", end, ok)
	}
	if list, err := r.ListMaintenance(ctx, "la", false, 10, r.now); err != nil || len(list) != 2 || list[0].ID != m.ID {
		t.Errorf("list: %+v, %v", list, err)
	}
	if _, err := r.EndMaintenance(ctx, again.ID, "maria", r.now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, ok := until(r.now.Add(2 * time.Hour)); ok {
		t.Error("it goes on after it was ended")
	}
	if _, ok := until(r.now.Add(time.Hour + time.Minute)); !ok {
		t.Error("it was ended for the time before")
	}
	_, err = r.EndMaintenance(ctx, again.ID, "maria", r.now.Add(3*time.Hour))
	wantRefused(t, err, "ended already")
	if list, err := r.ListMaintenance(ctx, "", true, 10, r.now.Add(3*time.Hour)); err != nil || len(list) != 2 || list[0].ID != again.ID || list[0].EndedBy != "maria" {
		t.Errorf("list of all: %+v, %v", list, err)
	}

	_, err = add(v1.MaintenanceAdd{Facility: "la", For: 8*3600 + 1, Reason: "x"})
	wantInvalid(t, err, "for_s", "8 hours")
	_, err = add(v1.MaintenanceAdd{Facility: "la", For: 60, Reason: " "})
	wantInvalid(t, err, "reason", "Say in a line")
	_, err = add(v1.MaintenanceAdd{Facility: "la", For: 60, StartsIn: 91 * 86400, Reason: "x"})
	wantInvalid(t, err, "starts_in_s", "90 days")
	if _, err = add(v1.MaintenanceAdd{Facility: "nowhere", For: 60, Reason: "x"}); err == nil {
		t.Error("work at a facility that is not there was announced")
	}
}

func TestANewRegionHasPoliciesOfItsOwnOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	for range 2 {
		if drill, err := Seed(ctx, r.pool); err != nil || drill == 0 {
			t.Fatal(drill, err)
		}
	}
	list, err := r.ListPolicies(ctx, "", 0, 100)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	var after []int
	for _, s := range list[0].Steps {
		after = append(after, s.After)
		if s.Offer != "" {
			t.Errorf("operations are offered %s", s.Offer)
		}
	}
	if list[0].Name != "operations" || list[0].Severity != "critical" || !slices.Equal(after, []int{0, 120, 600, 3600}) {
		t.Errorf("operations: %+v", list[0])
	}
	if p := list[1]; p.Name != "tickets" || p.Severity != "info" || !reflect.DeepEqual(p.Steps[0].Channels, []string{"email", "slack", "teams", "mqtt"}) {
		t.Errorf("tickets: %+v", p)
	}
	c, err := r.Coverage(ctx, "la", "", 10, r.now)
	if err != nil || len(c) != 1 || c[0].Operations.Problem == "" || c[0].Customer.Problem == "" {
		t.Fatalf("who is told: %+v, %v", c, err)
	}
	contacts, err := r.ListContacts(ctx, "", 0, 10)
	if err != nil || len(contacts) != 2 || contacts[0].Name != "Operations" {
		t.Fatalf("%+v, %v", contacts, err)
	}
	r.method(contacts[0].ID, "sms +12135550100")
	r.method(contacts[0].ID, "email ops@example.com")
	if _, told, _ := r.step(list[0].ID, 0, offline("foo", "la")); !slices.Equal(told, []string{"Operations sms", "Operations email"}) {
		t.Errorf("told: %v", told)
	}
	// What was removed stays removed.
	for _, p := range list {
		if err := r.RemovePolicy(ctx, p.ID, "olga", r.now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Seed(ctx, r.pool); err != nil {
		t.Fatal(err)
	}
	if list, err := r.ListPolicies(ctx, "", 0, 100); err != nil || len(list) != 0 {
		t.Errorf("they came back: %+v, %v", list, err)
	}
}

func TestTheStandardPolicyWidensStepByStep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.contact("foo", "Ana", "sms +12135550100", "voice +12135550100")
	next := r.contact("foo", "Ben", "sms +12135550101")
	desk := r.contact("", "Success", "email success@example.com")
	id := r.policy(Standard(v1.StandardPolicy{Tenant: "foo", First: []int64{first}, Next: []int64{next}, Success: []int64{desk}}))
	s := offline("foo", "la")
	for no, want := range [][]string{{"Ana sms", "Ana voice"}, {"Ana voice"}, {"Ben sms"}, {"Ana sms", "Ana voice", "Success email"}} {
		step, told, ok := r.step(id, no, s)
		if !ok || !slices.Equal(told, want) || step.After != []time.Duration{0, 2 * time.Minute, 10 * time.Minute, time.Hour}[no] || (step.Offer == "fallback") != (no == 3) {
			t.Errorf("step %d: %+v %v", no, step, told)
		}
	}
}
