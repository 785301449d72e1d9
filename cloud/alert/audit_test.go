package alert

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// audited returns what the auditor finds.
func (r *rig) audited() string {
	for range 2 {
		r.pass(time.Millisecond)
		r.a.audit(r.t.Context(), r.a.moment())
	}
	f, _ := r.a.troubles(nil)
	return strings.Join(f.Evidence, "; ")
}

func TestTheAuditorMissesWhatIsNotDone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, sql, want string }{
		{"all is well", `SELECT 1`, ""},
		{"a step is overdue", `UPDATE holdfast.escalation SET next_at = now() - interval '2 minutes'`, "its next step is overdue"},
		{"no step, and nobody was told", `UPDATE holdfast.escalation SET next_at = NULL; UPDATE holdfast.delivery SET state = 'failed'`, "no message of it to the customer's people could be sent"},
		{"all steps done, and told", `UPDATE holdfast.escalation SET next_at = NULL`, ""},
		{"a reminder is missing", `UPDATE holdfast.incident SET acked_at = now()`, "its next step is overdue"},
		{"an old lease", `UPDATE holdfast.delivery SET state = 'leased', lease_until = now() - interval '2 minutes'`, "are on their way for more than 1 min"},
		{"a lease of just over a minute", `UPDATE holdfast.delivery SET state = 'leased', lease_until = now() - interval '50 seconds'`, "are on their way for more than 1 min"},
		{"an end that PagerDuty did not hear of", `UPDATE holdfast.delivery SET channel = 'pagerduty', event = 'resolve', state = 'failed', done_at = now()`, "PagerDuty could not be told (anna)"},
		{"a late message", `UPDATE holdfast.delivery SET state = 'pending', not_before = now() - interval '20 seconds'`, "a message should have been sent at"},
		{"a channel that was not proved", `UPDATE holdfast.contact_method SET created_at = now() - interval '30 days', proved_at = now() - interval '8 days'`, "sms has not been proved for a week"},
		{"a channel that was proved", `UPDATE holdfast.contact_method SET created_at = now() - interval '30 days', proved_at = now() - interval '6 days'`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "la")
			r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}}, step{After: time.Hour, Offer: "fallback"})
			r.holds(r.offline("la"))
			r.turn()
			if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.incident SET opened_at = opened_at - interval '5 minutes'`); err != nil {
				t.Fatal(err)
			}
			if _, err := r.pool.Exec(t.Context(), r.timed(tc.sql)); err != nil && !strings.Contains(tc.sql, ";") {
				t.Fatal(err)
			} else if err != nil {
				for sql := range strings.SplitSeq(tc.sql, ";") {
					if _, err := r.pool.Exec(t.Context(), r.timed(sql)); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := r.audited()
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("the auditor finds %q, want %q", got, tc.want)
			}
			if r.a.well(r.a.moment()) != (tc.want == "") {
				t.Errorf("well: %t", r.a.well(r.a.moment()))
			}
		})
	}
}

func TestWhatTheAuditorFindsIsAnIncidentAndStopsTheBeat(t *testing.T) {
	t.Parallel()
	var beats atomic.Int64
	deadMan := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { beats.Add(1) }))
	t.Cleanup(deadMan.Close)
	r := newRig(t, "la")
	r.c.DeadMan = deadMan.URL + "/secret-4711"
	r.c.timing = defaultTiming()
	r.c.timing.audit, r.c.timing.deadMan, r.c.timing.poll = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	r.start()
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	r.running(r.a)
	eventually(t, "the dead man's switch is fetched", func() bool { return beats.Load() > 2 })

	broken := r.contact("foo", "anna", channel.SMS)
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET created_at = now() - interval '30 days' WHERE contact = $1`, broken); err != nil {
		t.Fatal(err)
	}
	eventually(t, "operations are told of it", func() bool { return len(r.peer.got(channel.Trigger)) == 1 })
	m := r.peer.got(channel.Trigger)[0]
	if m.Incident.Kind != string(detect.Alerting) || !strings.Contains(m.Incident.Evidence[0], "sms has not been proved") {
		t.Errorf("%+v", m.Incident)
	}
	eventually(t, "the auditor has stopped the beat", func() bool { return !r.a.well(r.a.moment()) })
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET proved_at = now() WHERE contact = $1`, broken); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is over", func() bool { return len(r.peer.got(channel.Resolve)) == 1 })
	before := beats.Load()
	eventually(t, "the dead man's switch is fetched again", func() bool { return beats.Load() > before })

	deadMan.Close()
	if err := r.a.beat(t.Context()); err == nil || strings.Contains(err.Error(), "4711") {
		t.Errorf("the secret is in the error, or there is none: %v", err)
	}
}

// metrics are the values that a scrape of an alerter sees, by name and labels.
func metrics(t *testing.T, a *Alerter) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(a); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			switch {
			case m.Gauge != nil:
				got[name] = m.Gauge.GetValue()
			case m.Counter != nil:
				got[name] = m.Counter.GetValue()
			case m.Histogram != nil:
				got[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return got
}

func TestWhatTheAuditorFoundEndsWithItsLead(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.SMS)}})
	made := func(when string) {
		if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET created_at = $1, proved_at = NULL`, when); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		return r.count(`SELECT count(*) FROM holdfast.incident WHERE kind = 'alerting' AND resolved_at IS NULL`)
	}
	made("2020-01-01")
	r.holds()
	r.turn()
	r.audited()
	r.turn()
	if n, exported := open(), metrics(t, r.a)["holdfast_alert_audit_problems"]; n != 1 || exported != 1 {
		t.Fatalf("%d incidents, %v problems: the auditor has not found what is wrong", n, exported)
	}

	first := r.a
	r.pass(r.a.timing.leader + time.Second)
	r.start()
	r.look()
	if n := open(); !r.a.Leading() || n != 1 {
		t.Fatalf("leading: %t; %d incidents: it was told that it is over, and nobody has looked", r.a.Leading(), n)
	}
	r.a.audit(t.Context(), r.a.moment())
	r.look()
	if n := open(); n != 1 {
		t.Errorf("%d incidents after the new leader has found it, too", n)
	}
	made("2100-01-01")
	r.a.audit(t.Context(), r.a.moment())
	r.look()
	if n := open(); n != 0 {
		t.Errorf("%d incidents after it was mended", n)
	}

	second := r.a
	r.a = first
	r.look()
	if n := metrics(t, first)["holdfast_alert_audit_problems"]; first.Leading() || n != 0 {
		t.Errorf("leading: %t; it says %v problems, which are over", first.Leading(), n)
	}
	second.release(t.Context())
	r.pass(72 * time.Hour)
	r.look()
	if n := open(); !first.Leading() || n != 0 {
		t.Errorf("leading: %t; %d incidents of what was found three days ago", first.Leading(), n)
	}
}

