package browser

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/dashboard/dashboardtest"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/internal/web"
)

// alarmedRegion is a region where something is wrong and omar works.
type alarmedRegion struct {
	*region
	ids  dashboardtest.Ids
	word atomic.Pointer[detect.Word]
}

func newAlarmedRegion(t *testing.T) *alarmedRegion {
	t.Helper()
	a := &alarmedRegion{}
	a.word.Store(&detect.Word{})
	a.region = newRegionWith(t, func(r *region, d *dashboard.Deps) {
		texts, err := channel.NewTexts("")
		must(t, err)
		d.Word = func() detect.Word { return *a.word.Load() }
		alerts, room, ids := dashboardtest.Fill(t, r.pool, d.Word)
		a.ids = ids
		d.Alerts, d.OnCall, d.Roster, d.Texts = alerts, room, room, texts
		d.Parked = parked.New(r.pool, nil, nil)
	})
	a.few()
	account(t, a.pool, "omar", web.Operator)
	return a
}

// live waits until the page is live.
func (tb *tab) live() {
	tb.t.Helper()
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)
}

func TestAnIncidentAppearsAndIsAcknowledgedByKeyboard(t *testing.T) {
	r := newAlarmedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	tb.live()
	tb.wait(`document.querySelector("#nav-incidents").innerText.startsWith("2") && document.querySelector("#alerts-banner").innerText.includes("Regional outage")`)
	tb.do(chromedp.Click(chromedp.CSS(`nav.nav a[href="/incidents"]`)), chromedp.WaitVisible("#incident-rows"))
	tb.live()

	// A new one comes without anybody reloading, and before what waits less.
	var id int64
	must(t, r.pool.QueryRow(t.Context(), `INSERT INTO holdfast.incident (kind, facility, severity, summary, since, opened_at)
		VALUES ('database_down', 'frankfurt', 'critical', 'PostgreSQL does not answer', now() - interval '8 seconds', now()) RETURNING id`).Scan(&id))
	tb.wait(fmt.Sprintf(`document.querySelector("#incident-rows tr:first-child")?.id === "i-%d" && document.querySelector("#nav-incidents").innerText.startsWith("3")`, id))

	// By keyboard alone: along the list, into it, a note, Enter.
	tb.run(`document.querySelector("#incident-rows a[data-row]").focus()`)
	tb.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent("\r"))
	tb.wait(fmt.Sprintf(`location.pathname === "/incidents/%d" && document.querySelector("#note")`, id))
	tb.live()
	tb.text("Nobody has acknowledged it yet")
	tb.run(`document.querySelector("#main").focus()`)
	for range 12 { // Tab leads to the note
		if value(tb, chromedp.Evaluate[bool](`document.activeElement.id === "note"`)) {
			break
		}
		tb.do(chromedp.KeyEvent("\t"))
	}
	tb.wait(`document.activeElement.id === "note"`)
	tb.do(chromedp.KeyEvent("I call them\r"))
	tb.wait(`document.querySelector(".head .state").innerText === "Acknowledged" && !document.querySelector("#note")`)
	tb.text("omar takes care: acknowledged on this dashboard")
	tb.text("I call them")

	// The timeline and the messages go on by themselves.
	tb.live()
	must(t, execute(t, r.region, `INSERT INTO holdfast.incident_event (incident, at, what, who, detail) VALUES ($1, now(), 'noted', 'omar', 'They restart it now')`, id))
	tb.wait(`document.querySelector("#incident-timeline").innerText.includes("They restart it now")`)
	must(t, execute(t, r.region, `UPDATE holdfast.incident SET resolved_at = now(), resolved_by = '' WHERE id = $1`, id))
	tb.wait(`document.querySelector(".head .state").innerText === "Resolved" && document.querySelector("#nav-incidents").innerText.startsWith("2")`)
	tb.text("It is over since")

	// What another person does shows here.
	tb.do(chromedp.Navigate(fmt.Sprintf("%s/incidents/%d", r.url, r.ids.Offline)), chromedp.WaitVisible("#note"))
	tb.live()
	must(t, execute(t, r.region, `UPDATE holdfast.delivery SET state = 'reached', done_at = now() WHERE incident = $1 AND state = 'delivered'`, r.ids.Offline))
	tb.wait(`document.querySelector("#incident-deliveries").innerText.includes("a person has answered")`)
	must(t, execute(t, r.region, `UPDATE holdfast.incident SET acked_at = now(), acked_by = 'Maria Lopez', acked_how = 'sms' WHERE id = $1`, r.ids.Offline))
	tb.wait(`document.querySelector(".head .state").innerText === "Acknowledged" && !document.querySelector("#note")`)
}

