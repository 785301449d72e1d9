package browser

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/agogsaas/holdfast/cloud/conflicts/conflictstest"
	"github.com/agogsaas/holdfast/internal/web"
)

// newConflictedRegion is a region where la has five conflicts and omar works.
func newConflictedRegion(t *testing.T) *region {
	t.Helper()
	r := newRegion(t)
	r.few()
	conflictstest.Fill(t, r.pool)
	account(t, r.pool, "omar", web.Operator)
	return r
}

func (tb *tab) text(part string) {
	tb.t.Helper()
	tb.wait(`document.querySelector("main").innerText.includes("` + part + `")`)
}

func execute(t *testing.T, r *region, sql string, args ...any) error {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	return err
}

func TestAnOperatorDealsWithConflicts(t *testing.T) {
	r := newConflictedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	tb.wait(`document.querySelector("#live").dataset.state === "live" && document.querySelector("#nav-conflicts").innerText.startsWith("5")`)

	tb.do(chromedp.Click(chromedp.CSS(`nav.nav a[href="/conflicts"]`)), chromedp.WaitVisible("#q"))
	tb.wait(`document.querySelectorAll("a[data-row]").length === 5 && document.querySelector("#live").dataset.state === "live"`)
	tb.do(chromedp.SendKeys("#q", "cedar"))
	tb.wait(`document.querySelectorAll("a[data-row]").length === 1 && location.search.includes("q=cedar")`)
	// A newer one is told of; the rows stay where they are.
	must(t, execute(t, r, `INSERT INTO holdfast.conflict SELECT (jsonb_populate_record(c, jsonb_build_object('id', '0d4b6f5e-0000-4000-8000-000000000009', 'at', now()))).* FROM holdfast.conflict c WHERE id = $1`, conflictstest.Quantity))
	tb.text("There are newer conflicts.")
	tb.wait(`document.querySelector("#nav-conflicts").innerText.startsWith("6")`)
	must(t, execute(t, r, `DELETE FROM holdfast.conflict WHERE id = '0d4b6f5e-0000-4000-8000-000000000009'`))

	tb.do(chromedp.Click(chromedp.CSS("a[data-row]")), chromedp.WaitVisible("#note"))
	tb.wait(`document.querySelectorAll("tr[data-differs]").length === 4 && document.querySelector("tr[data-differs]").innerText.includes("differs")`)
	tb.do(chromedp.SendKeys("#note", "maria is right\r"))
	tb.wait(`document.querySelector(".head .state").innerText === "Kept as it is"`)
	tb.text("maria is right")
	tb.do(chromedp.Click(chromedp.CSS(`form[action$="/reopen"] button`)))
	tb.wait(`document.querySelector(".head .state").innerText === "Open"`)
	tb.text("Opened again by omar")

	// The other version, by keyboard's way: the page first shows what it writes.
	tb.do(chromedp.Click(chromedp.CSS(`a[href$="/restore?version=cloud"]`)), chromedp.WaitVisible("#note"))
	tb.text("4 values will be written")
	tb.do(chromedp.Click(chromedp.CSS("form.card button.primary")))
	tb.wait(`document.querySelector(".head .state").innerText === "Other version used"`)
	tb.text("The region's version stands now: omar wrote it")
	tb.wait(`document.querySelector('a[href$="/restore?version=edge"]') && !document.querySelector('a[href$="/restore?version=cloud"]')`)
	var quantity int
	must(t, r.pool.QueryRow(t.Context(), `SELECT quantity FROM orders WHERE id = $1`, conflictstest.QuantityOrder).Scan(&quantity))
	if quantity != 3000 {
		t.Errorf("the order has %d", quantity)
	}
}

func TestTheConflictPagesAreReadableByEveryone(t *testing.T) {
	r := newConflictedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, "omar")
	see := func(name, path string) {
		t.Helper()
		tb.do(chromedp.Navigate(r.url+path), chromedp.WaitVisible("h1"))
		tb.wait(`document.querySelector("#live")?.dataset.state === "live" || !document.querySelector("#live")`)
		tb.looks(name)
	}
	see("conflicts", "/conflicts")
	see("conflicts-none", "/conflicts?state=restored")
	see("conflict", "/conflicts/"+conflictstest.Quantity)
	see("conflict-deleted", "/conflicts/"+conflictstest.Deleted)
	see("conflict-merged", "/conflicts/"+conflictstest.Stock)
	see("conflict-restore", "/conflicts/"+conflictstest.Quantity+"/restore?version=cloud")
	see("conflict-restore-delete", "/conflicts/"+conflictstest.Kept+"/restore")
	must(t, execute(t, r, `UPDATE orders SET quantity = 2600 WHERE id = $1`, conflictstest.QuantityOrder))
	see("conflict-changed", "/conflicts/"+conflictstest.Quantity)
	see("conflict-restore-changed", "/conflicts/"+conflictstest.Quantity+"/restore?version=cloud")
	must(t, execute(t, r, `INSERT INTO holdfast.conflict_review (conflict, action, by, note) VALUES ($1, 'acknowledged', 'omar', 'Maria called the customer: 2500 it is.')`, conflictstest.Quantity))
	see("conflict-kept", "/conflicts/"+conflictstest.Quantity)
	must(t, execute(t, r, `UPDATE holdfast.conflict SET policy = 'corrected', decision = 'cloud', edge_at = NULL, edge_by = '' WHERE id = $1`, conflictstest.Quantity))
	see("conflict-corrected", "/conflicts/"+conflictstest.Quantity)
	conflictstest.More(t, r.pool, 60)
	see("conflicts-many", "/conflicts?facility=frankfurt")
	tb.do(chromedp.Click(chromedp.CSS(`.pager a[href*="after="]`)))
	tb.wait(`location.search.includes("after=") && document.querySelectorAll("a[data-row]").length === 10 && document.querySelector("#live").dataset.state === "live"`)
	tb.wait(`!document.querySelector("main").innerText.includes("There are newer")`)
	see("facility-conflicts", "/facilities/la")
}

func TestConflictsCanBeKeptWithoutAnyScript(t *testing.T) {
	r := newConflictedRegion(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(390, 844, false)
	tb.do(call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	tb.signIn(r.url, "omar")
	tb.do(chromedp.Navigate(r.url+"/conflicts?table=public.orders"), chromedp.WaitVisible(chromedp.CSS("details.card summary")),
		chromedp.Click(chromedp.CSS("details.card summary")), chromedp.WaitVisible("#many-note"),
		chromedp.SendKeys("#many-note", "looked at\r"), chromedp.WaitVisible(chromedp.CSS(`nav.steps a[href*="state=acknowledged"][aria-current]`)))
	var n int
	must(t, r.pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.conflict_review WHERE note = 'looked at' AND by = 'omar'`).Scan(&n))
	if n != 3 {
		t.Errorf("%d were kept", n)
	}
}
