package channel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twilio/twilio-go/client"
	lookups "github.com/twilio/twilio-go/rest/lookups/v2"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	twilioName = "twilio"
	// twilioMaxBytes is far more than Twilio's answers have.
	twilioMaxBytes = 1 << 20
	// findSlack is how far our clock and Twilio's, which tells whole seconds, may be apart.
	findSlack = 30 * time.Second
	// findMax is how many of a number's last messages are looked through.
	findMax = 50
	// seenMax is how many messages' ids are remembered.
	seenMax = 4096
)

// Twilio sends SMS and calls people by one account.
type Twilio struct {
	conf   TwilioConfig
	token  string
	base   *url.URL // nil: Twilio itself
	public string   // without a slash at its end
	texts  *Texts
	seen   seen
}

// NewTwilio reads the account's auth token. It asks Twilio for nothing.
func NewTwilio(c TwilioConfig, publicURL string, texts *Texts) (*Twilio, error) {
	token, err := config.ReadSecret(c.AuthToken)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read Twilio's auth token: %w", err),
			"Put the auth token of Twilio's console into %s (mode 0600).", cmp.Or(c.AuthToken, "a file, and name it in twilio.auth_token_file"))
	}
	t := &Twilio{conf: c, token: string(token), public: strings.TrimSuffix(publicURL, "/"), texts: texts}
	if c.BaseURL != "" {
		if t.base, err = url.Parse(c.BaseURL); err != nil {
			return nil, fmt.Errorf("read twilio.base_url: %w", err)
		}
	}
	return t, nil
}

// Senders returns the channels that the account is set up for.
func (t *Twilio) Senders() map[Kind]Sender {
	s := map[Kind]Sender{}
	if t.conf.FromSMS != "" {
		s[SMS] = sms{t}
	}
	if t.conf.FromVoice != "" {
		s[Voice] = voice{t}
	}
	return s
}

// exchange is one call of Twilio's API. The library neither takes a context nor
// returns the answer's headers: this carries both past it.
type exchange struct {
	t      *Twilio
	ctx    context.Context //nolint:containedctx // see above
	status int             // of the answer; 0: there was none
	after  time.Duration
}

func (t *Twilio) exchange(ctx context.Context) (*exchange, *client.RequestHandler) {
	x := &exchange{t: t, ctx: ctx}
	c := &client.Client{
		Credentials: client.NewCredentials(t.conf.AccountSID, t.token),
		HTTPClient: &http.Client{
			Transport:     x,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.SetAccountSid(t.conf.AccountSID)
	return x, client.NewRequestHandler(c)
}

func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(x.ctx)
	if b := x.t.base; b != nil {
		r.URL.Scheme, r.URL.Host, r.Host = b.Scheme, b.Host, b.Host
		r.URL.Path, r.URL.RawPath = strings.TrimSuffix(b.Path, "/")+r.URL.Path, ""
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.status, x.after = resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, twilioMaxBytes), resp.Body}
	return resp, nil
}

// transient are refusals with a status of 4xx that pass by themselves.
var transient = map[int]bool{
	10004: true, // too many calls at a time
	14107: true, // too many messages to one number
	20429: true, // too many requests
	20503: true, // the service is not available
	21611: true, // the sender's queue is full
}

// advice is what to do about a refusal, by Twilio's code.
var advice = map[int]string{
	20003: "Check alerts.twilio.account_sid and the file auth_token_file: Twilio does not know them.",
	20005: "Twilio has closed or suspended the account: see its console.",
	20404: "Check alerts.twilio.account_sid.",
	21210: "Verify from_voice in Twilio's console, or buy a number there.",
	21211: "Correct the contact's number: with + and the country's code, such as +12135550100.",
	21212: "Correct from_sms and from_voice.",
	21213: "Set alerts.twilio.from_voice.",
	21214: "Correct the contact's number: it cannot be called.",
	21215: "Allow calls to this country in Twilio's console, under Voice geographic permissions.",
	21217: "Correct the contact's number.",
	21219: "A trial account reaches only numbers that were verified in Twilio's console.",
	21408: "Allow SMS to this country in Twilio's console, under Messaging geographic permissions.",
	21606: "from_sms cannot send SMS: take another number of the account.",
	21608: "A trial account reaches only numbers that were verified in Twilio's console.",
	21610: "Its owner replied STOP. Only he can undo that: he replies START to the sender.",
	21612: "from_sms cannot reach this number: take a sender for that country.",
	21614: "Correct the contact's number: it is not a mobile phone's.",
	21617: "Shorten the template sms.tmpl.",
}

