package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

// rig is the API on a real database. What lies below it, and has rigs of its
// own, is recorded here.
type rig struct {
	t      *testing.T
	db     *pgxpool.Pool
	server *httptest.Server
	below  *below
	// one client for each role, and one for nobody
	admin, operator, viewer, nobody *v1.Client
}

const testPassword = "correct horse battery"

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	ctx := t.Context()
	pool := pgtest.New(t).Pool(t)
	sqldb := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { _ = sqldb.Close() })
	if err := migrations.Up(ctx, sqldb); err != nil {
		t.Fatal(err)
	}
	store := web.PGStore{Pool: pool}
	auth, err := web.NewAuth(web.AuthOptions{Name: "test", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	b := &below{db: pool}
	h := New(Deps{DB: pool, Region: "us-east", Version: "v0-test", Tenant: "foo", Auth: auth, Boxes: b, Tables: b, Fleet: b})
	r := &rig{t: t, db: pool, below: b, server: httptest.NewServer(h)}
	t.Cleanup(r.server.Close)
	if err := store.PutAccount(ctx, "root", testPassword, web.Admin); err != nil {
		t.Fatal(err)
	}
	client := func(role web.Role) *v1.Client {
		secret, sum := web.NewToken()
		if err := store.PutToken(ctx, "test "+role.String(), sum, role, time.Time{}); err != nil {
			t.Fatal(err)
		}
		return &v1.Client{URL: r.server.URL, Token: secret}
	}
	r.admin, r.operator, r.viewer = client(web.Admin), client(web.Operator), client(web.Viewer)
	r.nobody = &v1.Client{URL: r.server.URL}
	return r
}

func (r *rig) audited(what string) []string {
	r.t.Helper()
	page, err := r.admin.Audit(r.t.Context(), 500, "")
	if err != nil {
		r.t.Fatal(err)
	}
	var who []string
	for _, e := range page.Items {
		if e.What == what {
			who = append(who, e.Who)
		}
	}
	return who
}

// below stands for the rooms that the API leans on.
type below struct {
	db *pgxpool.Pool

	mu       sync.Mutex
	revoked  []string
	problems []proto.Problem
	fleet    []v1.FacilityStatus
	fail     error
}

func (b *below) NewToken(_ context.Context, facility, _ string, ttl time.Duration) (string, time.Time, error) {
	return "hfe_" + facility, time.Now().Add(ttl), b.fail
}

func (b *below) Revoke(_ context.Context, facility string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.revoked, facility) {
		return provision.ErrNotFound
	}
	b.revoked = append(b.revoked, facility)
	return nil
}

func (b *below) Check(context.Context, proto.SyncedTable) ([]proto.Problem, []string, error) {
	return b.problems, []string{"frankfurt could not be asked; it checks when it is back"}, nil
}

func (b *below) Add(ctx context.Context, t proto.SyncedTable, by string) error {
	_, err := b.db.Exec(ctx, `INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, region_schema, added_by)
		VALUES ($1, $2, $3, $4, $5, $6)`, t.Schema, t.Name, t.Class, t.FacilityColumn, t.RegionSchema, by)
	return err
}

func (b *below) Remove(ctx context.Context, schema, name string) error {
	tag, err := b.db.Exec(ctx, `DELETE FROM holdfast.synced_table WHERE schema_name = $1 AND table_name = $2`, schema, name)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return err
}

func (b *below) Snapshot() []v1.FacilityStatus { return b.fleet }
func (b *below) Reload(context.Context) error  { return nil }

func (b *below) Summary(id string) (v1.FacilityStatus, bool) {
	for _, s := range b.fleet {
		if s.ID == id {
			return s, true
		}
	}
	return v1.FacilityStatus{}, false
}

func (b *below) Throughput(facility string) v1.Throughput { return v1.Throughput{Changes: 7} }

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
func (r *rig) call(method, path, token, body string, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestNothingIsServedWithoutSignIn(t *testing.T) {
	r := newRig(t)
	status, raw := r.call("GET", "/api/openapi.json", r.viewer.Token, "")
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
				if status, raw := r.call(strings.ToUpper(method), at, token, "{}"); status != http.StatusUnauthorized {
					t.Errorf("%s %s with token %q: %d %s", method, at, token, status, raw)
				}
			}
		}
	}
	for _, path := range []string{"/api/openapi.json", "/api/v1/", "/api/nothing"} {
		if status, _ := r.call("GET", path, "", ""); status != http.StatusUnauthorized {
			t.Errorf("%s without sign-in: %d", path, status)
		}
	}
	t.Logf("%d operations", tried)
}

