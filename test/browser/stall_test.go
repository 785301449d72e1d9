package browser

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// compare stands for cloud/ingest: how each table differs, as the test says.
func (r *region) compare(_ context.Context, _ string, t proto.SyncedTable, _ uint64, _ []proto.TableColumn) ([]schema.Difference, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.differs[t.ID()], nil
}

func TestAFacilitysPageSaysWhatStandsStillAndWhatDoesNotFit(t *testing.T) {
	r := newRegion(t)
	r.few()
	r.fillTables(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, r.login)
	tb.do(chromedp.Navigate(r.url + "/facilities/la"))
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)
	full := time.Now().Add(31*time.Hour + 30*time.Minute)
	r.change("la", func(d *fleet.Detail) {
		d.Stalled = []v1.Stall{{Side: "region", Stage: "apply", Since: time.Now().Add(-3 * time.Minute), Work: 5, Text: "5 transactions have arrived, and none is applied"}}
		d.Queue.FullAt = &full
	})
	r.mu.Lock()
	r.differs = map[string][]schema.Difference{"public.orders": {{
		Column: "discount", Facility: "integer", Warning: true, Text: "the region does not have the column discount, which the facility sends",
		Remedy: `In the region: ALTER TABLE "public"."orders" ADD COLUMN "discount" integer;`,
	}}}
	r.mu.Unlock()
	tb.wait(`document.querySelector("#facility-head").innerText.includes("5 transactions have arrived, and none is applied")`)
	tb.wait(`document.querySelector("#facility-cards").innerText.includes("full in about 1 d 7 h at this rate")`)
	tb.wait(`document.querySelector("#facility-head").innerText.includes("The columns here and there do not fit: public.orders.")`)
	tb.wait(`document.querySelector("#t-public-orders").innerText.includes("ADD COLUMN")`)
	tb.looks("facility-stalled")
	r.change("la", func(d *fleet.Detail) { d.Stalled = nil })
	tb.wait(`!document.querySelector("#facility-head").innerText.includes("none is applied")`)
}
