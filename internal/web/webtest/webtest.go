// Package webtest asks a console for all of its pages as a stranger.
//
// In:  the tests of edge/localui and cloud/dashboard.
// Out: internal/web.
package webtest

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/web"
)

// Open are the patterns of every console that need no session.
var Open = []string{"GET /assets/", "GET /favicon.ico", "GET /sign-in", "POST /sign-in", "POST /sign-out", "POST /theme"}

var wildcard = regexp.MustCompile(`\{[^}$]+\}`)

// Closed asks a console for each pattern of its mux without a session, as a
// browser and as a program. All must send to the sign-in or answer 401, except
// Open and those in open, each of which must be there.
func Closed(t testing.TB, console http.Handler, mux *web.Mux, open ...string) {
	t.Helper()
	open = append(slices.Clone(Open), open...)
	for _, p := range open {
		if !slices.Contains(mux.Patterns(), p) {
			t.Errorf("%s is said to be open and is not there", p)
		}
	}
	for _, p := range mux.Patterns() {
		if slices.Contains(open, p) {
			continue
		}
		methods, path := []string{http.MethodGet, http.MethodPost}, p
		if method, rest, ok := strings.Cut(p, " "); ok {
			methods, path = []string{method}, rest
		}
		path = wildcard.ReplaceAllString(strings.TrimSuffix(path, "{$}"), "1")
		for _, method := range methods {
			for _, accept := range []string{"text/html", "application/json"} {
				r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
				r.Header.Set("Accept", accept)
				w := httptest.NewRecorder()
				console.ServeHTTP(w, r)
				toSignIn := w.Code == http.StatusSeeOther && strings.HasPrefix(w.Header().Get("Location"), "/sign-in")
				if w.Code != http.StatusUnauthorized && !toSignIn {
					t.Errorf("%s %s (%s) without a session: %d, want 401 or the sign-in page", method, path, accept, w.Code)
				}
			}
		}
	}
}