// wrong says what an error of the library means: whether trying again helps, and
// when.
func (x *exchange) wrong(doing string, err error) error {
	code := 0
	if rest, ok := errors.AsType[*client.TwilioRestError](err); ok {
		code, err = rest.Code, fmt.Errorf("twilio says %d: %s", rest.Code, oneLine(cut(rest.Message, 300)))
	} else if v1, ok := errors.AsType[*client.RestErrorV1](err); ok {
		code, err = v1.Code, fmt.Errorf("twilio says %d: %s", v1.Code, oneLine(cut(v1.Message, 300)))
	} else if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its address says nothing that helps
	} else if x.status != 0 {
		err = fmt.Errorf("twilio answered %d: %w", x.status, err)
	}
	err = fmt.Errorf("%s: %w", doing, err)
	switch s := x.status; {
	case s == http.StatusTooManyRequests || s >= 500 || transient[code]:
		if x.after > 0 {
			return &RetryError{Err: err, After: x.after}
		}
		return err
	case s < 400 || s == http.StatusRequestTimeout || s == http.StatusTooEarly:
		return err // no answer, or none that can be read: it may have taken effect
	}
	if a := advice[code]; a != "" {
		err = hint.Wrap(err, "%s", a)
	}
	return Permanent(err)
}

// check asks Twilio whether a number exists, which also tries the account.
// Nobody is told.
func (t *Twilio) check(ctx context.Context, to string) error {
	if err := checkNumber(to); err != nil {
		return err
	}
	x, h := t.exchange(ctx)
	found, err := lookups.NewApiService(h).FetchPhoneNumber(to, nil)
	if err != nil {
		return x.wrong("look the number up", err)
	}
	if !found.Valid {
		return Permanent(hint.Wrap(fmt.Errorf("%s is not a number that anybody has %s", to, strings.ToLower(fmt.Sprint(found.ValidationErrors))),
			"Check the number and its country's code."))
	}
	return nil
}

func checkNumber(to string) error {
	if number.MatchString(to) {
		return nil
	}
	return Permanent(hint.Wrap(fmt.Errorf("%q is not a telephone number", cut(to, 40)),
		"Write it with + and the country's code, digits only, such as +12135550100."))
}

// created reads when Twilio made a message or a call.
func created(date *string) time.Time {
	if date == nil {
		return time.Time{}
	}
	at, _ := time.Parse(time.RFC1123Z, *date) // the zero time is long ago
	return at
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// priceMax is far more than a message or a call costs: what is above it was misread.
const priceMax = 1000

// currency is a code of ISO 4217; Twilio writes those of messages in small letters at times.
var currency = regexp.MustCompile(`^[A-Za-z]{3}$`)

// price reads what Twilio charges, which it tells as a negative amount once it
// knows it. Until then it names no price, but the currency.
func price(amount, unit *string) Price {
	f, err := strconv.ParseFloat(text(amount), 64)
	if err != nil || !(f <= 0 && f >= -priceMax) || !currency.MatchString(text(unit)) {
		return Price{}
	}
	return Price{Micros: int64(-f*1e6 + 0.5), Unit: strings.ToUpper(*unit)}
}

// seen remembers which delivery a message or call of Twilio's is, as far as this
// process knows, so that one is not taken for another.
type seen struct {
	mu    sync.Mutex
	of    map[string]string // guarded by mu
	order []string          // guarded by mu; oldest first
}

func (s *seen) put(sid, delivery string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.of[sid]; ok || sid == "" {
		return
	}
	if s.of == nil {
		s.of = map[string]string{}
	}
	if len(s.order) == seenMax {
		delete(s.of, s.order[0])
		s.order = s.order[1:]
	}
	s.of[sid] = delivery
	s.order = append(s.order, sid)
}

// may reports whether a message can be the delivery: it is, or is nobody's.
func (s *seen) may(sid, delivery string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.of[sid]
	return !ok || d == delivery
}

// is reports whether a message is known to be the delivery.
func (s *seen) is(sid, delivery string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.of[sid]
	return ok && d == delivery
}
