package alert

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

func TestNextIsToldAtItsTimeAndEarlierWhenNobodyIsReached(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	steps := func(tenant string) []step {
		return []step{
			{Contacts: []int64{r.contact(tenant, "anna", channel.SMS)}},
			{After: 10 * time.Minute, Contacts: []int64{r.contact(tenant, "ben", channel.SMS)}},
			{After: time.Hour, Contacts: []int64{r.contact(tenant, "success", channel.Email)}, Offer: "fallback"},
		}
	}
	r.policy(Customer, steps("foo")...)
	r.holds(r.offline("la"))
	r.turn()
	r.pass(time.Minute) // and what passes meanwhile on a busy machine
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/sms")
	r.pass(31 * time.Second)
	r.turn()
	r.want("triggers after 90 s without a receipt", r.to(channel.Trigger), "anna/sms", "ben/sms")
	r.pass(58 * time.Minute)
	r.turn()
	r.want("triggers before the hour", r.to(channel.Trigger), "anna/sms", "ben/sms")
	r.pass(time.Minute)
	r.turn()
	r.want("triggers after the hour", r.to(channel.Trigger), "anna/sms", "ben/sms", "success/email")
	m := r.peer.got(channel.Trigger)[2]
	if m.Incident.Offer == "" || m.Incident.OfferURL != "https://region.example/offer/"+m.Delivery {
		t.Errorf("the offer is %+v", m.Incident)
	}

	// Somebody was reached: the next waits for its time.
	r.holds(r.offline("ny"))
	r.turn()
	d := r.incident("ny").Deliveries[0]
	if err := r.a.Receipt(t.Context(), channel.Receipt{Delivery: d.ID, EventID: "1", State: channel.Delivered}); err != nil {
		t.Fatal(err)
	}
	r.pass(9 * time.Minute)
	r.turn()
	if n := len(r.incident("ny").Deliveries); n != 1 {
		t.Errorf("%d messages before the next one's time, want 1", n)
	}
	r.pass(time.Minute)
	r.turn()
	if n := len(r.incident("ny").Deliveries); n != 2 {
		t.Errorf("%d messages at the next one's time, want 2", n)
	}
}

