package browser

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

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
	see("schedule-new", "/oncall/schedules/new")
	see("schedule-edit", fmt.Sprintf("/oncall/schedules/%d/edit", r.ids.Plant))
	see("policies", "/oncall/policies")
	see("policy-new", "/oncall/policies/new")
	see("policy-edit", fmt.Sprintf("/oncall/policies/%d/edit", r.ids.Policy))
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

// Enter in a field saves: it is not the first of the buttons, which takes a part out.
func TestPlansAreChangedByTheKeyboardAloneAndWithoutAnyScript(t *testing.T) {
	r := newAlarmedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(390, 844, false)
	tb.do(call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	tb.signIn(r.url, "omar")
	policy, schedule := fmt.Sprintf("/oncall/policies/%d/edit", r.ids.Policy), fmt.Sprintf("/oncall/schedules/%d/edit", r.ids.Plant)
	tb.do(chromedp.Navigate(r.url+policy), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "New \r"), chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf("#p-%d", r.ids.Policy))))
	tb.do(chromedp.Navigate(r.url+schedule), chromedp.WaitVisible("#part-0"), chromedp.SendKeys(chromedp.CSS(`button[value="more"]`), "\r"), chromedp.WaitVisible("#part-1"))
	tb.do(chromedp.SendKeys(chromedp.CSS(`button[value="drop-1"]`), "\r"), chromedp.WaitVisible(chromedp.CSS(`[formaction$="#part-1"]`)))
	tb.do(chromedp.SendKeys("#name", "New \r"), chromedp.WaitVisible("#w-cap"))
	var name string
	var steps, rotations int
	must(t, r.pool.QueryRow(t.Context(), `SELECT p.name, (SELECT count(*) FROM holdfast.policy_step s WHERE s.policy = p.id) FROM holdfast.escalation_policy p WHERE p.id = $1`, r.ids.Policy).Scan(&name, &steps))
	if name != "New standard" || steps != 3 {
		t.Errorf("the policy is %q with %d steps", name, steps)
	}
	must(t, r.pool.QueryRow(t.Context(), `SELECT s.name, (SELECT count(*) FROM holdfast.rotation r WHERE r.schedule = s.id) FROM holdfast.schedule s WHERE s.id = $1`, r.ids.Plant).Scan(&name, &rotations))
	if name != "New Plant" || rotations != 1 {
		t.Errorf("the schedule is %q with %d rotations", name, rotations)
	}
}
