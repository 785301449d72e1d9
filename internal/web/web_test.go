package web_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/crypto/bcrypt"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
)

const password = "correct horse battery"

// tables are what both sides' migrations make.
const tables = `
	CREATE SCHEMA holdfast;
	CREATE TABLE holdfast.account (name text PRIMARY KEY, password_hash text NOT NULL, role text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
	CREATE TABLE holdfast.session (token_sha256 bytea PRIMARY KEY, account text NOT NULL REFERENCES holdfast.account ON DELETE CASCADE,
		created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL);
	CREATE TABLE holdfast.api_token (token_sha256 bytea PRIMARY KEY, name text NOT NULL UNIQUE, role text NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz)`

// console is a small site with one page for each role.
type console struct {
	*httptest.Server
	store web.PGStore

	mu    sync.Mutex
	clock time.Time
	part  template.HTML
}

func (c *console) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock
}

func (c *console) later(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(d)
}

func newConsole(t *testing.T) *console {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, tables)
	c := &console{store: web.PGStore{Pool: db.Pool(t)}, clock: time.Now(), part: `<p id="p">one</p>`}
	// The hash is a cheap one: the race detector makes bcrypt ten times slower.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO holdfast.account VALUES ('vera', $1, 'viewer'), ('otto', $1, 'operator')`, string(hash))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	auth, err := web.NewAuth(web.AuthOptions{Name: "la", Store: c.store, Now: c.now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	site, err := web.NewSite(web.SiteOptions{Place: "Los Angeles", Auth: auth, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux := new(web.Mux)
	site.Mount(mux)
	say := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := web.From(r.Context())
		_, _ = io.WriteString(w, "hello "+id.Name)
	})
	mux.Handle("/look", auth.Require(web.Viewer, say))
	mux.Handle("/work", auth.Require(web.Operator, say))
	mux.Handle("/api/look", auth.Require(web.Viewer, say))
	stop := make(chan struct{})
	mux.Handle("/live", auth.Require(web.Viewer, site.Live(stop, func(*http.Request) (web.Feed, error) {
		return web.Feed{Every: 10 * time.Millisecond, Frame: func(context.Context) (web.Frame, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return web.Frame{
				Parts: []web.Part{{ID: "p", HTML: c.part}, {ID: "q", HTML: `<p id="q">still</p>`}},
				Order: map[string][]string{"list": {"p", "q"}},
			}, nil
		}}, nil
	})))
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("oh") })
	c.Server = httptest.NewServer(site.Protect(mux))
	t.Cleanup(func() { close(stop); c.Close() })
	return c
}