func TestThereIsNoDrillAsLongAsItReachesNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c.TestContact = r.contact("", "tess")
	r.start()
	r.holds()
	for range 3 {
		r.turn()
	}
	if n := r.count(`SELECT count(*) FROM holdfast.incident`); n != 0 {
		t.Errorf("%d incidents of which nobody can be told", n)
	}
}

func TestEachChannelIsTriedOnceADay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c.TestContact = r.contact("", "tess", channels...)
	r.start()
	r.holds()
	for range 3 {
		r.turn()
	}
	if n := len(r.to(channel.Trigger)); n != len(channels) {
		t.Errorf("%d channels were tried, want %d", n, len(channels))
	}
	if m := r.peer.got(channel.Trigger)[0]; m.Incident.Kind != string(detect.Drill) {
		t.Errorf("%+v", m)
	}
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
	r.pass(drillFor)
	r.turn()
	if n := len(r.to(channel.Resolve)); n != len(channels)-1 { // nobody is called for good news
		t.Errorf("%d channels were told the end, want %d", n, len(channels)-1)
	}
	r.start() // another process knows when the last one was
	r.pass(23 * time.Hour)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != len(channels) {
		t.Errorf("%d triggers before a day is over, want %d", n, len(channels))
	}
	r.pass(time.Hour)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != 2*len(channels) {
		t.Errorf("%d triggers after a day, want %d", n, 2*len(channels))
	}
	r.pass(24 * time.Hour)
	r.peer.says(func(m taken, _ int) int {
		if m.Kind == channel.Teams && m.Incident.Kind == string(detect.Drill) {
			return 404
		}
		return 200
	})
	r.turn() // the one before ends
	r.turn()
	if got := r.audited(); got != "the last daily test could not be sent by teams" {
		t.Errorf("the auditor finds %q", got)
	}
	// An SMS that the provider has taken and could not deliver is as good as not sent.
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.delivery SET state = 'failed' WHERE channel = 'sms' AND incident = (SELECT max(id) FROM holdfast.incident)`); err != nil {
		t.Fatal(err)
	}
	if got := r.audited(); !strings.Contains(got, "the last daily test could not be sent by sms") {
		t.Errorf("the auditor finds %q", got)
	}
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.delivery SET state = 'accepted' WHERE channel = 'sms'`); err != nil {
		t.Fatal(err)
	}
	// A call that nobody answers is no fault of the channel, and what works again is mended.
	for _, sql := range []string{`UPDATE holdfast.delivery SET accepted_at = $1 WHERE channel = 'teams'`, `UPDATE holdfast.contact_method SET proved_at = $1 WHERE channel = 'teams'`} {
		if _, err := r.pool.Exec(t.Context(), sql, r.now()); err != nil {
			t.Fatal(err)
		}
		if got := r.audited(); got != "" {
			t.Errorf("the auditor finds %q", got)
		}
		if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.delivery SET accepted_at = NULL WHERE channel = 'teams' AND state = 'failed'`); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetricsAreNamedAsTheyShouldBe(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.c.DeadMan = "http://127.0.0.1:1"
	r.start()
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.holds(r.offline("la"))
	r.turn()
	if err := r.a.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := metrics(t, r.a)
	for name, want := range map[string]float64{
		"holdfast_alert_incidents offline": 1, "holdfast_alert_incidents blind": 0, "holdfast_alert_leader": 1, "holdfast_alert_attempts_total sms accepted": 1,
		"holdfast_alert_deliveries sms pending": 0, "holdfast_alert_channel_broken sms": 0, "holdfast_alert_channel_ready voice": 1,
		"holdfast_alert_time_to_detect_seconds": 1, "holdfast_alert_time_to_tell_seconds": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%t), want %v", name, v, ok, want)
		}
	}
}

func TestHowFastWasToldIsMeasured(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	if told, err := r.a.Told(t.Context(), 7); err != nil || told.Incidents != 0 {
		t.Errorf("%+v, %v", told, err)
	}
	r.holds(r.offline("la"), r.offline("ny"))
	r.look()
	r.pass(3 * time.Second)
	r.deliver()
	told, err := r.a.Told(t.Context(), 7)
	if err != nil || told.Incidents != 2 || told.Detect.P50 < 8 || told.Detect.P50 > 20 || told.Tell.P99 < told.Detect.P99+3 {
		t.Errorf("%+v, %v", told, err)
	}
	if _, err := r.a.Told(t.Context(), 0); err == nil {
		t.Error("0 days are taken")
	}
}

// What announced work kept back for hours was not told late.
func TestAnnouncedWorkIsNoTimeToTell(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny")
	anna := r.contact("foo", "anna", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}})
	r.holds(r.offline("la"))
	r.look()
	if told, err := r.a.Told(t.Context(), 7); err != nil || told.Incidents != 1 || told.ToldOf != 0 {
		t.Errorf("%+v, %v: nobody has been told", told, err)
	}
	r.deliver()
	for _, f := range []string{"la", "ny"} { // at la it comes after people were told
		r.roster.work(f, r.now().Add(2*time.Hour))
		if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.maintenance (facility, starts_at, ends_at, reason, created_by) VALUES ($1, $2, $3, 'a new switch', 'omar')`,
			f, r.now().Add(time.Millisecond), r.now().Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	r.pass(time.Minute)
	r.holds(r.offline("la"), r.offline("ny"))
	r.turn()
	r.pass(2 * time.Hour)
	r.turn()
	r.pass(time.Minute) // a number has one message a minute
	r.turn()
	if n := r.incident("ny").Told; n != 1 {
		t.Fatalf("%d messages of ny went out after the work, want 1", n)
	}
	told, err := r.a.Told(t.Context(), 7)
	if err != nil || told.Incidents != 1 || told.ToldOf != 1 || told.Tell.P99 > 60 {
		t.Errorf("%+v, %v: want la's first message alone", told, err)
	}
	if n := metrics(t, r.a)["holdfast_alert_time_to_tell_seconds"]; n != 1 {
		t.Errorf("%v times to tell, want la's first message alone", n)
	}
}