func TestAContactWhoCannotBeToldGivesWayAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny", "sf")
	anna, ben := r.contact("foo", "anna", channel.SMS, channel.Voice), r.contact("foo", "ben", channel.SMS)
	nobody := r.contact("foo", "nobody")
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: time.Hour, Contacts: []int64{nobody}}, step{After: 2 * time.Hour, Contacts: []int64{ben}})
	r.peer.says(func(m taken, _ int) int {
		if m.To == "anna/sms" {
			return 400
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	r.turn()
	r.want("triggers: the call may do", r.to(channel.Trigger), "anna/voice")
	if d := r.delivery("anna/sms", channel.Trigger); d.State != "failed" || d.Error == "" {
		t.Errorf("%+v", d)
	}
	// The provider says later that the call did not arrive either. The next step has nobody, and the one after it is taken with it.
	d := r.delivery("anna/voice", channel.Trigger)
	if err := r.a.Receipt(t.Context(), channel.Receipt{Delivery: d.ID, EventID: "1", State: channel.Failed, Detail: "no answer"}); err != nil {
		t.Fatal(err)
	}
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/voice", "ben/sms")

	// A channel that nobody has set up is as good as a wrong number.
	delete(r.c.Senders, channel.SMS)
	delete(r.c.Senders, channel.Voice)
	r.start()
	r.pass(10 * time.Second)
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	r.turn()
	if d := r.incident("ny"); d.Failed != 3 || d.NextAt == nil || d.NextAt.Sub(r.now()) < 59*time.Minute {
		t.Errorf("%+v", d.Incident)
	}
}

func TestWhoIsToldByAnotherPolicyHasHisTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	ben := r.contact("foo", "ben", channel.SMS)
	r.policy(Customer, step{Covered: true}, step{After: 10 * time.Minute, Contacts: []int64{ben}})
	r.holds(r.offline("la"))
	r.turn()
	r.turn()
	r.want("triggers", r.to(channel.Trigger))
	r.pass(10 * time.Minute)
	r.holds(r.offline("la"))
	r.turn()
	r.turn()
	r.want("triggers after ten minutes", r.to(channel.Trigger), "ben/sms")
}

func TestAcknowledgingStopsTheRestAndTellsTheOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben, chris := r.contact("foo", "anna", channel.SMS, channel.Email), r.contact("foo", "ben", channel.Email, channel.Webhook), r.contact("foo", "chris", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna, ben}}, step{After: 10 * time.Minute, Contacts: []int64{chris}})
	r.peer.says(func(m taken, _ int) int {
		if m.To == "ben/webhook" {
			return 429
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	id := r.incident("la").ID
	answer, err := r.a.Acknowledge(t.Context(), channel.Ack{Incident: id, From: "anna/sms", How: "sms"})
	if err != nil || answer != "Thank you, anna. You have it, and nobody else is called." {
		t.Errorf("%q, %v", answer, err)
	}
	r.turn()
	r.pass(15 * time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/sms", "ben/email")
	r.want("updates", r.to(channel.Update), "anna/email", "ben/email")
	if u := r.peer.got(channel.Update)[0]; u.Incident.AckedBy != "anna" {
		t.Errorf("%+v", u)
	}
	d := r.incident("la")
	if d.AckedBy != "anna" || d.AckedHow != "sms" || d.NextAt != nil || d.RemindAt == nil || d.RemindAt.Sub(*d.AckedAt) != 2*time.Hour {
		t.Errorf("%+v", d.Incident)
	}
	if x := r.delivery("anna/sms", channel.Trigger); x.State != "reached" {
		t.Errorf("what was answered is %s", x.State)
	}
	if x := r.delivery("ben/webhook", channel.Trigger); x.State != "cancelled" {
		t.Errorf("what waited is %s", x.State)
	}

	// The second is told who has it.
	answer, err = r.a.Acknowledge(t.Context(), channel.Ack{Delivery: r.delivery("ben/email", channel.Trigger).ID, How: "link"})
	if want := "anna has had it since " + d.AckedAt.UTC().Format(clock) + "."; err != nil || answer != want {
		t.Errorf("%q, %v, want %q", answer, err, want)
	}
	if answer, _ = r.a.Acknowledge(t.Context(), channel.Ack{Incident: id, From: "anna/sms", How: "sms"}); answer != answerYours {
		t.Errorf("%q", answer)
	}

	// Forgotten: it is told again from the first step.
	r.pass(2 * time.Hour)
	r.peer.says(nil)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "anna/sms", "anna/sms", "ben/email", "ben/email", "ben/webhook")
	if d = r.incident("la"); d.AckedAt != nil || !slices.Contains(timeline(d), "reminded") {
		t.Errorf("%+v", d.Incident)
	}
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/email", "anna/sms", "ben/email", "ben/webhook")
	if answer, _ = r.a.Acknowledge(t.Context(), channel.Ack{Incident: id, From: "anna/sms", How: "sms"}); answer != answerOver {
		t.Errorf("%q", answer)
	}
}

func TestOnlyWhoWasToldCanAcknowledgeByNumber(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	anna := r.contact("foo", "anna", channel.SMS)
	r.contact("foo", "mallory", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}})
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	la := r.incident("la")
	for _, ack := range []channel.Ack{
		{Incident: la.ID, From: "mallory/sms"},
		{Incident: la.ID, From: "+15550000"},
		{Incident: la.ID + 1000, From: "anna/sms"},
		{From: "mallory/sms"},
		{Delivery: la.Deliveries[0].ID, From: "mallory/sms"},
		{Delivery: "' OR true --", From: "anna/sms"},
		{Delivery: "00000000-0000-4000-8000-000000000000"},
		{Delivery: la.Deliveries[0].ID, Incident: la.ID + 1},
		{},
	} {
		if answer, err := r.a.Acknowledge(t.Context(), ack); errors.Is(err, channel.ErrStranger) != (ack.From != "") || answer != answerUnknown {
			t.Errorf("%+v: %q, %v", ack, answer, err)
		}
	}
	if answer, err := r.a.Acknowledge(t.Context(), channel.Ack{From: "anna/sms"}); err != nil || answer != answerWhich {
		t.Errorf("which of two: %q, %v", answer, err)
	}
	r.holds(r.offline("la"))
	r.turn()
	if _, err := r.a.Acknowledge(t.Context(), channel.Ack{From: "anna/sms", How: "sms"}); err != nil {
		t.Error(err)
	}
	if d := r.incident("la"); d.AckedBy != "anna" {
		t.Errorf("the only one that is open is not acknowledged: %+v", d.Incident)
	}
}

