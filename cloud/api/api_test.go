package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/proto"
)

// audited is who did something, newest first, by the audit log.
func audited(t *testing.T, r *apitest.Server, what string) []string {
	t.Helper()
	page, err := r.Admin.Audit(t.Context(), 500, "")
	if err != nil {
		t.Fatal(err)
	}
	var who []string
	for _, e := range page.Items {
		if e.What == what {
			who = append(who, e.Who)
		}
	}
	return who
}

func count(t *testing.T, r *apitest.Server, query string, args ...any) (n int) {
	t.Helper()
	if err := r.DB.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func wantProblem(t *testing.T, err error, status int, kind string) *v1.Problem {
	t.Helper()
	p, ok := errors.AsType[*v1.Problem](err)
	if !ok {
		t.Fatalf("want a problem with status %d, got %v", status, err)
	}
	if p.Status != status || p.Type != kind {
		t.Fatalf("want %d %s, got %d %s: %s", status, kind, p.Status, p.Type, p.Detail)
	}
	if p.Remedy == "" {
		t.Errorf("the problem does not say what to do: %+v", p)
	}
	return p
}

// call sends a request that the client would not send.
func call(t *testing.T, r *apitest.Server, method, path, token, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestNothingIsServedWithoutSignIn(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	status, raw := call(t, r, "GET", "/api/openapi.json", r.Viewer.Token, "")
	if status != http.StatusOK {
		t.Fatalf("openapi.json: %d %s", status, raw)
	}
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string } `json:"paths"`
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) < 15 {
		t.Fatalf("the description has only %d paths", len(doc.Paths))
	}
	tried := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.OperationID == "login" {
				continue
			}
			tried++
			at := strings.NewReplacer("{facility}", "la", "{name}", "x", "{schema}", "public", "{table}", "orders").Replace(path)
			for _, token := range []string{"", "hf_stolen"} {
				if status, raw := call(t, r, strings.ToUpper(method), at, token, "{}"); status != http.StatusUnauthorized {
					t.Errorf("%s %s with token %q: %d %s", method, at, token, status, raw)
				}
			}
		}
	}
	for _, path := range []string{"/api/openapi.json", "/api/v1/", "/api/nothing"} {
		if status, _ := call(t, r, "GET", path, "", ""); status != http.StatusUnauthorized {
			t.Errorf("%s without sign-in: %d", path, status)
		}
	}
	t.Logf("%d operations", tried)
}

// What a program may rely on is written down: problems, and who may call.
func TestDescriptionTellsErrorsAndRoles(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	_, raw := call(t, r, "GET", "/api/openapi.json", r.Viewer.Token, "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Summary, Description string
			Security             []map[string][]string
			Responses            map[string]struct {
				Content map[string]any
			}
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			at := method + " " + path
			if op.Summary == "" {
				t.Errorf("%s has no summary", at)
			}
			for _, status := range []string{"401", "403", "422", "500"} {
				if path == "/api/v1/login" && status != "422" {
					continue
				}
				if _, ok := op.Responses[status].Content["application/problem+json"]; !ok {
					t.Errorf("%s does not describe its problem %s", at, status)
				}
			}
			if path != "/api/v1/login" && (len(op.Security) != 2 || !strings.Contains(op.Description, "Needs role")) {
				t.Errorf("%s does not say who may call it", at)
			}
		}
	}
	if strings.Contains(raw, "$schema") {
		t.Error("answers are described with a $schema that is not there")
	}
}

func TestRolesBoundWhatACallerMayDo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	_, err := r.Viewer.AddFacility(ctx, v1.FacilityAdd{ID: "la"})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, r.Operator.RemoveFacility(ctx, "la"), http.StatusForbidden, v1.ProblemForbidden)
	_, err = r.Operator.Audit(ctx, 10, "")
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	_, err = r.Operator.AddAPIToken(ctx, v1.APITokenAdd{Name: "mine", Role: v1.RoleAdmin})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	me, err := r.Operator.Me(ctx)
	if err != nil || me.Role != v1.RoleOperator {
		t.Fatalf("me: %+v, %v", me, err)
	}
}

