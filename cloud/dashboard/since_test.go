package dashboard

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
)

func TestAFacilityInTroubleSaysSinceWhen(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t)
	log := slog.New(slog.DiscardHandler)
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: web.PGStore{Pool: pool}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ui, err := New(Deps{
		Region: "us-east", Auth: auth, Fleet: oneFacility{}, Pool: pool, Log: log,
		API: http.NotFoundHandler(), Metrics: http.NotFoundHandler(),
	})
	if err != nil {
		t.Fatal(err)
	}
	since, until := time.Date(2026, 11, 26, 9, 14, 3, 0, time.UTC), time.Date(2026, 11, 26, 17, 30, 0, 0, time.UTC)
	html, err := ui.pages.Fragment("fleet-row", newRow(v1.FacilityStatus{
		ID: "la", State: "offline", Reason: "Neither heartbeats nor the tunnel work.", Since: &since, MaintenanceUntil: &until,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Neither heartbeats nor the tunnel work. Since ", since.Format(time.RFC3339), "Announced work until ", until.Format(time.RFC3339)} {
		if !strings.Contains(string(html), want) {
			t.Errorf("%q is not in\n%s", want, html)
		}
	}
	if html, err = ui.pages.Fragment("fleet-row", newRow(v1.FacilityStatus{ID: "la", State: "online", Since: &since})); err != nil || !strings.Contains(string(html), since.Format(time.RFC3339)) {
		t.Errorf("since when it is online is not in\n%s (%v)", html, err)
	}
}
