package twilio

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	requestMaxBytes = 64 << 10
	// validMax is how long a message waits at most, and where nothing is said.
	validMax = 10 * time.Hour
)

var number = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Handler serves the API.
func (t *Twilio) Handler() http.Handler {
	mux := http.NewServeMux()
	const account = "/2010-04-01/Accounts/{account}/"
	mux.HandleFunc("POST "+account+"Messages.json", t.api(t.createMessage))
	mux.HandleFunc("GET "+account+"Messages.json", t.api(t.listMessages))
	mux.HandleFunc("GET "+account+"Messages/{file}", t.api(t.fetchMessage))
	mux.HandleFunc("POST "+account+"Calls.json", t.api(t.createCall))
	mux.HandleFunc("GET "+account+"Calls.json", t.api(t.listCalls))
	mux.HandleFunc("GET "+account+"Calls/{file}", t.api(t.fetchCall))
	mux.HandleFunc("GET /2010-04-01/Accounts/{file}", t.api(t.fetchAccount))
	mux.HandleFunc("GET "+account+"IncomingPhoneNumbers.json", t.api(t.listNumbers))
	mux.HandleFunc("GET /v2/PhoneNumbers/{number}", t.api(t.lookup))
	return mux
}

// refusal is an error as Twilio's API answers it.
type refusal struct {
	status, code int
	message      string
}

func (r *refusal) Error() string { return r.message }

// api answers a request: it looks at the credentials, fails if that is asked for,
// and writes JSON.
func (t *Twilio) api(do func(r *http.Request) (int, any, *refusal)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, requestMaxBytes)
		if err := r.ParseForm(); err != nil {
			refuse(w, &refusal{400, 20001, "the form cannot be read"})
			return
		}
		f := t.nextFault()
		if f.Hang {
			select {
			case <-r.Context().Done():
			case <-t.ctx.Done():
			}
			panic(http.ErrAbortHandler)
		}
		if f.Status != 0 {
			if f.RetryAfter != "" {
				w.Header().Set("Retry-After", f.RetryAfter)
			}
			if f.Code == 0 {
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(f.Status)
				fmt.Fprintf(w, "<html><body>%d</body></html>", f.Status)
				return
			}
			refuse(w, &refusal{f.Status, f.Code, message(f.Code)})
			return
		}
		if !t.known(r) {
			refuse(w, &refusal{401, 20003, message(20003)})
			return
		}
		status, answer, bad := do(r)
		if f.Drop {
			panic(http.ErrAbortHandler)
		}
		if bad != nil {
			refuse(w, bad)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // the client left
	}
}

func (t *Twilio) nextFault() Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	if len(t.faults) == 0 {
		return Fault{}
	}
	f := t.faults[0]
	t.faults = t.faults[1:]
	return f
}

func (t *Twilio) known(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	ok := subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(t.o.AccountSID+":"+t.o.AuthToken)) == 1
	account := r.PathValue("account")
	return ok && (account == "" || account == t.o.AccountSID)
}

func refuse(w http.ResponseWriter, r *refusal) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client left
		"code": r.code, "message": r.message, "more_info": "https://www.twilio.com/docs/errors/" + strconv.Itoa(r.code), "status": r.status,
	})
}

// message is what Twilio says beside a code.
func message(code int) string {
	switch code {
	case 20003:
		return "Authenticate"
	case 20429:
		return "Too Many Requests"
	case 21211:
		return "Invalid 'To' Phone Number"
	case 21610:
		return "Attempt to send to unsubscribed recipient"
	case 21602:
		return "Message body is required."
	case 21205:
		return "Url is not a valid URL"
	case 21624:
		return "Invalid validity period value"
	case 21603:
		return "A 'From' phone number is required."
	case 21617:
		return "The concatenated message body exceeds the 1600 character limit."
	}
	return "An error occurred"
}

func bad(code int) *refusal { return &refusal{400, code, message(code)} }

