package dashboard

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts/conflictstest"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
)

type oneFacility struct{}

func (oneFacility) Snapshot() []v1.FacilityStatus {
	return []v1.FacilityStatus{{ID: "la", Name: "Los Angeles", State: "online", TimeZone: "America/Los_Angeles"}}
}

func (o oneFacility) Facility(id string) (fleet.Detail, bool) {
	d := fleet.Detail{}
	d.FacilityStatus = o.Snapshot()[0]
	return d, id == "la"
}

// pagesOf serves the dashboard over five conflicts; get and post ask as
// somebody with a role.
type pagesOf struct {
	t      *testing.T
	url    string
	pool   *pgxpool.Pool
	tokens map[web.Role]string
}

func newPages(t *testing.T) *pagesOf {
	t.Helper()
	pool := pgtest.Migrated(t, "region", migrations.Up).Pool(t)
	conflictstest.Fill(t, pool)
	store, log := web.PGStore{Pool: pool}, slog.New(slog.DiscardHandler)
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ui, err := New(Deps{Region: "us-east", Auth: auth, Fleet: oneFacility{}, Pool: pool, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p := &pagesOf{t: t, pool: pool, tokens: map[web.Role]string{}}
	for _, role := range []web.Role{web.Viewer, web.Operator} {
		secret, sum := web.NewToken()
		if err := store.PutToken(t.Context(), role.String(), sum, role, time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.tokens[role] = secret
	}
	server := httptest.NewServer(ui)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *pagesOf) ask(role web.Role, method, path string, form url.Values, header ...string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.tokens[role])
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func (p *pagesOf) wants(status int, role web.Role, method, path string, form url.Values, parts ...string) string {
	p.t.Helper()
	got, page := p.ask(role, method, path, form)
	if got != status {
		p.t.Fatalf("%s %s: %d\n%s", method, path, got, page)
	}
	for _, part := range parts {
		if !strings.Contains(page, part) {
			p.t.Errorf("%s %s: %q is missing in\n%s", method, path, part, page)
		}
	}
	return page
}

func (p *pagesOf) count(sql string, args ...any) (n int) {
	p.t.Helper()
	if err := p.pool.QueryRow(p.t.Context(), sql, args...).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func TestTheListOfConflictsFollowsItsFilters(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	page := p.wants(200, web.Viewer, "GET", "/conflicts", nil, "A-10482", "A-10471", "BOARD-EB", "Los Angeles", `id="nav-conflicts">5<span`, "Facility deleted, region changed")
	if strings.Contains(page, "Keep all") {
		t.Error("a viewer is offered to keep all")
	}
	p.wants(200, web.Operator, "GET", "/conflicts?table=public.orders&kind=update_origin_differs", nil, "A-10482", "<option selected>public.orders</option>")
	for path, without := range map[string]string{
		"/conflicts?q=northwind": "A-10482", "/conflicts?kind=insert_exists": "A-10482", "/conflicts?facility=frankfurt": "A-10482",
		"/conflicts?state=acknowledged": "A-10482", "/conflicts?decision=merged": "A-10482", "/conflicts?to=2020-01-01": "A-10482",
	} {
		if page := p.wants(200, web.Viewer, "GET", path, nil); strings.Contains(page, without) {
			t.Errorf("%s shows %s", path, without)
		}
	}
	p.wants(200, web.Viewer, "GET", "/conflicts?q=%00%ff&after=nonsense&kind=evil&state=evil", nil, "Conflicts")
	p.wants(200, web.Viewer, "GET", "/facilities/la", nil, "5 open conflicts", `href="/conflicts?facility=la"`)
}

func TestAConflictsPageShowsBothVersionsAndWhoMayDecide(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	path := "/conflicts/" + conflictstest.Quantity
	page := p.wants(200, web.Viewer, "GET", path, nil, "the facility decides", "2500", "3000", "did not stand", "9 columns are equal", "Print &lt;both&gt; sides", "An operator can", "PST")
	if strings.Contains(page, "<form method=\"post\" action=\"/conflicts") {
		t.Error("a viewer is offered to decide")
	}
	p.wants(200, web.Operator, "GET", path, nil, "Keep as it is", "Use the other version", `action="`+path+`/keep"`)
	p.wants(404, web.Viewer, "GET", "/conflicts/0d4b6f5e-0000-4000-8000-00000000ffff", nil)
	p.wants(404, web.Viewer, "GET", "/conflicts/x", nil)
}

func TestOnlyOperatorsOfThisSiteKeepConflicts(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	path := "/conflicts/" + conflictstest.Quantity
	form := url.Values{"note": {"asked maria"}}
	p.wants(403, web.Viewer, "POST", path+"/keep", form)
	if status, _ := p.ask(web.Operator, "POST", path+"/keep", form, "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("from another site: %d", status)
	}
	if n := p.count(`SELECT count(*) FROM holdfast.conflict_review`); n != 0 {
		t.Fatalf("%d reviews", n)
	}
	p.wants(303, web.Operator, "POST", path+"/keep", form)
	p.wants(409, web.Operator, "POST", path+"/keep", form, "has been dealt with", "Nothing was changed.")
	p.wants(200, web.Viewer, "GET", path, nil, "asked maria", "Kept as it is")
	p.wants(303, web.Operator, "POST", path+"/reopen", url.Values{})
	p.wants(409, web.Operator, "POST", "/conflicts/keep", url.Values{"table": {"public.orders"}, "count": {"2"}}, "3 open conflicts match, not 2")
	p.wants(422, web.Operator, "POST", "/conflicts/keep", url.Values{})
	p.wants(303, web.Operator, "POST", "/conflicts/keep", url.Values{"table": {"public.orders"}, "count": {"3"}})
	if n := p.count(`SELECT count(*) FROM holdfast.conflict_review WHERE by = 'operator'`); n != 3 {
		t.Errorf("%d were kept", n)
	}
}

func TestTheOtherVersionIsConfirmedAsItIsWritten(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	path := "/conflicts/" + conflictstest.Quantity + "/restore"
	p.wants(403, web.Viewer, "GET", path, nil)
	page := p.wants(200, web.Operator, "GET", path, nil, "4 values will be written", "2500", "3000", "Write this version")
	if strings.Contains(page, `name="force"`) {
		t.Error("nothing speaks against it, and it is forced")
	}
	_, seen, _ := strings.Cut(page, `name="seen" value="`)
	seen, _, _ = strings.Cut(seen, `"`)
	form := url.Values{"version": {"cloud"}, "seen": {seen}, "note": {"customer called"}}
	if _, err := p.pool.Exec(t.Context(), `UPDATE orders SET quantity = 2600 WHERE id = $1`, conflictstest.QuantityOrder); err != nil {
		t.Fatal(err)
	}
	page = p.wants(409, web.Operator, "POST", path, form, "The row has changed since you looked at it.", "changed since", "2600", `name="force"`, "customer called")
	_, seen, _ = strings.Cut(page, `name="seen" value="`)
	seen, _, _ = strings.Cut(seen, `"`)
	form.Set("seen", seen)
	p.wants(409, web.Operator, "POST", path, form, "The row has changed since the decision, in quantity.")
	form.Set("force", "yes")
	p.wants(303, web.Operator, "POST", path, form)
	if n := p.count(`SELECT quantity FROM orders WHERE id = $1`, conflictstest.QuantityOrder); n != 3000 {
		t.Errorf("the order has %d", n)
	}
	p.wants(200, web.Viewer, "GET", "/conflicts/"+conflictstest.Quantity, nil, "Other version used", "customer called")
	if _, err := p.pool.Exec(t.Context(), `ALTER TABLE orders ADD CHECK (quantity < 1000) NOT VALID`); err != nil {
		t.Fatal(err)
	}
	p.wants(200, web.Operator, "GET", "/conflicts/"+conflictstest.Deleted+"/restore", nil, "It cannot be written", "violates check constraint")
}

func FuzzConflictQuery(f *testing.F) {
	f.Add("state=all&facility=la&table=public.orders&kind=update_origin_differs&decision=edge&q=a&from=2026-11-26&to=2026-11-27&after=x")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		q := readConflictQuery(v)
		if again := readConflictQuery(q.values()); again != q {
			t.Fatalf("%q: %+v, then %+v", raw, q, again)
		}
		q.filter(time.UTC)
	})
}
