package dashboard_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/api/apitest"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/dashboard/dashboardtest"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
)

// alertDesk is the dashboard of a region where something is wrong.
type alertDesk struct {
	*desk
	ids              dashboardtest.Ids
	room             *oncall.Room
	word             atomic.Pointer[detect.Word]
	viewer, operator string // tokens
}

func newAlertDesk(t *testing.T) *alertDesk {
	t.Helper()
	pool := pgtest.Migrated(t, "region", migrations.Up).Pool(t)
	log := slog.New(slog.DiscardHandler)
	store := web.PGStore{Pool: pool}
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := channel.NewTexts("")
	if err != nil {
		t.Fatal(err)
	}
	d := &alertDesk{desk: &desk{t: t, r: &apitest.Server{DB: pool}}}
	d.word.Store(&detect.Word{})
	word := func() detect.Word { return *d.word.Load() }
	alerts, room, ids := dashboardtest.Fill(t, pool, word)
	d.ids, d.room = ids, room
	ui, err := dashboard.New(dashboard.Deps{
		Region: "us-east", Auth: auth, Fleet: oneFacility{}, Pool: pool, Log: log,
		Alerts: alerts, OnCall: room, Roster: room, Texts: texts, Word: word, Support: "the desk, +1 213 555 0199",
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(ui)
	t.Cleanup(s.Close)
	d.url = s.URL
	for role, token := range map[web.Role]*string{web.Viewer: &d.viewer, web.Operator: &d.operator} {
		secret, sum := web.NewToken()
		if err := store.PutToken(t.Context(), role.String(), sum, role, time.Time{}); err != nil {
			t.Fatal(err)
		}
		*token = secret
	}
	return d
}

// posts sends a form and wants a status and some words of the page that it leads to.
func (d *alertDesk) posts(code int, path string, form url.Values, parts ...string) string {
	d.t.Helper()
	got, page := d.ask(d.operator, path, form)
	if got != code {
		d.t.Fatalf("%s: %d, want %d\n%s", path, got, code, page)
	}
	for _, p := range parts {
		if !strings.Contains(page, p) {
			d.t.Errorf("%q is missing in %s:\n%s", p, path, page)
		}
	}
	return page
}

func (d *alertDesk) lacks(page string, parts ...string) {
	d.t.Helper()
	for _, p := range parts {
		if strings.Contains(page, p) {
			d.t.Errorf("%q is there:\n%s", p, page)
		}
	}
}

func TestOpenIncidentsComeFirstAndFollowTheFilters(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	page := d.wants(d.viewer, "/incidents", "The region: Regional outage", "Shanghai: Offline", "Los Angeles: Disk filling", "Frankfurt: Offline",
		`id="nav-incidents">2<`, "2 told, 1 waiting, 1 failed", "Maria Lopez by SMS", fmt.Sprintf("/incidents/%d\">incident %d", d.ids.Outage, d.ids.Outage))
	d.lacks(page, "/acknowledge") // a viewer only looks
	var last int
	for _, what := range []string{"The region: Regional outage", "Los Angeles: Disk filling", "Shanghai: Offline", "Frankfurt: Offline"} {
		at := strings.Index(page, ">"+what)
		if at < last {
			t.Errorf("%s is not where it belongs", what)
		}
		last = at
	}
	d.wants(d.operator, "/incidents", fmt.Sprintf(`action="/incidents/%d/acknowledge"`, d.ids.Outage))
	for path, without := range map[string]string{
		"/incidents?state=open": "Frankfurt: Offline", "/incidents?state=acknowledged": "Shanghai: Offline", "/incidents?state=resolved": "Disk filling<",
		"/incidents?facility=la": "Shanghai: Offline", "/incidents?kind=disk_filling": "Shanghai: Offline", "/incidents?tenant=nobody": "Shanghai: Offline",
	} {
		page := d.wants(d.viewer, path)
		table := page[strings.Index(page, "<tbody"):]
		d.lacks(table, without)
	}
	older := regexp.MustCompile(`href="(/incidents\?before=\d+)"`).FindStringSubmatch(page)
	if older == nil {
		t.Fatal("there is no way to older ones")
	}
	d.lacks(d.wants(d.viewer, older[1], "Frankfurt: Offline", "Newest"), ">Los Angeles: Disk filling")
	d.wants(d.viewer, "/incidents?state=%00&kind=evil&facility=%ff&before=x&tenant=%3Cscript%3E", "Incidents")
}

func TestAnIncidentsPageSaysWhatIsKnownAndHowFarEachMessageIs(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	path := fmt.Sprintf("/incidents/%d", d.ids.Offline)
	page := d.wants(d.viewer, path, "Shanghai: Offline", "Nothing is heard of the facility", "The tunnel does not answer: 2 tries of 1 s", "CST at the facility",
		"Check that the box has power", "Call the desk, &#43;1 213 555 0199.", "at the phone; nobody has answered yet", "by the carrier", "the number was busy (21219)",
		"taken by the mail server", "because more than 5 messages went to this contact within 15 min", "held until", "cost: 0.0075 USD<", "cost 0.0075 USD<",
		"Bo Chen", "step 2 of standard", "An operator can acknowledge it here", "the SMS is at the phone", "Nobody has acknowledged it yet")
	d.lacks(page, "<form class=\"card take\"")
	// A tenant's people have a region's incident only as far as it is theirs.
	if _, err := d.r.DB.Exec(t.Context(), `INSERT INTO holdfast.escalation (incident, policy, audience, tenant, started_at, acked_at, acked_by) VALUES ($1, $2, 'customer', 'foo', now(), now(), 'Bo Chen')`, d.ids.Outage, d.ids.Policy); err != nil {
		t.Fatal(err)
	}
	d.wants(d.viewer, fmt.Sprintf("/incidents/%d", d.ids.Outage), "The facilities of foo: Bo Chen takes care", "Nobody has acknowledged it yet", "Facilities that are part of it", "Shanghai", "taken by PagerDuty", "a person has answered")
	d.wants(d.viewer, fmt.Sprintf("/incidents/%d", d.ids.Old), "It is over since", "after 1 h", "Nobody: it is over.", "by a key on the phone")
	for _, none := range []string{"/incidents/999999", "/incidents/x", "/incidents/-1"} {
		if code, _ := d.ask(d.viewer, none, nil); code != http.StatusNotFound {
			t.Errorf("%s: %d", none, code)
		}
	}
}

func TestAnOperatorOfThisSiteAcknowledges(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	path := fmt.Sprintf("/incidents/%d", d.ids.Offline)
	form := url.Values{"note": {"<b>I drive there</b>"}}
	for _, c := range []struct {
		who    string
		header []string
	}{{d.viewer, nil}, {d.operator, []string{"Sec-Fetch-Site", "cross-site"}}} {
		if code, _ := d.ask(c.who, path+"/acknowledge", form, c.header...); code != http.StatusForbidden {
			t.Errorf("%v: %d", c.header, code)
		}
	}
	d.posts(http.StatusOK, path+"/acknowledge", form, "operator takes care: acknowledged on this dashboard", "&lt;b&gt;I drive there", "Nobody but these, while operator takes care:", "with the offer of cloud fallback",
		"not sent any more, because somebody has answered", "it is told again")
	d.posts(http.StatusOK, path+"/acknowledge", url.Values{}, "operator takes care") // twice does no harm
	d.posts(http.StatusConflict, fmt.Sprintf("/incidents/%d/acknowledge", d.ids.Old), url.Values{}, "The incident is over", "Nothing is left to do")
	d.posts(http.StatusNotFound, "/incidents/999999/acknowledge", url.Values{}, "no such thing")
}

func TestFleetAndFacilitySayThatSomethingIsWrongAndThatTheRegionIsBlind(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	// The daily drill is in the list and alarms nobody.
	if _, err := d.r.DB.Exec(t.Context(), `INSERT INTO holdfast.incident (kind, severity, summary, since, opened_at) VALUES ('drill', 'info', 'Nothing is wrong', now(), now())`); err != nil {
		t.Fatal(err)
	}
	d.until("/incidents", "The region: Drill")
	d.wants(d.viewer, "/", `role="status">Open incidents: 2. Not taken on by anybody: 1.</p>`, "2 open incidents, 1 of them not taken on by anybody yet", "The region: Regional outage", "Maria Lopez takes care", fmt.Sprintf("/incidents/%d", d.ids.Disk))
	page := d.wants(d.viewer, "/facilities/la", "1 open incident, taken on", "Disk filling")
	d.lacks(page, "Regional outage", "cannot be judged")
	d.word.Store(&detect.Word{Held: true, Why: "both canaries are late", Findings: []detect.Finding{{Kind: detect.Blind, Since: time.Now().Add(-3 * time.Minute)}}})
	d.wants(d.viewer, "/", "This region cannot judge its facilities now, since <time", "Both canaries are late.", "It is us, not them")
	d.wants(d.viewer, "/facilities/la", "Whether this facility is well cannot be judged now")
	d.word.Store(&detect.Word{HeldOf: map[string]bool{"la": true}})
	d.lacks(d.wants(d.viewer, "/"), "cannot judge")
	d.wants(d.viewer, "/facilities/la", "cannot be judged now")
	// That nobody knows is not "none".
	if _, err := d.r.DB.Exec(t.Context(), `ALTER TABLE holdfast.incident RENAME TO incident_away`); err != nil {
		t.Fatal(err)
	}
	d.until("/", `id="nav-incidents">?<`, "Which incidents are open is not known")
}

// until asks for a page again until it has all parts: pages share what they read for a moment.
func (d *alertDesk) until(path string, parts ...string) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		_, page := d.ask(d.viewer, path, nil)
		missing := ""
		for _, p := range parts {
			if !strings.Contains(page, p) {
				missing = p
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%q is missing in %s:\n%s", missing, path, page)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestWhoIsOnCallIsShownForTwoWeeksAndSomebodyStandsIn(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	page := d.wants(d.viewer, "/oncall", "Plant", "Lopez", "then", "The next two weeks", "Somebody would not hear of 3 facilities")
	if n := strings.Count(page, "reaches nobody now"); n != 1 { // what is the same for all is said once
		t.Errorf("the reason is said %d times:\n%s", n, page)
	}
	path := fmt.Sprintf("/oncall/schedules/%d", d.ids.Plant)
	page = d.wants(d.viewer, path, "Maria Lopez", "Bo Chen", "stands in", "America/Los_Angeles", `class="override"`)
	d.lacks(page, "/overrides\"", "Remove")
	d.wants(d.operator, path, "/remove")
	zone, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().In(zone).AddDate(0, 0, 3)
	form := url.Values{"contact": {fmt.Sprint(d.ids.Maria)}, "starts": {at.Format("2006-01-02T15:04")}, "ends": {at.Add(3 * time.Hour).Format("2006-01-02T15:04")}}
	if code, _ := d.ask(d.viewer, path+"/overrides", form); code != http.StatusForbidden {
		t.Errorf("a viewer's override: %d", code)
	}
	d.posts(http.StatusOK, path+"/overrides", form, at.Format("15:04 MST"), "operator")
	var n int
	var id int64
	if err := d.r.DB.QueryRow(t.Context(), `SELECT count(*), max(id) FROM holdfast.schedule_override WHERE created_by = 'operator' AND starts_at = $1`, at.Truncate(time.Minute)).Scan(&n, &id); err != nil || n != 1 {
		t.Fatalf("%d overrides, %v", n, err)
	}
	for field, want := range map[string]string{"contact": "Nobody was chosen", "starts": "The beginning is missing", "ends": "The end is missing"} {
		bad := url.Values{"contact": form["contact"], "starts": form["starts"], "ends": form["ends"]}
		bad.Del(field)
		page := d.posts(http.StatusUnprocessableEntity, path+"/overrides", bad, want, `aria-invalid="true"`)
		if field != "starts" && !strings.Contains(page, form.Get("starts")) {
			t.Errorf("what was typed is lost:\n%s", page)
		}
	}
	d.posts(http.StatusUnprocessableEntity, path+"/overrides", url.Values{"contact": form["contact"], "starts": form["ends"], "ends": form["starts"]}, "not after the beginning")
	d.posts(http.StatusOK, fmt.Sprintf("%s/overrides/%d/remove", path, id), url.Values{})
	d.posts(http.StatusNotFound, fmt.Sprintf("%s/overrides/%d/remove", path, id), url.Values{})
	d.posts(http.StatusNotFound, "/oncall/schedules/999/overrides", form)
}

func TestPoliciesSayWhoIsToldWhen(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	d.wants(d.viewer, "/oncall/policies", "At once", "After 10 min", "whoever is on call of", "by SMS, Phone call", "After 1 h", "offer of cloud fallback", "all facilities of foo", "Regional outage")
}

func TestAContactIsAddedWithAddressesThatAreRight(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	d.lacks(d.wants(d.viewer, "/oncall/contacts", "Maria Lopez", "the region&#39;s own people", "Proved long ago", "Cannot be used"), "Add a contact")
	d.posts(http.StatusUnprocessableEntity, "/oncall/contacts", url.Values{"name": {""}}, "The name is missing", `aria-invalid="true"`)
	d.posts(http.StatusUnprocessableEntity, "/oncall/contacts", url.Values{"name": {"Carla"}, "time_zone": {"Mars/Base"}}, "There is no such time zone", `value="Carla"`)
	d.posts(http.StatusUnprocessableEntity, "/oncall/contacts", url.Values{"name": {"Carla"}, "tenant": {"nobody"}}, "o facility belongs to tenant")
	page := d.posts(http.StatusOK, "/oncall/contacts", url.Values{"name": {"Carla Ruiz"}, "tenant": {"foo"}, "time_zone": {"Europe/Madrid"}}, "How to reach Carla Ruiz", "cannot be told")
	path := regexp.MustCompile(`/oncall/contacts/\d+`).FindString(page[strings.Index(page, "/methods")-40:])
	d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"sms"}, "address": {"0176 123"}},
		"is no phone number that can be called from everywhere", `value="0176 123"`, `aria-invalid="true"`)
	// What is a secret does not come back.
	secret := "http://hooks.example/not-https/T0P-SECRET"
	d.lacks(d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"slack"}, "address": {secret}}), "T0P-SECRET")
	d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"pigeon"}, "address": {"x"}}, "No channel was chosen")
	d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"email"}, "address": {""}}, "The address is missing")
	d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"email"}, "address": {"a@b.example"}, "settings": {"nonsense"}}, "settings could not be read", "card = bare")
	d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"email"}, "address": {"a@b.example"}, "settings": {"language = de-DE"}}, "language", "needs no settings")
	// What was typed comes back, whatever is wrong, but for secrets.
	d.lacks(d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"teams"}, "address": {"x"}, "settings": {"card = bare\nSecret = T0P-SECRET\nT0P-SECRET"}},
		"settings could not be read", ">card = bare\n<"), "T0P-SECRET")
	d.lacks(d.posts(http.StatusUnprocessableEntity, path+"/methods", url.Values{"channel": {"webhook"}, "address": {"nowhere"}, "settings": {"card = bare\nsecret = T0P-SECRET"}},
		"does not begin with https", ">card = bare\n<"), "T0P-SECRET")
	d.posts(http.StatusOK, path+"/methods", url.Values{"channel": {"sms"}, "address": {"+34 600 000 001"}}, "34600000001", "Sms is not set up in this region", "Cannot be used")
}

