package dashboard

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestAFacilitysPageSaysWhetherItsWatchdogIsArmed(t *testing.T) {
	t.Parallel()
	pages := testPages(t)
	for want, w := range map[string]*proto.Watchdog{
		"<dt>Watchdog</dt><dd>armed (iTCO_wdt, 30 s)</dd>":     {State: proto.WatchdogArmed, Name: "iTCO_wdt", Seconds: 30},
		"<dt>Watchdog</dt><dd>not armed (iTCO_wdt, 30 s)</dd>": {State: proto.WatchdogUnarmed, Name: "iTCO_wdt", Seconds: 30},
		"<dt>Watchdog</dt><dd>none</dd>":                       {State: proto.WatchdogNone},
		"":                                                     nil, // it does not tell
	} {
		var view facilityView
		view.Status = &proto.Status{Watchdog: w}
		html, err := pages.Fragment("facility-facts", view)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(html); !strings.Contains(got, want) || w == nil && strings.Contains(got, "Watchdog") {
			t.Errorf("%v: %q is not in\n%s", w, want, got)
		}
	}
}