// Who replies without a number, and comes second, learns who was first.
func TestAReplyWithoutANumberIsToldWhoHasIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS), r.contact("foo", "ben", channel.SMS)}})
	r.holds(r.offline("la"))
	r.turn()
	ack := func(who string) string {
		t.Helper()
		answer, err := r.a.Acknowledge(t.Context(), channel.Ack{From: who + "/sms", How: "sms"})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	r.want("the first", []string{ack("anna")}, "Thank you, anna. You have it, and nobody else is called.")
	has := "anna has had it since " + r.incident("la").AckedAt.UTC().Format(clock) + "."
	r.want("the second, and the first again", []string{ack("ben"), ack("anna")}, has, answerYours)
	// What nobody has comes first.
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	r.want("of another", []string{ack("ben")}, "Thank you, ben. You have it, and nobody else is called.")
	if ny := r.incident("ny"); ny.AckedBy != "ben" {
		t.Errorf("%+v", ny.Incident)
	}
	if answer := ack("anna"); !strings.HasPrefix(answer, "ben has had it") {
		t.Errorf("of two that others have, the last that she was told of: %q", answer)
	}
}

// Whoever answers a call is not called again to hear that he has answered, and
// the others hear of it, and that it is over, without a call if they can.
func TestNobodyIsCalledToHearWhoHasIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben, chris := r.contact("foo", "anna", channel.Voice), r.contact("foo", "ben", channel.Voice, channel.Email), r.contact("foo", "chris", channel.Voice)
	r.policy(Customer, step{Contacts: []int64{anna, ben, chris}})
	r.holds(r.offline("la"))
	r.turn()
	if _, err := r.a.Acknowledge(t.Context(), channel.Ack{Delivery: r.delivery("anna/voice", channel.Trigger).ID, How: "voice"}); err != nil {
		t.Fatal(err)
	}
	r.pass(2 * time.Minute) // not within a minute of the page
	r.deliver()
	r.want("updates", r.to(channel.Update), "ben/email", "chris/voice")
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/voice", "ben/email", "chris/voice")
}

// The next step of one incident cannot be found: the others' are taken.
func TestAStepThatFailsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	anna, ben := r.contact("foo", "anna", channel.Email), r.contact("foo", "ben", channel.Email)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: time.Minute, Contacts: []int64{ben}})
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	r.pass(time.Minute)
	r.roster.fail = "ny"
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email")
	if got := r.audited(); !strings.Contains(got, "the next step of incident") {
		t.Errorf("the auditor finds %q", got)
	}
	r.roster.fail = ""
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email", "ben/email")
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
}

