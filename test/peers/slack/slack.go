// Package slack is a stand-in for Slack: incoming webhooks, chat.postMessage,
// signed interactions and response_url, with the limits that Slack documents.
//
// In:  cloud/channel, over HTTP; the demo's page, where people press buttons.
// Out: the region's /hooks/slack, with signed interactions.
package slack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	api "github.com/slack-go/slack"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/panel"
)

const (
	bodyMaxBytes = 1 << 20
	answerWithin = 3 * time.Second // as long as Slack waits for an app
	responsesMax = 5               // uses of a response_url
	keepMessages = 100
)

// Options are what the app and the workspace agreed on.
type Options struct {
	// BaseURL is where this stand-in is reached; response_url begins with it.
	BaseURL string
	// Interactions is the app's address for interactions: the region's /hooks/slack.
	Interactions  string
	SigningSecret string
	BotToken      string
	// PerSecond is how many messages a channel takes; default 1, below 0 any number.
	PerSecond int
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Message is one in a channel.
type Message struct {
	TS        string // its key
	Channel   string
	At        time.Time
	Text      string
	Blocks    []api.Block
	Edits     int
	Ephemeral []Ephemeral // what only one person sees below it
}

// Ephemeral is what only the one who pressed sees.
type Ephemeral struct{ User, Text string }

// Peer is the stand-in. Its methods may be called from several goroutines.
type Peer struct {
	faults.Script
	opts Options
	mux  *http.ServeMux

	mu        sync.Mutex
	hooks     map[string]string // path of a webhook → channel
	channels  map[string]bool   // that the bot is in
	last      map[string]time.Time
	messages  []*Message // oldest first
	responses map[string]*response
	seq       int
	held      chan struct{} // nil, or what response_url waits for
}

type response struct {
	ts, user string
	used     int
}

// New makes a stand-in, to be served at Options.BaseURL.
func New(o Options) *Peer {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.PerSecond = cmp.Or(o.PerSecond, 1)
	p := &Peer{
		opts: o, mux: http.NewServeMux(), hooks: map[string]string{}, channels: map[string]bool{},
		last: map[string]time.Time{}, responses: map[string]*response{},
	}
	p.mux.HandleFunc("POST /services/", p.webhook)
	p.mux.HandleFunc("POST /actions/", p.respond)
	p.mux.HandleFunc("POST /api/auth.test", p.authTest)
	p.mux.HandleFunc("POST /api/chat.postMessage", p.postMessage)
	return p
}

func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// AddWebhook makes an incoming webhook of a channel and returns its address.
func (p *Peer) AddWebhook(channel string) string {
	return p.AddWebhookWith(channel, token())
}

// AddWebhookWith does so for an address that people have from an earlier run.
func (p *Peer) AddWebhookWith(channel, token string) string {
	path := "/services/T0000HOLD/B0000FAST/" + token
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hooks[path] = channel
	return p.opts.BaseURL + path
}

// RemoveWebhook makes a webhook's address void.
func (p *Peer) RemoveWebhook(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.hooks, strings.TrimPrefix(address, p.opts.BaseURL))
}

// Join lets the bot into a channel.
func (p *Peer) Join(channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channels[channel] = true
}

// HoldResponses makes each response_url wait until release is called.
func (p *Peer) HoldResponses() (release func()) {
	held := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	return sync.OnceFunc(func() { close(held) })
}

// Messages are those of all channels, oldest first.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Message, len(p.messages))
	for i, m := range p.messages {
		out[i] = *m
		out[i].Ephemeral = slices.Clone(m.Ephemeral)
	}
	return out
}

func token() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func fail(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word) // the caller may be gone
}

func (p *Peer) webhook(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMaxBytes))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "request_entity_too_large")
		return
	}
	p.mu.Lock()
	channel, ok := p.hooks[r.URL.Path]
	p.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "no_service")
		return
	}
	var m api.WebhookMessage
	if r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(raw, &m) != nil {
		fail(w, http.StatusBadRequest, "invalid_payload")
		return
	}
	if bad := check(m.Text, m.Blocks); bad != "" {
		fail(w, http.StatusBadRequest, bad)
		return
	}
	f := p.Take()
	if f == (faults.HTTP{}) {
		if wait := p.wait(channel); wait > 0 {
			f = faults.HTTP{Status: http.StatusTooManyRequests, RetryAfter: wait, Body: "rate_limited"}
		}
	}
	if f.Takes() {
		p.add(channel, m.Text, m.Blocks)
	}
	if !f.Answer(w, r) {
		fail(w, http.StatusOK, "ok")
	}
}

