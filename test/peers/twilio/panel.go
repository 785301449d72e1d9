package twilio

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/test/peers"
)

//go:embed panel
var panelFiles embed.FS

// shownMax is how many messages of a phone the page shows.
const shownMax = 50

// Peer is the phone on the page of the peers.
func (t *Twilio) Peer() peers.Peer {
	panel, err := fs.Sub(panelFiles, "panel")
	if err != nil {
		panic(err) // embedded: cannot fail in a build that compiled
	}
	return peers.Peer{ID: "twilio", Title: "Phones", API: t.Handler(), Panel: panel, Live: t.live()}
}

// live is what the page asks.
func (t *Twilio) live() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(t.shown()) // the reader left
	})
	mux.HandleFunc("POST /calls/{sid}/{what}", func(w http.ResponseWriter, r *http.Request) {
		c := t.call(r.PathValue("sid"))
		if c == nil {
			http.NotFound(w, r)
			return
		}
		var err error
		switch r.PathValue("what") {
		case "answer":
			c.Answer()
		case "hangup":
			c.HangUp()
		case "key":
			err = c.Press(r.FormValue("key"))
		default:
			err = fmt.Errorf("a phone cannot do that")
		}
		done(w, err)
	})
	mux.HandleFunc("POST /reply", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
		number, body := r.FormValue("number"), r.FormValue("body")
		if !t.has(number) || body == "" || len(body) > 1600 {
			done(w, fmt.Errorf("no phone, or nothing to say"))
			return
		}
		_, err := t.Phone(number).Reply(body)
		done(w, err)
	})
	return mux
}

func done(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (t *Twilio) has(number string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phones[number] != nil
}

func (t *Twilio) call(sid string) *Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.called {
		if c.SID == sid {
			return c
		}
	}
	return nil
}

type shownPhone struct {
	Number   string         `json:"number"`
	Name     string         `json:"name"`
	Messages []shownMessage `json:"messages"`
	Call     *shownCall     `json:"call"`
}

type shownMessage struct {
	SID  string    `json:"sid"`
	Mine bool      `json:"mine"`
	Body string    `json:"body"`
	At   time.Time `json:"at"`
}

type shownCall struct {
	SID     string   `json:"sid"`
	From    string   `json:"from"`
	Status  string   `json:"status"`
	Listens bool     `json:"listens"`
	Heard   []string `json:"heard"`
}

func (t *Twilio) shown() []shownPhone {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []shownPhone{}
	for _, p := range t.order {
		s := shownPhone{Number: p.Number, Name: p.Name, Messages: []shownMessage{}}
		for _, m := range p.inbox[max(len(p.inbox)-shownMax, 0):] {
			s.Messages = append(s.Messages, shownMessage{m.SID, m.Inbound, m.Body, m.At})
		}
		if len(p.calls) > 0 {
			c := p.calls[len(p.calls)-1]
			s.Call = &shownCall{c.SID, c.From, c.Status, c.listens, append([]string{}, c.heard...)}
		}
		all = append(all, s)
	}
	return all
}