// The region was away for an hour, and so was what it would have told: it looks
// first, and goes on only with what is still so.
func TestNobodyElseIsToldBeforeSomebodyHasLooked(t *testing.T) {
	t.Parallel()
	away := map[string]func(r *rig){
		"the region cannot tell":      func(r *rig) { r.held() },
		"of la it cannot":             func(r *rig) { r.held("la") },
		"la is heard, and not back":   func(r *rig) { r.word.Returning = map[string]bool{"la": true} },
		"it may be over in a moment":  func(r *rig) { r.word.Findings[0].Unsure = true },
		"what is judged is no news":   func(r *rig) { r.a.c.Word = func() detect.Word { return detect.Word{At: r.now().Add(-time.Minute)} } },
		"nothing has been judged yet": func(r *rig) { r.a.c.Word = func() detect.Word { return detect.Word{Held: true} } },
	}
	for name, unsure := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "la")
			r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}},
				step{After: 10 * time.Minute, Contacts: []int64{r.contact("foo", "ben", channel.Email)}},
				step{After: time.Hour, Contacts: []int64{r.contact("foo", "success", channel.Email)}, Offer: "fallback"})
			r.holds(r.offline("la"))
			r.turn()
			r.pass(65 * time.Minute)
			r.start()
			unsure(r)
			for range 3 {
				r.turn()
			}
			r.want("triggers", r.to(channel.Trigger), "anna/sms")
			if got := r.audited(); strings.Contains(got, "overdue") {
				t.Errorf("the auditor finds %q", got)
			}
			r.a.c.Word = r.c.Word
			r.holds(r.offline("la")) // now it is known
			r.turn()
			r.want("triggers when it is still so", r.to(channel.Trigger), "anna/sms", "ben/email", "success/email")
		})
	}
}

// What may be over in a moment, the region's own too, holds up nothing but itself.
func TestOnlyWhatMayBeOverWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("", "boss", channel.PagerDuty)}})
	find := func(k detect.Kind, facility string, s detect.Severity) detect.Finding {
		return detect.Finding{Kind: k, Facility: facility, Severity: s, Since: r.now(), Summary: string(k)}
	}
	list := []detect.Finding{
		find(detect.DiskFilling, "la", detect.Warning), find(detect.DatabaseDown, "la", detect.Critical), find(detect.DiskFilling, "ny", detect.Warning),
		find(detect.NoProgress, "", detect.Warning), find(detect.Blind, "", detect.Critical),
	}
	r.holds(list...)
	r.turn()
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("ny").ID, "omar", "dashboard", ""); err != nil {
		t.Fatal(err)
	}
	told := func() (kinds []string) {
		for _, m := range r.peer.got(channel.Trigger) {
			if m.To == "boss/pagerduty" || m.Again {
				kinds = append(kinds, m.Incident.Kind+" "+m.Incident.Facility)
			}
		}
		slices.Sort(kinds)
		return kinds
	}
	r.pass(3 * time.Hour)
	for _, i := range []int{0, 2, 3} {
		list[i].Unsure = true
	}
	r.start()
	r.holds(list...)
	r.turn()
	r.want("told meanwhile", told(), "blind ", "database_down la")
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
	for i := range list {
		list[i].Unsure = false
	}
	r.holds(list...)
	r.pass(time.Second)
	r.turn()
	r.want("told when it is still so", told(), "blind ", "database_down la", "disk_filling la", "disk_filling ny", "no_progress ")
}

func TestNoReminderAndNoEndOfWorkBeforeSomebodyHasLooked(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}})
	r.roster.work("ny", r.now().Add(time.Hour))
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("la").ID, "omar", "dashboard", ""); err != nil {
		t.Fatal(err)
	}
	r.pass(3 * time.Hour)
	r.start()
	r.held("la", "ny")
	for range 3 {
		r.turn()
	}
	r.want("triggers", r.to(channel.Trigger), "anna/email")
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
	r.holds(r.offline("la"), r.offline("ny"))
	r.pass(10 * time.Second)
	r.turn()
	r.want("triggers when it is still so", r.to(channel.Trigger), "anna/email", "anna/email", "anna/email")
}

// Operations' own go on, a customer's part of the region's incident waits until it is
// known that something of his is still out.
func TestACustomersPartWaitsUntilHisFacilitiesAreLookedAt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("foo", "ben", channel.Email)}})
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("", "boss", channel.PagerDuty)}})
	part := func(f string) detect.Finding {
		one := r.offline(f)
		one.Of = detect.Outage
		return one
	}
	all := []detect.Finding{{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}, part("la"), part("ny")}
	r.holds(all...)
	r.turn()
	r.pass(time.Hour)
	r.start()
	for _, unsure := range [][]string{{}, {"la", "ny"}} {
		r.held(unsure...)
		r.turn()
		r.want("triggers while it cannot be told", r.to(channel.Trigger), "anna/email", "boss/pagerduty", "ops/pagerduty")
		if got := r.audited(); got != "" {
			t.Errorf("the auditor finds %q", got)
		}
	}
	r.held("la") // ny is out for sure
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "ben/email", "boss/pagerduty", "ops/pagerduty")
}

