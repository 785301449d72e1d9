package twilio

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// twimlMaxBytes is Twilio's own limit of a document.
	twimlMaxBytes = 64 << 10
	// stepsMax ends a document that leads in circles.
	stepsMax = 100
)

// document is TwiML.
type document struct {
	XMLName xml.Name `xml:"Response"`
	Verbs   []verb   `xml:",any"`
}

type verb struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Text    string     `xml:",chardata"`
	Verbs   []verb     `xml:",any"`
}

// attr returns an attribute, and whether it is there.
func (v *verb) attr(name string) (string, bool) {
	for _, a := range v.Attrs {
		if a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

func (v *verb) seconds(name string, otherwise int) time.Duration {
	s, _ := v.attr(name)
	n, err := strconv.Atoi(s)
	if err != nil {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

func (v *verb) child(name string) string {
	for _, c := range v.Verbs {
		if c.XMLName.Local == name {
			return strings.TrimSpace(c.Text)
		}
	}
	return ""
}

var errHungUp = errors.New("the phone hung up")

// run lets a call do what its TwiML says.
func (t *Twilio) run(c *Call) error {
	doc, err := t.fetch(c.url, c.fields(t))
	for step := 0; err == nil; step++ {
		if step == stepsMax {
			return fmt.Errorf("12205: more than %d documents in one call", stepsMax)
		}
		var next func() (document, error)
		if next, err = t.perform(c, doc.Verbs); err != nil || next == nil {
			break
		}
		doc, err = next()
	}
	if errors.Is(err, errHungUp) {
		return nil
	}
	return err
}

// perform does what verbs say. next is where the call goes on; nil: nowhere.
func (t *Twilio) perform(c *Call, verbs []verb) (next func() (document, error), err error) {
	for _, v := range verbs {
		switch v.XMLName.Local {
		case "Say", "Pause":
			if _, err := t.speak(c, v, nil); err != nil {
				return nil, err
			}
		case "Gather":
			digits, err := t.gather(c, v)
			if err != nil {
				return nil, err
			}
			if digits == "" {
				continue // what is behind it says what then
			}
			action, ok := v.attr("action")
			if !ok {
				action = c.url
			}
			return func() (document, error) {
				form := c.fields(t)
				form.Set("Digits", digits)
				form.Set("FinishedOnKey", "")
				return t.fetch(action, form)
			}, nil
		case "Redirect":
			return func() (document, error) { return t.fetch(strings.TrimSpace(v.Text), c.fields(t)) }, nil
		case "Hangup":
			return nil, nil
		default:
			return nil, fmt.Errorf("12200: %s is not a verb that this stand-in knows", v.XMLName.Local)
		}
	}
	return nil, nil
}

// speak says something, or is silent, until a key comes when keys are taken.
func (t *Twilio) speak(c *Call, v verb, keys <-chan string) (key string, err error) {
	d := time.Duration(0)
	if v.XMLName.Local == "Say" {
		said := strings.Join(strings.Fields(v.Text), " ")
		t.update(func() { c.heard = append(c.heard, said) })
		d = t.o.Speak * time.Duration(len([]rune(said)))
	} else {
		d = t.o.Pause * v.seconds("length", 1) / time.Second
	}
	return t.listen(c, d, keys)
}

// listen waits for a key, for a while.
func (t *Twilio) listen(c *Call, d time.Duration, keys <-chan string) (string, error) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case k := <-keys:
		return k, nil
	case <-c.hung:
		return "", errHungUp
	case <-t.ctx.Done():
		return "", errHungUp
	case <-over.C:
		return "", nil
	}
}

// gather collects keys while its Says are said, and for a while after them.
func (t *Twilio) gather(c *Call, v verb) (string, error) {
	want := 0
	if s, ok := v.attr("numDigits"); ok {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return "", fmt.Errorf("13314: Gather: numDigits is %q", s)
		}
		want = n
	}
	finish, ok := v.attr("finishOnKey")
	if !ok {
		finish = "#"
	}
	t.update(func() { c.listens = true })
	defer t.update(func() { c.listens = false })
	digits := ""
	for i := 0; ; {
		var key string
		var err error
		if i < len(v.Verbs) && digits == "" { // the first key ends what is said
			switch v.Verbs[i].XMLName.Local {
			case "Say", "Pause":
				key, err = t.speak(c, v.Verbs[i], c.keys)
			default:
				return "", fmt.Errorf("13310: %s cannot be in a Gather", v.Verbs[i].XMLName.Local)
			}
			i++
			if key == "" && err == nil {
				continue
			}
		} else {
			key, err = t.listen(c, least(v.seconds("timeout", 5), t.o.KeyWait), c.keys)
		}
		switch {
		case err != nil:
			return "", err
		case key == "" || key == finish:
			return digits, nil
		}
		digits += key
		if len(digits) == want {
			return digits, nil
		}
	}
}

// fetch asks the region what to do.
func (t *Twilio) fetch(address string, form url.Values) (document, error) {
	status, kind, body, err := t.send(address, form)
	switch {
	case err != nil:
		return document{}, fmt.Errorf("11200: %w", err)
	case status == http.StatusNoContent:
		return document{}, nil
	case status != http.StatusOK:
		return document{}, fmt.Errorf("11200: %s answered %d: %.200s", address, status, body)
	case !strings.HasPrefix(kind, "text/xml") && !strings.HasPrefix(kind, "application/xml"):
		return document{}, fmt.Errorf("12300: the content is %s", kind)
	case len(body) > twimlMaxBytes:
		return document{}, fmt.Errorf("11750: more than %d bytes", twimlMaxBytes)
	}
	var doc document
	if err := xml.Unmarshal(body, &doc); err != nil {
		return document{}, fmt.Errorf("12100: %w", err)
	}
	return doc, nil
}

// post tells the region something.
func (t *Twilio) post(address string, form url.Values) {
	if _, _, _, err := t.send(address, form); err != nil {
		t.o.Log.Warn("a callback was not taken", "url", address, "err", err)
	}
}

// send posts a signed form.
func (t *Twilio) send(address string, form url.Values) (status int, kind string, body []byte, err error) {
	defer func() {
		t.update(func() { t.posted = append(t.posted, Posted{address, status}) })
	}()
	req, err := http.NewRequestWithContext(t.ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	req.Header.Set("User-Agent", "TwilioProxy/1.1")
	req.Header.Set("X-Twilio-Signature", Sign(t.o.AuthToken, address, form))
	resp, err := t.http.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, twimlMaxBytes+1))
	return resp.StatusCode, resp.Header.Get("Content-Type"), body, err
}

// callbacks sends the status callbacks of one message or call, as is asked for.
type callbacks struct {
	t    *Twilio
	to   string
	mode Callbacks
	n    int // how many there were
	kept []url.Values
}

func (t *Twilio) callbacks(to string) *callbacks {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &callbacks{t: t, to: to, mode: t.mode}
}

func (c *callbacks) add(form url.Values) {
	if c.to == "" {
		return
	}
	c.n++
	switch c.mode {
	case InOrder:
		c.t.post(c.to, form)
	case Twice:
		c.t.post(c.to, form)
		c.t.post(c.to, form)
	case Backwards:
		c.kept = append(c.kept, form)
	case Alternate:
		if c.n%2 == 1 {
			c.t.post(c.to, form)
		}
	}
}

func (c *callbacks) flush() {
	for i := len(c.kept) - 1; i >= 0; i-- {
		c.t.post(c.to, c.kept[i])
	}
}