// One address that does not answer is no alarm of the region.
func TestWhatIsTriedAgainLaterIsNotDue(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Webhook)}})
	r.peer.says(func(taken, int) int { return 503 })
	r.holds(r.offline("la"))
	r.look()
	for _, want := range []struct{ pending, later float64 }{{1, 0}, {0, 1}, {1, 0}} {
		if err := r.a.count(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := metrics(t, r.a)
		if p, l := got["holdfast_alert_deliveries webhook pending"], got["holdfast_alert_deliveries webhook later"]; p != want.pending || l != want.later {
			t.Errorf("%v are due and %v wait for their next attempt, want %+v", p, l, want)
		}
		if want.later > 0 {
			r.pass(2 * time.Minute)
		} else {
			r.deliver()
		}
	}
}

// The first message counts: not those that go out at the same time, and not the
// next step's, whichever process sends it.
func TestOfEachOutageTheFirstMessageIsMeasured(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna, bo := r.contact("foo", "anna", channel.SMS, channel.Voice, channel.Email), r.contact("foo", "bo", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{bo}})
	stop := r.running(r.a)
	r.holds(r.offline("la"))
	eventually(t, "all ways have taken it", func() bool { return len(r.to(channel.Trigger)) == 3 })
	stop() // what was begun is ended
	if n := metrics(t, r.a)["holdfast_alert_time_to_tell_seconds"]; n != 1 {
		t.Errorf("%v times to tell of one outage, want 1", n)
	}

	r.start()
	r.pass(11 * time.Minute)
	r.turn()
	r.want("triggers", r.to(channel.Trigger), "anna/email", "anna/sms", "anna/voice", "bo/sms")
	if n := metrics(t, r.a)["holdfast_alert_time_to_tell_seconds"]; n != 0 {
		t.Errorf("%v times to tell after somebody was told, want 0", n)
	}
}

func TestIncidentsAreListedByWhatIsAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la", "ny", "sf")
	r.holds(r.offline("la"))
	r.look()
	r.holds(r.offline("ny"), r.offline("sf"))
	r.look()
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("sf").ID, "omar", "dashboard", "on it"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 3},
		{Filter{State: Open}, 2},
		{Filter{State: Waiting}, 1},
		{Filter{State: Acked}, 1},
		{Filter{State: Resolved}, 1},
		{Filter{Facility: "la"}, 1},
		{Filter{Tenant: "foo"}, 3},
		{Filter{Tenant: "bar"}, 0},
		{Filter{Kind: "offline"}, 3},
		{Filter{Kind: "outage"}, 0},
		{Filter{Limit: 2}, 2},
		{Filter{Before: r.incident("la").ID + 1}, 1},
	} {
		list, err := r.a.List(t.Context(), tc.f)
		if err != nil || len(list) != tc.want {
			t.Errorf("%+v: %d, %v; want %d", tc.f, len(list), err, tc.want)
		}
	}
	if _, err := r.a.Detail(t.Context(), 1000); err == nil {
		t.Error("there is an incident that is not there")
	}
}

// Nobody can answer what is read by programs, so the broker's word is its proof.
func TestTheBrokersWordProvesMQTT(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "scada", channel.MQTT)}})
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET created_at = now() - interval '30 days'`); err != nil {
		t.Fatal(err)
	}
	r.holds()
	r.look() // from then on it leads
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET problem = 'the broker did not answer'`); err != nil {
		t.Fatal(err)
	}
	if got := r.audited(); !strings.Contains(got, "mqtt has not been proved") {
		t.Errorf("the auditor finds %q", got)
	}
	r.holds(r.offline("la"))
	r.turn()
	if got := r.audited(); got != "" {
		t.Errorf("the auditor finds %q", got)
	}
	if n := r.count(`SELECT count(*) FROM holdfast.contact_method WHERE problem <> ''`); n != 0 {
		t.Error("it has a problem, and the message has arrived")
	}
}