func TestWhatIsCriticalIsToldAgainUntilSomebodyAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	anna, ben := r.contact("foo", "anna", channel.Email), r.contact("foo", "ben", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{ben}})
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "nobody")}}) // has nobody to tell again
	warning := r.offline("ny")
	warning.Kind, warning.Severity = detect.DiskFilling, detect.Warning
	hold := func() { r.holds(r.offline("la"), warning) }
	hold()
	r.turn()
	r.pass(10 * time.Minute)
	hold()
	r.turn()
	bens := func(n int) {
		t.Helper()
		got := 0
		for _, m := range r.peer.got(channel.Trigger) {
			if m.To == "ben/sms" && m.Incident.Facility == "la" {
				got++
				if m.Again != (got > 1) {
					t.Errorf("message %d says that it is told again: %t", got, m.Again)
				}
			}
		}
		if got != n {
			t.Errorf("he was told %d times, want %d", got, n)
		}
	}
	bens(1)
	for n := range 3 {
		r.pass(59 * time.Minute)
		hold()
		r.turn()
		bens(n + 1)
		r.pass(time.Minute)
		r.turn()
		bens(n + 2)
		if got := r.audited(); got != "" {
			t.Errorf("the auditor finds %q", got)
		}
	}
	if n := len(r.incident("ny").Deliveries); n != 2 {
		t.Errorf("of a warning there are %d messages, want 2", n)
	}
	if _, err := r.a.Acknowledge(t.Context(), channel.Ack{Incident: r.incident("la").ID, From: "ben/sms", How: "sms"}); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Hour)
	hold()
	r.turn()
	bens(4)
}

// Operations' mail was taken, and not one of the customer's numbers works.
func TestTheAuditorReportsACustomerWhoCannotBeTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS, channel.Voice)}}, step{After: time.Hour, Contacts: []int64{r.contact("foo", "success", channel.Email)}, Offer: "fallback"})
	fails := true
	r.peer.says(func(m taken, _ int) int {
		if fails && strings.HasPrefix(m.To, "anna/") {
			return 400
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	if got := r.audited(); got != "" {
		t.Errorf("at once the auditor finds %q", got)
	}
	r.pass(2 * time.Minute)
	r.turn()
	want := fmt.Sprintf("incident %d (offline la): no message of it to the customer's people could be sent. Call them", r.incident("la").ID)
	if got := r.audited(); got != want {
		t.Errorf("the auditor finds %q, want %q", got, want)
	}

	// The same of his part of a region's incident.
	r.holds()
	r.turn()
	part := r.offline("la")
	part.Of = detect.Outage
	out := []detect.Finding{{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many at once"}, part}
	r.holds(out...)
	r.turn()
	r.pass(2 * time.Minute)
	if got, want := r.audited(), "no message of it to foo's people could be sent"; !strings.Contains(got, want) {
		t.Errorf("the auditor finds %q, want %q", got, want)
	}
	r.holds(out[0]) // la is back, the outage goes on
	r.turn()
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}

	// What is told again by a number that works is told.
	r.holds(r.offline("ny"))
	r.turn()
	r.pass(2 * time.Minute)
	fails = false
	r.pass(2 * time.Hour)
	r.turn()
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
}

// The same person is in a policy of both sides, and told once. Those behind him have
// their time nevertheless.
func TestNobodyIsWokenEarlyBecauseOneIsToldAlready(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben := r.contact("foo", "anna", channel.SMS), r.contact("foo", "ben", channel.SMS)
	r.policy(Operations, step{Contacts: []int64{anna}})
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{ben}})
	r.holds(r.offline("la"))
	r.turn()
	r.turn()
	r.want("triggers at once", r.to(channel.Trigger), "anna/sms")
	r.pass(91 * time.Second) // no receipt
	r.turn()
	r.want("triggers when nobody was reached", r.to(channel.Trigger), "anna/sms", "ben/sms")
}

// Nobody is on call at the second step, and somebody was reached by the first.
func TestAnEmptyStepWakesNobodyEarlyWhenSomebodyWasReached(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben := r.contact("foo", "anna", channel.SMS), r.contact("foo", "ben", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 2 * time.Minute}, step{After: 10 * time.Minute, Contacts: []int64{ben}})
	r.holds(r.offline("la"))
	r.turn()
	if err := r.a.Receipt(t.Context(), channel.Receipt{Delivery: r.delivery("anna/sms", channel.Trigger).ID, EventID: "1", State: channel.Delivered}); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{2 * time.Minute, 7 * time.Minute} {
		r.pass(wait)
		r.turn()
		r.want("triggers before ten minutes", r.to(channel.Trigger), "anna/sms")
	}
	r.pass(time.Minute)
	r.turn()
	r.want("triggers after ten minutes", r.to(channel.Trigger), "anna/sms", "ben/sms")
}

