package browser

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/edge/localui"
	localmigrations "github.com/agogsaas/holdfast/edge/localui/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/internal/workspace"
	workmigrations "github.com/agogsaas/holdfast/internal/workspace/migrations"
)

// box is a facility's console whose link and queue the test sets.
type box struct {
	url  string
	pool *pgxpool.Pool

	mu    sync.Mutex
	link  localui.Link
	queue localui.Queue
	db    localui.Database
}

func (b *box) set(change func(b *box)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

func newBox(t *testing.T) *box {
	t.Helper()
	db := pgtest.Migrated(t, "box", func(ctx context.Context, db *sql.DB) error {
		return errors.Join(localmigrations.Up(ctx, db), workmigrations.Up(ctx, db))
	})
	pool := db.Pool(t)
	for name, role := range map[string]web.Role{"maria": web.Operator, "guest": web.Viewer} {
		account(t, pool, name, role)
	}
	must(t, workspace.Seed(t.Context(), pool, "la", rand.New(rand.NewPCG(1, 2))))
	b := &box{
		pool:  pool,
		link:  localui.Link{Enrolled: true, Up: true, Since: time.Now().Add(-26 * time.Hour), LastSent: time.Now().Add(-2 * time.Second)},
		queue: localui.Queue{MaxBytes: 8 << 30},
		db:    localui.Database{Up: true, Since: time.Now().Add(-26 * time.Hour), Version: "15.18", Bytes: 214 << 20},
	}
	zone, err := time.LoadLocation("America/Los_Angeles")
	must(t, err)
	stop := make(chan struct{})
	ui, err := localui.New(localui.Deps{
		Facility: "la", Place: "Los Angeles", Region: "us-east", Zone: zone, Pool: pool, Stop: stop, Log: testLog(t), Version: "test",
		Link:     func() localui.Link { b.mu.Lock(); defer b.mu.Unlock(); return b.link },
		Queue:    func() localui.Queue { b.mu.Lock(); defer b.mu.Unlock(); return b.queue },
		Database: func() localui.Database { b.mu.Lock(); defer b.mu.Unlock(); return b.db },
		Box: func() localui.Box {
			return localui.Box{Version: "0.1.0", Started: time.Now().Add(-26 * time.Hour), DiskFree: 180 << 30, DiskTotal: 240 << 30, TempC: 51, Watchdog: "armed (Broadcom BCM2835 Watchdog timer, 15 s)", Model: "Raspberry Pi 4 Model B"}
		},
	})
	must(t, err)
	b.url = serve(t, ui, stop)
	return b
}

func TestAWorkerOrdersByKeyboardOnlyWhileTheInternetIsDown(t *testing.T) {
	b := newBox(t)
	tb := newBrowser(t).open(t, b.url)
	tb.size(1440, 900, false)
	tb.signIn(b.url, "maria")
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)

	b.set(func(b *box) {
		b.link.Up, b.link.Since = false, time.Now()
		b.queue.Changes, b.queue.Bytes, b.queue.Oldest = 1204, 96<<10, time.Now()
	})
	tb.wait(`document.querySelector("#link-banner").innerText.includes("Keep working: everything is saved here and will be sent by itself.")`)
	tb.wait(`document.querySelector("#link-banner").innerText.includes("safely waiting on this box")`)

	// To the new order by Tab and Enter alone.
	press := func(keys string) { tb.do(chromedp.KeyEvent(keys)) }
	tabTo := func(js string) {
		t.Helper()
		for range 60 {
			if value(tb, chromedp.Evaluate[bool](js)) {
				return
			}
			press(kb.Tab)
		}
		t.Fatalf("Tab does not lead to %s", js)
	}
	tabTo(`document.activeElement.getAttribute("href") === "/orders"`)
	press(kb.Enter)
	tb.wait(`location.pathname === "/orders" && document.querySelector("h1")?.innerText === "Orders"`)
	tabTo(`document.activeElement.getAttribute("href") === "/orders/new"`)
	press(kb.Enter)
	tb.wait(`location.pathname === "/orders/new" && document.activeElement?.id === "customer"`)
	press("Cedar & Sons <Ltd>")
	press(kb.Tab)
	press("Bubble mailer C5")
	tabTo(`document.activeElement.id === "quantity"`)
	press("lots")
	press(kb.Enter)
	tb.wait(`document.querySelector("#quantity-wrong")?.innerText.includes("whole number")`)
	tb.wait(`document.querySelector("#customer").value === "Cedar & Sons <Ltd>" && document.querySelector("#quantity").value === "lots"`)
	value(tb, chromedp.Evaluate[bool](`document.querySelector("#quantity").focus(), document.querySelector("#quantity").select(), true`))
	press("2500")
	press(kb.Enter)
	tb.wait(`/^\/orders\/[0-9a-f-]{36}$/.test(location.pathname)`)
	tb.wait(`document.querySelector("main").innerText.includes("Cedar & Sons <Ltd>")`)
	var n int
	must(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM orders WHERE customer = 'Cedar & Sons <Ltd>' AND quantity = 2500 AND created_by = 'maria'`).Scan(&n))
	if n != 1 {
		t.Fatalf("the order was saved %d times", n)
	}
	tabTo(`document.activeElement.value === "planned"`)
	press(kb.Enter)
	tb.wait(`document.activeElement?.value === "planned" && document.activeElement.getAttribute("aria-pressed") === "true"`)
	tb.wait(`document.querySelector("main").innerText.includes("Saved: Planned.")`)
	tb.allow = append(tb.allow, "422") // the browser logs the refused form
}

func TestTheFacilitysPagesAreReadableByEveryone(t *testing.T) {
	b := newBox(t)
	br := newBrowser(t)
	tb := br.open(t, b.url)
	tb.allow = append(tb.allow, "401", "404", "422") // the pages that refuse
	tb.do(chromedp.Navigate(b.url+"/sign-in"), chromedp.WaitVisible("#password"))
	tb.looks("sign-in")
	tb.signIn(b.url, "maria")
	see := func(name, path string) {
		t.Helper()
		tb.do(chromedp.Navigate(b.url+path), chromedp.WaitVisible("main"))
		tb.wait(`document.querySelector("#live")?.dataset.state === "live" || !document.querySelector("#live")`)
		tb.looks(name)
	}
	see("status-well", "/")
	see("orders", "/orders")
	see("order-new", "/orders/new")
	tb.do(chromedp.Navigate(b.url+"/orders"), chromedp.WaitVisible("a[data-row]"))
	tb.do(chromedp.Click(chromedp.CSS("a[data-row]")))
	tb.wait(`!!document.querySelector("#lines")`)
	tb.looks("order")
	see("inventory", "/inventory")
	tb.do(chromedp.Navigate(b.url+"/inventory"), chromedp.WaitVisible("a[data-row]"))
	tb.do(chromedp.Click(chromedp.CSS("a[data-row]")))
	tb.wait(`!!document.querySelector("#moves")`)
	tb.looks("item")
	see("not-found", "/nothing-here")
	b.set(func(b *box) {
		b.link.Up, b.link.Since, b.link.LastSent, b.link.Problem = false, time.Now().Add(-47*time.Minute), time.Now().Add(-47*time.Minute), "no answer from the region's hub"
		b.queue.Changes, b.queue.Bytes, b.queue.Oldest = 1204, 96<<10, time.Now().Add(-47*time.Minute)
	})
	see("status-offline", "/")
	see("orders-offline", "/orders")
	b.set(func(b *box) { b.db.Up, b.db.Problem = false, "The server stopped and is being started." })
	see("status-database-down", "/")
}

func TestOrdersCanBeEnteredWithoutAnyScript(t *testing.T) {
	b := newBox(t)
	tb := newBrowser(t).open(t, b.url)
	tb.size(390, 844, false)
	tb.do(call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	tb.signIn(b.url, "maria")
	tb.do(chromedp.Navigate(b.url+"/orders/new"), chromedp.WaitVisible("#customer"),
		chromedp.SendKeys("#customer", "Old Tablet Co"), chromedp.SendKeys("#product", "Flyer A5"), chromedp.SendKeys("#quantity", "300"),
		chromedp.Click(chromedp.CSS("form.card button.primary")), chromedp.WaitVisible("#lines"))
	tb.do(chromedp.Click(chromedp.CSS(`button[value="in_production"]`)), chromedp.WaitVisible(chromedp.CSS(`button[value="in_production"][aria-pressed="true"]`)))
	tb.do(chromedp.Navigate(b.url+"/orders?status=&q=tablet"), chromedp.WaitVisible("a[data-row]"))
	var status string
	must(t, b.pool.QueryRow(t.Context(), `SELECT status FROM orders WHERE customer = 'Old Tablet Co'`).Scan(&status))
	if status != "in_production" {
		t.Errorf("the order is %s", status)
	}
	tb.do(chromedp.Click(chromedp.CSS("form[data-theme-form] button")), chromedp.WaitVisible(chromedp.CSS(`html[data-theme="light"] nav.nav`)))
}

func TestTheThemeIsKept(t *testing.T) {
	b := newBox(t)
	tb := newBrowser(t).open(t, b.url)
	tb.size(1440, 900, false)
	tb.signIn(b.url, "maria")
	for _, theme := range []string{"light", "dark"} {
		tb.do(chromedp.Click(chromedp.CSS("form[data-theme-form] button")))
		tb.wait(`document.documentElement.dataset.theme === "` + theme + `"`)
	}
	tb.do(chromedp.Reload())
	tb.wait(`document.documentElement.dataset.theme === "dark" && getComputedStyle(document.body).backgroundColor === "rgb(13, 18, 21)"`)
}
