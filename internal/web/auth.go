package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/agogsaas/holdfast/internal/hint"
)

// PasswordMinChars and PasswordMaxBytes bound a password. bcrypt reads 72 bytes.
const (
	PasswordMinChars = 10
	PasswordMaxBytes = 72
)

// AuthOptions configure sign-in for one console.
type AuthOptions struct {
	// Name tells this console's cookie from those of others on the same host:
	// browsers do not separate cookies by port. A facility's or region's id.
	Name  string
	Store Store
	Log   *slog.Logger
	// Idle ends a session that was not used; default 12 hours, a long shift.
	Idle time.Duration
	// Lifetime ends every session; default 7 days.
	Lifetime time.Duration
	// SecureCookies marks cookies Secure even if this process itself serves
	// plain HTTP, because TLS ends in front of it.
	SecureCookies bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Auth knows who is asking: a person by a session cookie, a program by
// `Authorization: Bearer` and an API token.
type Auth struct {
	o      AuthOptions
	limits *loginLimits
	// decoy is compared when there is no such account, to take as long.
	decoy func() ([]byte, error)
	// answer tells a refusal as a page or a problem document; NewSite sets it.
	answer func(w http.ResponseWriter, r *http.Request, status int, err error)
}

// NewAuth prepares sign-in.
func NewAuth(o AuthOptions) (*Auth, error) {
	if o.Store == nil || o.Name == "" {
		return nil, errors.New("sign-in needs a name and a store")
	}
	if o.Idle <= 0 {
		o.Idle = 12 * time.Hour
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 7 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	decoy := sync.OnceValues(func() ([]byte, error) {
		return bcrypt.GenerateFromPassword([]byte(rand.Text()), bcryptCost)
	})
	return &Auth{o: o, limits: newLoginLimits(o.Now), decoy: decoy, answer: problemOf}, nil
}

// HashPassword returns the bcrypt hash for the account table.
func HashPassword(password string) (string, error) {
	switch {
	case len([]rune(password)) < PasswordMinChars:
		return "", hint.Wrap(errors.New("password is too short"), "Use at least %d characters.", PasswordMinChars)
	case len(password) > PasswordMaxBytes:
		return "", hint.Wrap(errors.New("password is too long"), "Use at most %d bytes.", PasswordMaxBytes)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return string(h), nil
}

// NewToken returns a random 256-bit API token and the hash under which it is
// stored.
func NewToken() (token string, sum [32]byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand never fails
	token = "hf_" + base64.RawURLEncoding.EncodeToString(b)
	return token, sha256.Sum256([]byte(token))
}

// Check compares name and password in a time that does not tell whether the
// account exists. from is the caller's address, for the limit on attempts. Its
// errors are ErrCredentials, ErrTooMany, or the store's.
func (a *Auth) Check(ctx context.Context, from, name, password string) (Identity, error) {
	if !a.limits.allow(from, name) {
		return Identity{}, hint.Wrap(ErrTooMany, "Wait a minute, then try again.")
	}
	acc, err := a.o.Store.Account(ctx, name)
	known := err == nil
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Identity{}, fmt.Errorf("look up account: %w", err)
	}
	hash := []byte(acc.PasswordHash)
	if !known {
		if hash, err = a.decoy(); err != nil {
			return Identity{}, fmt.Errorf("prepare a comparison: %w", err)
		}
	}
	if len(password) > PasswordMaxBytes {
		password = password[:PasswordMaxBytes] // bcrypt refuses more; it cannot match anyhow
		known = false
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !known {
		a.o.Log.Warn("sign-in refused", "account", name, "from", from)
		return Identity{}, hint.Wrap(ErrCredentials, "Check both and try again. Capital letters matter.")
	}
	a.limits.succeeded(from, name)
	return Identity{Name: acc.Name, Role: acc.Role}, nil
}

// SignIn checks name and password and starts a session. Its errors are
// ErrCredentials, ErrTooMany, or the store's.
func (a *Auth) SignIn(w http.ResponseWriter, r *http.Request, name, password string) error {
	id, err := a.Check(r.Context(), remoteHost(r), name, password)
	if err != nil {
		return err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand never fails
	token := base64.RawURLEncoding.EncodeToString(b)
	now := a.o.Now()
	if err := a.o.Store.CreateSession(r.Context(), sha256.Sum256([]byte(token)), id.Name, now, now.Add(a.o.Idle)); err != nil {
		return fmt.Errorf("start session: %w", err)
	}
	a.endSession(r) // the one the browser had, if any
	http.SetCookie(w, a.cookie(r, token, int(a.o.Lifetime/time.Second)))
	a.o.Log.Info("signed in", "account", id.Name, "role", id.Role.String())
	return nil
}

// SignOut ends the request's session.
func (a *Auth) SignOut(w http.ResponseWriter, r *http.Request) {
	a.endSession(r)
	http.SetCookie(w, a.cookie(r, "", -1))
}

func (a *Auth) endSession(r *http.Request) {
	c, err := r.Cookie(a.cookieName(r))
	if err != nil {
		return
	}
	if err := a.o.Store.DeleteSession(r.Context(), sha256.Sum256([]byte(c.Value))); err != nil {
		a.o.Log.Error("session not ended", "err", err)
	}
}

// CookieName is the session cookie's name on plain HTTP; with TLS it has the
// prefix "__Host-".
func (a *Auth) CookieName() string { return "holdfast_" + a.o.Name }

func (a *Auth) secure(r *http.Request) bool { return a.o.SecureCookies || r.TLS != nil }

func (a *Auth) cookieName(r *http.Request) string {
	if a.secure(r) {
		return "__Host-" + a.CookieName()
	}
	return a.CookieName()
}

func (a *Auth) cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: a.cookieName(r), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: a.secure(r),
	}
}

// Authenticate returns who sent the request, ErrUnknown if nobody known.
func (a *Auth) Authenticate(r *http.Request) (Identity, error) {
	now := a.o.Now()
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > 512 {
			return Identity{}, ErrUnknown
		}
		t, err := a.o.Store.Token(r.Context(), sha256.Sum256([]byte(token)), now)
		if err != nil {
			return Identity{}, err
		}
		return Identity{Name: t.Name, Role: t.Role, Token: true}, nil
	}
	c, err := r.Cookie(a.cookieName(r))
	if err != nil || len(c.Value) > 512 {
		return Identity{}, ErrUnknown
	}
	sum := sha256.Sum256([]byte(c.Value))
	s, err := a.o.Store.Session(r.Context(), sum, now)
	if err != nil {
		return Identity{}, err
	}
	if now.Sub(s.CreatedAt) > a.o.Lifetime {
		return Identity{}, ErrUnknown
	}
	// A live connection is not use: a forgotten screen signs itself out.
	if r.Header.Get("Upgrade") == "" && s.ExpiresAt.Sub(now) < a.o.Idle-a.o.Idle/20 {
		if err := a.o.Store.ExtendSession(r.Context(), sum, now.Add(a.o.Idle)); err != nil {
			a.o.Log.Warn("session not extended", "account", s.Account.Name, "err", err)
		}
	}
	return Identity{Name: s.Account.Name, Role: s.Account.Role}, nil
}

// Require lets a request pass if its sender has the role, and puts the
// Identity in its context. Others get the sign-in page, or 401 and 403 as
// problem documents if they are programs.
func (a *Auth) Require(role Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := a.Authenticate(r)
		switch {
		case err != nil && !errors.Is(err, ErrUnknown):
			a.o.Log.Error("identity not checked", "err", err)
			a.answer(w, r, http.StatusServiceUnavailable, hint.Wrap(errors.New("the database is not answering"), "It is started again by itself. Try again in a moment; nothing that was saved is lost."))
		case err != nil:
			a.unknown(w, r)
		case !id.Can(role):
			a.answer(w, r.WithContext(WithIdentity(r.Context(), id)), http.StatusForbidden, hint.Wrap(errors.New("you may not do this"),
				"It needs the role %s; %s has %s. Ask an administrator.", role, id.Name, id.Role))
		default:
			next.ServeHTTP(w, r.WithContext(WithIdentity(r.Context(), id)))
		}
	})
}

func (a *Auth) unknown(w http.ResponseWriter, r *http.Request) {
	to := "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	switch {
	case r.Header.Get("HX-Request") != "":
		w.Header().Set("HX-Redirect", "/sign-in")
		w.WriteHeader(http.StatusUnauthorized)
	case wantsPage(r):
		http.Redirect(w, r, to, http.StatusSeeOther)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
		Problem(w, http.StatusUnauthorized, "you are not signed in",
			"Sign in, or send the header Authorization: Bearer with a valid API token.")
	}
}

func problemOf(w http.ResponseWriter, _ *http.Request, status int, err error) {
	Problem(w, status, err.Error(), hint.Of(err))
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
