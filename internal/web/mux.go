package web

import "net/http"

// Mux is a console's http.ServeMux that remembers its patterns, so that a test
// can ask each of them for a page without a session (webtest).
type Mux struct {
	mux      http.ServeMux
	patterns []string
}

// Handle adds a handler for a pattern.
func (m *Mux) Handle(pattern string, h http.Handler) {
	m.mux.Handle(pattern, h)
	m.patterns = append(m.patterns, pattern)
}

// HandleFunc adds a function for a pattern.
func (m *Mux) HandleFunc(pattern string, h http.HandlerFunc) { m.Handle(pattern, h) }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.mux.ServeHTTP(w, r) }

// Patterns lists what was added, in that order.
func (m *Mux) Patterns() []string { return m.patterns }
