package channel

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	// webhookSecretMin is what a secret must have: shorter ones can be guessed
	// from one signature.
	webhookSecretMin = 24
)

// errPrivate is said of an address that a webhook may not reach.
var errPrivate = Permanent(hint.Wrap(errors.New("the address is in a private network"),
	"Webhooks reach public addresses only; whoever runs the region can allow a network in alerts.webhook.private_networks."))

// WebhookSender posts signed JSON to any URL. Its method's setting "secret"
// signs.
type WebhookSender struct {
	post    *poster
	guard   func(netip.Addr) error
	secret  string // for methods without one
	private []netip.Prefix
	texts   *Texts
}

// NewWebhook reads the region's own secret.
func NewWebhook(c WebhookConfig, texts *Texts) (*WebhookSender, error) {
	w := &WebhookSender{texts: texts}
	for _, n := range c.PrivateNetworks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("webhook private_networks: %w", err)
		}
		w.private = append(w.private, p)
	}
	if c.Secret != "" {
		secret, err := config.ReadSecret(c.Secret)
		if err != nil {
			return nil, fmt.Errorf("webhook secret: %w", err)
		}
		w.secret = string(secret)
	}
	w.guard = w.allowed
	w.post = newPoster(w.allowed)
	return w, nil
}

// Send posts the document. What the receiver answers with 2xx it has.
func (w *WebhookSender) Send(ctx context.Context, m Message) (Result, error) {
	secret, err := w.secretOf(m.Settings)
	if err == nil {
		_, err = w.url(m.To)
	}
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("webhook: %w", err))
	}
	body, err := document(w.texts, m, true)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("webhook: %w", err))
	}
	a, err := w.post.post(ctx, "webhook", m.To, http.Header{
		"Holdfast-Delivery":  {m.Delivery},
		"Holdfast-Event":     {string(m.Event)},
		"Holdfast-Signature": {webhookSignature(secret, time.Now(), body)},
	}, body)
	if err != nil {
		return Result{}, err
	}
	if a.status < 200 || a.status > 299 {
		err := refused("webhook", a, append(secretsOf(m.To), secret)...)
		if a.status >= 300 && a.status < 400 {
			err = hint.Wrap(err, "Webhooks follow no redirects: enter the address that it leads to.")
		}
		return Result{}, err
	}
	return Result{Provider: "webhook", State: Delivered}, nil
}

// webhookSignature is what proves to the receiver who sends, and when: the
// HMAC-SHA256 of "t.body".
func webhookSignature(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Check resolves and connects, without a request.
func (w *WebhookSender) Check(ctx context.Context, to string, settings map[string]string) error {
	if _, err := w.secretOf(settings); err != nil {
		return Permanent(err)
	}
	u, err := w.url(to)
	if err != nil {
		return Permanent(hint.Wrap(err, "Enter an address that begins with https://."))
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	d := &net.Dialer{Timeout: dialTimeout, Control: guard(w.guard)}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	var conn net.Conn
	if u.Scheme == "https" {
		conn, err = (&tls.Dialer{NetDialer: d, Config: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", addr)
	} else {
		conn, err = d.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("webhook: %w", err), "Look for a typing error in the address, and whether its server is up.")
	}
	return conn.Close()
}

func (w *WebhookSender) secretOf(settings map[string]string) (string, error) {
	secret := settings["secret"]
	if secret == "" {
		secret = w.secret
	}
	if len(secret) < webhookSecretMin {
		return "", hint.Wrap(fmt.Errorf("the webhook has no secret of at least %d characters to sign with", webhookSecretMin),
			"Make the method again with a secret: holdfastctl contacts method add NAME webhook URL --secret-file FILE; openssl rand -hex 32 makes one.")
	}
	return secret, nil
}

func (w *WebhookSender) url(raw string) (*url.URL, error) {
	u, err := hookURL(raw, func(string) bool { return true }, true)
	if err == nil && u.Scheme != "https" && !loopbackHost(u.Hostname()) {
		err = errors.New("the address does not begin with https://")
	}
	return u, err
}

// allowed refuses addresses that are not public, unless the configuration names
// their network.
func (w *WebhookSender) allowed(a netip.Addr) error {
	for _, p := range w.private {
		if p.Contains(a) {
			return nil
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || inAny(a, notPublic) {
		return errPrivate
	}
	return nil
}

// notPublic are networks that are neither private by name nor anybody's on the
// internet (RFC 6890 and its registry), and those that lead to IPv4 by another way.
var notPublic = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10")

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func inAny(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