func TestATestMessageIsFollowedToWhoeverItReaches(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	path := fmt.Sprintf("/oncall/contacts/%d", d.ids.Maria)
	page := d.wants(d.operator, path, "Test SMS", "last proof")
	d.lacks(d.wants(d.viewer, path), "/test\"", "/remove\"")
	test := regexp.MustCompile(path + `/methods/\d+/test`).FindString(page)
	if code, _ := d.ask(d.viewer, test, url.Values{}); code != http.StatusForbidden {
		t.Errorf("a viewer's test: %d", code)
	}
	d.posts(http.StatusOK, test, url.Values{}, "Test by", "Waits for its turn to be sent")
	var id string
	if err := d.r.DB.QueryRow(t.Context(), `UPDATE holdfast.delivery SET state = 'reached', done_at = now() WHERE event = 'test' RETURNING id::text`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	d.wants(d.viewer, path+"?test="+id, "A person has answered")
	// Another's test is not shown here, nor is what is no test.
	d.lacks(d.wants(d.viewer, fmt.Sprintf("/oncall/contacts/%d?test=%s", d.ids.Bo, id)), "Test by")
	d.wants(d.viewer, path+"?test=x")
	d.posts(http.StatusNotFound, strings.Replace(test, path, fmt.Sprintf("/oncall/contacts/%d", d.ids.Bo), 1), url.Values{})
	// Whom a policy needs stays.
	d.posts(http.StatusUnprocessableEntity, path+"/remove", url.Values{}, "Tick that you are sure")
	d.posts(http.StatusConflict, path+"/remove", url.Values{"sure": {"1"}}, "Maria Lopez is needed by")
}

func TestChannelsSayWhatIsWrongWithThem(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	d.wants(d.viewer, "/oncall/channels", "Not set up, and needed", "The file of slack.signing_secret_file cannot be read", "he region has no access to")
}

func TestWorkIsAnnouncedByTheFacilitysClockAndEndedEarly(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	page := d.wants(d.viewer, "/oncall/maintenance", "New switch in the server room", "Electrician", "Announced")
	d.lacks(page, "End now", "Announce work")
	for _, c := range []struct{ facility, starts, minutes, reason, want string }{
		{"", "", "60", "x", "No facility was chosen"},
		{"la", "nonsense", "60", "x", "The beginning is no time"},
		{"la", "2020-01-01T10:00", "60", "x", "The work would be over already"},
		{"la", time.Now().UTC().Add(-31 * time.Minute).Format("2006-01-02T15:04"), "30", "x", "The work would be over already"},
		{"la", "", "9000", "x", "How long it takes is missing"},
		{"la", "", "60", " ", "What is done there is missing"},
	} {
		d.posts(http.StatusUnprocessableEntity, "/oncall/maintenance", url.Values{"facility": {c.facility}, "starts": {c.starts}, "minutes": {c.minutes}, "reason": {c.reason}}, c.want)
	}
	at := time.Now().UTC().Add(5 * time.Hour).Truncate(time.Minute) // la of this fleet has no zone: UTC
	d.posts(http.StatusOK, "/oncall/maintenance", url.Values{"facility": {"la"}, "starts": {at.Format("2006-01-02T15:04")}, "minutes": {"120"}, "reason": {"Paint <the> wall"}}, "Paint &lt;the&gt; wall", "operator", "Call off: the work at")
	var id int64
	var starts, ends time.Time
	if err := d.r.DB.QueryRow(t.Context(), `SELECT id, starts_at, ends_at FROM holdfast.maintenance WHERE reason LIKE 'Paint%'`).Scan(&id, &starts, &ends); err != nil {
		t.Fatal(err)
	}
	if starts.Sub(at).Abs() > time.Second || ends.Sub(starts) != 2*time.Hour {
		t.Errorf("it is from %s until %s, not from %s", starts, ends, at)
	}
	d.posts(http.StatusOK, fmt.Sprintf("/oncall/maintenance/%d/end", id), url.Values{}, "called off by operator", "Called off")
	// While it goes on the facility's page says so; what comes later, it does not.
	d.lacks(d.wants(d.viewer, "/facilities/la"), "nobody is paged")
	d.posts(http.StatusOK, "/oncall/maintenance", url.Values{"facility": {"la"}, "minutes": {"30"}, "reason": {"Sweep the floor"}})
	d.wants(d.viewer, "/facilities/la", "Announced work until", "Sweep the floor")
	d.posts(http.StatusConflict, fmt.Sprintf("/oncall/maintenance/%d/end", id), url.Values{}, "has ended already")
	d.posts(http.StatusNotFound, "/oncall/maintenance/999/end", url.Values{})
}

func TestWorkThatHasBegunEndsWhenItWasTo(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	at := time.Now().UTC().Add(-30 * time.Minute).Truncate(time.Minute)
	d.posts(http.StatusOK, "/oncall/maintenance", url.Values{"facility": {"la"}, "starts": {at.Format("2006-01-02T15:04")}, "minutes": {"60"}, "reason": {"Late"}}, "Late")
	var starts, ends time.Time
	if err := d.r.DB.QueryRow(t.Context(), `SELECT starts_at, ends_at FROM holdfast.maintenance WHERE reason = 'Late'`).Scan(&starts, &ends); err != nil {
		t.Fatal(err)
	}
	if starts.Before(at.Add(30*time.Minute)) || ends.Sub(at.Add(time.Hour)).Abs() > time.Second {
		t.Errorf("it is from %s until %s; it was to be from %s for an hour", starts, ends, at)
	}
}

func TestFiguresSayHowFastPeopleWereTold(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	page := d.wants(d.viewer, "/oncall/figures", "Time to detect", "Time to tell", "84 days", "data-points=\"[[")
	if !regexp.MustCompile(`data-label="Detect p50">\d+(\.\d)? s<`).MatchString(page) {
		t.Errorf("no seconds in\n%s", page)
	}
}

func TestFiguresShowADashWhereNobodyWasTold(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	if _, err := d.r.DB.Exec(t.Context(), `UPDATE holdfast.delivery SET accepted_at = NULL`); err != nil {
		t.Fatal(err)
	}
	page := d.wants(d.viewer, "/oncall/figures", `data-label="Tell p50">–<`)
	if regexp.MustCompile(`data-label="Tell p50">\d`).MatchString(page) || !regexp.MustCompile(`data-label="Detect p50">\d`).MatchString(page) {
		t.Errorf("people were told in no time in\n%s", page)
	}
	charts := regexp.MustCompile(`data-points="\[\[[^\]]*\],\[([^\]]*)\]`).FindAllStringSubmatch(page, -1)
	if len(charts) != 2 || !strings.ContainsAny(charts[0][1], "123456789") || strings.ContainsAny(charts[1][1], "0123456789") {
		t.Errorf("the charts' points are %q", charts)
	}
}

func TestMessagesAreShownAsTheyWouldBeSaid(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	for _, c := range []string{"sms", "voice", "email", "teams", "slack", "pagerduty", "webhook", "mqtt"} {
		for _, e := range []string{"trigger", "update", "resolve", "test"} {
			page := d.wants(d.viewer, "/oncall/messages?channel="+c+"&event="+e, `class="said`)
			d.lacks(page, "could not be drawn")
		}
	}
	d.wants(d.viewer, "/oncall/messages?channel=evil&event=%00", "Los Angeles")
}

func TestThePagesForAlertsNeedToKnowWhoIsOnCall(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t)
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: web.PGStore{Pool: pool}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dashboard.New(dashboard.Deps{Auth: auth, Fleet: oneFacility{}, Pool: pool, Alerts: new(alert.Alerter)}); err == nil {
		t.Error("it does without")
	} else if errors.Unwrap(err) != nil {
		t.Error(err)
	}
}
