package channel

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// repliesMax is how many replies of a number get an answer, which costs us:
	// behind it there may be a machine that answers ours. helpMax is how many
	// get one that mean nothing.
	repliesMax = 10
	helpMax    = 3
	// repliesFor is when they are forgotten.
	repliesFor = time.Hour
	// numbersMax is how many numbers' replies are counted; the oldest goes.
	numbersMax = 10_000
)

// ackReply is how an SMS acknowledges: A17, a 17, ack 17; ack alone means the one
// that its sender was told of.
var ackReply = regexp.MustCompile(`(?i)^(?:a|ack|acknowledge)[ #:]*([1-9][0-9]{0,17})[.! ]*$|^(?:ack|acknowledge)[.! ]*$`)

// carrierWords are answered by Twilio and the carriers.
var carrierWords = map[string]bool{
	"stop": true, "stopall": true, "unsubscribe": true, "cancel": true, "end": true, "quit": true, "revoke": true, "optout": true,
	"start": true, "yes": true, "unstop": true, "help": true, "info": true,
}

// parseReply reads what somebody replied: whether he acknowledges, and which
// incident, or 0. ignore is true for what is not meant for us.
func parseReply(body string) (ack bool, incident int64, ignore bool) {
	body = oneLine(body)
	if m := ackReply.FindStringSubmatch(body); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 64) // up to 18 digits, or none
		return true, n, false
	}
	return false, 0, carrierWords[strings.ToLower(strings.TrimRight(body, ".! "))]
}

// reply is an SMS to our number.
func (h *twilioHooks) reply(r *http.Request, form url.Values) (*twiml, error) {
	from := form.Get("From")
	if !number.MatchString(from) {
		return &twiml{}, nil // a short code or a name: nobody who could acknowledge
	}
	ack, incident, ignore := parseReply(form.Get("Body"))
	if ignore {
		return &twiml{}, nil
	}
	n := h.replies.count(from, time.Now())
	if !ack {
		if n > helpMax {
			return &twiml{}, nil
		}
		return message(h.t.texts.phrase("sms.tmpl", "help", Words{})), nil
	}
	answer, err := h.inbox.Acknowledge(r.Context(), Ack{Incident: incident, From: from, How: "sms"})
	switch {
	case err == nil:
		h.replies.forget(from)
		return message(answer), nil
	case errors.Is(err, ErrStranger):
		err = nil
	default:
		answer = h.t.texts.phrase("sms.tmpl", "not-stored", Words{})
	}
	if n > repliesMax {
		return &twiml{}, err
	}
	return message(answer), err
}

// message answers an SMS; "" says nothing.
func message(s string) *twiml {
	if s == "" {
		return &twiml{}
	}
	return &twiml{Do: []any{twimlMessage{Text: cut(gsm7(s), 306)}}}
}

// replies counts what numbers replied that helps nobody.
type replies struct {
	mu    sync.Mutex
	of    map[string]*misses // guarded by mu
	order []string           // guarded by mu; oldest first
}

type misses struct {
	n     int
	since time.Time
}

// count counts one, and returns how many there were.
func (c *replies) count(from string, now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*misses{}
	}
	m := c.of[from]
	if m == nil {
		if len(c.order) == numbersMax {
			delete(c.of, c.order[0])
			c.order = c.order[1:]
		}
		m = &misses{since: now}
		c.of[from] = m
		c.order = append(c.order, from)
	}
	if now.Sub(m.since) > repliesFor {
		*m = misses{since: now}
	}
	m.n++
	return m.n
}

// forget lets a number begin anew: it is somebody's who was told.
func (c *replies) forget(from string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.of[from]; m != nil {
		m.n = 0
	}
}