// A provider that says no more than that it takes messages is no alarm: credentials
// and path are right. That nobody answers is a ticket, and stops no dead man's switch.
func TestWhatAProviderTakesIsNoAlarmThoughNobodyAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	tess := r.contact("", "tess", channel.Email, channel.Teams, channel.PagerDuty, channel.SMS)
	r.c.TestContact = tess
	r.start()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := r.pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE holdfast.contact_method SET created_at = now() - interval '30 days'`)
	r.look()
	if got := r.audited(); strings.Count(got, "has not been proved for a week") != 4 || r.a.well(r.a.moment()) {
		t.Errorf("before anything was sent the auditor finds %q", got)
	}
	r.turn()
	r.turn() // the drill
	if f, ok := r.audited(), r.a.well(r.a.moment()); f != "sms has not been proved for a week. Send a test and acknowledge it; "+unanswered("email")+"; "+unanswered("pagerduty")+"; "+unanswered("teams") || ok {
		t.Errorf("an SMS of which nothing more was heard proves nothing; well: %t, and the auditor finds %q", ok, f)
	}
	exec(`UPDATE holdfast.contact_method SET proved_at = $1 WHERE channel IN ('sms', 'email')`, r.now())
	if got := r.audited(); got != unanswered("pagerduty")+"; "+unanswered("teams") {
		t.Errorf("the auditor finds %q", got)
	}
	if f, ok := r.a.troubles(nil); !ok || f.Severity != detect.Info || !r.a.well(r.a.moment()) {
		t.Errorf("it is told as %+v, and well is %t", f, r.a.well(r.a.moment()))
	}
	exec(`UPDATE holdfast.contact_method SET proved_at = $1`, r.now())
	if got := r.audited(); got != "" {
		t.Errorf("all have answered, and the auditor finds %q", got)
	}
	// What is not even taken for a week is broken, whatever was before.
	exec(`UPDATE holdfast.contact_method SET proved_at = $1, taken_at = $1 WHERE channel = 'teams'`, r.now().Add(-8*24*time.Hour))
	if got := r.audited(); got != "teams has not been proved for a week. Send a test and acknowledge it" || r.a.well(r.a.moment()) {
		t.Errorf("the auditor finds %q", got)
	}
	if f, _ := r.a.troubles(nil); f.Severity != detect.Critical {
		t.Errorf("it is told as %+v", f)
	}
}

func unanswered(k string) string {
	return "what goes by " + k + " is taken, and nobody has answered by it for a week: whether it is seen is not known. Open the link of a test or of the daily drill, and press its button"
}

// The first one is known, and somebody has it. That does not cover what comes later.
func TestASecondFaultOfTheAlerterIsToldAsWell(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	anna := r.contact("foo", "anna", channel.SMS, channel.Voice)
	breaks := func(k channel.Kind) {
		t.Helper()
		if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET created_at = now() - interval '30 days' WHERE contact = $1 AND channel = $2`, anna, k); err != nil {
			t.Fatal(err)
		}
	}
	looks := func(want int) {
		t.Helper()
		r.holds()
		r.turn()
		r.pass(quietWords + time.Second)
		r.turn()
		if n := len(r.peer.got(channel.Trigger)); n != want {
			t.Errorf("operations were told %d times, want %d", n, want)
		}
	}
	r.audited()
	looks(0)
	breaks(channel.SMS)
	r.audited()
	looks(1)
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("").ID, "omar", "dashboard", ""); err != nil {
		t.Fatal(err)
	}
	r.audited()
	looks(1)
	breaks(channel.Voice)
	r.pass(time.Millisecond)
	r.a.audit(t.Context(), r.a.moment())
	looks(1) // what is so for a moment wakes nobody
	r.audited()
	looks(2)
	d := r.incident("")
	if len(d.Evidence) != 2 || d.AckedAt != nil || !strings.Contains(d.Timeline[len(d.Timeline)-3].Detail, "new: voice has not been proved") {
		t.Errorf("%+v", d)
	}
	r.audited()
	looks(2)
}

