package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

var (
	errInternal  = errors.New("something went wrong on our side")
	errCrossSite = errors.New("the request came from another site")
)

// Pages are one package's page templates: each file is one page that defines
// "content"; files whose name begins with "_" define fragments for all of them.
type Pages struct {
	site      *Site
	pages     map[string]*template.Template
	fragments *template.Template
}

// Pages parses the *.html files at the root of files.
func (s *Site) Pages(files fs.FS) (*Pages, error) {
	names, err := fs.Glob(files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	p := &Pages{site: s, pages: map[string]*template.Template{}}
	if p.fragments, err = s.base.Clone(); err != nil {
		return nil, fmt.Errorf("clone the layout: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "_") {
			if _, err := p.fragments.ParseFS(files, n); err != nil {
				return nil, fmt.Errorf("read fragment %s: %w", n, err)
			}
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, "_") {
			continue
		}
		t, err := p.fragments.Clone()
		if err != nil {
			return nil, fmt.Errorf("clone fragments: %w", err)
		}
		if p.pages[strings.TrimSuffix(n, ".html")], err = t.ParseFS(files, n); err != nil {
			return nil, fmt.Errorf("read page %s: %w", n, err)
		}
	}
	return p, nil
}

// Page is what the layout needs to know of one page.
type Page struct {
	Title string
	// Active is the path of the navigation entry this page belongs to.
	Active string
	// Live is the path of the page's WebSocket; empty means the site's, "-"
	// means none.
	Live string
	// Charts loads the chart script.
	Charts bool
	// Bare leaves out what needs a signed-in person.
	Bare bool
	Data any
}

type view struct {
	Page
	Site   *SiteOptions
	Who    Identity
	Theme  string
	Next   string // the theme that the button changes to
	Banner template.HTML
	Now    time.Time
	Nav    []navView
}

// navView is one entry of the navigation as one request sees it.
type navView struct {
	NavItem
	Number, Of string
}

// Render writes a page. Nothing is sent before the whole page is drawn, so a
// broken template never leaves half a page.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, name string, page Page) {
	s := p.site
	t, ok := p.pages[name]
	if !ok {
		s.o.Log.Error("no such page", "page", name)
		http.Error(w, "This page does not exist.", http.StatusInternalServerError)
		return
	}
	v := view{Page: page, Site: &s.o, Theme: theme(r), Now: time.Now()}
	v.Next = nextTheme[v.Theme]
	v.Who, _ = From(r.Context())
	switch {
	case page.Live == "-" || page.Bare:
		v.Live = ""
	case page.Live == "":
		v.Live = s.o.Live
	}
	if s.o.Banner != nil && !page.Bare {
		v.Banner = s.o.Banner(r)
	}
	if v.Who.Name != "" && !page.Bare {
		for _, n := range s.o.Nav {
			nv := navView{NavItem: n}
			if n.Badge != nil {
				nv.Number, nv.Of = n.Badge(r)
			}
			v.Nav = append(v.Nav, nv)
		}
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, "layout", v); err != nil {
		s.o.Log.Error("page not drawn", "page", name, "err", err)
		http.Error(w, "This page could not be drawn. The log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the reader left: nothing to do
}

// Fragment draws one defined fragment, for live updates.
func (p *Pages) Fragment(name string, data any) (template.HTML, error) {
	var out strings.Builder
	if err := p.fragments.ExecuteTemplate(&out, name, data); err != nil {
		return "", fmt.Errorf("draw fragment %s: %w", name, err)
	}
	return template.HTML(out.String()), nil //nolint:gosec // html/template escaped it
}

// Error answers with a page for people or a problem document for programs.
// The text of an internal error stays in the log.
func (s *Site) Error(w http.ResponseWriter, r *http.Request, status int, err error) {
	what, advice := err.Error(), hint.Of(err)
	if status >= 500 {
		s.o.Log.Error("request not served", "path", r.URL.Path, "err", err)
		if status == http.StatusInternalServerError {
			what = errInternal.Error()
		}
		if advice == "" {
			advice = "Try again in a moment. What you typed is still in the page you came from."
		}
	}
	if !wantsPage(r) {
		Problem(w, status, what, advice)
		return
	}
	s.pages.Render(w, r, status, "error", Page{
		Title: http.StatusText(status), Live: "-",
		Data: struct {
			Status       int
			What, Advice string
		}{status, sentence(what), advice},
	})
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// wantsPage reports whether a person's browser asked, rather than a program.
func wantsPage(r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/api/") && r.Header.Get("Authorization") == "" &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

var nextTheme = map[string]string{"auto": "light", "light": "dark", "dark": "auto"}

func theme(r *http.Request) string {
	if c, err := r.Cookie("holdfast_theme"); err == nil && nextTheme[c.Value] != "" {
		return c.Value
	}
	return "auto"
}

func (s *Site) setTheme(w http.ResponseWriter, r *http.Request) {
	t := r.PostFormValue("theme")
	if nextTheme[t] == "" {
		t = "auto"
	}
	http.SetCookie(w, &http.Cookie{
		Name: "holdfast_theme", Value: t, Path: "/", MaxAge: 365 * 24 * 3600,
		SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
}

// localPath returns p if it leads to this site, else "/".
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n\t") {
		return "/"
	}
	return p
}