func TestAContactIsAddedAndTested(t *testing.T) {
	r := newAlarmedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.allow = []string{"422"} // the wrong number
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	tb.do(chromedp.Navigate(r.url+"/oncall/contacts"), chromedp.WaitVisible("#name"),
		chromedp.SendKeys("#name", "Carla Ruiz\r"), chromedp.WaitVisible("#address"))
	tb.text("How to reach Carla Ruiz")

	tb.do(chromedp.SendKeys("#address", "0176 1234\r"))
	tb.wait(`document.querySelector("#address")?.getAttribute("aria-invalid") === "true" && document.querySelector("#address").value === "0176 1234"`)
	tb.text("is no phone number that can be called from everywhere")
	tb.looks("contact-wrong")
	tb.run(`document.querySelector("#address").value = ""`)
	tb.do(chromedp.SendKeys("#address", "+34600000001\r"))
	tb.wait(`document.querySelector("main table")?.innerText.includes("+34600000001")`)

	tb.do(chromedp.Click(chromedp.CSS(`form[action$="/test"] button`)))
	tb.wait(`document.querySelector("#contact-test").innerText.includes("Waiting")`)
	tb.live()
	for _, s := range []struct{ state, text string }{
		{"accepted", "Taken by the provider, not yet at the phone"}, {"sent", "On its way"}, {"delivered", "At the phone; nobody has answered yet"}, {"reached", "A person has answered"},
	} {
		must(t, execute(t, r.region, `UPDATE holdfast.delivery SET state = $1, accepted_at = now() WHERE event = 'test'`, s.state))
		tb.wait(`document.querySelector("#contact-test").innerText.includes("` + s.text + `")`)
	}
	must(t, execute(t, r.region, `UPDATE holdfast.contact_method SET problem = '', proved_at = now() WHERE address = '+34600000001'`))
	tb.wait(`document.querySelector("main table").innerText.includes("Proved")`)
}

func TestTheAlertPagesAreReadableByEveryone(t *testing.T) {
	r := newAlarmedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	see := func(name, path string) {
		t.Helper()
		tb.do(chromedp.Navigate(r.url+path), chromedp.WaitVisible(chromedp.CSS("h1")))
		tb.live()
		tb.looks(name)
	}
	see("incidents", "/incidents")
	see("incidents-none", "/incidents?kind=clock_off")
	see("incident", fmt.Sprintf("/incidents/%d", r.ids.Offline))
	see("incident-region", fmt.Sprintf("/incidents/%d", r.ids.Outage))
	see("incident-taken", fmt.Sprintf("/incidents/%d", r.ids.Disk))
	see("incident-over", fmt.Sprintf("/incidents/%d", r.ids.Old))
	see("oncall", "/oncall")
	see("schedule", fmt.Sprintf("/oncall/schedules/%d", r.ids.Plant))
	see("policies", "/oncall/policies")
	see("contacts", "/oncall/contacts")
	see("contact", fmt.Sprintf("/oncall/contacts/%d", r.ids.Maria))
	see("channels", "/oncall/channels")
	see("maintenance", "/oncall/maintenance")
	see("figures", "/oncall/figures")
	tb.wait(`document.querySelectorAll("figure[data-points] canvas").length === 2 && document.querySelector("figure .reading").innerText.includes("p99")`)
	see("messages", "/oncall/messages?channel=email")
	r.word.Store(&detect.Word{Held: true, Why: "both canaries are late", Findings: []detect.Finding{{Kind: detect.Blind, Since: time.Now().Add(-3 * time.Minute)}}})
	tb.do(chromedp.Navigate(r.url+"/"), chromedp.WaitVisible(chromedp.CSS("#alerts-banner .banner.unknown")))
	see("fleet-blind", "/")
	see("facility-incident", "/facilities/shanghai")
	r.word.Store(&detect.Word{})
	tb.wait(`!document.querySelector("#alerts-banner .banner.unknown")`)
}

func TestAnIncidentIsAcknowledgedWithoutAnyScript(t *testing.T) {
	r := newAlarmedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(390, 844, false)
	tb.do(call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	tb.signIn(r.url, "omar")
	tb.do(chromedp.Navigate(r.url+"/incidents?state=open"), chromedp.WaitVisible("#incident-rows"),
		chromedp.Click(chromedp.CSS(fmt.Sprintf(`form[action="/incidents/%d/acknowledge"] button`, r.ids.Outage))), chromedp.WaitVisible(chromedp.CSS(".head .state-busy")))
	var by string
	must(t, r.pool.QueryRow(t.Context(), `SELECT acked_by FROM holdfast.incident WHERE id = $1`, r.ids.Outage).Scan(&by))
	if by != "omar" {
		t.Errorf("acknowledged by %q", by)
	}
}

// run runs a script for its effect.
func (tb *tab) run(js string) {
	tb.t.Helper()
	value(tb, chromedp.Evaluate[bool](js+`; true`))
}
