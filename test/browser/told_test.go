package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/dashboard/dashboardtest"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

// toldRegion is a region whose alerter runs, with a stand-in for Twilio and its
// phones; the test says what detect finds.
type toldRegion struct {
	*region
	ids    dashboardtest.Ids
	twilio *twilio.Twilio
	word   atomic.Pointer[detect.Word]
}

// outside is how the region is reached from outside: Twilio signs that address.
const outside = "https://alerts.example.com"

// fromOutside carries what is sent to the region's public address to it.
type fromOutside struct{ r *toldRegion }

func (f fromOutside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host != outside {
		return nil, fmt.Errorf("%s is not the region", r.URL.Host)
	}
	to, err := url.Parse(f.r.url)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = to.Scheme, to.Host, to.Host
	return http.DefaultTransport.RoundTrip(r)
}

func newToldRegion(t *testing.T) *toldRegion {
	t.Helper()
	const sid = "AC00000000000000000000000000000001"
	const token = "0123456789abcdef0123456789abcdef"
	r := &toldRegion{}
	r.finds()
	r.twilio = twilio.New(twilio.Options{AccountSID: sid, AuthToken: token, SegmentsPerSecond: 1000, CallsPerSecond: 1000, Phones: twilio.Rings, Transport: fromOutside{r}})
	t.Cleanup(r.twilio.Close)
	api := httptest.NewServer(r.twilio.Handler())
	t.Cleanup(api.Close)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
	texts, err := channel.NewTexts("")
	must(t, err)
	links, err := channel.NewLinks(outside, filepath.Join(dir, "links.key"))
	must(t, err)
	tw, err := channel.NewTwilio(channel.TwilioConfig{
		AccountSID: sid, AuthToken: filepath.Join(dir, "token"), FromSMS: "+12135550000", FromVoice: "+12135550000", BaseURL: api.URL,
	}, outside, texts)
	must(t, err)
	var alerts *alert.Alerter
	r.region = newRegionWith(t, func(reg *region, d *dashboard.Deps) {
		room := oncall.New(reg.pool, tw.Senders(), testLog(t))
		r.ids = dashboardtest.People(t, reg.pool, room)
		d.Word = func() detect.Word { return *r.word.Load() }
		alerts, err = alert.New(alert.Config{
			DB: reg.pool, Roster: room, Senders: tw.Senders(), Word: d.Word, Region: "us-east", Log: testLog(t),
			Links: alert.Links{Incident: func(id int64) string { return fmt.Sprintf("%s/incidents/%d", outside, id) }, Ack: links.Ack, Offer: links.Offer},
		})
		must(t, err)
		d.Alerts, d.OnCall, d.Roster, d.Texts = alerts, room, room, texts
		d.Hooks = channel.Handler(channel.HandlerConfig{Inbox: alerts, Links: links, Twilio: tw, Log: testLog(t)})
	})
	r.few()
	account(t, r.pool, "omar", web.Operator)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var g errgroup.Group
	g.Go(func() error { return alerts.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the alerter ended: %v", err)
		}
	})
	return r
}

// finds says what is wrong from now on.
func (r *toldRegion) finds(f ...detect.Finding) {
	r.word.Store(&detect.Word{At: time.Now(), Findings: f})
}

// offline is a facility that is not heard of for 8 seconds.
func offline(facility string) detect.Finding {
	return detect.Finding{
		Kind: detect.Offline, Facility: facility, Severity: detect.Critical, Since: time.Now().Add(-8 * time.Second),
		Summary: "offline: nothing is heard from it", Evidence: []string{"No heartbeat for 8 seconds; one is due each 5", "The tunnel does not answer"},
	}
}

func TestAnIncidentAppearsAndIsAcknowledgedByKeyboardAndByPhone(t *testing.T) {
	r := newToldRegion(t)
	phone := r.twilio.Phone(dashboardtest.MariaPhone)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	tb.do(chromedp.Click(chromedp.CSS(`nav.nav a[href="/incidents"]`)), chromedp.WaitVisible("#incident-rows"))
	tb.live()
	tb.wait(`document.querySelector("#nav-incidents").hidden`)

	// It comes without anybody reloading; by keyboard alone along the list and into it.
	r.finds(offline("shanghai"))
	tb.wait(`document.querySelectorAll("#incident-rows tr").length === 1 && document.querySelector("#nav-incidents").innerText.startsWith("1")`)
	phone.ExpectSMS(t, "Shanghai")
	phone.ExpectCall(t) // it rings, and nobody picks up
	tb.run(`document.querySelector("#incident-rows a[data-row]").focus()`)
	tb.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#note"))
	tb.live()
	tb.text("Nobody has acknowledged it yet")
	tb.text("The tunnel does not answer")
	tb.wait(`document.querySelector("#incident-deliveries").innerText.includes("at the phone; nobody has answered yet")`) // the receipt has come
	tb.wait(`document.querySelector("#incident-next").innerText.includes("step 2 of standard")`)
	tb.run(`document.querySelector("#main").focus()`)
	for range 12 { // Tab leads to the note
		if value(tb, chromedp.Evaluate[bool](`document.activeElement.id === "note"`)) {
			break
		}
		tb.do(chromedp.KeyEvent(kb.Tab))
	}
	tb.wait(`document.activeElement.id === "note"`)
	tb.do(chromedp.KeyEvent("I call them"), chromedp.KeyEvent(kb.Enter))
	tb.wait(`document.querySelector(".head .state").innerText === "Acknowledged" && !document.querySelector("#note")`)
	tb.text("omar takes care: acknowledged on this dashboard")
	tb.wait(`document.querySelector("#incident-timeline").innerText.includes("I call them")`)
	tb.live()

	// It is over: the page says so by itself, and so does an SMS; no phone rings for it.
	r.finds()
	tb.wait(`document.querySelector(".head .state").innerText === "Resolved" && document.querySelector("#nav-incidents").hidden`)
	tb.wait(`document.querySelector("#incident-timeline").innerText.includes("Resolved") && document.querySelector("#incident-deliveries").innerText.includes("It is over")`)
	phone.ExpectSMS(t, "RESOLVED", "Shanghai")

	// Another one; this time Maria presses 4 on her phone while omar looks on.
	r.finds(offline("frankfurt"))
	tb.do(chromedp.Navigate(r.url+"/"), chromedp.WaitVisible(chromedp.CSS(`#alerts-banner a[href^="/incidents/"]`)),
		chromedp.Click(chromedp.CSS(`#alerts-banner a[href^="/incidents/"]`)), chromedp.WaitVisible("#note"))
	tb.live()
	call := phone.ExpectCall(t)
	call.Answer()
	call.Expect(t, "Frankfurt")
	must(t, call.Press("4"))
	tb.wait(`document.querySelector(".head .state").innerText === "Acknowledged" && !document.querySelector("#note")`)
	tb.text("Maria Lopez takes care: acknowledged by a key on the phone")
	tb.wait(`document.querySelector("#incident-deliveries").innerText.includes("a person has answered")`)
}

func TestAContactIsAddedAndTested(t *testing.T) {
	r := newToldRegion(t)
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

	tb.do(chromedp.Click(chromedp.CSS(`form[action$="/test"] button`)), chromedp.WaitVisible(chromedp.CSS("#contact-test .banner")))
	tb.live()
	phone := r.twilio.Phone("+34600000001")
	phone.ExpectSMS(t, "test")
	tb.wait(`document.querySelector("#contact-test").innerText.includes("At the phone; nobody has answered yet")`)
	tb.wait(`document.querySelector("main table").innerText.includes("Proved")`)
	tb.looks("contact-tested")
}
