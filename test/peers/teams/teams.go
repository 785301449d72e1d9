// Package teams is a stand-in for a Microsoft Teams Workflow that posts cards
// to a channel when a webhook request is received.
//
// It takes whatever it is sent with 202, as Workflows do, and looks at it only
// afterwards: a card that Teams could not show is a failed run, of which the
// sender hears nothing. Cards are checked against Microsoft's JSON schema, which is
// vendored from the npm package adaptivecards-designer 2.4.4 (MIT, its licence is beside it).
//
// In:  cloud/channel, over HTTP.
// Out: the demo's page, which shows the cards.
package teams

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/time/rate"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/panel"
)

const (
	messageMaxBytes = 28 << 10
	keepCards       = 100
	schemaURL       = "http://adaptivecards.io/schemas/adaptive-card.json"
	cardType        = "application/vnd.microsoft.card.adaptive"
)

//go:embed adaptive-card.schema.json
var schemaJSON []byte

// Options are what the flow is like.
type Options struct {
	BaseURL string
	// Bare flows want the card itself, others a message with the card attached.
	Bare bool
	// Signature is the secret in its address; default: made up.
	Signature string
	// PerSecond is how many messages its address takes; default 4, as Microsoft
	// says of Teams' webhooks, below 0 any number.
	PerSecond int
}

// Card is what a channel shows, as far as we use it.
type Card struct {
	At      time.Time `json:"-"`
	Version string    `json:"version"`
	Body    []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	} `json:"body"`
	Actions []struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		URL   string `json:"url"`
	} `json:"actions"`
}

// Peer is the stand-in. Its methods may be called from several goroutines.
type Peer struct {
	faults.Script
	opts   Options
	sig    string
	schema *jsonschema.Schema
	rate   *rate.Limiter

	mu     sync.Mutex
	cards  []Card // oldest first
	failed []error
	posts  int
}

// New makes a stand-in, to be served at Options.BaseURL.
func New(o Options) (*Peer, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaJSON))
	if err != nil {
		return nil, fmt.Errorf("read the card's schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("read the card's schema: %w", err)
	}
	schema, err := c.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("read the card's schema: %w", err)
	}
	p := &Peer{opts: o, sig: cmp.Or(o.Signature, signature()), schema: schema, rate: rate.NewLimiter(rate.Inf, 0)}
	if n := cmp.Or(o.PerSecond, 4); n > 0 {
		p.rate = rate.NewLimiter(rate.Limit(n), n)
	}
	return p, nil
}

func signature() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

const path = "/workflows/2f1a9b/triggers/manual/paths/invoke"

// URL is the workflow's address. Whoever has it may post.
func (p *Peer) URL() string {
	return p.opts.BaseURL + path + "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=" + p.sig
}

// Cards are what the channel shows, oldest first.
func (p *Peer) Cards() []Card {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.cards)
}

// Failed are the runs that Teams could show nothing of.
func (p *Peer) Failed() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.failed)
}

// Posts counts the requests.
func (p *Peer) Posts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.posts
}

func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.posts++
	p.mu.Unlock()
	switch {
	case r.URL.Path != path:
		refuse(w, http.StatusNotFound, "WorkflowNotFound", "The workflow could not be found.")
		return
	case r.Method != http.MethodPost:
		refuse(w, http.StatusMethodNotAllowed, "InvalidMethod", "POST only.")
		return
	case !hmac.Equal([]byte(r.URL.Query().Get("sig")), []byte(p.sig)):
		refuse(w, http.StatusUnauthorized, "DirectApiAuthorizationRequired", "The request must be authenticated only by Shared Access scheme: "+r.URL.RawQuery)
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, messageMaxBytes+1))
	if err != nil {
		return
	}
	if len(raw) > messageMaxBytes {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The message is too large.")
		return
	}
	f := p.Take()
	if f == (faults.HTTP{}) && !p.rate.Allow() {
		f = faults.HTTP{Status: http.StatusTooManyRequests, RetryAfter: time.Second, Body: `{"error":{"code":"TooManyRequests","message":"Rate limit is exceeded. Try again in 1 seconds."}}`}
	}
	if f.Takes() {
		p.run(raw)
	}
	if !f.Answer(w, r) {
		w.WriteHeader(http.StatusAccepted)
	}
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": text}}) // the caller may be gone
}

// run is what the flow does once it has answered.
func (p *Peer) run(raw []byte) {
	card, err := p.read(raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, err)
		return
	}
	card.At = time.Now()
	p.cards = append(p.cards, card)
	if len(p.cards) > keepCards {
		p.cards = p.cards[1:]
	}
}

func (p *Peer) read(raw []byte) (Card, error) {
	if !p.opts.Bare {
		var m struct {
			Type        string `json:"type"`
			Attachments []struct {
				ContentType string          `json:"contentType"`
				Content     json.RawMessage `json:"content"`
			} `json:"attachments"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return Card{}, fmt.Errorf("read the message: %w", err)
		}
		if m.Type != "message" || len(m.Attachments) != 1 || m.Attachments[0].ContentType != cardType {
			return Card{}, errors.New("this is not a message with one Adaptive Card")
		}
		raw = m.Attachments[0].Content
	}
	return p.ReadCard(raw)
}

// ReadCard checks a card as Teams would.
func (p *Peer) ReadCard(raw []byte) (Card, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return Card{}, fmt.Errorf("read the card: %w", err)
	}
	if err := p.schema.Validate(doc); err != nil {
		return Card{}, fmt.Errorf("the card is not as its schema says: %w", err)
	}
	var c Card
	if err := json.Unmarshal(raw, &c); err != nil {
		return Card{}, fmt.Errorf("read the card: %w", err)
	}
	return c, nil
}

// Peer is its part of the page of the peers.
func (p *Peer) Peer() peers.Peer { return panel.Peer("teams", "Microsoft Teams", p, p) }

// Entries are what the page shows.
func (p *Peer) Entries() (out []panel.Entry) {
	for _, c := range slices.Backward(p.Cards()) {
		e := panel.Entry{At: c.At}
		for i, b := range c.Body {
			if text := plain.Replace(b.Text); i == 0 {
				e.Title = text
			} else {
				e.Lines = append(e.Lines, strings.Split(text, "\n")...)
			}
		}
		for _, a := range c.Actions {
			e.Buttons = append(e.Buttons, panel.Button{Text: a.Title, URL: a.URL})
		}
		out = append(out, e)
	}
	return out
}

// plain shows Markdown as plain text, as far as we use it.
var plain = strings.NewReplacer("**", "", `\\`, `\`, `\*`, "*", `\_`, "_", `\[`, "[", `\]`, "]", `\(`, "(", `\)`, ")", "\\`", "`", `\#`, "#", "&lt;", "<", "&gt;", ">")