// person is a browser that keeps cookies and does not follow redirects.
func person(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func do(t *testing.T, c *http.Client, method, url string, form url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func signIn(t *testing.T, c *console, p *http.Client, name, pass string) *http.Response {
	t.Helper()
	resp, _ := do(t, p, "POST", c.URL+"/sign-in", url.Values{"name": {name}, "password": {pass}, "next": {"/look"}})
	return resp
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestOnlyPeopleWhoSignedInGetIn(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	resp, _ := do(t, p, "GET", c.URL+"/look?a=b", nil)
	want(t, "a stranger is led to the sign-in", resp.Header.Get("Location"), "/sign-in?next=%2Flook%3Fa%3Db")
	resp, body := do(t, p, "GET", c.URL+"/api/look", nil)
	want(t, "a strange program", resp.StatusCode, http.StatusUnauthorized)
	if !strings.Contains(body, `"title"`) {
		t.Errorf("no problem document: %s", body)
	}
	want(t, "wrong password", signIn(t, c, p, "otto", "wrong password").StatusCode, http.StatusUnauthorized)
	want(t, "no such account", signIn(t, c, p, "nobody", password).StatusCode, http.StatusUnauthorized)
	want(t, "very long password", signIn(t, c, p, "otto", strings.Repeat("x", 5000)).StatusCode, http.StatusUnauthorized)

	resp = signIn(t, c, p, "otto", password)
	want(t, "signed in", resp.StatusCode, http.StatusSeeOther)
	want(t, "led to", resp.Header.Get("Location"), "/look")
	cookie := resp.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || len(cookie.Value) != 43 {
		t.Errorf("the session's cookie is %v", cookie)
	}
	_, body = do(t, p, "GET", c.URL+"/work", nil)
	want(t, "page", body, "hello otto")
	var kept int
	sum := sha256.Sum256([]byte(cookie.Value))
	if err := c.store.Pool.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.session WHERE token_sha256 = $1`, sum[:]).Scan(&kept); err != nil || kept != 1 {
		t.Errorf("sessions under the token's hash: %d, %v", kept, err)
	}

	do(t, p, "POST", c.URL+"/sign-out", url.Values{})
	stolen := person(t)
	u, _ := url.Parse(c.URL)
	stolen.Jar.SetCookies(u, []*http.Cookie{{Name: cookie.Name, Value: cookie.Value}})
	resp, _ = do(t, stolen, "GET", c.URL+"/look", nil)
	want(t, "the cookie after sign-out", resp.StatusCode, http.StatusSeeOther)
}

func TestAViewerMayNotDoAnOperatorsWork(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	signIn(t, c, p, "vera", password)
	resp, body := do(t, p, "GET", c.URL+"/work", nil)
	want(t, "status", resp.StatusCode, http.StatusForbidden)
	if !strings.Contains(body, "It needs the role operator; vera has viewer.") {
		t.Errorf("the page does not say why: %s", body)
	}
}

func TestARequestForgedByAnotherSiteIsRefused(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	signIn(t, c, p, "otto", password)
	for _, h := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}} {
		resp, _ := do(t, p, "POST", c.URL+"/work", url.Values{}, h...)
		want(t, strings.Join(h, ": "), resp.StatusCode, http.StatusForbidden)
	}
	resp, _ := do(t, p, "POST", c.URL+"/work", url.Values{}, "Origin", c.URL)
	want(t, "own site", resp.StatusCode, http.StatusOK)
}

func TestGuessingIsSlowedDown(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	for i := range 5 {
		want(t, "attempt", signIn(t, c, p, "otto", "wrong password").StatusCode, http.StatusUnauthorized)
		_ = i
	}
	want(t, "sixth attempt, even if it is right", signIn(t, c, p, "otto", password).StatusCode, http.StatusTooManyRequests)
	want(t, "someone else meanwhile", signIn(t, c, p, "vera", password).StatusCode, http.StatusSeeOther)
	c.later(time.Minute)
	want(t, "after a minute", signIn(t, c, p, "otto", password).StatusCode, http.StatusSeeOther)
}

func TestAnIdleSessionEndsAndAUsedOneLives(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	signIn(t, c, p, "otto", password)
	for range 3 {
		c.later(11 * time.Hour)
		resp, _ := do(t, p, "GET", c.URL+"/look", nil)
		want(t, "used within 12 hours", resp.StatusCode, http.StatusOK)
	}
	c.later(13 * time.Hour)
	resp, _ := do(t, p, "GET", c.URL+"/look", nil)
	want(t, "idle for 13 hours", resp.StatusCode, http.StatusSeeOther)
	signIn(t, c, p, "otto", password)
	for i := range 16 {
		c.later(11 * time.Hour)
		resp, _ = do(t, p, "GET", c.URL+"/look", nil)
		if i == 0 {
			want(t, "new session", resp.StatusCode, http.StatusOK)
		}
	}
	want(t, "after a week", resp.StatusCode, http.StatusSeeOther)
}

func TestAnAPITokenCarriesItsRoleUntilItExpires(t *testing.T) {
	t.Parallel()
	c := newConsole(t)
	token, sum := web.NewToken()
	if err := c.store.PutToken(t.Context(), "robot", sum, web.Viewer, c.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	ask := func(path, token string) int {
		resp, _ := do(t, person(t), "POST", c.URL+path, nil, "Authorization", "Bearer "+token)
		return resp.StatusCode
	}
	want(t, "look", ask("/look", token), http.StatusOK)
	want(t, "work", ask("/work", token), http.StatusForbidden)
	want(t, "another token", ask("/look", token+"x"), http.StatusUnauthorized)
	c.later(2 * time.Hour)
	want(t, "expired", ask("/look", token), http.StatusUnauthorized)
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	c := newConsole(t)
	for _, path := range []string{"/sign-in", "/look", "/nothing", "/panic"} {
		resp, body := do(t, person(t), "GET", c.URL+path, nil)
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		want(t, path, resp.Header.Get("X-Content-Type-Options"), "nosniff")
		if m := regexp.MustCompile(`<script>|<style| style=| on[a-z]+="`).FindString(body); m != "" {
			t.Errorf("%s has inline code: %s", path, m)
		}
	}
	resp, _ := do(t, person(t), "GET", c.URL+"/panic", nil)
	want(t, "a panic", resp.StatusCode, http.StatusInternalServerError)
}

func TestAssetsAreKeptForEverUnderTheirHash(t *testing.T) {
	t.Parallel()
	c := newConsole(t)
	_, page := do(t, person(t), "GET", c.URL+"/sign-in", nil)
	urls := regexp.MustCompile(`/assets/[a-z]+\.[0-9a-f]{12}\.(css|js|svg)`).FindAllString(page, -1)
	if len(urls) < 4 {
		t.Fatalf("assets of the page: %v", urls)
	}
	for _, u := range urls {
		resp, body := do(t, person(t), "GET", c.URL+u, nil, "Accept-Encoding", "gzip")
		want(t, u, resp.Header.Get("Cache-Control"), "public, max-age=31536000, immutable")
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", u, err)
		}
		if b, err := io.ReadAll(z); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", u, len(b), err)
		}
	}
	resp, _ := do(t, person(t), "GET", c.URL+"/assets/app.css", nil)
	want(t, "a name without its hash", resp.StatusCode, http.StatusNotFound)
}