func TestAnotherSitesPageCannotUseASession(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	status, raw := call(t, r, "POST", "/api/v1/facilities", r.Admin.Token, `{"id":"la"}`, "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
	if status != http.StatusForbidden {
		t.Fatalf("%d %s", status, raw)
	}
}

func TestFacilityLivesAndIsRemovedWithConfirmation(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	added, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la", Name: "Los Angeles", TimeZone: "America/Los_Angeles"})
	if err != nil {
		t.Fatal(err)
	}
	if added.Facility.Tenant != "foo" || added.Facility.Number < 1 || added.Token.Secret == "" || added.Token.ExpiresAt.IsZero() {
		t.Errorf("added: %+v", added)
	}
	_, err = r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "mars", TimeZone: "Mars/Olympus"})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	if _, err := r.Viewer.Facility(ctx, "mars"); err == nil {
		t.Error("a refused facility is there")
	}
	_, err = r.Operator.NewToken(ctx, "nowhere", v1.TokenRequest{})
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)

	status, raw := call(t, r, "DELETE", "/api/v1/facilities/la", r.Admin.Token, "")
	if status != http.StatusPreconditionRequired {
		t.Fatalf("remove without confirmation: %d %s", status, raw)
	}
	if err := r.Admin.RemoveFacility(ctx, "la"); err != nil {
		t.Fatal(err)
	}
	if tokens := count(t, r, `SELECT count(*) FROM holdfast.enrol_token WHERE facility = 'la'`); tokens != 0 {
		t.Errorf("%d tokens of a removed facility may still be used", tokens)
	}
	if list, err := r.Viewer.Facilities(ctx); err != nil || len(list) != 0 {
		t.Errorf("facilities after removal: %v, %v", list, err)
	}
	f, err := r.Viewer.Facility(ctx, "la")
	if err != nil || f.RemovedAt == nil {
		t.Errorf("a removed facility: %+v, %v", f, err)
	}
	_, err = r.Operator.NewToken(ctx, "la", v1.TokenRequest{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if got := audited(t, r, "facility.add"); !slices.Equal(got, []string{"test operator"}) {
		t.Errorf("audit of add: %v", got)
	}
	if got := audited(t, r, "facility.remove"); !slices.Equal(got, []string{"test admin"}) {
		t.Errorf("audit of remove: %v", got)
	}
}

func TestInvalidRequestsNameEveryProblemAndEchoNoSecret(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	status, raw := call(t, r, "POST", "/api/v1/accounts", r.Admin.Token, `{"name":"Bad Name","password":"hunter2","role":"king","extra":1}`, "Content-Type", "application/json")
	if status != http.StatusUnprocessableEntity {
		t.Fatalf("%d %s", status, raw)
	}
	for _, want := range []string{"body.name", "body.password", "body.role", "extra", `"remedy"`} {
		if !strings.Contains(raw, want) {
			t.Errorf("%s is missing in %s", want, raw)
		}
	}
	if strings.Contains(raw, "hunter2") {
		t.Errorf("the password is echoed: %s", raw)
	}
	status, raw = call(t, r, "GET", "/api/v1/facilities?limt=1", r.Admin.Token, "")
	if status != http.StatusUnprocessableEntity || !strings.Contains(raw, "limt") {
		t.Errorf("unknown query parameter: %d %s", status, raw)
	}
	status, _ = call(t, r, "POST", "/api/v1/accounts", r.Admin.Token, `{"name":"`+strings.Repeat("a", 65<<10)+`"}`)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d", status)
	}
}

func TestUnsuitableTableIsRefusedWithAllReasonsAndRemedies(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	r.Below.Refuse([]proto.Problem{
		{Text: "public.orders has no primary key", Remedy: "ALTER TABLE public.orders ADD PRIMARY KEY (id);"},
		{Text: "there is no column facility_id", Remedy: "Name another with --facility-column."},
	}...)
	_, err := r.Operator.AddTable(ctx, v1.TableAdd{Schema: "public", Table: "orders", Class: "fact"})
	p := wantProblem(t, err, http.StatusConflict, v1.ProblemUnsuitable)
	if len(p.Errors) != 2 || p.Errors[0].Remedy == "" || p.Errors[1].Remedy == "" {
		t.Errorf("problems: %+v", p.Errors)
	}
	if list, err := r.Viewer.Tables(ctx, ""); err != nil || len(list) != 0 {
		t.Errorf("tables after a refusal: %v, %v", list, err)
	}
	if got := audited(t, r, "table.add"); got != nil {
		t.Errorf("a refused table is in the audit log: %v", got)
	}
}