func TestRolesBoundWhatACallerMayDo(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	_, err := r.viewer.AddFacility(ctx, v1.FacilityAdd{ID: "la"})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	if _, err := r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, r.operator.RemoveFacility(ctx, "la"), http.StatusForbidden, v1.ProblemForbidden)
	_, err = r.operator.Audit(ctx, 10, "")
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	_, err = r.operator.AddAPIToken(ctx, v1.APITokenAdd{Name: "mine", Role: v1.RoleAdmin})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	me, err := r.operator.Me(ctx)
	if err != nil || me.Role != v1.RoleOperator {
		t.Fatalf("me: %+v, %v", me, err)
	}
}

func TestAnotherSitesPageCannotUseASession(t *testing.T) {
	r := newRig(t)
	status, raw := r.call("POST", "/api/v1/facilities", r.admin.Token, `{"id":"la"}`, "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
	if status != http.StatusForbidden {
		t.Fatalf("%d %s", status, raw)
	}
}

func TestFacilityLivesAndIsRemovedWithConfirmation(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	added, err := r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "la", Name: "Los Angeles", TimeZone: "America/Los_Angeles"})
	if err != nil {
		t.Fatal(err)
	}
	if added.Facility.Tenant != "foo" || added.Facility.Number < 1 || added.Token.Secret == "" || added.Token.ExpiresAt.IsZero() {
		t.Errorf("added: %+v", added)
	}
	_, err = r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "mars", TimeZone: "Mars/Olympus"})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	if _, err := r.viewer.Facility(ctx, "mars"); err == nil {
		t.Error("a refused facility is there")
	}
	_, err = r.operator.NewToken(ctx, "nowhere", v1.TokenRequest{})
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)

	status, raw := r.call("DELETE", "/api/v1/facilities/la", r.admin.Token, "")
	if status != http.StatusPreconditionRequired {
		t.Fatalf("remove without confirmation: %d %s", status, raw)
	}
	if err := r.admin.RemoveFacility(ctx, "la"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.below.revoked, []string{"la"}) {
		t.Errorf("revoked boxes: %v", r.below.revoked)
	}
	if list, err := r.viewer.Facilities(ctx); err != nil || len(list) != 0 {
		t.Errorf("facilities after removal: %v, %v", list, err)
	}
	f, err := r.viewer.Facility(ctx, "la")
	if err != nil || f.RemovedAt == nil {
		t.Errorf("a removed facility: %+v, %v", f, err)
	}
	_, err = r.operator.NewToken(ctx, "la", v1.TokenRequest{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if got := r.audited("facility.add"); !slices.Equal(got, []string{"test operator"}) {
		t.Errorf("audit of add: %v", got)
	}
	if got := r.audited("facility.remove"); !slices.Equal(got, []string{"test admin"}) {
		t.Errorf("audit of remove: %v", got)
	}
}

func TestInvalidRequestsNameEveryProblemAndEchoNoSecret(t *testing.T) {
	r := newRig(t)
	status, raw := r.call("POST", "/api/v1/accounts", r.admin.Token, `{"name":"Bad Name","password":"hunter2","role":"king","extra":1}`, "Content-Type", "application/json")
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
	status, raw = r.call("GET", "/api/v1/facilities?limt=1", r.admin.Token, "")
	if status != http.StatusUnprocessableEntity || !strings.Contains(raw, "limt") {
		t.Errorf("unknown query parameter: %d %s", status, raw)
	}
	status, _ = r.call("POST", "/api/v1/accounts", r.admin.Token, `{"name":"`+strings.Repeat("a", bodyMaxBytes)+`"}`)
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d", status)
	}
}

