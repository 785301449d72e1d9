// Package webhook is a stand-in for somebody's own program that takes Holdfast's
// webhooks. It checks the signature as docs/channels.md says, and takes each
// delivery once.
//
// In:  cloud/channel, over HTTP.
// Out: the demo's page and tests, which look at what arrived.
package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/panel"
)

const (
	bodyMaxBytes = 256 << 10
	// oldest is the age from which a signature counts as a replay.
	oldest   = 5 * time.Minute
	keepDocs = 100
)

// Received is one delivery.
type Received struct {
	At       time.Time
	Delivery string
	Event    string
	Times    int // how often it came
	Body     []byte
}

// Peer is the stand-in. Its methods may be called from several goroutines.
type Peer struct {
	faults.Script
	secret string

	mu       sync.Mutex
	received []*Received // oldest first
	refused  []error
}

// New makes a stand-in that shares a secret with its method.
func New(secret string) *Peer { return &Peer{secret: secret} }

// Received is what arrived and was rightly signed, oldest first.
func (p *Peer) Received() []Received {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Received, len(p.received))
	for i, r := range p.received {
		out[i] = *r
	}
	return out
}

// Refused is what was not.
func (p *Peer) Refused() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused)
}

func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMaxBytes))
	if err != nil {
		return
	}
	if err := Verify(p.secret, r.Header.Get("Holdfast-Signature"), raw, time.Now()); err != nil {
		p.mu.Lock()
		p.refused = append(p.refused, err)
		p.mu.Unlock()
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	f := p.Take()
	if f.Takes() {
		p.take(r.Header, raw)
	}
	if !f.Answer(w, r) {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (p *Peer) take(h http.Header, raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := h.Get("Holdfast-Delivery")
	for _, r := range p.received {
		if r.Delivery == id {
			r.Times++
			return
		}
	}
	p.received = append(p.received, &Received{At: time.Now(), Delivery: id, Event: h.Get("Holdfast-Event"), Times: 1, Body: raw})
	if len(p.received) > keepDocs {
		p.received = p.received[1:]
	}
}

// Verify says why a document is not one that Holdfast signed just now.
func Verify(secret, header string, body []byte, now time.Time) error {
	var at, sum string
	for part := range strings.SplitSeq(header, ",") {
		switch k, v, _ := strings.Cut(strings.TrimSpace(part), "="); k {
		case "t":
			at = v
		case "v1":
			sum = v
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return errors.New("the signature has no time")
	}
	if age := now.Sub(time.Unix(seconds, 0)).Abs(); age > oldest {
		return fmt.Errorf("the signature is %s old", age)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%s.%s", at, body)
	given, err := hex.DecodeString(sum)
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return errors.New("the signature is not right")
	}
	return nil
}

// Peer is its part of the page of the peers.
func (p *Peer) Peer() peers.Peer { return panel.Peer("webhook", "A program of one's own", p, p) }

// Entries are what the page shows.
func (p *Peer) Entries() (out []panel.Entry) {
	for _, r := range slices.Backward(p.Received()) {
		var doc struct {
			Title string `json:"title"`
		}
		_ = json.Unmarshal(r.Body, &doc) // it has no title then
		var body bytes.Buffer
		if json.Indent(&body, r.Body, "", "  ") != nil {
			body = *bytes.NewBuffer(r.Body)
		}
		out = append(out, panel.Entry{At: r.At, Title: doc.Title, Lines: []string{body.String()}, Note: r.Event})
	}
	return out
}