func TestTableIsAddedListedForEachFacilityAndRemoved(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	for _, id := range []string{"la", "frankfurt"} {
		if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	r.Below.Silence("frankfurt")
	in := v1.TableAdd{Schema: "public", Table: "Order Lines", Class: "fact", DryRun: true}
	dry, err := r.Operator.AddTable(ctx, in)
	if err != nil || !dry.DryRun || dry.Table.FacilityColumn != "facility_id" || len(dry.Warnings) != 1 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if list, err := r.Viewer.Tables(ctx, ""); err != nil || len(list) != 0 {
		t.Fatalf("tables after a dry run: %v, %v", list, err)
	}
	in.DryRun = false
	if _, err := r.Operator.AddTable(ctx, in); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DB.Exec(ctx, `INSERT INTO holdfast.facility_table (facility, schema_name, table_name, state, changes)
		VALUES ('la', 'public', 'Order Lines', 'streaming', 12)`); err != nil {
		t.Fatal(err)
	}
	list, err := r.Viewer.Tables(ctx, "")
	if err != nil || len(list) != 1 || len(list[0].Facilities) != 2 {
		t.Fatalf("tables: %+v, %v", list, err)
	}
	if f := list[0].Facilities[0]; f.Facility != "frankfurt" || f.State != "waiting" {
		t.Errorf("a facility that said nothing: %+v", f)
	}
	if f := list[0].Facilities[1]; f.Facility != "la" || f.State != "streaming" || f.Changes != 12 {
		t.Errorf("a facility that streams: %+v", f)
	}
	if err := r.Operator.RemoveTable(ctx, "public", "Order Lines"); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, r.Operator.RemoveTable(ctx, "public", "Order Lines"), http.StatusNotFound, v1.ProblemNotFound)
	wantProblem(t, r.Operator.RemoveTable(ctx, "holdfast", "conflict"), http.StatusUnprocessableEntity, v1.ProblemInvalid)
	if all, err := r.Viewer.AllTables(ctx, "la"); err != nil || len(all) != 1 || all[0].Table != "conflict" || len(all[0].Facilities) != 1 {
		t.Errorf("Holdfast's own tables, when asked for: %+v, %v", all, err)
	}
	in = v1.TableAdd{Schema: "public", Table: "orders", Class: "fact", CloudColumns: []string{"price", "discount"}}
	if _, err := r.Operator.AddTable(ctx, in); err != nil {
		t.Fatal(err)
	}
	list, err = r.Viewer.Tables(ctx, "")
	if err != nil || len(list) != 1 || list[0].Policy != "columns" || strings.Join(list[0].CloudColumns, ",") != "price,discount" {
		t.Errorf("a table with columns of the cloud: %+v, %v", list, err)
	}
	if got := audited(t, r, "table.remove"); len(got) != 1 {
		t.Errorf("audit of remove: %v", got)
	}
}

func TestSyncStatusTellsPositionAndTables(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	s, err := r.Viewer.SyncStatus(ctx, "la")
	if err != nil || s.Position != nil || s.State != v1.StateNew {
		t.Fatalf("before the first transaction: %+v, %v", s, err)
	}
	if _, err := r.DB.Exec(ctx, `INSERT INTO holdfast.position (facility, epoch, seq, source_commit_at) VALUES ('la', $1, 42, now())`, int64(1)<<32+1); err != nil {
		t.Fatal(err)
	}
	r.Below.Show(v1.FacilityStatus{ID: "la", State: v1.StateOnline, Stream: true, Queue: v1.Queue{Transactions: 3}})
	s, err = r.Viewer.SyncStatus(ctx, "la")
	if err != nil || s.Position == nil || s.Position.Epoch != 1<<32+1 || s.Position.Seq != 42 || !s.Connected || s.Queue.Transactions != 3 || s.Throughput.Changes != 7 {
		t.Fatalf("sync status: %+v, %v", s, err)
	}
	_, err = r.Viewer.SyncStatus(ctx, "nowhere")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
}