func TestSignInLeadsToThisSiteOnly(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/a\r\nSet-Cookie: x=y"} {
		resp, _ := do(t, p, "POST", c.URL+"/sign-in", url.Values{"name": {"otto"}, "password": {password}, "next": {next}})
		want(t, next, resp.Header.Get("Location"), "/")
	}
}

func TestLiveSendsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	c, p := newConsole(t), person(t)
	dial := func(header http.Header) (*websocket.Conn, *http.Response, error) {
		d := websocket.Dialer{Jar: p.Jar}
		return d.DialContext(t.Context(), "ws"+strings.TrimPrefix(c.URL, "http")+"/live", header)
	}
	if _, resp, err := dial(nil); err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a stranger got a live connection: %v", err)
	}
	signIn(t, c, p, "vera", password)
	if _, resp, err := dial(http.Header{"Origin": {"https://evil.example"}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("another site got a live connection: %v", err)
	}
	conn, _, err := dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	type message struct {
		Parts [][2]string
		Order map[string][]string
	}
	read := func() (m message) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, b, err := conn.ReadMessage()
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := read(); len(m.Parts) != 2 || len(m.Order["list"]) != 2 {
		t.Fatalf("the first message is not everything: %+v", m)
	}
	c.mu.Lock()
	c.part = `<p id="p">two <span class="ago nowrap">3 s ago</span></p>`
	c.mu.Unlock()
	if m := read(); len(m.Parts) != 1 || !strings.Contains(m.Parts[0][1], "two") || m.Order != nil {
		t.Fatalf("not only the change was sent: %+v", m)
	}
	c.mu.Lock()
	c.part = `<p id="p">two <span class="ago nowrap">4 s ago</span></p>` // the page counts by itself
	c.mu.Unlock()
	if m := read(); len(m.Parts) != 0 {
		t.Fatalf("a relative time was sent: %+v", m)
	}
}

func TestTheFirstAccountIsMadeOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, tables)
	store, dir := web.PGStore{Pool: db.Pool(t)}, t.TempDir()
	for range 2 {
		if err := web.FirstAccount(t.Context(), store, "", dir); err != nil {
			t.Fatal(err)
		}
	}
	a, err := store.Account(t.Context(), "admin")
	if err != nil || a.Role != web.Admin {
		t.Fatalf("account %v, %v", a, err)
	}
}