// wait is how long a channel takes no message, in whole seconds.
func (p *Peer) wait(channel string) time.Duration {
	if p.opts.PerSecond < 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	next := p.last[channel].Add(time.Second / time.Duration(p.opts.PerSecond))
	if now.Before(next) {
		return (next.Sub(now) + time.Second - 1).Truncate(time.Second)
	}
	p.last[channel] = now
	return 0
}

func (p *Peer) add(channel, text string, blocks *api.Blocks) *Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	now := p.opts.Now()
	m := &Message{TS: fmt.Sprintf("%d.%06d", now.Unix(), p.seq), Channel: channel, At: now, Text: text}
	if blocks != nil {
		m.Blocks = blocks.BlockSet
	}
	p.messages = append(p.messages, m)
	if len(p.messages) > keepMessages {
		p.messages = p.messages[1:]
	}
	return m
}

func (p *Peer) postMessage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, bodyMaxBytes)
	channel, text := r.FormValue("channel"), r.FormValue("text")
	var blocks api.Blocks
	p.mu.Lock()
	in := p.channels[channel]
	p.mu.Unlock()
	switch bad := ""; {
	case !p.authorised(r):
		answer(w, map[string]any{"ok": false, "error": "invalid_auth"})
		return
	case !in:
		answer(w, map[string]any{"ok": false, "error": "not_in_channel"})
		return
	case r.FormValue("blocks") != "" && json.Unmarshal([]byte(r.FormValue("blocks")), &blocks) != nil:
		bad = "invalid_blocks_format"
		fallthrough
	default:
		if bad = cmp.Or(bad, check(text, &blocks)); bad != "" {
			answer(w, map[string]any{"ok": false, "error": bad})
			return
		}
	}
	f := p.Take()
	if f == (faults.HTTP{}) {
		if wait := p.wait(channel); wait > 0 {
			f = faults.HTTP{Status: http.StatusTooManyRequests, RetryAfter: wait, Body: `{"ok":false,"error":"ratelimited"}`}
		}
	}
	ts := fmt.Sprintf("%d.000000", p.opts.Now().Unix()) // of what is lost
	if f.Takes() {
		ts = p.add(channel, text, &blocks).TS
	}
	if !f.Answer(w, r) {
		answer(w, map[string]any{"ok": true, "channel": channel, "ts": ts})
	}
}

func (p *Peer) authTest(w http.ResponseWriter, r *http.Request) {
	if !p.authorised(r) {
		answer(w, map[string]any{"ok": false, "error": "invalid_auth"})
		return
	}
	answer(w, map[string]any{"ok": true, "team": "plant", "user": "holdfast", "user_id": "U0HOLDFAST"})
}

func (p *Peer) authorised(r *http.Request) bool {
	given := cmp.Or(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.FormValue("token"))
	return p.opts.BotToken != "" && hmac.Equal([]byte(given), []byte(p.opts.BotToken))
}

func answer(w http.ResponseWriter, doc map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc) // the caller may be gone
}

// respond is a response_url: it changes the message that was pressed, or tells
// the one who pressed.
func (p *Peer) respond(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMaxBytes))
	var m api.WebhookMessage
	if err != nil || json.Unmarshal(raw, &m) != nil {
		fail(w, http.StatusBadRequest, "invalid_payload")
		return
	}
	if bad := check(m.Text, m.Blocks); bad != "" {
		fail(w, http.StatusBadRequest, bad)
		return
	}
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	use := p.responses[r.URL.Path]
	if use == nil || use.used >= responsesMax {
		fail(w, http.StatusNotFound, "used_url")
		return
	}
	use.used++
	i := slices.IndexFunc(p.messages, func(m *Message) bool { return m.TS == use.ts })
	switch {
	case i < 0:
		fail(w, http.StatusNotFound, "message_not_found")
		return
	case m.ReplaceOriginal:
		p.messages[i].Text, p.messages[i].Blocks = m.Text, nil
		if m.Blocks != nil {
			p.messages[i].Blocks = m.Blocks.BlockSet
		}
		p.messages[i].Edits++
	default:
		p.messages[i].Ephemeral = append(p.messages[i].Ephemeral, Ephemeral{use.user, m.Text})
	}
	fail(w, http.StatusOK, "ok")
}