func (t *Twilio) createMessage(r *http.Request) (int, any, *refusal) {
	f := r.PostForm
	m := &Message{
		SID: sid("SM"), From: f.Get("From"), To: f.Get("To"), Body: f.Get("Body"), Status: "queued", callback: f.Get("StatusCallback"),
		Segments: segments(f.Get("Body")), At: time.Now().UTC(), valid: validMax,
	}
	if s := f.Get("ValidityPeriod"); s != "" {
		n, err := strconv.Atoi(s)
		if m.valid = time.Duration(n) * time.Second; err != nil || m.valid < time.Second || m.valid > validMax {
			return 0, nil, bad(21624)
		}
	}
	if s := f.Get("MessagingServiceSid"); m.From == "" && s != "" {
		m.From = s
	}
	switch {
	case !number.MatchString(m.To):
		return 0, nil, bad(21211)
	case m.From == "":
		return 0, nil, bad(21603)
	case m.Body == "":
		return 0, nil, bad(21602)
	case len([]rune(m.Body)) > 1600:
		return 0, nil, bad(21617)
	}
	p := t.Phone(m.To)
	t.mu.Lock()
	stopped := p.stopped
	t.mu.Unlock()
	if stopped {
		return 0, nil, bad(21610)
	}
	answer := m.resource(t)
	t.update(func() { t.messages = append(t.messages, m) })
	t.do(func() { t.deliver(p, m) })
	return http.StatusCreated, answer, nil
}

func (m *Message) resource(t *Twilio) map[string]any {
	direction, code := "outbound-api", any(nil)
	if m.Inbound {
		direction = "inbound"
	}
	if m.ErrorCode != 0 {
		code = m.ErrorCode
	}
	return map[string]any{
		"sid": m.SID, "account_sid": t.o.AccountSID, "from": m.From, "to": m.To, "body": m.Body, "status": m.Status, "direction": direction,
		"num_segments": strconv.Itoa(m.Segments), "num_media": "0", "error_code": code, "error_message": nil, "price": t.price(m.ended, m.Segments, smsPrice), "price_unit": "USD",
		"date_created": m.At.Format(time.RFC1123Z), "date_updated": m.At.Format(time.RFC1123Z), "date_sent": nil, "api_version": "2010-04-01",
	}
}

func (t *Twilio) listMessages(r *http.Request) (int, any, *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []any{}
	for _, m := range slices.Backward(t.messages) {
		if to := r.Form.Get("To"); (to == "" || to == m.To) && len(list) < pageSize(r) {
			list = append(list, m.resource(t))
		}
	}
	return http.StatusOK, map[string]any{"messages": list, "page": 0, "page_size": pageSize(r)}, nil
}

// What the stand-in charges: for each segment of an SMS, and each minute of a call that was answered, begun ones too.
const (
	smsPrice  = 0.0075
	callPrice = 0.014
)

func (t *Twilio) fetchMessage(r *http.Request) (int, any, *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.messages {
		if r.PathValue("file") == m.SID+".json" {
			return http.StatusOK, m.resource(t), nil
		}
	}
	return 0, nil, &refusal{404, 20404, "The requested resource was not found"}
}

func (t *Twilio) fetchCall(r *http.Request) (int, any, *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.called {
		if r.PathValue("file") == c.SID+".json" {
			return http.StatusOK, c.resource(t), nil
		}
	}
	return 0, nil, &refusal{404, 20404, "The requested resource was not found"}
}

func pageSize(r *http.Request) int {
	n, err := strconv.Atoi(r.Form.Get("PageSize"))
	if err != nil || n < 1 || n > 1000 {
		return 50
	}
	return n
}

