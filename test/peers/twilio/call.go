package twilio

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Call is a call to a phone.
type Call struct {
	SID, From, To string
	Status        string // guarded by t.mu, as what is heard, ended and minutes
	At            time.Time

	t           *Twilio
	url         string
	callback    string
	events      []string
	ring        time.Duration
	amd         bool
	amdCallback string

	heard   []string // what was said, one Say each
	heardTo int      // for Expect
	listens bool     // a Gather takes keys
	wrong   string   // why Twilio said "an application error has occurred"
	keys    chan string
	picked  chan bool // somebody picks up, or declines
	hung    chan struct{}
	isHung  bool
	ended   time.Time
	minutes int // that are charged; 0: it was not answered
}

// place makes a call, as fast as the account may.
func (t *Twilio) place(p *Phone, c *Call) {
	if t.calls.Wait(t.ctx) != nil {
		return
	}
	back, n := t.callbacks(c.callback), 0
	var answered time.Time
	tell := func(event, status string) {
		t.update(func() {
			c.Status = status
			switch event {
			case "answered":
				answered = time.Now()
			case "completed":
				if c.ended = time.Now(); !answered.IsZero() {
					c.minutes = 1 + int(c.ended.Sub(answered)/time.Minute)
				}
			}
		})
		if len(c.events) == 0 && event != "completed" || len(c.events) > 0 && !slices.Contains(c.events, event) {
			return
		}
		form := c.fields(t)
		form.Set("CallbackSource", "call-progress-events")
		form.Set("SequenceNumber", strconv.Itoa(n))
		form.Set("Timestamp", time.Now().UTC().Format(time.RFC1123Z))
		n++
		back.add(form)
	}
	defer back.flush()
	tell("initiated", "initiated")
	tell("ringing", "ringing")
	b := p.behaves()
	t.update(func() { p.calls = append(p.calls, c) })
	switch b {
	case Busy:
		tell("completed", "busy")
		return
	case Unknown:
		tell("completed", "failed")
		return
	case Silent:
		tell("completed", "no-answer")
		return
	case Rings:
		if status := t.ringing(c); status != "" {
			tell("completed", status)
			return
		}
	}
	tell("answered", "in-progress")
	if c.amd && c.amdCallback != "" {
		by := "human"
		if b == Mailbox {
			by = "machine_start"
		}
		amd := url.Values{"CallSid": {c.SID}, "AccountSid": {t.o.AccountSID}, "AnsweredBy": {by}, "MachineDetectionDuration": {"2100"}}
		t.do(func() { t.post(c.amdCallback, amd) })
	}
	if err := t.run(c); err != nil {
		t.update(func() {
			c.wrong = err.Error()
			c.heard = append(c.heard, "We are sorry, an application error has occurred. Goodbye.")
		})
	}
	tell("completed", "completed")
}

// ringing waits until somebody picks up; it returns the call's end when nobody does.
func (t *Twilio) ringing(c *Call) string {
	over := time.NewTimer(least(c.ring, t.o.RingMax))
	defer over.Stop()
	select {
	case ok := <-c.picked:
		if !ok {
			return "busy"
		}
		return ""
	case <-over.C:
		return "no-answer"
	case <-t.ctx.Done():
		return "canceled"
	}
}

// least is d, or most if that is set and shorter.
func least(d, most time.Duration) time.Duration {
	if most > 0 && most < d {
		return most
	}
	return d
}

func (c *Call) fields(t *Twilio) url.Values {
	t.mu.Lock()
	defer t.mu.Unlock()
	return url.Values{
		"CallSid": {c.SID}, "AccountSid": {t.o.AccountSID}, "From": {c.From}, "To": {c.To}, "Caller": {c.From}, "Called": {c.To},
		"CallStatus": {c.Status}, "Direction": {"outbound-api"}, "ApiVersion": {"2010-04-01"},
	}
}

// Answer picks a ringing phone up; Decline does not.
func (c *Call) Answer() { c.pick(true) }

// Decline ends a call that rings.
func (c *Call) Decline() { c.pick(false) }

func (c *Call) pick(up bool) {
	select {
	case c.picked <- up:
	default: // somebody was faster
	}
}

// HangUp ends the call from the phone's side.
func (c *Call) HangUp() {
	c.pick(false)
	c.t.update(func() {
		if !c.isHung {
			c.isHung = true
			close(c.hung)
		}
	})
}

// Press presses a key of the phone.
func (c *Call) Press(key string) error {
	if len(key) != 1 || !strings.Contains("0123456789*#", key) {
		return fmt.Errorf("a phone has no key %q", key)
	}
	select {
	case c.keys <- key:
		return nil
	default:
		return fmt.Errorf("too many keys")
	}
}

// Expect waits until the call has said all of the parts, each after the one before
// and after what was expected before.
func (c *Call) Expect(tb TB, parts ...string) {
	tb.Helper()
	for _, part := range parts {
		if !c.t.wait(expectWithin, func() bool {
			for i := c.heardTo; i < len(c.heard); i++ {
				if strings.Contains(c.heard[i], part) {
					c.heardTo = i + 1
					return true
				}
			}
			return false
		}) {
			c.t.mu.Lock()
			defer c.t.mu.Unlock()
			tb.Fatalf("the call to %s did not say %q; it said %q %s", c.To, part, c.heard[c.heardTo:], c.wrong)
		}
	}
}

// ExpectEnd waits until the call is over, and looks how.
func (c *Call) ExpectEnd(tb TB, status string) {
	tb.Helper()
	ends := []string{"completed", "busy", "no-answer", "failed", "canceled"}
	if !c.t.wait(expectWithin, func() bool { return slices.Contains(ends, c.Status) }) {
		tb.Fatalf("the call to %s does not end", c.To)
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.Status != status || c.wrong != "" {
		tb.Fatalf("the call to %s ended as %s (%s), want %s", c.To, c.Status, cmp.Or(c.wrong, "no error"), status)
	}
}

// Heard is all that was said.
func (c *Call) Heard() []string {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return slices.Clone(c.heard)
}
