package channel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	postTimeout    = 10 * time.Second
	dialTimeout    = 5 * time.Second
	answerMaxBytes = 16 << 10
	// retryAfterMax bounds how long a provider can make us wait: what is said
	// hours later is of no use.
	retryAfterMax = 15 * time.Minute
	// patience is for who asks for it and does not say how much.
	patience     = 5 * time.Second
	saidMaxRunes = 200
	// secretMinBytes is the length from which a part of an address is cut out of
	// what a provider said.
	secretMinBytes = 8
)

// poster posts JSON to providers. It follows no redirects: they would carry a
// secret to a place that nobody has checked.
type poster struct{ client *http.Client }

// newPoster makes one. allow, if not nil, is asked of each address that a name
// resolves to, when it is dialled, so that a name cannot mean one thing when it
// is checked and another when it is used.
func newPoster(allow func(netip.Addr) error) *poster {
	t := http.DefaultTransport.(*http.Transport).Clone()
	d := &net.Dialer{Timeout: dialTimeout}
	if allow != nil {
		t.Proxy = nil // a proxy would dial in our place, unguarded
		d.Control = guard(allow)
	}
	t.DialContext = d.DialContext
	return &poster{&http.Client{
		Transport: t, Timeout: postTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// guard asks allow before a connection is made.
func guard(allow func(netip.Addr) error) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return allow(to.Addr().Unmap())
	}
}

// answer is what a provider said.
type answer struct {
	status int
	after  time.Duration // Retry-After; 0 for none
	body   string
}

// post sends a document. An error means that it is not known whether it
// arrived, unless it is Permanent. No error holds the address, which is a secret.
func (p *poster) post(ctx context.Context, who, to string, header http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, Permanent(fmt.Errorf("%s: the address is not a URL", who))
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Holdfast")
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", who, withoutURL(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMaxBytes))
	if err != nil {
		return answer{}, fmt.Errorf("%s: read the answer: %w", who, err)
	}
	return answer{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now()), string(raw)}, nil
}

// withoutURL takes the address out of an HTTP client's error: a url.Error quotes it.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	var d time.Duration
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), retryAfterMax)
}

// refused makes an error of an answer that is not a yes. What may be cured by a
// repetition is temporary: too many requests, a timeout, a server's own fault.
func refused(who string, a answer, secrets ...string) error {
	text := fmt.Sprintf("%s answered %d %s", who, a.status, http.StatusText(a.status))
	if s := said(a.body, secrets...); s != "" {
		text += ": " + s
	}
	err := errors.New(strings.TrimSpace(text))
	switch {
	case a.status != http.StatusRequestTimeout && a.status != http.StatusTooEarly && a.status != http.StatusTooManyRequests && a.status < 500:
		return Permanent(err)
	case a.after > 0:
		return &RetryError{Err: err, After: a.after}
	case a.status == http.StatusTooManyRequests: // it works, and asks for patience
		return &RetryError{Err: err, After: patience}
	}
	return err
}

// said shortens a provider's words to one line without markup and secrets.
func said(body string, secrets ...string) string {
	if strings.HasPrefix(strings.TrimSpace(body), "<") {
		return "" // a page of some proxy
	}
	for _, s := range secrets {
		if len(s) >= secretMinBytes {
			body = strings.ReplaceAll(body, s, "…")
		}
	}
	body = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, body)
	return cut(strings.Join(strings.Fields(body), " "), saidMaxRunes)
}

// secretsOf are the parts of a URL that nobody may read.
func secretsOf(raw string) []string {
	out := []string{raw}
	u, err := url.Parse(raw)
	if err != nil {
		return out
	}
	out = append(out, u.RequestURI(), u.EscapedPath(), u.RawQuery)
	for _, values := range u.Query() {
		out = append(out, values...)
	}
	return append(out, strings.Split(u.Path, "/")...)
}

// hookURL reads the URL of a webhook, which must be https, or http to a host
// that the region's own configuration names. Its errors do not hold it.
func hookURL(raw string, hostOK func(host string) bool, plain bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("the address is not a URL")
	case u.User != nil:
		return nil, errors.New("the address holds a user name or password")
	case u.Scheme != "https" && (u.Scheme != "http" || !plain):
		return nil, errors.New("the address does not begin with https://")
	case !hostOK(strings.ToLower(u.Host)):
		return nil, fmt.Errorf("%s is not a host of this service", u.Hostname())
	}
	return u, nil
}
