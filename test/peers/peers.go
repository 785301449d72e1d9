// Package peers shows stand-ins for the providers that tell people, on one page:
// a phone that rings, chat windows that fill. What each stands in for it speaks
// as its provider documents it, over real HTTP.
//
// In:  test/demo, which starts it; a visitor's browser.
// Out: the stand-ins below test/peers, which the region is configured to use.
package peers

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

// Peer is one stand-in.
type Peer struct {
	ID    string // small letters; the first part of its addresses
	Title string
	// API is what the region speaks to. It is served below /ID/, which is the base
	// URL that the region is configured with.
	API http.Handler
	// Panel is its part of the page: panel.html, and panel.js and panel.css where it
	// has them.
	Panel fs.FS
	// Live is what the panel's script asks, below /ID/panel/.
	Live http.Handler
}

// Page serves the page and all of the peers.
func Page(title string, all ...Peer) (http.Handler, error) {
	page, err := template.ParseFS(pageFiles, "page/page.html")
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	mux := http.NewServeMux()
	type panel struct {
		ID, Title       string
		HTML            template.HTML
		Script, Styling bool
	}
	view := struct {
		Title  string
		Panels []panel
	}{Title: title}
	cross := http.NewCrossOriginProtection()
	for _, p := range all {
		html, err := fs.ReadFile(p.Panel, "panel.html")
		if err != nil {
			return nil, fmt.Errorf("read the panel of %s: %w", p.ID, err)
		}
		files := http.FileServerFS(p.Panel)
		mux.Handle("GET /"+p.ID+"/panel/panel.js", http.StripPrefix("/"+p.ID+"/panel", files))
		mux.Handle("GET /"+p.ID+"/panel/panel.css", http.StripPrefix("/"+p.ID+"/panel", files))
		if p.Live != nil {
			mux.Handle("/"+p.ID+"/panel/", cross.Handler(http.StripPrefix("/"+p.ID+"/panel", p.Live)))
		}
		mux.Handle("/"+p.ID+"/", http.StripPrefix("/"+p.ID, p.API))
		has := func(name string) bool { _, err := fs.Stat(p.Panel, name); return err == nil }
		view.Panels = append(view.Panels, panel{p.ID, p.Title, template.HTML(html), has("panel.js"), has("panel.css")}) //nolint:gosec // our own file
	}
	var drawn bytes.Buffer
	if err := page.Execute(&drawn, view); err != nil {
		return nil, fmt.Errorf("draw the page: %w", err)
	}
	mux.HandleFunc("GET /page.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pageFiles, "page/page.css")
	})
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write(drawn.Bytes()) // the reader left: nothing to do
	})
	return mux, nil
}
