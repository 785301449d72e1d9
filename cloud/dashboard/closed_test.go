package dashboard

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/internal/web/webtest"
)

// What is open here is so on purpose; the API itself asks who calls, which
// cloud/api tests for each of its operations; what comes to the hooks is signed,
// which cloud/channel tests.
func TestNoPageIsShownWithoutSignIn(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t)
	log := slog.New(slog.DiscardHandler)
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: web.PGStore{Pool: pool}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ui, err := New(Deps{
		Region: "us-east", Auth: auth, Fleet: oneFacility{}, Pool: pool, Parked: parked.New(pool, nil, nil), Log: log,
		API: http.NotFoundHandler(), Hooks: http.NotFoundHandler(), Metrics: http.NotFoundHandler(),
		// Nobody gets as far as these.
		Alerts: new(alert.Alerter), OnCall: new(oncall.Room), Texts: new(channel.Texts),
	})
	if err != nil {
		t.Fatal(err)
	}
	webtest.Closed(t, ui, ui.mux, "/api/", "/hooks/", "/ack/", "GET /metrics", "GET /healthz", "GET /readyz", "/")
}
