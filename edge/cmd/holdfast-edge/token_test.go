package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/localui/migrations"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
)

// A program of the facility is let in by a token that was made on the box, does what
// its role may, and is refused once the token is revoked or over.
func TestATokenLetsAProgramInUntilItIsRevoked(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, "edge_accounts", migrations.Up)
	dir := t.TempDir()
	conf := filepath.Join(dir, "edge.yaml")
	text := fmt.Sprintf("state_dir: %s\npostgres:\n  mode: existing\n  dsn: %q\n", dir, db.ConnString())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		c := command()
		c.SetOut(&out)
		c.SetArgs(append([]string{"-c", conf, "token"}, args...))
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := do(args...)
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		return out
	}
	now := time.Now()
	auth, err := web.NewAuth(web.AuthOptions{Name: "la", Store: web.PGStore{Pool: db.Pool(t)}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	asks := func(secret string, role web.Role) int {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/api/workspace/v1/orders", nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		auth.Require(role, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		return w.Code
	}

	var made token
	if err := json.Unmarshal([]byte(must("add", "shop", "--role", "operator", "--json")), &made); err != nil || made.Role != "operator" || made.ExpiresAt != nil {
		t.Fatalf("%+v, %v", made, err)
	}
	if code := asks(made.Secret, web.Operator); code != http.StatusOK {
		t.Errorf("an operator's token is answered %d", code)
	}
	if code := asks(made.Secret, web.Admin); code != http.StatusForbidden {
		t.Errorf("an operator's token is answered %d where an admin is needed", code)
	}
	if _, err := do("add", "shop"); err == nil || !strings.Contains(hint.Of(err), "revoke shop") {
		t.Errorf("another token of the name: %v", err)
	}

	if _, err := do("add", "day", "--ttl", "1d"); err != nil {
		t.Error(err)
	}
	must("revoke", "day")
	file := filepath.Join(dir, "scale.token")
	if out := must("add", "scale", "--ttl", "1h", "--out", file); strings.Contains(out, "hf_") {
		t.Errorf("a token that goes into a file is shown: %s", out)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	scale := strings.TrimSpace(string(secret))
	if code := asks(scale, web.Viewer); code != http.StatusOK {
		t.Errorf("a viewer's token is answered %d", code)
	}
	now = now.Add(2 * time.Hour)
	if code := asks(scale, web.Viewer); code != http.StatusUnauthorized {
		t.Errorf("a token that is over is answered %d", code)
	}

	var list []token
	if err := json.Unmarshal([]byte(must("list", "--json")), &list); err != nil || len(list) != 2 || list[0].Name != "scale" || list[0].ExpiresAt == nil || list[0].Secret != "" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"add"}, exitUsage},
		{[]string{"add", "x", "--role", "boss"}, exitUsage},
		{[]string{"add", "x", "--ttl", "soon"}, exitUsage},
		{[]string{"revoke", "nobody"}, exitNotFound},
		{[]string{"add", "shop"}, exitRefused},
		{[]string{"list", "-c", filepath.Join(dir, "none.yaml")}, exitUsage},
	} {
		_, err := do(c.args...)
		if exitCode(err) != c.code || hint.Of(err) == "" {
			t.Errorf("%v: exit %d, want %d: %v", c.args, exitCode(err), c.code, err)
		}
		if c.args[0] == "list" && !strings.Contains(hint.Of(err), "-c FILE") {
			t.Errorf("where the configuration is named: %s", hint.Of(err))
		}
	}
	if _, err := db.Pool(t).Exec(t.Context(), `UPDATE holdfast.api_token SET expires_at = now() - interval '1 hour' WHERE name = 'scale'`); err != nil {
		t.Fatal(err)
	}
	if out := must("list"); !strings.Contains(out, "over since 2") || !strings.Contains(out, "(1 h ago)") {
		t.Errorf("a token that is over is listed as\n%s", out)
	}
	if out := must("list"); !strings.Contains(out, "shop") || !strings.Contains(out, "for ever") || strings.Contains(out, "hf_") {
		t.Errorf("the list is\n%s", out)
	}
	must("revoke", "shop")
	if code := asks(made.Secret, web.Viewer); code != http.StatusUnauthorized {
		t.Errorf("a token that was revoked is answered %d", code)
	}
	if _, err := do("revoke", "shop"); err == nil || hint.Of(err) == "" {
		t.Errorf("a token that is not there is revoked: %v", err)
	}
	if _, err := do("add", "x", "--role", "boss"); err == nil || hint.Of(err) == "" {
		t.Errorf("a role that is none: %v", err)
	}
}
