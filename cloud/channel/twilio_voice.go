package channel

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	// keySeconds is how long is waited for a key after all was said.
	keySeconds = 10
	keyAck     = "4"
	keyRepeat  = "*"
)

// call says what a call says: all of it twice, slowly, and takes a key at any
// moment. Who answers may be a machine: it hears the same, and presses nothing.
func (h *twilioHooks) call(r *http.Request, _ url.Values) (*twiml, error) {
	m, err := h.inbox.Incident(r.Context(), r.PathValue("delivery"))
	if err != nil {
		return h.excuse(), err
	}
	return h.say(r, m, "")
}

// excuse is what a call says when we do not know what it is about.
func (h *twilioHooks) excuse() *twiml {
	return &twiml{Do: []any{h.phrase("unknown", Words{}), twimlPause{Length: 1}, twimlHangup{}}}
}

func (h *twilioHooks) phrase(name string, w Words) twimlSay {
	return h.line(h.t.texts.phrase("voice.tmpl", name, w))
}

func (h *twilioHooks) line(text string) twimlSay {
	return twimlSay{Language: h.t.conf.Language, Text: text}
}

// say says a message; first, the name of a phrase, before it.
func (h *twilioHooks) say(r *http.Request, m Message, first string) (*twiml, error) {
	// What has happened since the call was placed is said as it is.
	switch m.Kind = Voice; {
	case m.Event == Test:
	case !m.Incident.Resolved.IsZero():
		m.Event = Resolve
	case m.Incident.AckedBy != "":
		m.Event = Update
	}
	said, err := h.t.texts.Render(m)
	if err != nil {
		return h.excuse(), err
	}
	w, keys, none := NewWords(m), "keys", "no-key"
	if over(m) {
		keys, none = "keys-over", "no-key-over" // nobody else is told
	}
	var once []any
	for line := range strings.SplitSeq(said.Body, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			once = append(once, h.line(line), twimlPause{Length: 1})
		}
	}
	once = append(once, h.phrase(keys, w), twimlPause{Length: 1})
	var all []any
	if first != "" {
		all = append(all, h.phrase(first, w), twimlPause{Length: 1})
	}
	all = append(append(append(all, once...), h.phrase("again", w), twimlPause{Length: 1}), once...)
	return &twiml{Do: []any{
		twimlGather{Action: h.t.public + hooksTwilio + "voice/" + r.PathValue("delivery") + "/key", Method: http.MethodPost, NumDigits: 1, Timeout: keySeconds, Do: all},
		h.phrase(none, w),
		twimlHangup{},
	}}, nil
}

// over reports whether there is nothing to acknowledge.
func over(m Message) bool {
	return m.Event == Resolve || m.Event == Test || m.Incident.AckedBy != "" || !m.Incident.Resolved.IsZero()
}

// key is a key that was pressed: whichever it is, a person has heard the call.
func (h *twilioHooks) key(r *http.Request, form url.Values) (*twiml, error) {
	delivery, sid, digit := r.PathValue("delivery"), form.Get("CallSid"), form.Get("Digits")
	if digit == "" {
		return &twiml{Do: []any{twimlHangup{}}}, nil
	}
	again := &twiml{Do: []any{
		h.phrase("not-stored", Words{}),
		twimlPause{Length: 1},
		twimlRedirect{Method: http.MethodPost, URL: h.t.public + hooksTwilio + "voice/" + delivery},
	}}
	m, err := h.inbox.Incident(r.Context(), delivery)
	if err != nil {
		return again, err
	}
	answer := h.t.texts.phrase("voice.tmpl", "thanks", NewWords(m))
	// Of what somebody else has, or what is over, since it was said, the inbox says so.
	if digit == keyAck && (m.Event == Trigger || m.Event == Update) {
		if answer, err = h.inbox.Acknowledge(r.Context(), Ack{Delivery: delivery, By: m.Contact, How: "voice"}); err != nil {
			return again, err
		}
	}
	h.pressed.put(sid, delivery)
	err = h.inbox.Receipt(r.Context(), Receipt{
		Delivery: delivery, Provider: twilioName, ProviderID: cut(sid, 64), State: Reached, Detail: "pressed " + cut(digit, 4),
		EventID: cut(sid, 64) + ":key:" + cut(digit, 4),
	})
	if err != nil {
		return again, err
	}
	switch {
	case digit == keyRepeat:
		return h.say(r, m, "")
	case digit != keyAck && !over(m):
		return h.say(r, m, "wrong-key")
	}
	return &twiml{Do: []any{h.line(answer), twimlPause{Length: 1}, h.phrase("goodbye", NewWords(m)), twimlHangup{}}}, nil
}

// callStatus is how far a call has come.
func (h *twilioHooks) callStatus(r *http.Request, form url.Values) (*twiml, error) {
	delivery, sid, status := r.PathValue("delivery"), form.Get("CallSid"), form.Get("CallStatus")
	if sid == "" || status == "" {
		return nil, nil
	}
	state, detail := callState(status)
	// Another process may have taken the key; then its receipt, which outranks this
	// one, is in the inbox.
	if status == "completed" && h.pressed.is(sid, delivery) {
		state, detail = Reached, "the call is over"
	}
	h.t.seen.put(sid, delivery)
	return nil, h.inbox.Receipt(r.Context(), Receipt{
		Delivery: delivery, Provider: twilioName, ProviderID: cut(sid, 64), State: state, Detail: detail,
		EventID: cut(sid, 64) + ":" + cut(status, 32),
	})
}

// machine is what Twilio thinks of who answered. It decides nothing: only a key
// counts. It is for the incident's timeline.
func (h *twilioHooks) machine(r *http.Request, form url.Values) (*twiml, error) {
	sid, by := form.Get("CallSid"), form.Get("AnsweredBy")
	detail := ""
	switch {
	case strings.HasPrefix(by, "machine"):
		detail = "a mailbox seems to have answered"
	case by == "fax":
		detail = "a fax seems to have answered"
	default:
		return nil, nil
	}
	return nil, h.inbox.Receipt(r.Context(), Receipt{
		Delivery: r.PathValue("delivery"), Provider: twilioName, ProviderID: cut(sid, 64), State: Sent, Detail: detail,
		EventID: cut(sid, 64) + ":machine",
	})
}