func TestFiguresThatChangeAreNoNews(t *testing.T) {
	t.Parallel()
	got := unlike([]string{"4 messages are late", "sms does not work", "5 calls are late"}, []string{"3 messages are late", "sms does not work"})
	if len(got) != 1 || got[0] != "5 calls are late" {
		t.Errorf("%q", got)
	}
}

func TestTheAuditorReportsWhatNobodyCanBeToldBy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.contact("foo", "anna", channel.SMS, channel.Email)
	r.c.TestContact = r.contact("", "tess")
	r.c.Problems = map[channel.Kind]string{channel.SMS: "It is not set up"}
	delete(r.c.Senders, channel.SMS)
	r.start()
	r.holds()
	r.turn()
	if got, want := r.audited(), "people are to be told by sms, and nothing can be sent there: It is not set up"; got != want {
		t.Errorf("the auditor finds %q, want %q", got, want)
	}
	clear(r.c.Senders)
	r.start()
	r.pass(10 * time.Second) // for the lead
	r.look()
	if got := r.audited(); !strings.Contains(got, "told by email") || !strings.Contains(got, "told by sms") {
		t.Errorf("no channel is set up, and the auditor finds %q", got)
	}

	// There was a daily test, and its contact has lost its address.
	r.c.Senders[channel.SMS], r.c.Senders[channel.Email] = httpSender{r.peer.URL, channel.Accepted}, httpSender{r.peer.URL, channel.Accepted}
	r.start()
	if _, err := r.pool.Exec(t.Context(), `INSERT INTO holdfast.contact_method (contact, channel, address) VALUES ($1, 'email', 'tess/email')`, r.c.TestContact); err != nil {
		t.Fatal(err)
	}
	r.pass(10 * time.Second)
	r.turn()
	r.pass(10 * time.Second)
	r.turn()
	if got, want := r.audited(), "sms is not part of the daily test: its contact has no such address. Give it one"; got != want || !r.a.well(r.a.moment()) || len(r.to(channel.Trigger)) != 1 {
		t.Errorf("the auditor finds %q, want %q, and tests are sent to %q", got, want, r.to(channel.Trigger))
	}
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET removed_at = now() WHERE contact = $1`, r.c.TestContact); err != nil {
		t.Fatal(err)
	}
	if got := r.audited(); !strings.Contains(got, "its contact has no address") {
		t.Errorf("the auditor finds %q", got)
	}
}
