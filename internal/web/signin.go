package web

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/agogsaas/holdfast/internal/hint"
)

type signInData struct {
	Name, Next, Problem, Advice string
}

func (s *Site) signInForm(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if _, err := s.o.Auth.Authenticate(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.signInPage(w, r, http.StatusOK, signInData{Next: next})
}

func (s *Site) signInPage(w http.ResponseWriter, r *http.Request, status int, d signInData) {
	s.pages.Render(w, r, status, "sign-in", Page{Title: "Sign in", Bare: true, Data: d})
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	name, next := r.PostFormValue("name"), localPath(r.PostFormValue("next"))
	if len(name) > 128 {
		name = name[:128]
	}
	err := s.o.Auth.SignIn(w, r, name, r.PostFormValue("password"))
	d := signInData{Name: name, Next: next}
	switch {
	case err == nil:
		http.Redirect(w, r, next, http.StatusSeeOther)
	case errors.Is(err, ErrCredentials):
		d.Problem, d.Advice = "Name or password is wrong.", hint.Of(err)
		s.signInPage(w, r, http.StatusUnauthorized, d)
	case errors.Is(err, ErrTooMany):
		w.Header().Set("Retry-After", "60")
		d.Problem, d.Advice = "Too many attempts.", hint.Of(err)
		s.signInPage(w, r, http.StatusTooManyRequests, d)
	default:
		s.o.Log.Error("sign-in not possible", "err", err)
		d.Problem, d.Advice = "Sign-in is not possible right now.", "The database is not answering. Try again in a moment."
		s.signInPage(w, r, http.StatusServiceUnavailable, d)
	}
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	s.o.Auth.SignOut(w, r)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// Problem writes an RFC 9457 problem document. The title says what, the
// detail what to do.
func Problem(w http.ResponseWriter, status int, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the reader left: nothing to do
		"status": status, "title": title, "detail": detail,
	})
}
