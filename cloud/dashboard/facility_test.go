package dashboard

import (
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestAFacilityThatIsSilentHasNoFigureOfNow(t *testing.T) {
	t.Parallel()
	pages := testPages(t)
	at := time.Date(2026, 11, 27, 7, 55, 53, 0, time.UTC)
	view := facilityView{record: record{Tables: []tableAt{{Schema: "public", Table: "orders", State: "streaming"}}}}
	view.FacilityStatus = v1.FacilityStatus{ID: "la", State: v1.StateOffline, ReportedAt: &at}
	draw := func() string {
		t.Helper()
		var all string
		for _, name := range []string{"facility-cards", "facility-tables"} {
			html, err := pages.Fragment(name, view)
			if err != nil {
				t.Fatal(err)
			}
			all += string(html)
		}
		return all
	}
	if got := draw(); !strings.Contains(got, "<dd>not known</dd>") || !strings.Contains(got, "0 transactions at ") || !strings.Contains(got, "07:55:53") ||
		!strings.Contains(got, "Waits for the stream") || strings.Contains(got, "Streaming") {
		t.Errorf("of a facility that is silent it says\n%s", got)
	}
	view.FacilityStatus.State, view.FacilityStatus.Stream = v1.StateOnline, true
	if got := draw(); strings.Contains(got, "not known") || !strings.Contains(got, "Streaming") {
		t.Errorf("of a facility that is well it says\n%s", got)
	}
}
