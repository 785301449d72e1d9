package workspace_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/internal/workspace"
	"github.com/agogsaas/holdfast/internal/workspace/migrations"
)

// plant is one facility's workspace, with a token for each role.
type plant struct {
	t            *testing.T
	url          string
	pool         *pgxpool.Pool
	worker, look string // tokens
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := pgtest.New(t)
	conn, err := sql.Open("pgx", db.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 { // the second finds nothing to do
		if err := migrations.Up(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec(t, `CREATE SCHEMA holdfast`)
	db.Exec(t, `CREATE TABLE holdfast.api_token (token_sha256 bytea PRIMARY KEY, name text NOT NULL UNIQUE, role text NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz)`)
	db.Exec(t, `CREATE TABLE holdfast.request (row_id uuid PRIMARY KEY, sha256 bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`)
	return db.Pool(t)
}

func newPlant(t *testing.T, pool *pgxpool.Pool, facility string) *plant {
	t.Helper()
	p := &plant{t: t, pool: pool}
	store := web.PGStore{Pool: pool}
	token := func(name string, role web.Role) string {
		secret, sum := web.NewToken()
		if err := store.PutToken(t.Context(), name+"-"+facility, sum, role, time.Time{}); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	p.worker, p.look = token("maria", web.Operator), token("guest", web.Viewer)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	auth, err := web.NewAuth(web.AuthOptions{Name: facility, Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	site, err := web.NewSite(web.SiteOptions{Place: facility, Auth: auth, Log: log, Nav: workspace.Nav})
	if err != nil {
		t.Fatal(err)
	}
	ws, err := workspace.New(workspace.Options{Pool: pool, Facility: facility, Site: site, Auth: auth, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux := new(web.Mux)
	ws.Mount(mux)
	srv := httptest.NewServer(site.Protect(mux))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

type answer struct {
	status int
	body   string
	to     string
	allow  string
}

// into decodes the answer's JSON.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

func (p *plant) ask(token, method, path, kind, body, key string) answer {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", kind)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header.Get("Location"), resp.Header.Get("Allow")}
}

func (p *plant) json(method, path string, v any, key string) answer {
	p.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.ask(p.worker, method, "/api/workspace/v1"+path, "application/json", string(b), key)
}

func (p *plant) form(path string, v url.Values) answer {
	p.t.Helper()
	return p.ask(p.worker, "POST", path, "application/x-www-form-urlencoded", v.Encode(), "")
}

func (p *plant) count(sql string, args ...any) (n int) {
	p.t.Helper()
	if err := p.pool.QueryRow(p.t.Context(), sql, args...).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestADoubleTapMakesOneOrder(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	page := p.ask(p.worker, "GET", "/orders/new", "", "", "")
	key := regexp.MustCompile(`name="key" value="([0-9a-f-]{36})"`).FindStringSubmatch(page.body)
	if key == nil {
		t.Fatalf("the form has no key: %s", page.body)
	}
	f := url.Values{"key": {key[1]}, "customer": {"Acme"}, "product": {"Mailer box"}, "quantity": {"2,500"}, "unit": {"pcs"}, "status": {"new"}}
	first, second := p.form("/orders", f), p.form("/orders", f)
	want(t, "first tap", first.status, http.StatusSeeOther)
	want(t, "both lead to the same order", second.to, first.to)
	want(t, "orders", p.count(`SELECT count(*) FROM orders WHERE quantity = 2500 AND created_by = 'maria-la'`), 1)

	body := map[string]any{"customer": "Acme", "product": "Flyer", "quantity": 10}
	var wait sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for range 8 {
		wait.Go(func() {
			var o workspace.Order
			p.json("POST", "/orders", body, "shift-7").into(t, &o)
			mu.Lock()
			defer mu.Unlock()
			ids[o.ID]++
		})
	}
	wait.Wait()
	want(t, "ids for one key", len(ids), 1)
	want(t, "orders for one key", p.count(`SELECT count(*) FROM orders WHERE product = 'Flyer'`), 1)
	want(t, "without a key each call counts", p.json("POST", "/orders", body, "").status, http.StatusCreated)
	want(t, "orders", p.count(`SELECT count(*) FROM orders WHERE product = 'Flyer'`), 2)
}

// Whoever uses a key twice by mistake must not believe that both were taken.
func TestAKeyThatWasUsedForSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	order := func(customer string) answer {
		return p.json("POST", "/orders", map[string]any{"customer": customer, "product": "Flyer", "quantity": 10}, "k")
	}
	var first workspace.Order
	order("Acme").into(t, &first)
	refused := order("Beta")
	want(t, "another order", refused.status, http.StatusUnprocessableEntity)
	if !strings.Contains(refused.body, "Send this with a key of its own") {
		t.Errorf("it does not say what to do: %s", refused.body)
	}
	same := p.ask(p.worker, "POST", "/api/workspace/v1/orders", "application/json", `{ "quantity": 10, "product":"Flyer", "customer": "Acme" }`, "k")
	want(t, "the same order, written differently", same.status, http.StatusOK)

	var other workspace.Order
	p.json("POST", "/orders", map[string]any{"customer": "C", "product": "P", "quantity": 1}, "").into(t, &other)
	line := map[string]any{"description": "Cut", "quantity": 1}
	want(t, "a line", p.json("POST", "/orders/"+first.ID+"/lines", line, "k").status, http.StatusCreated)
	want(t, "the line of another order", p.json("POST", "/orders/"+other.ID+"/lines", line, "k").status, http.StatusUnprocessableEntity)
	var item workspace.Item
	p.json("POST", "/inventory", map[string]any{"sku": "A", "name": "Film", "quantity": 9}, "k").into(t, &item)
	want(t, "another item", p.json("POST", "/inventory", map[string]any{"sku": "B", "name": "Film"}, "k").status, http.StatusUnprocessableEntity)
	move := "/inventory/" + item.ID + "/adjust"
	want(t, "a movement", p.json("POST", move, map[string]any{"delta": -1, "reason": "Used"}, "k").status, http.StatusOK)
	want(t, "another movement", p.json("POST", move, map[string]any{"delta": -2, "reason": "Used"}, "k").status, http.StatusUnprocessableEntity)
	want(t, "stock", p.count(`SELECT quantity::int FROM inventory_items`), 8)

	// A key of before nothing was kept, or of a box that was replaced.
	if _, err := p.pool.Exec(t.Context(), `UPDATE holdfast.request SET created_at = now() - interval '91 days'`); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each takes two old ones with it
		p.json("POST", "/orders", map[string]any{"customer": "C", "product": "P", "quantity": 1}, fmt.Sprint(rand.Int())) //nolint:gosec // any key
	}
	want(t, "kept", p.count(`SELECT count(*) FROM holdfast.request`), 2)
	want(t, "another order under an old key", order("Beta").status, http.StatusOK)

	// Back to a form that was saved, and on with other values.
	f := url.Values{"key": {first.ID}, "customer": {"Acme"}, "product": {"Tube"}, "quantity": {"1"}}
	want(t, "form", p.form("/orders", f).status, http.StatusSeeOther)
	f.Set("customer", "Beta")
	again := p.form("/orders", f)
	want(t, "form with other values", again.status, http.StatusUnprocessableEntity)
	key := regexp.MustCompile(`name="key" value="([0-9a-f-]{36})"`).FindStringSubmatch(again.body)
	if key == nil || !strings.Contains(again.body, "saved already") {
		t.Fatalf("the form does not say it: %s", again.body)
	}
	f.Set("key", key[1])
	want(t, "once more", p.form("/orders", f).status, http.StatusSeeOther)
	want(t, "orders", p.count(`SELECT count(*) FROM orders WHERE product = 'Tube'`), 2)
}

func TestWrongValuesAreNamedAndNothingTypedIsLost(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	got := p.form("/orders", url.Values{"customer": {`A&B "quoted" <i>`}, "product": {strings.Repeat("x", 121)}, "quantity": {"-3"}, "due_date": {"2026-02-31"}, "notes": {"ring twice"}})
	want(t, "status", got.status, http.StatusUnprocessableEntity)
	for _, s := range []string{
		"A&amp;B &#34;quoted&#34; &lt;i&gt;", `value="-3"`, `value="2026-02-31"`, "ring twice",
		"Product is too long: 121 characters", "Quantity must be from 1 to 10,000,000", "Due date must be a day", "Please correct 3 things",
	} {
		if !strings.Contains(got.body, s) {
			t.Errorf("the page lacks %q", s)
		}
	}
	var problem struct{ Errors map[string]string }
	a := p.json("POST", "/orders", map[string]any{"customer": " ", "quantity": 0, "unit": "elephants", "status": "eaten"}, "")
	want(t, "api", a.status, http.StatusUnprocessableEntity)
	a.into(t, &problem)
	for _, field := range []string{"customer", "product", "quantity", "unit", "status"} {
		if problem.Errors[field] == "" {
			t.Errorf("no word about %s in %v", field, problem.Errors)
		}
	}
	want(t, "unknown field", p.json("POST", "/orders", map[string]any{"colour": "red"}, "").status, http.StatusBadRequest)
	want(t, "two values", p.ask(p.worker, "POST", "/api/workspace/v1/orders", "application/json", "{} {}", "").status, http.StatusBadRequest)
	want(t, "too large", p.ask(p.worker, "POST", "/api/workspace/v1/orders", "application/json", `{"notes":"`+strings.Repeat("x", 70000)+`"}`, "").status, http.StatusRequestEntityTooLarge)
	want(t, "null byte", p.json("POST", "/orders", map[string]any{"customer": "a\x00b", "product": "x", "quantity": 1}, "").status, http.StatusUnprocessableEntity)
	want(t, "key too long", p.json("POST", "/orders", map[string]any{}, strings.Repeat("k", 129)).status, http.StatusBadRequest)
	want(t, "orders", p.count(`SELECT count(*) FROM orders`), 0)
}

// What was meant to do something must not be passed over without a word.
func TestWhatTheAPIDoesNotTakeIsSaid(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	misspelt := p.json("GET", "/orders?limt=1", nil, "")
	want(t, "a misspelt parameter", misspelt.status, http.StatusUnprocessableEntity)
	if !strings.Contains(misspelt.body, `"limt"`) || !strings.Contains(misspelt.body, "after, limit, q, status") {
		t.Errorf("it does not say which there are: %s", misspelt.body)
	}
	for path, allow := range map[string]string{"/orders": "GET, POST", "/orders/" + uuid: "GET, PATCH", "/inventory": "GET, POST", "/inventory/" + uuid + "/adjust": "POST"} {
		got := p.json("DELETE", path, nil, "")
		want(t, "DELETE "+path, got.status, http.StatusMethodNotAllowed)
		want(t, "Allow", got.allow, allow)
	}
	want(t, "no such address", p.json("GET", "/nothing", nil, "").status, http.StatusNotFound)
}

const uuid = "00000000-0000-4000-8000-000000000000"

func TestTwoPeopleWhoEditTheSameOrderAreTold(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	var o workspace.Order
	p.json("POST", "/orders", map[string]any{"customer": "Acme", "product": "Box", "quantity": 5}, "").into(t, &o)
	page := p.ask(p.worker, "GET", "/orders/"+o.ID+"/edit", "", "", "")
	version := regexp.MustCompile(`name="updated_at" value="([^"]+)"`).FindStringSubmatch(page.body)[1]
	version = strings.ReplaceAll(version, "&#43;", "+")
	want(t, "the other one", p.json("PATCH", "/orders/"+o.ID, map[string]any{"status": "ready"}, "").status, http.StatusOK)
	f := url.Values{"number": {o.Number}, "customer": {"Acme Ltd"}, "product": {"Box"}, "quantity": {"6"}, "status": {"new"}, "updated_at": {version}}
	got := p.form("/orders/"+o.ID, f)
	want(t, "status", got.status, http.StatusConflict)
	if !strings.Contains(got.body, "Someone else changed this order") || !strings.Contains(got.body, `value="Acme Ltd"`) {
		t.Errorf("the page does not tell, or lost what was typed: %s", got.body)
	}
	want(t, "nothing was written", p.count(`SELECT quantity FROM orders`), 5)
	newer := strings.ReplaceAll(regexp.MustCompile(`name="updated_at" value="([^"]+)"`).FindStringSubmatch(got.body)[1], "&#43;", "+")
	f.Set("updated_at", newer)
	want(t, "saved knowingly", p.form("/orders/"+o.ID, f).status, http.StatusSeeOther)
	want(t, "an old version by the API", p.json("PATCH", "/orders/"+o.ID, map[string]any{"notes": "x", "updated_at": o.UpdatedAt}, "").status, http.StatusConflict)
}

func TestStockMovesOnceAndNeverBelowNothing(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	var item workspace.Item
	p.json("POST", "/inventory", map[string]any{"sku": "BUB-50", "name": "Bubble film", "quantity": 10.5, "unit": "rolls", "reorder_level": 4}, "").into(t, &item)
	path := "/inventory/" + item.ID + "/adjust"
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() { // ten movements, each sent twice at once
			a := p.json("POST", path, map[string]any{"delta": -0.5, "reason": "Used", "worker": "ben"}, fmt.Sprint("m", i/2))
			want(t, "movement", a.status, http.StatusOK)
		})
	}
	wait.Wait()
	p.json("GET", "/inventory/"+item.ID, nil, "")
	want(t, "movements", p.count(`SELECT count(*) FROM inventory_transactions WHERE worker = 'ben'`), 10)
	want(t, "stock in tenths", p.count(`SELECT (quantity * 10)::int FROM inventory_items`), 55)
	want(t, "more than there is", p.json("POST", path, map[string]any{"delta": -6, "reason": "Used"}, "").status, http.StatusUnprocessableEntity)
	for _, delta := range []any{0, "1e3", 0.0001, nil} {
		if a := p.json("POST", path, map[string]any{"delta": delta, "reason": "x"}, ""); a.status != http.StatusUnprocessableEntity && a.status != http.StatusBadRequest {
			t.Errorf("delta %v: %d %s", delta, a.status, a.body)
		}
	}
	got := p.form("/inventory/"+item.ID+"/adjust", url.Values{"amount": {"2"}, "direction": {"in"}, "reason": {"Delivery"}})
	want(t, "form", got.status, http.StatusSeeOther)
	got = p.form("/inventory/"+item.ID+"/adjust", url.Values{"amount": {"-2"}, "direction": {"in"}, "reason": {"Typed twice"}})
	want(t, "a signed amount", got.status, http.StatusUnprocessableEntity)
	if !strings.Contains(got.body, `value="Typed twice"`) {
		t.Error("the form lost the reason")
	}
	want(t, "stock in tenths", p.count(`SELECT (quantity * 10)::int FROM inventory_items`), 75)
	want(t, "same number again", p.json("POST", "/inventory", map[string]any{"sku": "BUB-50", "name": "Other"}, "").status, http.StatusUnprocessableEntity)
}

func TestAFacilitySeesOnlyItsOwnRows(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	la, fra := newPlant(t, pool, "la"), newPlant(t, pool, "frankfurt")
	var o workspace.Order
	la.json("POST", "/orders", map[string]any{"customer": "Acme", "product": "Box", "quantity": 5}, "same-key").into(t, &o)
	var other workspace.Order
	fra.json("POST", "/orders", map[string]any{"customer": "Beta", "product": "Box", "quantity": 5}, "same-key").into(t, &other)
	if o.ID == other.ID {
		t.Fatal("the same key at two facilities is the same order")
	}
	want(t, "the other's order", fra.json("GET", "/orders/"+o.ID, nil, "").status, http.StatusNotFound)
	want(t, "changing it", fra.json("PATCH", "/orders/"+o.ID, map[string]any{"status": "ready"}, "").status, http.StatusNotFound)
	want(t, "its page", fra.ask(fra.worker, "GET", "/orders/"+o.ID, "", "", "").status, http.StatusNotFound)
	want(t, "not a number", fra.json("GET", "/orders/nonsense", nil, "").status, http.StatusNotFound)
	var list struct{ Orders []workspace.Order }
	fra.json("GET", "/orders", nil, "").into(t, &list)
	want(t, "orders listed", len(list.Orders), 1)
}

func TestAViewerMayLookButNotWork(t *testing.T) {
	t.Parallel()
	p := newPlant(t, newPool(t), "la")
	want(t, "list", p.ask(p.look, "GET", "/orders", "", "", "").status, http.StatusOK)
	want(t, "new", p.ask(p.look, "POST", "/api/workspace/v1/orders", "application/json", "{}", "").status, http.StatusForbidden)
	want(t, "stranger", p.ask("hf_x", "GET", "/api/workspace/v1/orders", "", "", "").status, http.StatusUnauthorized)
}

func TestSeedIsTheSameTwiceAndPagesThroughAllOrders(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	p := newPlant(t, pool, "la")
	for range 2 {
		if err := workspace.Seed(t.Context(), pool, "la", rand.New(rand.NewPCG(1, 2))); err != nil {
			t.Fatal(err)
		}
	}
	all := p.count(`SELECT count(*) FROM orders`)
	if all < 30 || p.count(`SELECT count(*) FROM inventory_items`) < 10 {
		t.Fatalf("%d orders", all)
	}
	seen, after := map[string]bool{}, ""
	for range all {
		var page struct {
			Orders []workspace.Order
			Next   string `json:"next_after"`
		}
		p.json("GET", "/orders?limit=7&after="+after, nil, "").into(t, &page)
		for _, o := range page.Orders {
			if seen[o.ID] {
				t.Fatalf("order %s twice", o.Number)
			}
			seen[o.ID] = true
		}
		if after = page.Next; after == "" {
			break
		}
	}
	want(t, "orders paged through", len(seen), all)
	found := p.ask(p.worker, "GET", "/orders?status=&q=bubble", "", "", "")
	if !strings.Contains(found.body, "Bubble") || strings.Contains(found.body, "folding carton") {
		t.Error("the search does not search")
	}
}

// Where two sides change a row at once, people want to know by whom each
// version is; what the region keeps for all is what a form suggests.
func TestEachWriteSaysWhoMadeItAndFormsSuggestWhatTheRegionKeeps(t *testing.T) {
	pool := newPool(t)
	p := newPlant(t, pool, "la")
	if _, err := pool.Exec(t.Context(), `SELECT pg_create_logical_replication_slot('workspace_author', 'pgoutput')`); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := pool.Exec(t.Context(), `SELECT pg_drop_replication_slot('workspace_author')`); err != nil {
			t.Error(err)
		}
	}()
	if _, err := pool.Exec(t.Context(), `CREATE PUBLICATION p FOR ALL TABLES`); err != nil {
		t.Fatal(err)
	}
	want(t, "status", p.json("POST", "/orders", map[string]any{"customer": "C", "product": "P", "quantity": 5}, "k").status, http.StatusCreated)
	// What is decoded is what was flushed, which the test's server puts off.
	if _, err := pool.Exec(t.Context(), `SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'flush', '')`); err != nil {
		t.Fatal(err)
	}
	var said int
	err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_logical_slot_peek_binary_changes('workspace_author', NULL, NULL,
		'proto_version', '1', 'publication_names', 'p', 'messages', 'true') WHERE position('holdfast.author'::bytea IN data) > 0 AND position('maria-la'::bytea IN data) > 0`).Scan(&said)
	if err != nil || said != 1 {
		t.Errorf("%d words of an author, %v", said, err)
	}
	if err := workspace.SeedMaster(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if page := p.ask(p.worker, "GET", "/orders/new", "", "", "").body; !strings.Contains(page, "<option value=\""+workspace.Customers[0]+"\">") {
		t.Error("the form does not suggest the region's customers")
	}
}