// Who works on it may want the cloud to take over meanwhile all the more.
func TestAnAcknowledgementStopsTheCallsAndNotTheOffer(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	anna, ben, success := r.contact("foo", "anna", channel.Email), r.contact("foo", "ben", channel.Email), r.contact("foo", "success", channel.Email)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{ben}},
		step{After: time.Hour, Contacts: []int64{success}, Offer: "fallback"}, step{After: 70 * time.Minute, Contacts: []int64{ben}})
	first := true
	r.peer.says(func(m taken, _ int) int {
		if m.To == "success/email" && first {
			first = false
			return 503 // it is tried again
		}
		return 200
	})
	ack := func(f string) {
		t.Helper()
		if _, err := r.a.AcknowledgeBy(t.Context(), r.incident(f).ID, "anna", "dashboard", ""); err != nil {
			t.Fatal(err)
		}
	}
	r.holds(r.offline("la"))
	r.turn()
	r.pass(5 * time.Minute)
	r.turn() // nobody was reached: ben
	ack("la")
	r.pass(54 * time.Minute)
	r.turn()
	r.want("triggers before the hour", r.to(channel.Trigger), "anna/email", "ben/email")
	r.pass(time.Minute)
	r.turn()
	r.pass(time.Minute)
	r.deliver()
	r.want("triggers after the hour", r.to(channel.Trigger), "anna/email", "ben/email", "success/email")
	if m := r.peer.got(channel.Trigger)[2]; m.Incident.Offer == "" {
		t.Errorf("it offers nothing: %+v", m.Incident)
	}
	r.pass(30 * time.Minute)
	r.turn()
	r.want("triggers after the offer", r.to(channel.Trigger), "anna/email", "ben/email", "success/email")
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
	r.holds()
	r.turn()

	// It is acknowledged when the offer is about to be sent, and once more when it has been made.
	r.roster.policies[0].Steps = r.roster.policies[0].Steps[:3]
	r.holds(r.offline("ny"))
	r.turn()
	r.pass(2 * time.Minute)
	r.turn()
	r.pass(time.Hour)
	r.look()
	ack("ny")
	r.deliver()
	offers := func() int {
		return r.count(`SELECT count(*) FROM holdfast.delivery WHERE incident = $1 AND offer <> '' AND accepted_at IS NOT NULL`, r.incident("ny").ID)
	}
	if offers() != 1 {
		t.Errorf("%d offers, want one", offers())
	}
	r.pass(time.Hour)
	r.turn()
	if offers() != 1 {
		t.Errorf("%d offers after another hour, want one", offers())
	}
}

