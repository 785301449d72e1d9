package localui

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/edge/localui/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web/webtest"
)

func TestTheWorstIsSaidFirstAndInPlainWords(t *testing.T) {
	t.Parallel()
	now := time.Now()
	well := Report{Link: Link{Enrolled: true, Up: true}, Database: Database{Up: true}, Queue: Queue{MaxBytes: 100}}
	for _, c := range []struct {
		name   string
		change func(r *Report)
		kind   string
		says   string
		well   bool
	}{
		{"well", func(*Report) {}, "ok", "Everything is working.", true},
		{"on its way", func(r *Report) { r.Queue.Oldest, r.Queue.Changes = now.Add(-time.Second), 3 }, "ok", "Everything is working.", true},
		{"catching up", func(r *Report) { r.Queue.Oldest, r.Queue.Changes = now.Add(-time.Hour), 3 }, "info", "Back online.", false},
		{"offline", func(r *Report) { r.Link.Up = false }, "warn", "Keep working: everything is saved here and will be sent by itself.", false},
		{"offline, nearly full", func(r *Report) { r.Link.Up, r.Queue.Bytes = false, 90 }, "bad", "nearly full", false},
		{"refused, between two attempts", func(r *Report) { r.Link.Up, r.Link.Refused = false, true }, "warn", "The region cannot take the changes now.", false},
		{"a change is parked", func(r *Report) { r.Link.Parked, r.Link.ParkedWhy = 2, "duplicate key" }, "warn", "2 changes from the region wait", false},
		{"a change cannot be taken in", func(r *Report) { r.Link.Stuck = "no such table" }, "warn", "Keep working", false},
		{"refused", func(r *Report) { r.Link.Refused, r.Queue.Oldest = true, now.Add(-time.Hour) }, "warn", "The region cannot take the changes now.", false},
		{"refused, nearly full", func(r *Report) { r.Link.Refused, r.Queue.Bytes = true, 90 }, "bad", "nearly full", false},
		{"replaced", func(r *Report) { r.Link.Up, r.Link.Replaced = false, true }, "bad", "Another box", false},
		{"not enrolled", func(r *Report) { r.Link = Link{} }, "info", "not connected to a region yet", false},
		{"something cannot be sent", func(r *Report) { r.Queue.LeftOut = []string{"a row is too large"} }, "warn", "Something that was saved here cannot be sent.", false},
		{"stands still", func(r *Report) { r.Stalls = []Stall{{Text: "7 bytes of WAL wait to be read"}} }, "warn", "7 bytes of WAL wait to be read", false},
		{"stands still in an outage", func(r *Report) { r.Link.Up, r.Stalls = false, []Stall{{Text: "x"}} }, "warn", "Internet is down.", false},
		{"offline, full before the evening", func(r *Report) { r.Link.Up, r.Queue.FullIn = false, 5*time.Hour }, "bad", "nearly full", false},
		{"offline, full in days", func(r *Report) { r.Link.Up, r.Queue.FullIn = false, 50*time.Hour }, "warn", "Internet is down.", false},
		{"queue broken", func(r *Report) { r.Queue.Problem = "disk full" }, "bad", "disk full", false},
		{"database down", func(r *Report) { r.Database.Up, r.Link.Up, r.Queue.Problem = false, false, "x" }, "bad", "database is not running", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := well
			c.change(&r)
			r.judge(now)
			if r.Kind != c.kind || r.Well != c.well || !strings.Contains(r.Title+" "+r.Text, c.says) {
				t.Errorf("%s: %q %q, well %v", r.Kind, r.Title, r.Text, r.Well)
			}
		})
	}
}

func TestTheBoxsPageSaysWhetherItsWatchdogIsArmed(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig("postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	u := newUI(t, pool, true)
	for told, want := range map[string]string{
		"armed (iTCO_wdt, 30 s)": "<dt>Watchdog</dt><dd>armed (iTCO_wdt, 30 s)</dd>", "not armed": "<dt>Watchdog</dt><dd>not armed</dd>", "": "",
	} {
		got := string(u.draw("status-cards", Report{Box: Box{TempC: 48.2, Watchdog: told}}, true))
		if !strings.Contains(got, "<dd>48 °C</dd>"+want+"<dt>Version</dt>") {
			t.Errorf("%q: not on\n%s", told, got)
		}
	}
}

// What is left is what this box has to send, which has nothing to do with what
// waits to be taken in.
func TestTheBannerCountsOnlyWhatIsLeftToSend(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig("postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	u := newUI(t, pool, true)
	r := Report{Link: Link{Enrolled: true, Up: true, Parked: 1, ParkedWhy: "null value in column"}, Database: Database{Up: true}}
	r.judge(time.Now())
	if got := string(u.draw("link-banner", r, true)); !strings.Contains(got, "1 change from the region waits") || strings.Contains(got, "left") {
		t.Errorf("the banner is\n%s", got)
	}
	r.Queue.Changes = 3
	if got := string(u.draw("link-banner", r, true)); !strings.Contains(got, "3 changes left to send.") {
		t.Errorf("the banner is\n%s", got)
	}
	if got := string(u.draw("status-cards", r, true)); !strings.Contains(got, `<dd class="full">1 change from the region waits`) {
		t.Errorf("the reason has no room in\n%s", got)
	}
}

func newUI(t *testing.T, pool *pgxpool.Pool, up bool) *UI {
	t.Helper()
	u, err := New(Deps{
		Facility: "la", Pool: pool, Stop: t.Context().Done(),
		Link: func() Link { return Link{} }, Queue: func() Queue { return Queue{} },
		Database: func() Database { return Database{Up: up} }, Box: func() Box { return Box{} },
		Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestABoxWithoutInternetIsReadyOneWithoutDatabaseIsNot(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, err := sql.Open("pgx", db.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		if err := migrations.Up(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	status := func(u *UI, path string) int {
		w := httptest.NewRecorder()
		u.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		return w.Code
	}
	u := newUI(t, db.Pool(t), true)
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/orders": 401, "/nothing": 404,
	} {
		if got := status(u, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	webtest.Closed(t, u, u.mux, "GET /healthz", "GET /readyz", "GET /metrics", "/")
	if got := status(newUI(t, db.Pool(t), false), "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("ready without a database: %d", got)
	}
}

func TestADeadDatabaseIsSaidNotShownAsAnEmptyPage(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig("postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/orders", nil)
	r.Header.Set("Accept", "text/html")
	r.AddCookie(&http.Cookie{Name: "holdfast_la", Value: "x"})
	w := httptest.NewRecorder()
	newUI(t, pool, false).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "The database is not answering.") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
