package cloud

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/web"
)

func TestRegionIsReadyWithItsDatabaseAndBrokerOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.Cluster(t, pgtest.Options{NoFsync: true})
	pool := server.Pool(t)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if err := migrations.Up(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	members, err := fleet.New(fleet.Config{DB: pool, Client: brokertest.New(t).Client, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: web.PGStore{Pool: pool}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := dashboard.New(dashboard.Deps{Auth: auth, Fleet: members, Pool: pool, Ready: ready(pool, members), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	// is waits for an answer of /readyz; /healthz says all the while that the
	// program lives.
	is := func(status int, text string) {
		t.Helper()
		ask := func(path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			pages.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			return w
		}
		brokertest.Eventually(t, text, func() bool {
			w := ask("/readyz")
			return w.Code == status && strings.TrimSpace(w.Body.String()) == text
		})
		if w := ask("/healthz"); w.Code != http.StatusOK {
			t.Errorf("%s, and /healthz says %d", text, w.Code)
		}
	}
	is(http.StatusServiceUnavailable, "broker not connected")

	s := run.New(log)
	s.Go("fleet", members.Run)
	defer func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Errorf("stop the fleet: %v", err)
		}
	}()
	is(http.StatusOK, "ready")
	server.Stop(t)
	is(http.StatusServiceUnavailable, "database down")
	server.Start(t)
	is(http.StatusOK, "ready")
}