func TestUnsuitableTableIsRefusedWithAllReasonsAndRemedies(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.below.problems = []proto.Problem{
		{Text: "public.orders has no primary key", Remedy: "ALTER TABLE public.orders ADD PRIMARY KEY (id);"},
		{Text: "there is no column facility_id", Remedy: "Name another with --facility-column."},
	}
	_, err := r.operator.AddTable(ctx, v1.TableAdd{Schema: "public", Table: "orders", Class: "fact"})
	p := wantProblem(t, err, http.StatusConflict, v1.ProblemUnsuitable)
	if len(p.Errors) != 2 || p.Errors[0].Remedy == "" || p.Errors[1].Remedy == "" {
		t.Errorf("problems: %+v", p.Errors)
	}
	if list, err := r.viewer.Tables(ctx); err != nil || len(list) != 0 {
		t.Errorf("tables after a refusal: %v, %v", list, err)
	}
	if got := r.audited("table.add"); got != nil {
		t.Errorf("a refused table is in the audit log: %v", got)
	}
}

func TestTableIsAddedListedForEachFacilityAndRemoved(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	for _, id := range []string{"la", "frankfurt"} {
		if _, err := r.operator.AddFacility(ctx, v1.FacilityAdd{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	in := v1.TableAdd{Schema: "public", Table: "Order Lines", Class: "fact", DryRun: true}
	dry, err := r.operator.AddTable(ctx, in)
	if err != nil || !dry.DryRun || dry.Table.FacilityColumn != "facility_id" || len(dry.Warnings) != 1 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if list, err := r.viewer.Tables(ctx); err != nil || len(list) != 0 {
		t.Fatalf("tables after a dry run: %v, %v", list, err)
	}
	in.DryRun = false
	if _, err := r.operator.AddTable(ctx, in); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec(ctx, `INSERT INTO holdfast.facility_table (facility, schema_name, table_name, state, changes)
		VALUES ('la', 'public', 'Order Lines', 'streaming', 12)`); err != nil {
		t.Fatal(err)
	}
	list, err := r.viewer.Tables(ctx)
	if err != nil || len(list) != 1 || len(list[0].Facilities) != 2 {
		t.Fatalf("tables: %+v, %v", list, err)
	}
	if f := list[0].Facilities[0]; f.Facility != "frankfurt" || f.State != "waiting" {
		t.Errorf("a facility that said nothing: %+v", f)
	}
	if f := list[0].Facilities[1]; f.Facility != "la" || f.State != "streaming" || f.Changes != 12 {
		t.Errorf("a facility that streams: %+v", f)
	}
	if err := r.operator.RemoveTable(ctx, "public", "Order Lines"); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, r.operator.RemoveTable(ctx, "public", "Order Lines"), http.StatusNotFound, v1.ProblemNotFound)
	if got := r.audited("table.remove"); len(got) != 1 {
		t.Errorf("audit of remove: %v", got)
	}
}

func TestRowsOfFacilitiesMustBeTellableApart(t *testing.T) {
	none := ""
	for _, c := range []struct {
		name string
		in   v1.TableAdd
		want string // facility column, or "refused"
	}{
		{"default", v1.TableAdd{}, "facility_id"},
		{"a schema each", v1.TableAdd{RegionSchema: "{facility}_{schema}"}, ""},
		{"no column and one schema", v1.TableAdd{FacilityColumn: &none}, "refused"},
		{"unknown placeholder", v1.TableAdd{RegionSchema: "{tenant}"}, "refused"},
	} {
		got, err := tableOf(c.in)
		if c.want == "refused" {
			if err == nil {
				t.Errorf("%s: not refused", c.name)
			}
			continue
		}
		if err != nil || got.FacilityColumn != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestSyncStatusTellsPositionAndTables(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	s, err := r.viewer.SyncStatus(ctx, "la")
	if err != nil || s.Position != nil || s.State != v1.StateNew {
		t.Fatalf("before the first transaction: %+v, %v", s, err)
	}
	if _, err := r.db.Exec(ctx, `INSERT INTO holdfast.position (facility, epoch, seq, source_commit_at) VALUES ('la', $1, 42, now())`, int64(1)<<32+1); err != nil {
		t.Fatal(err)
	}
	r.below.fleet = []v1.FacilityStatus{{ID: "la", State: v1.StateOnline, Stream: true, Queue: v1.Queue{Transactions: 3}}}
	s, err = r.viewer.SyncStatus(ctx, "la")
	if err != nil || s.Position == nil || s.Position.Epoch != 1<<32+1 || s.Position.Seq != 42 || !s.Connected || s.Queue.Transactions != 3 || s.Throughput.Changes != 7 {
		t.Fatalf("sync status: %+v, %v", s, err)
	}
	_, err = r.viewer.SyncStatus(ctx, "nowhere")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
}

func TestListsThatGrowComeInPages(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.operator.AddFacility(ctx, v1.FacilityAdd{ID: "la"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, detail) SELECT 'la', 'gap', 'n ' || i FROM generate_series(1, 25) i`); err != nil {
		t.Fatal(err)
	}
	var seen []int64
	cursor := ""
	for pages := 0; ; pages++ {
		page, err := r.viewer.Events(ctx, "la", 10, cursor)
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
	_, err := r.viewer.Events(ctx, "la", 10, "x")
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
}

func TestAccountSignsInAndIsSignedOutWhenItChanges(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.admin.AddAccount(ctx, v1.AccountAdd{Name: "maria", Password: testPassword, Role: v1.RoleOperator}); err != nil {
		t.Fatal(err)
	}
	login := func(password string) (*v1.Client, error) {
		tok, err := r.nobody.Login(ctx, v1.Login{Name: "maria", Password: password})
		return &v1.Client{URL: r.server.URL, Token: tok.Secret}, err
	}
	_, err := login("wrong password")
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	maria, err := login(testPassword)
	if err != nil {
		t.Fatal(err)
	}
	if me, err := maria.Me(ctx); err != nil || me.Role != v1.RoleOperator || !strings.HasPrefix(me.Name, "login:maria:") {
		t.Fatalf("me: %+v, %v", me, err)
	}
	if _, err := r.admin.ChangeAccount(ctx, "maria", v1.AccountChange{Role: v1.RoleViewer}); err != nil {
		t.Fatal(err)
	}
	_, err = maria.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	maria, err = login(testPassword)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.admin.RemoveAccount(ctx, "maria"); err != nil {
		t.Fatal(err)
	}
	_, err = maria.Me(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	wantProblem(t, r.admin.RemoveAccount(ctx, "maria"), http.StatusNotFound, v1.ProblemNotFound)
}

func TestTheLastAdminCannotGo(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	wantProblem(t, r.admin.RemoveAccount(ctx, "root"), http.StatusConflict, v1.ProblemConflict)
	_, err := r.admin.ChangeAccount(ctx, "root", v1.AccountChange{Role: v1.RoleViewer})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	if _, err := r.admin.AddAccount(ctx, v1.AccountAdd{Name: "two", Password: testPassword, Role: v1.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.RemoveAccount(ctx, "root"); err != nil {
		t.Fatal(err)
	}
}

func TestAPITokenIsShownOnceAndEndsAtOnce(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	tok, err := r.admin.AddAPIToken(ctx, v1.APITokenAdd{Name: "grafana", Role: v1.RoleViewer, TTL: 3600})
	if err != nil || tok.Secret == "" || tok.ExpiresAt == nil {
		t.Fatalf("token: %+v, %v", tok, err)
	}
	list, err := r.admin.APITokens(ctx)
	if err != nil || len(list) != 4 {
		t.Fatalf("tokens: %v, %v", list, err)
	}
	for _, one := range list {
		if one.Secret != "" {
			t.Errorf("the list shows a secret of %s", one.Name)
		}
	}
	cl := &v1.Client{URL: r.server.URL, Token: tok.Secret}
	if _, err := cl.Fleet(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.RemoveAPIToken(ctx, "grafana"); err != nil {
		t.Fatal(err)
	}
	_, err = cl.Fleet(ctx)
	wantProblem(t, err, http.StatusUnauthorized, v1.ProblemSignIn)
	_, err = r.admin.AddAPIToken(ctx, v1.APITokenAdd{Name: "login:root:x", Role: v1.RoleViewer})
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
}

func TestInternalErrorsStayInTheLog(t *testing.T) {
	r := newRig(t)
	r.below.fail = fmt.Errorf("dial tcp 10.0.0.5:5432: secret detail")
	_, err := r.operator.AddFacility(t.Context(), v1.FacilityAdd{ID: "la"})
	p := wantProblem(t, err, http.StatusInternalServerError, v1.ProblemInternal)
	if strings.Contains(p.Error(), "secret detail") {
		t.Errorf("the cause is shown: %s", p.Error())
	}
}
