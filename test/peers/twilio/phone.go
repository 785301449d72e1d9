package twilio

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Behaviour is what a phone does when it is called or sent something.
type Behaviour int

// The behaviours.
const (
	PicksUp     Behaviour = iota // at once; tests press keys
	Rings                        // until somebody picks up by Answer, or it rings no more
	Mailbox                      // a machine answers, listens and presses nothing
	Busy                         // and takes messages
	Silent                       // nobody answers, and no message arrives: 30003
	Unknown                      // there is no such number: 30005
	Filtered                     // the carrier takes messages for spam: 30007
	NeverReport                  // messages go out and nothing more is heard of them
)

// Phone is somebody's phone.
type Phone struct {
	Number string
	Name   string

	t         *Twilio
	behaviour Behaviour  // guarded by t.mu, as all below
	inbox     []*Message // what arrived, and what was written
	calls     []*Call
	stopped   bool // its owner replied STOP
	readTo    int  // for ExpectSMS
	takenTo   int  // for ExpectCall
}

// Phone returns the phone of a number; it is there from the first time that it is asked for.
func (t *Twilio) Phone(number string) *Phone {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.phones[number]
	if p == nil {
		p = &Phone{Number: number, t: t, behaviour: t.o.Phones}
		t.phones[number] = p
		t.order = append(t.order, p)
	}
	return p
}

// Behave sets what the phone does from now on.
func (p *Phone) Behave(b Behaviour) {
	p.t.update(func() { p.behaviour = b })
}

func (p *Phone) behaves() Behaviour {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	return p.behaviour
}

// deliver sends a message, as fast as the account may, and tells what became of it.
func (t *Twilio) deliver(p *Phone, m *Message) {
	c := t.callbacks(m.callback)
	tell := func(status string, code int) {
		t.update(func() {
			if m.Status, m.ErrorCode = status, code; m.ended.IsZero() && code != expired {
				m.ended = time.Now() // it is charged when it is sent, whatever becomes of it
			}
		})
		form := url.Values{"MessageSid": {m.SID}, "SmsSid": {m.SID}, "MessageStatus": {status}, "SmsStatus": {status}, "To": {m.To}, "From": {m.From}, "AccountSid": {t.o.AccountSID}, "ApiVersion": {"2010-04-01"}}
		if code != 0 {
			form.Set("ErrorCode", strconv.Itoa(code))
		}
		c.add(form)
	}
	if !t.queue(m) {
		if t.ctx.Err() == nil {
			tell("undelivered", expired)
			c.flush()
		}
		return
	}
	tell("sent", 0)
	switch p.behaves() {
	case Silent:
		tell("undelivered", 30003)
	case Unknown:
		tell("undelivered", 30005)
	case Filtered:
		tell("undelivered", 30007)
	case NeverReport:
	default:
		t.update(func() { p.inbox = append(p.inbox, m) })
		tell("delivered", 0)
	}
	c.flush()
}

// expired is Twilio's code for a message that waited longer than it may.
const expired = 30036

// queue waits until a message can be sent; false: it waits no longer.
func (t *Twilio) queue(m *Message) bool {
	ctx, cancel := context.WithDeadline(t.ctx, m.At.Add(m.valid))
	defer cancel()
	for range m.Segments {
		if t.segments.Wait(ctx) != nil { // at once, when it would be too long
			<-ctx.Done()
			return false
		}
	}
	return true
}

// Reply sends an SMS back: to the sender of the last one, or else to nobody's
// number. It returns what was answered, "" for nothing.
func (p *Phone) Reply(text string) (string, error) {
	t := p.t
	to := "+15005550006"
	m := &Message{SID: sid("SM"), From: p.Number, Body: text, Status: "received", Segments: segments(text), At: time.Now().UTC(), Inbound: true}
	t.update(func() {
		for _, before := range p.inbox {
			if !before.Inbound {
				to = before.From
			}
		}
		m.To = to
		p.inbox = append(p.inbox, m)
		t.messages = append(t.messages, m)
		switch strings.ToUpper(strings.TrimSpace(text)) {
		case "STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT":
			p.stopped = true
		case "START", "YES", "UNSTOP":
			p.stopped = false
		}
	})
	if t.o.Inbound == "" {
		return "", nil
	}
	doc, err := t.fetch(t.o.Inbound, url.Values{
		"MessageSid": {m.SID}, "SmsSid": {m.SID}, "SmsMessageSid": {m.SID}, "SmsStatus": {"received"}, "NumMedia": {"0"}, "NumSegments": {strconv.Itoa(m.Segments)},
		"From": {p.Number}, "To": {to}, "Body": {text}, "AccountSid": {t.o.AccountSID}, "ApiVersion": {"2010-04-01"},
	})
	if err != nil {
		return "", err
	}
	said := ""
	for _, v := range doc.Verbs {
		if v.XMLName.Local != "Message" {
			return "", fmt.Errorf("12300: %s cannot answer an SMS", v.XMLName.Local)
		}
		body := cmp.Or(strings.TrimSpace(v.Text), v.child("Body"))
		back := &Message{SID: sid("SM"), From: to, To: p.Number, Body: body, Status: "queued", Segments: segments(body), At: time.Now().UTC(), valid: validMax}
		t.update(func() { t.messages = append(t.messages, back) })
		t.deliver(p, back)
		said = body
	}
	return said, nil
}

// TB is what a test says that something is not as expected by.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// expectWithin is long enough for a slow machine.
const expectWithin = 20 * time.Second

// ExpectSMS waits for the next SMS that has all of the parts, passing over others.
func (p *Phone) ExpectSMS(tb TB, parts ...string) Message {
	tb.Helper()
	var got Message
	var passed []string
	if !p.t.wait(expectWithin, func() bool {
		for p.readTo < len(p.inbox) {
			m := p.inbox[p.readTo]
			p.readTo++
			if !m.Inbound && hasAll(m.Body, parts) {
				got = *m
				return true
			}
			passed = append(passed, m.Body)
		}
		return false
	}) {
		tb.Fatalf("%s got no SMS with %q; it got %q", p.Number, parts, passed)
	}
	return got
}

// ExpectCall waits until the phone is called and somebody, or something, hears all
// of the parts.
func (p *Phone) ExpectCall(tb TB, parts ...string) *Call {
	tb.Helper()
	var c *Call
	if !p.t.wait(expectWithin, func() bool {
		if c == nil && p.takenTo < len(p.calls) {
			c = p.calls[p.takenTo]
			p.takenTo++
		}
		return c != nil
	}) {
		tb.Fatalf("%s was not called", p.Number)
	}
	if len(parts) > 0 {
		c.Expect(tb, parts...)
	}
	return c
}

func hasAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}