func (t *Twilio) createCall(r *http.Request) (int, any, *refusal) {
	f := r.PostForm
	ring, err := strconv.Atoi(f.Get("Timeout"))
	if err != nil || ring < 1 || ring > 600 {
		ring = 60
	}
	c := &Call{
		SID: sid("CA"), From: f.Get("From"), To: f.Get("To"), Status: "queued", At: time.Now().UTC(), t: t,
		url: f.Get("Url"), callback: f.Get("StatusCallback"), events: f["StatusCallbackEvent"], ring: time.Duration(ring) * time.Second,
		amd: f.Get("MachineDetection") != "" && f.Get("AsyncAmd") == "true", amdCallback: f.Get("AsyncAmdStatusCallback"),
		keys: make(chan string, 32), picked: make(chan bool, 1), hung: make(chan struct{}),
	}
	switch {
	case !number.MatchString(c.To):
		return 0, nil, bad(21211)
	case !number.MatchString(c.From):
		return 0, nil, bad(21603)
	case !strings.HasPrefix(c.url, "http://") && !strings.HasPrefix(c.url, "https://"):
		return 0, nil, bad(21205)
	}
	p := t.Phone(c.To)
	answer := c.resource(t)
	t.update(func() { t.called = append(t.called, c) })
	t.do(func() { t.place(p, c) })
	return http.StatusCreated, answer, nil
}

func (c *Call) resource(t *Twilio) map[string]any {
	return map[string]any{
		"sid": c.SID, "account_sid": t.o.AccountSID, "from": c.From, "to": c.To, "status": c.Status, "direction": "outbound-api",
		"date_created": c.At.Format(time.RFC1123Z), "answered_by": nil, "price": t.price(c.ended, c.minutes, callPrice), "price_unit": "USD", "queue_time": "0", "api_version": "2010-04-01",
	}
}

func (t *Twilio) listCalls(r *http.Request) (int, any, *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []any{}
	for _, c := range slices.Backward(t.called) {
		if to := r.Form.Get("To"); (to == "" || to == c.To) && len(list) < pageSize(r) {
			list = append(list, c.resource(t))
		}
	}
	return http.StatusOK, map[string]any{"calls": list, "page": 0, "page_size": pageSize(r)}, nil
}

func (t *Twilio) lookup(r *http.Request) (int, any, *refusal) {
	n := r.PathValue("number")
	valid, why := true, []string{}
	switch {
	case !number.MatchString(n):
		valid, why = false, []string{"NOT_A_NUMBER"}
	case len(n) < 9:
		valid, why = false, []string{"TOO_SHORT"}
	}
	return http.StatusOK, map[string]any{"phone_number": n, "valid": valid, "validation_errors": why, "country_code": nil, "national_format": n, "url": "https://lookups.twilio.com/v2/PhoneNumbers/" + n}, nil
}

func (t *Twilio) fetchAccount(r *http.Request) (int, any, *refusal) {
	if r.PathValue("file") != t.o.AccountSID+".json" {
		return 0, nil, &refusal{404, 20404, "The requested resource was not found"}
	}
	return http.StatusOK, map[string]any{"sid": t.o.AccountSID, "status": "active", "friendly_name": "A stand-in", "type": "Full"}, nil
}

func (t *Twilio) listNumbers(r *http.Request) (int, any, *refusal) {
	list := []any{}
	if n := r.Form.Get("PhoneNumber"); t.o.Numbers == nil || slices.Contains(t.o.Numbers, n) {
		list = append(list, map[string]any{
			"sid": sid("PN"), "account_sid": t.o.AccountSID, "phone_number": n, "sms_url": t.o.Inbound, "sms_method": "POST",
			"capabilities": map[string]bool{"voice": true, "sms": true, "mms": false, "fax": false},
		})
	}
	return http.StatusOK, map[string]any{"incoming_phone_numbers": list, "page": 0, "page_size": 50}, nil
}

// gsmLetters are the letters of the GSM alphabet; those behind the bar count twice.
const gsmLetters = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"

// segments is how many SMS a body is charged as.
func segments(body string) int {
	septets, units, gsm := 0, 0, true
	for _, r := range body {
		units++
		if r > 0xffff {
			units++
		}
		septets++
		switch {
		case strings.ContainsRune("\f^{}\\[~]|€", r):
			septets++
		case !strings.ContainsRune(gsmLetters, r):
			gsm = false
		}
	}
	n, one, many := septets, 160, 153
	if !gsm {
		n, one, many = units, 70, 67
	}
	if n <= one {
		return 1
	}
	return (n + many - 1) / many
}
