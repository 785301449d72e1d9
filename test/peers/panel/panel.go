// Package panel shows what arrived at a stand-in for a provider, as a chat's
// window would, for people who try the demo.
//
// In:  the stand-ins in test/peers, with what arrived.
// Out: a part of the page of test/peers, and JSON.
package panel

import (
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/test/peers"
)

//go:embed files
var files embed.FS

// Peer puts a stand-in on the demo's page: api is what the region speaks to,
// below /id/.
func Peer(id, title string, api http.Handler, s Source) peers.Peer {
	f, err := fs.Sub(files, "files")
	if err != nil {
		panic(err) // it is embedded
	}
	return peers.Peer{ID: id, Title: title, API: api, Panel: f, Live: Live(s)}
}

// Entry is one message as people see it.
type Entry struct {
	At      time.Time `json:"at"`
	Title   string    `json:"title"`
	Lines   []string  `json:"lines,omitempty"`
	Note    string    `json:"note,omitempty"` // such as its state
	Buttons []Button  `json:"buttons,omitempty"`
}

// Button is something to press in a message: a link, or, with Press, what is
// posted to the panel as the field button.
type Button struct {
	Text  string `json:"text"`
	URL   string `json:"url,omitempty"`
	Press string `json:"press,omitempty"`
}

// Source is a stand-in.
type Source interface {
	// Entries are what arrived, newest first.
	Entries() []Entry
}

// Presser is a Source whose buttons can be pressed.
type Presser interface {
	// PressButton does what the button does, and returns once the stand-in has
	// told whom it tells.
	PressButton(r *http.Request, button string) error
}

// Live is what the script asks: GET /messages is HTML, GET /messages.json the
// same for programs, POST /press a button.
func Live(s Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = messages.Execute(w, s.Entries()) // the reader may be gone
	})
	mux.HandleFunc("GET /messages.json", func(w http.ResponseWriter, _ *http.Request) {
		entries := s.Entries()
		if entries == nil {
			entries = []Entry{}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(entries) // the reader may be gone
	})
	if p, ok := s.(Presser); ok {
		mux.HandleFunc("POST /press", func(w http.ResponseWriter, r *http.Request) {
			if err := p.PressButton(r, r.FormValue("button")); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	return mux
}

var messages = template.Must(template.New("").Parse(`{{range .}}<article>
<header><strong>{{.Title}}</strong> <time datetime="{{.At.UTC.Format "2006-01-02T15:04:05Z"}}">{{.At.UTC.Format "15:04:05 MST"}}</time></header>
{{range .Lines}}<p>{{.}}</p>
{{end}}{{with .Note}}<p class="note">{{.}}</p>
{{end}}{{if .Buttons}}<p>{{range .Buttons}}{{if .Press}}<button type="button" class="main" value="{{.Press}}">{{.Text}}</button> {{else}}<a href="{{.URL}}" target="_blank" rel="noopener">{{.Text}}</a> {{end}}{{end}}</p>
{{end}}</article>
{{else}}<p class="note">Nothing has arrived.</p>
{{end}}`))