// Press is how a button is pressed.
type Press struct {
	User   string        // the name of who presses; default olga
	Age    time.Duration // of the signature's timestamp
	Secret string        // that signs; default the app's
}

// Press presses a button of a message: it posts the interaction, signed as Slack
// signs it (docs.slack.dev, verifying requests), and returns the app's answer.
func (p *Peer) Press(ctx context.Context, ts, actionID string, how Press) (status int, err error) {
	p.mu.Lock()
	i := slices.IndexFunc(p.messages, func(m *Message) bool { return m.TS == ts })
	var value string
	found := false
	var channel string
	if i >= 0 {
		channel = p.messages[i].Channel
		for _, b := range buttons(p.messages[i].Blocks) {
			if b.ActionID == actionID {
				value, found = b.Value, true
			}
		}
	}
	user := cmp.Or(how.User, "olga")
	path := "/actions/T0000HOLD/" + token()
	p.responses[path] = &response{ts: ts, user: user}
	p.mu.Unlock()
	if !found {
		return 0, fmt.Errorf("message %s has no button %s", ts, actionID)
	}
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "team": map[string]any{"id": "T0000HOLD", "domain": "plant"},
		"user":         map[string]any{"id": "U" + strings.ToUpper(user), "username": user, "name": user, "team_id": "T0000HOLD"},
		"channel":      map[string]any{"id": channel, "name": "alerts"},
		"message":      map[string]any{"type": "message", "ts": ts},
		"container":    map[string]any{"type": "message", "message_ts": ts},
		"response_url": p.opts.BaseURL + path, "trigger_id": "1." + token(),
		"actions": []map[string]any{{"type": "button", "action_id": actionID, "block_id": "b", "value": value, "action_ts": ts}},
	})
	if err != nil {
		return 0, err
	}
	body := url.Values{"payload": {string(payload)}}.Encode()
	at := strconv.FormatInt(time.Now().Add(-how.Age).Unix(), 10)
	mac := hmac.New(sha256.New, []byte(cmp.Or(how.Secret, p.opts.SigningSecret)))
	mac.Write([]byte("v0:" + at + ":" + body))
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.opts.Interactions, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Slack-Request-Timestamp", at)
	req.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("the app did not answer within %s: %w", answerWithin, err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// Peer is its part of the page of the peers.
func (p *Peer) Peer() peers.Peer { return panel.Peer("slack", "Slack", p, p) }

// Entries are what the page shows.
func (p *Peer) Entries() []panel.Entry {
	var out []panel.Entry
	for _, m := range slices.Backward(p.Messages()) {
		e := panel.Entry{At: m.At, Title: m.Text}
		for _, b := range m.Blocks {
			switch b := b.(type) {
			case *api.HeaderBlock:
				e.Title = b.Text.Text
			case *api.SectionBlock:
				e.Lines = append(e.Lines, strings.Split(unescape.Replace(b.Text.Text), "\n")...)
			case *api.ContextBlock:
				for _, el := range b.ContextElements.Elements {
					if t, ok := el.(*api.TextBlockObject); ok {
						e.Lines = append(e.Lines, unescape.Replace(t.Text))
					}
				}
			}
		}
		for _, b := range buttons(m.Blocks) {
			if b.URL != "" {
				e.Buttons = append(e.Buttons, panel.Button{Text: b.Text.Text, URL: b.URL})
			} else {
				e.Buttons = append(e.Buttons, panel.Button{Text: b.Text.Text, Press: m.TS + " " + b.ActionID})
			}
		}
		for _, only := range m.Ephemeral {
			e.Note = strings.TrimSpace(e.Note + " Only visible to " + only.User + ": " + unescape.Replace(only.Text))
		}
		out = append(out, e)
	}
	return out
}

// unescape shows mrkdwn as plain text.
var unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&", "*", "")

// PressButton is for the panel.
func (p *Peer) PressButton(r *http.Request, button string) error {
	ts, action, _ := strings.Cut(button, " ")
	status, err := p.Press(r.Context(), ts, action, Press{})
	if err == nil && status != http.StatusOK {
		err = errors.New("the app answered " + strconv.Itoa(status))
	}
	return err
}

func buttons(blocks []api.Block) (out []*api.ButtonBlockElement) {
	for _, b := range blocks {
		if actions, ok := b.(*api.ActionBlock); ok && actions.Elements != nil {
			for _, e := range actions.Elements.ElementSet {
				if b, ok := e.(*api.ButtonBlockElement); ok {
					out = append(out, b)
				}
			}
		}
	}
	return out
}
