// Package web is the design system and the front door that the facility's
// pages and the region's pages share: layout, assets, sign-in, live updates.
//
// In:  edge/localui, cloud/dashboard, cloud/api, internal/workspace.
// Out: people's browsers; accounts and sessions in PostgreSQL, schema holdfast.
package web

import (
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

// bodyMaxBytes bounds every request's body; no form or API call needs more.
const bodyMaxBytes = 1 << 20

// NavItem is one entry of the header's navigation.
type NavItem struct {
	Path string
	Word string
	Icon string // a name of assets/src/icons.txt
	// Badge, if set, says how many things there wait for somebody; "" for none.
	// What is after the number, such as "open", is for those who only listen. Live
	// pages may replace the element ID with BadgeHTML.
	ID    string
	Badge func(r *http.Request) (number, of string)
}

// SiteOptions describe one console: a facility's or a region's.
type SiteOptions struct {
	// Place is shown beside the brand: which facility or region this is.
	Place string
	// Zone is the zone of the absolute times on its pages; nil means the
	// machine's own.
	Zone *time.Location
	// Nav is the header's navigation, for people who are signed in.
	Nav []NavItem
	// Live is the path of the WebSocket for pages that name none.
	Live string
	// Banner is drawn above every signed-in page; nil for none. Live updates
	// may replace it if its element has an id.
	Banner func(r *http.Request) template.HTML
	// Version is this build's, for the foot of the page.
	Version string
	Auth    *Auth
	Log     *slog.Logger
}

// ZoneName is what people call the zone.
func (o *SiteOptions) ZoneName() string {
	if o.Zone == time.Local { //nolint:gosmopolitan // the box's own zone is meant
		return time.Now().Format("MST")
	}
	return o.Zone.String()
}

// ZoneID is the zone's IANA name for scripts, "" for the browser's own.
func (o *SiteOptions) ZoneID() string {
	if o.Zone == time.Local { //nolint:gosmopolitan // the box's own zone is meant
		return ""
	}
	return o.Zone.String()
}

// Site draws pages with one layout.
type Site struct {
	o     SiteOptions
	base  *template.Template
	pages *Pages // its own: sign-in and errors
}

// NewSite prepares the shared layout.
func NewSite(o SiteOptions) (*Site, error) {
	if o.Zone == nil {
		o.Zone = time.Local
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Site{o: o}
	base, err := template.New("layout").Funcs(s.funcs()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	s.base = base
	own, err := fs.Sub(templateFiles, "templates/pages")
	if err != nil {
		return nil, fmt.Errorf("read own pages: %w", err)
	}
	if s.pages, err = s.Pages(own); err != nil {
		return nil, err
	}
	if o.Auth != nil {
		o.Auth.answer = s.Error
	}
	return s, nil
}

// Zone is the zone of the site's absolute times.
func (s *Site) Zone() *time.Location { return s.o.Zone }

// Mount adds the paths that every console has: assets, sign-in, sign-out and
// the theme switch.
func (s *Site) Mount(mux *Mux) {
	mux.Handle("GET "+assetPrefix, assetHandler())
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, AssetURL("favicon.svg"), http.StatusFound)
	})
	mux.HandleFunc("GET /sign-in", s.signInForm)
	mux.HandleFunc("POST /sign-in", s.signIn)
	mux.HandleFunc("POST /sign-out", s.signOut)
	mux.HandleFunc("POST /theme", s.setTheme)
}

// Protect wraps a whole console: security headers, protection from requests
// forged by other sites, a bound on what is read, and a plain page instead of
// a torn connection when a handler panics.
func (s *Site) Protect(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Error(w, r, http.StatusForbidden, hint.Wrap(errCrossSite, "Open this page by its own address and try again."))
	}))
	guarded := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		securityHeaders(w.Header())
		r.Body = http.MaxBytesReader(w, r.Body, bodyMaxBytes)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.o.Log.Error("page panicked", "path", r.URL.Path, "err", fmt.Sprint(p))
				s.Error(w, r, http.StatusInternalServerError, errInternal)
			}
		}()
		guarded.ServeHTTP(w, r)
	})
}

func securityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
		"connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}
