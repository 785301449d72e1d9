package channel

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"
	"golang.org/x/time/rate"
)

const (
	// hookMaxBytes bounds what Twilio sends.
	hookMaxBytes = 64 << 10
	// hookFieldsMax bounds how many fields it has.
	hookFieldsMax = 200
	signature     = "X-Twilio-Signature"
)

// twilioHooks take what Twilio tells and asks: what became of a message, what a
// call says, which key was pressed, what somebody replied.
type twilioHooks struct {
	t       *Twilio
	inbox   Inbox
	log     *slog.Logger
	check   client.RequestValidator
	replies replies
	pressed seen // calls of which somebody pressed a key
	// refused keeps strangers from filling the log.
	refused rate.Sometimes
}

func newTwilioHooks(t *Twilio, inbox Inbox, log *slog.Logger) *twilioHooks {
	return &twilioHooks{t: t, inbox: inbox, log: log.With("part", "twilio"), check: client.NewRequestValidator(t.token), refused: rate.Sometimes{Interval: time.Minute}}
}

func (h *twilioHooks) mount(mux *http.ServeMux) {
	for path, hook := range map[string]hook{
		"sms":                      h.reply,
		"sms/{delivery}":           h.smsStatus,
		"voice/{delivery}":         h.call,
		"voice/{delivery}/key":     h.key,
		"voice/{delivery}/status":  h.callStatus,
		"voice/{delivery}/machine": h.machine,
	} {
		mux.Handle("POST "+hooksTwilio+path, h.signed(hook))
	}
}

// hook answers a request that Twilio signed; nil is an empty answer. An error
// means that what it told is not kept.
type hook func(r *http.Request, form url.Values) (answer *twiml, err error)

// errUnsigned is said of a request that Twilio did not sign.
var errUnsigned = errors.New("the signature is not Twilio's")

// signed lets a request through that was signed with the account's auth token for
// the address that Twilio knows, which behind a proxy is not the one seen here.
func (h *twilioHooks) signed(next hook) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hookMaxBytes))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		at := h.t.public + r.URL.RequestURI()
		if strings.HasPrefix(r.RequestURI, "/") {
			at = h.t.public + r.RequestURI // as it was written, not as it is read
		}
		if !h.check.ValidateBody(at, body, r.Header.Get(signature)) {
			h.refused.Do(func() {
				h.log.Warn("a request that Twilio did not sign was refused; others within the minute are not told of", "path", r.URL.Path, "err", errUnsigned)
			})
			http.Error(w, errUnsigned.Error()+" for this region's public_url", http.StatusForbidden)
			return
		}
		form, err := hookFields(r.Header.Get("Content-Type"), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if sid := form.Get("AccountSid"); sid != "" && sid != h.t.conf.AccountSID {
			http.Error(w, "another account's", http.StatusForbidden)
			return
		}
		if d := r.PathValue("delivery"); d != "" {
			if _, err := parseUUID(d); err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
		}
		answer, err := next(r, form)
		if err != nil {
			h.log.Error("what Twilio tells could not be kept", "path", r.URL.Path, "err", err)
			if answer == nil {
				http.Error(w, "try again", http.StatusServiceUnavailable)
				return
			}
		}
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(answer.bytes()) // Twilio left: nothing to do
	})
}

// hookFields reads a form, or the flat JSON object that stands for one where
// Twilio signs the body's SHA-256 instead.
func hookFields(contentType string, body []byte) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, errors.New("the content has no type")
	}
	var form url.Values
	switch kind {
	case "application/x-www-form-urlencoded":
		if bytes.Count(body, []byte{'&'}) >= hookFieldsMax {
			return nil, fmt.Errorf("more than %d fields", hookFieldsMax)
		}
		if form, err = url.ParseQuery(string(body)); err != nil {
			return nil, errors.New("not a form")
		}
	case "application/json":
		var flat map[string]json.RawMessage
		if err := json.Unmarshal(body, &flat); err != nil {
			return nil, errors.New("not a JSON object")
		}
		form = url.Values{}
		for k, raw := range flat {
			var s string
			if json.Unmarshal(raw, &s) == nil {
				form.Set(k, s)
			}
		}
	default:
		return nil, errors.New("neither a form nor JSON")
	}
	if len(form) > hookFieldsMax {
		return nil, fmt.Errorf("more than %d fields", hookFieldsMax)
	}
	return form, nil
}

// smsStatus is what became of an SMS.
func (h *twilioHooks) smsStatus(r *http.Request, form url.Values) (*twiml, error) {
	sid, status, code := form.Get("MessageSid"), form.Get("MessageStatus"), form.Get("ErrorCode")
	if sid == "" || status == "" {
		return nil, nil // nothing that we know how to read
	}
	state, detail := smsState(status)
	if code != "" && code != "0" && state == Failed {
		if why := smsErrors[code]; why != "" {
			detail += ": " + why
		}
		detail += " (Twilio " + cut(code, 10) + ")"
	}
	delivery := r.PathValue("delivery")
	h.t.seen.put(sid, delivery)
	return nil, h.inbox.Receipt(r.Context(), Receipt{
		Delivery: delivery, Provider: twilioName, ProviderID: cut(sid, 64), State: state, Detail: detail,
		EventID: cut(sid, 64) + ":" + cut(status, 32),
	})
}

// twiml is what Twilio is told to do, in its XML.
type twiml struct {
	XMLName xml.Name `xml:"Response"`
	Do      []any
}

type (
	twimlSay struct {
		XMLName  xml.Name `xml:"Say"`
		Language string   `xml:"language,attr,omitempty"`
		Text     string   `xml:",chardata"`
	}
	twimlPause struct {
		XMLName xml.Name `xml:"Pause"`
		Length  int      `xml:"length,attr"`
	}
	twimlGather struct {
		XMLName     xml.Name `xml:"Gather"`
		Action      string   `xml:"action,attr"`
		Method      string   `xml:"method,attr"`
		NumDigits   int      `xml:"numDigits,attr"`
		FinishOnKey string   `xml:"finishOnKey,attr"`
		Timeout     int      `xml:"timeout,attr"`
		Do          []any
	}
	twimlRedirect struct {
		XMLName xml.Name `xml:"Redirect"`
		Method  string   `xml:"method,attr"`
		URL     string   `xml:",chardata"`
	}
	twimlHangup struct {
		XMLName xml.Name `xml:"Hangup"`
	}
	twimlMessage struct {
		XMLName xml.Name `xml:"Message"`
		Text    string   `xml:",chardata"`
	}
)

func (t *twiml) bytes() []byte {
	b, err := xml.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers only: cannot fail
	}
	return append([]byte(xml.Header), b...)
}
