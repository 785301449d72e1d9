package dashboard

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// testPages are the pages' parts, to be drawn without a region.
func testPages(t *testing.T) *web.Pages {
	t.Helper()
	site, err := web.NewSite(web.SiteOptions{Place: "us-east", Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(pageFiles, "pages")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := site.Pages(files)
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func TestTablesShowHowBothSidesCompare(t *testing.T) {
	t.Parallel()
	pages := testPages(t)
	equalAt := time.Date(2026, 11, 26, 14, 3, 7, 0, time.UTC)
	for name, c := range map[string]struct {
		v    *v1.Verified
		want []string
	}{
		"never":      {nil, []string{"Not compared yet"}},
		"first":      {&v1.Verified{BeganAt: &equalAt, RowsDone: 4000}, []string{"First comparison", "comparing: 4000 rows so far"}},
		"equal":      {&v1.Verified{EqualAt: &equalAt, EqualSeq: "4294967296:77", EqualRows: 1200}, []string{"Equal", "equal at", "14:03:07", "1200 rows", "at transaction 77"}},
		"differs":    {&v1.Verified{EqualAt: &equalAt, EqualSeq: "4294967296:77", Differing: 3}, []string{"3 rows differ", "holdfastctl verify la public.orders", "--repair", "equal at"}},
		"parked":     {&v1.Verified{Differing: 1, Rows: []v1.VerifyRow{{Kind: "parked"}}}, []string{"1 row differs", `Parked: <a href="/parked?facility=la">`}},
		"mended":     {&v1.Verified{EqualAt: &equalAt, Differing: 3, Repaired: 3}, []string{"Equal"}},
		"untellable": {&v1.Verified{Problem: "public.orders has no key", Remedy: "Give it one."}, []string{"Cannot be compared", "has no key", "Give it one."}},
	} {
		view := facilityView{record: record{Tables: []tableAt{{Schema: "public", Table: "orders", State: "streaming", Verified: c.v}}}}
		view.ID = "la"
		html, err := pages.Fragment("facility-tables", view)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text := strings.NewReplacer("\u00a0", " ", "\u202f", " ", "<b>", "", "</b>", "").Replace(string(html))
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in %s", name, want, text)
			}
		}
	}
}