// The same of a customer's part of the region's incident: who has it is offered the
// cloud nevertheless, and is told again after two hours as ever.
func TestAnAcknowledgedPartStopsTheCallsAndNotTheOffer(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, ben, success := r.contact("foo", "anna", channel.Email), r.contact("foo", "ben", channel.Email), r.contact("foo", "success", channel.Email)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{ben}},
		step{After: time.Hour, Contacts: []int64{success}, Offer: "fallback"}, step{After: 70 * time.Minute, Contacts: []int64{ben}})
	la := r.offline("la")
	la.Of = detect.Outage
	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	r.holds(outage, la)
	r.turn()
	ack := func(to string) {
		t.Helper()
		if _, err := r.a.Acknowledge(t.Context(), channel.Ack{Delivery: r.delivery(to, channel.Trigger).ID, How: "link"}); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want int) {
		t.Helper()
		if n := r.count(`SELECT count(*) FROM holdfast.escalation WHERE acked_by = 'anna'`); n != want {
			t.Errorf("%d escalations are anna's, want %d", n, want)
		}
		if got := r.audited(); got != "" {
			t.Errorf("the auditor finds %q", got)
		}
	}
	r.pass(time.Minute)
	ack("anna/email")
	r.pass(58 * time.Minute)
	r.turn()
	r.want("triggers before the hour", r.to(channel.Trigger), "anna/email")
	r.pass(time.Minute)
	r.look()
	has(1)
	if m := r.delivery("success/email", channel.Trigger); m.State != "pending" {
		t.Errorf("after the hour the offer is %+v", m)
	}
	r.pass(time.Second)
	r.deliver()
	r.want("triggers after the hour", r.to(channel.Trigger), "anna/email", "success/email")
	if i := r.peer.got(channel.Trigger)[1].Incident; i.Offer == "" || i.Facility != "la" {
		t.Errorf("it offers nothing: %+v", i)
	}
	r.pass(50 * time.Minute)
	r.turn()
	r.want("triggers after the offer", r.to(channel.Trigger), "anna/email", "success/email")
	has(1)
	r.pass(11 * time.Minute)
	r.turn()
	r.want("triggers after two hours", r.to(channel.Trigger), "anna/email", "anna/email", "success/email")
	has(0)
	r.pass(10 * time.Minute)
	r.turn()
	r.want("and then as at first", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email", "success/email")

	// It is acknowledged when the offer is about to be sent.
	r.pass(50 * time.Minute)
	r.look()
	ack("ben/email")
	r.deliver()
	r.want("triggers with the second offer", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email", "success/email", "success/email")
	r.pass(30 * time.Minute)
	r.turn()
	r.want("and nobody else", r.to(channel.Trigger), "anna/email", "anna/email", "ben/email", "success/email", "success/email")
}

// Each channel's word that it has delivered, before the next one's time.
func TestOnlyAPhoneThatHasItKeepsTheNextAsleep(t *testing.T) {
	t.Parallel()
	for kind, early := range map[channel.Kind]bool{channel.SMS: false, channel.Slack: true, channel.Webhook: true} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "la")
			r.c.Senders[kind] = httpSender{r.peer.URL, channel.Delivered}
			r.start()
			r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", kind)}}, step{After: 10 * time.Minute, Contacts: []int64{r.contact("foo", "ben", channel.Email)}})
			r.holds(r.offline("la"))
			r.turn()
			r.pass(91 * time.Second)
			r.turn()
			if got := slices.Contains(r.to(channel.Trigger), "ben/email"); got != early {
				t.Errorf("the next is told early: %t, want %t", got, early)
			}
		})
	}
}

// A region's incident may have a thousand customers, who are all due at once.
func TestNoTransactionTakesTimersWithoutEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.holds(detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"})
	r.look()
	_, err := r.pool.Exec(t.Context(), r.timed(`INSERT INTO holdfast.escalation (incident, policy, started_at, next_at, audience)
		SELECT i.id, n, now(), now(), 'operations' FROM holdfast.incident i, generate_series(1, $1) n`), timersMax+100)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{100, 0} {
		r.pass(time.Second)
		r.look()
		if n := r.count(`SELECT count(*) FROM holdfast.escalation WHERE next_at IS NOT NULL`); n != left {
			t.Errorf("%d timers are left, want %d", n, left)
		}
	}
}