func TestListsThatGrowComeInPages(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DB.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, detail) SELECT 'la', 'gap', 'n ' || i FROM generate_series(1, 25) i`); err != nil {
		t.Fatal(err)
	}
	var seen []int64
	cursor := ""
	for pages := 0; ; pages++ {
		page, err := r.Viewer.Events(ctx, "la", 10, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			seen = append(seen, e.ID)
		}
		if cursor = page.Next; cursor == "" {
			if pages != 2 {
				t.Errorf("%d pages, want 3", pages+1)
			}
			break
		}
	}
	if len(seen) != 25 || !slices.IsSortedFunc(seen, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("events newest first, each once: %v", seen)
	}
	_, err := r.Viewer.Events(ctx, "la", 10, "x")
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
}

func TestAccountSignsInAndIsSignedOutWhenItChanges(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	if _, err := r.Admin.AddAccount(ctx, v1.AccountAdd{Name: "maria", Password: apitest.Password, Role: v1.RoleOperator}); err != nil {
		t.Fatal(err)
	}
	login := func(password string) (*v1.Client, error) {
		tok, err := r.Nobody.Login(ctx, v1.Login{Name: "maria", Password: password})
		return &v1.Client{URL: r.URL, Token: tok.Secret}, err
	}
	_, err := login("wrong password")
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	maria, err := login(apitest.Password)
	if err != nil {
		t.Fatal(err)
	}
	if me, err := maria.Me(ctx); err != nil || me.Role != v1.RoleOperator || me.Name != "maria" {
		t.Fatalf("me: %+v, %v", me, err)
	}
	if _, err := r.Admin.ChangeAccount(ctx, "maria", v1.AccountChange{Role: v1.RoleViewer}); err != nil {
		t.Fatal(err)
	}
	_, err = maria.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	maria, err = login(apitest.Password)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Admin.RemoveAccount(ctx, "maria"); err != nil {
		t.Fatal(err)
	}
	_, err = maria.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	wantProblem(t, r.Admin.RemoveAccount(ctx, "maria"), http.StatusNotFound, v1.ProblemNotFound)
}

func TestTheLastAdminCannotGo(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	wantProblem(t, r.Admin.RemoveAccount(ctx, "root"), http.StatusConflict, v1.ProblemConflict)
	_, err := r.Admin.ChangeAccount(ctx, "root", v1.AccountChange{Role: v1.RoleViewer})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if _, err := r.Admin.AddAccount(ctx, v1.AccountAdd{Name: "two", Password: apitest.Password, Role: v1.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	if err := r.Admin.RemoveAccount(ctx, "root"); err != nil {
		t.Fatal(err)
	}
}

func TestAPITokenIsShownOnceAndEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	ctx := t.Context()
	tok, err := r.Admin.AddAPIToken(ctx, v1.APITokenAdd{Name: "grafana", Role: v1.RoleViewer, TTL: 3600})
	if err != nil || tok.Secret == "" || tok.ExpiresAt == nil {
		t.Fatalf("token: %+v, %v", tok, err)
	}
	list, err := r.Admin.APITokens(ctx)
	if err != nil || len(list) != 4 {
		t.Fatalf("tokens: %v, %v", list, err)
	}
	for _, one := range list {
		if one.Secret != "" {
			t.Errorf("the list shows a secret of %s", one.Name)
		}
	}
	cl := &v1.Client{URL: r.URL, Token: tok.Secret}
	if _, err := cl.Fleet(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Admin.RemoveAPIToken(ctx, "grafana"); err != nil {
		t.Fatal(err)
	}
	_, err = cl.Fleet(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	_, err = r.Admin.AddAPIToken(ctx, v1.APITokenAdd{Name: "login:root:x", Role: v1.RoleViewer})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
}
