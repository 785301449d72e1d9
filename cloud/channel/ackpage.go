package channel

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

//go:embed pages
var pageFiles embed.FS

var ackTemplate = template.Must(template.ParseFS(pageFiles, "pages/ack.html"))

// ackPages are behind the links in messages. Whoever opens one needs no account:
// the link was sent to him. GET shows, POST acts, so that a program which looks
// at the links in somebody's mail acknowledges nothing. It works without a script.
type ackPages struct{ c HandlerConfig }

// ackView is what the page shows.
type ackView struct {
	Words
	Title   string
	Said    string // what became of it
	Button  string // "" for none
	Refused bool
	Support string
	Back    bool // fallback: it is not there yet
}

func (p ackPages) show(w http.ResponseWriter, r *http.Request) {
	if l, ok := p.read(w, r); ok {
		p.page(w, r, l, "")
	}
}

func (p ackPages) take(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10) // the form has no fields
	l, ok := p.read(w, r)
	if !ok {
		return
	}
	if l.purpose != ToAcknowledge {
		p.page(w, r, l, "")
		return
	}
	m, err := p.c.Inbox.Incident(r.Context(), l.delivery)
	if err != nil {
		p.failed(w, l, err)
		return
	}
	said := "Thank you. It is noted that the message came."
	if m.Event != Test {
		if said, err = p.c.Inbox.Acknowledge(r.Context(), Ack{Delivery: l.delivery, By: m.Contact, How: "link"}); err != nil {
			p.failed(w, l, err)
			return
		}
	}
	// Whoever pressed the button has read the message.
	read := Receipt{Delivery: l.delivery, Provider: "link", EventID: "link:" + l.delivery, State: Reached, Detail: "its link was used"}
	if err := p.c.Inbox.Receipt(r.Context(), read); err != nil {
		p.c.Log.Warn("a receipt could not be kept", "delivery", l.delivery, "err", err)
	}
	p.page(w, r, l, said)
}

// read says what the link is, or answers that it is none.
func (p ackPages) read(w http.ResponseWriter, r *http.Request) (link, bool) {
	l, err := p.c.Links.read(r.PathValue("token"))
	switch {
	case err != nil || l.purpose != ToAcknowledge && l.purpose != ToFallback:
		p.write(w, http.StatusNotFound, ackView{
			Title: "This link is not valid", Refused: true,
			Said: "Perhaps a part of it was lost. Copy all of it from the message, or sign in to the dashboard.", Support: p.c.Support,
		})
	case time.Now().After(l.expires):
		p.write(w, http.StatusGone, ackView{
			Title: "This link has expired", Refused: true,
			Said: "Sign in to the dashboard to see what is wrong now.", Support: p.c.Support,
		})
	default:
		return l, true
	}
	return link{}, false
}

// page shows what the delivery told of, as it is now.
func (p ackPages) page(w http.ResponseWriter, r *http.Request, l link, said string) {
	m, err := p.c.Inbox.Incident(r.Context(), l.delivery)
	if err != nil {
		p.failed(w, l, err)
		return
	}
	v := ackView{Words: NewWords(m), Said: said, Support: p.c.Support}
	v.Title = v.Headline
	switch {
	case l.purpose == ToFallback:
		v.Back, v.Actions, v.Title = true, nil, "Work in the cloud for "+v.Where
	case m.Event == Test:
		v.Title = "A test message"
		if said == "" {
			v.Button = "It came"
		}
	case !m.Incident.Resolved.IsZero():
		v.Title = "It is over. " + v.Title
	case v.AckedBy == "" && said == "":
		v.Button = "I take care of it"
	}
	p.write(w, http.StatusOK, v)
}

func (p ackPages) failed(w http.ResponseWriter, l link, err error) {
	p.c.Log.Error("a link in a message did not work", "delivery", l.delivery, "err", err)
	p.write(w, http.StatusServiceUnavailable, ackView{
		Title: "That did not work just now", Refused: true,
		Said: "Nothing was changed. Try again in a moment, or sign in to the dashboard.", Support: p.c.Support,
	})
}

func (p ackPages) write(w http.ResponseWriter, status int, v ackView) {
	var b bytes.Buffer
	if err := ackTemplate.Execute(&b, v); err != nil {
		p.c.Log.Error("a page could not be drawn", "err", err)
		http.Error(w, fmt.Sprintf("%s. %s", v.Title, v.Said), http.StatusInternalServerError)
		return
	}
	ackHeaders(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader left: nothing to do
}

func (p ackPages) style(w http.ResponseWriter, _ *http.Request) {
	css, err := pageFiles.ReadFile("pages/ack.css")
	if err != nil {
		panic(err) // embedded: cannot fail in a build that compiled
	}
	ackHeaders(w.Header())
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(css)
}

// ackHeaders keep the link from others: it is the permission.
func ackHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
}
