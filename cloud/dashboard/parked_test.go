package dashboard_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/internal/web"
)

// oneFacility is a fleet of la.
type oneFacility struct{}

func (oneFacility) Snapshot() []v1.FacilityStatus {
	return []v1.FacilityStatus{{ID: "la", State: "online"}}
}

func (oneFacility) Facility(id string) (fleet.Detail, bool) {
	d := fleet.Detail{}
	d.FacilityStatus = v1.FacilityStatus{ID: "la", State: "online"}
	return d, id == "la"
}

// desk is the dashboard of a region with parked changes.
type desk struct {
	t   *testing.T
	url string
	r   *apitest.Server
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	r := apitest.Start(t)
	if _, err := r.Operator.AddFacility(t.Context(), v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: web.PGStore{Pool: r.DB}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ui, err := dashboard.New(dashboard.Deps{Region: "us-east", Auth: auth, Fleet: oneFacility{}, Pool: r.DB, Parked: r.Parked, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(ui)
	t.Cleanup(s.Close)
	return &desk{t, s.URL, r}
}

// ask sends one request as somebody; a form is posted.
func (d *desk) ask(token, path string, form url.Values, header ...string) (int, string) {
	d.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func (d *desk) wants(token, path string, parts ...string) string {
	d.t.Helper()
	code, page := d.ask(token, path, nil)
	if code != http.StatusOK {
		d.t.Fatalf("%s: %d\n%s", path, code, page)
	}
	for _, p := range parts {
		if !strings.Contains(page, p) {
			d.t.Errorf("%q is missing in %s:\n%s", p, path, page)
		}
	}
	return page
}

func (d *desk) untilState(id int64, want string) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		p, err := d.r.Viewer.ParkedRow(d.t.Context(), id)
		if err != nil {
			d.t.Fatal(err)
		}
		if p.State == want {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("parked change %d is %s, not %s", id, p.State, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestParkedChangesAreReadSideBySideAndDecided(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.wants(d.r.Viewer.Token, "/parked", "Nothing is parked")
	first, behind := d.r.Park(t)
	page := "/parked/" + strconv.FormatInt(first, 10)
	d.wants(d.r.Viewer.Token, "/parked?facility=la", page, ">bolt</a>", "insert public.orders", "unique", "behind")
	d.wants(d.r.Viewer.Token, "/parked?reason=unique", page)
	d.wants(d.r.Viewer.Token, "/facilities/la", "2 changes are parked", "/parked?facility=la")
	seen := d.wants(d.r.Viewer.Token, page, "In the way, in public.orders", "theirs", "mine", "differs", "Change one of the two.")
	if strings.Contains(seen, "I am sure") || strings.Contains(seen, `name="v2"`) {
		t.Error("a viewer is offered to decide")
	}
	d.wants(d.r.Operator.Token, page, "I am sure", `name="v2" value="bolt"`)

	edit := url.Values{"c2": {"name"}, "v2": {"nut"}, "c3": {"note"}, "v3": {"mine"}}
	for _, c := range []struct {
		what   string
		token  string
		path   string
		form   url.Values
		header []string
		code   int
	}{
		{"a viewer's edit", d.r.Viewer.Token, page + "/edit", edit, nil, http.StatusForbidden},
		{"a viewer's discard", d.r.Viewer.Token, page + "/discard", url.Values{"sure": {"1"}}, nil, http.StatusForbidden},
		{"another site's form", d.r.Operator.Token, page + "/discard", url.Values{"sure": {"1"}}, []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"a discard without being sure", d.r.Operator.Token, page + "/discard", url.Values{}, nil, http.StatusUnprocessableEntity},
		{"what is not there", d.r.Operator.Token, "/parked/99/retry", url.Values{}, nil, http.StatusNotFound},
		{"what is no number", d.r.Operator.Token, "/parked/x/retry", url.Values{}, nil, http.StatusNotFound},
	} {
		if code, body := d.ask(c.token, c.path, c.form, c.header...); code != c.code {
			t.Errorf("%s: %d, want %d\n%s", c.what, code, c.code, body)
		}
	}
	d.untilState(first, "waiting")
	if code, body := d.ask(d.r.Operator.Token, page+"/retry", url.Values{}); code != http.StatusOK || !strings.Contains(body, "refused again") || !strings.Contains(body, "Tried last") || !strings.Contains(body, `id="nav-parked">2`) {
		t.Fatalf("retry: %d\n%s", code, body)
	}
	d.wants(d.r.Viewer.Token, "/parked/"+strconv.FormatInt(behind, 10), `href="`+page+`"`)
	if code, body := d.ask(d.r.Operator.Token, page+"/edit", url.Values{"c4": {"amount"}, "v4": {"many"}}); code != http.StatusUnprocessableEntity || !strings.Contains(body, "values of the type integer") {
		t.Fatalf("an edit that is no number: %d\n%s", code, body)
	}
	if code, body := d.ask(d.r.Operator.Token, page+"/edit", edit); code != http.StatusOK || !strings.Contains(body, "It was tried now, and applied.") {
		t.Fatalf("edit: %d\n%s", code, body)
	}
	d.untilState(first, "applied")
	page = "/parked/" + strconv.FormatInt(behind, 10)
	if code, body := d.ask(d.r.Operator.Token, page+"/retry", url.Values{}); code != http.StatusOK {
		t.Fatalf("retry: %d\n%s", code, body)
	}
	if code, body := d.ask(d.r.Operator.Token, page+"/discard", url.Values{"sure": {"1"}}); code != http.StatusOK || !strings.Contains(body, "Discarded") {
		t.Fatalf("discard: %d\n%s", code, body)
	}
	if code, body := d.ask(d.r.Operator.Token, page+"/discard", url.Values{"sure": {"1"}}); code != http.StatusConflict || !strings.Contains(body, "does not wait any more") {
		t.Fatalf("discard again: %d\n%s", code, body)
	}
	d.wants(d.r.Viewer.Token, "/parked?state=discarded", page)
	var name string
	if err := d.r.DB.QueryRow(t.Context(), "SELECT name FROM public.orders WHERE id = 2").Scan(&name); err != nil || name != "nut" {
		t.Errorf("the row is %q, %v", name, err)
	}
}
