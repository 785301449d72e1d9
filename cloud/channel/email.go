package channel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	// emailTimeout bounds one talk with the mail server.
	emailTimeout = 15 * time.Second
	// emailPatience is for replies 45x, which do not say when to come again.
	emailPatience = 15 * time.Second
)

// EmailSender tells by email, through one server that takes the region's mail.
type EmailSender struct {
	conf   EmailConfig
	port   int
	from   *mail.Address
	domain string // of from
	back   string // the envelope's sender: where bounces go
	pass   string
	tls    *tls.Config
	texts  *Texts
}

// NewEmail reads the server's password and certificate authority.
func NewEmail(c EmailConfig, texts *Texts) (*EmailSender, error) {
	c.TLS = cmp.Or(c.TLS, "starttls")
	if c.TLS == "none" && !loopbackHost(c.Host) {
		return nil, errors.New("email tls may only be none for a server on this machine")
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("email from: %w", err)
	}
	e := &EmailSender{
		conf: c, from: from, domain: from.Address[strings.LastIndex(from.Address, "@")+1:], back: cmp.Or(c.Bounces, from.Address), texts: texts,
		port: cmp.Or(c.Port, map[string]int{"starttls": 587, "implicit": 465, "none": 25}[c.TLS]),
		tls:  &tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12},
	}
	if c.Password != "" {
		pass, err := config.ReadSecret(c.Password)
		if err != nil {
			return nil, fmt.Errorf("email password: %w", err)
		}
		e.pass = string(pass)
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("email ca_file: %w", err)
		}
		e.tls.RootCAs = x509.NewCertPool()
		if !e.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("email ca_file: %s holds no certificate", c.CA)
		}
	}
	return e, nil
}

// Send hands a message to the mail server. The same delivery has the same
// Message-ID at each attempt, so that mailboxes keep one of them.
func (e *EmailSender) Send(ctx context.Context, m Message) (Result, error) {
	msg, err := e.message(m)
	if err != nil {
		return Result{}, Permanent(err)
	}
	err = e.talk(ctx, func(c *gomail.Client, s *smtp.Client) error { return c.SendWithSMTPClient(s, msg) })
	if err != nil && !msg.IsDelivered() { // the server may be gone once it has taken it
		return Result{}, err
	}
	// Another server may still refuse it: that comes back as a mail to the envelope's sender.
	return Result{Provider: "email", ProviderID: msg.GetMessageID(), State: Accepted}, nil
}

// Verify connects, encrypts and signs in.
func (e *EmailSender) Verify(ctx context.Context) error {
	return e.talk(ctx, func(*gomail.Client, *smtp.Client) error { return nil })
}

// Check connects, encrypts, signs in and asks whether the server would take a
// message to that address; then it hangs up, so that nobody is told.
func (e *EmailSender) Check(ctx context.Context, to string, _ map[string]string) error {
	if err := checkMailbox(to); err != nil {
		return err
	}
	err := e.talk(ctx, func(_ *gomail.Client, s *smtp.Client) error {
		if err := s.Mail(e.back); err != nil {
			return err
		}
		// 4xx is a server that wants to see us again, and no word on the address.
		if err := s.Rcpt(to); smtpCode(err) >= 500 {
			return hint.Wrap(err, "The mail server does not take messages to this address: look for a typing error.")
		}
		return s.Reset()
	})
	return err
}

// checkMailbox says what is wrong with a mail address.
func checkMailbox(to string) error {
	a, err := mail.ParseAddress(to)
	if err != nil || a.Name != "" || a.Address != to || strings.ContainsAny(to, "\r\n") {
		return Permanent(hint.Wrap(errors.New("this is not one mail address"), "Enter it as name@example.com, without anything around it."))
	}
	return nil
}

// talk connects to the server, says do's part, and hangs up. An error of the
// server's is Permanent when it says 5xx.
func (e *EmailSender) talk(ctx context.Context, do func(*gomail.Client, *smtp.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, emailTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var conn net.Conn // the library leaves it open where it fails
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	opts := []gomail.Option{
		gomail.WithPort(e.port), gomail.WithTimeout(time.Until(deadline)), gomail.WithTLSConfig(e.tls), gomail.WithHELO(e.domain), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			var err error
			if conn, err = (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr); err != nil {
				return nil, err
			}
			if err := conn.SetDeadline(deadline); err != nil {
				return nil, err
			}
			if e.conf.TLS == "implicit" {
				return tls.Client(conn, e.tls), nil
			}
			return conn, nil
		}),
	}
	switch e.conf.TLS {
	case "implicit", "none":
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if e.conf.User != "" {
		opts = append(opts, gomail.WithSMTPAuthCustom(&emailAuth{user: e.conf.User, pass: e.pass, host: e.conf.Host}))
	}
	c, err := gomail.NewClient(e.conf.Host, opts...)
	if err != nil {
		return Permanent(fmt.Errorf("email: %w", err))
	}
	s, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return e.refused(ctx, err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := do(c, s); err != nil {
		return e.refused(ctx, err)
	}
	_ = s.Quit() // what was taken is taken
	return nil
}

// refused classifies what went wrong: a reply 5xx is permanent; anything else,
// such as a broken connection, may be cured by a repetition.
func (e *EmailSender) refused(ctx context.Context, err error) error {
	code := smtpCode(err)
	if code == 0 && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	out := fmt.Errorf("email: %s: %w", net.JoinHostPort(e.conf.Host, strconv.Itoa(e.port)), err)
	switch {
	case code == 530 || code == 534 || code == 535:
		return Permanent(hint.Wrap(out, "Correct alerts.email.user and the password in its file."))
	case code >= 500:
		return Permanent(out)
	case code >= 450: // the server works, and wants to see us again: greylisting, a full mailbox
		return &RetryError{Err: out, After: emailPatience}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		out = hint.Wrap(out, "The mail server's certificate is not valid for %s: correct alerts.email.host, or name its authority in alerts.email.ca_file.", e.conf.Host)
	}
	if strings.Contains(err.Error(), "does not support STARTTLS") {
		out = hint.Wrap(out, "The mail server offers no encryption here: for TLS from the first byte set alerts.email.tls to implicit, mostly with port 465.")
	}
	return out
}

// smtpCode is the SMTP reply that an error tells of; 0 for none.
func smtpCode(err error) int {
	if send, ok := errors.AsType[*gomail.SendError](err); ok {
		return send.ErrorCode()
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return reply.Code
	}
	return 0
}

// emailAuth signs in by PLAIN or LOGIN. That the connection is encrypted, or
// stays on this machine, is seen to before.
type emailAuth struct {
	user, pass, host string
	smtp.Auth
}

func (a *emailAuth) Start(s *smtp.ServerInfo) (string, []byte, error) {
	switch {
	case slices.Contains(s.Auth, "PLAIN"):
		a.Auth = smtp.PlainAuth("", a.user, a.pass, a.host, true)
	case slices.Contains(s.Auth, "LOGIN"):
		a.Auth = smtp.LoginAuth(a.user, a.pass, a.host, true)
	default:
		return "", nil, fmt.Errorf("the server offers neither PLAIN nor LOGIN to sign in: %q", strings.Join(s.Auth, " "))
	}
	return a.Auth.Start(s)
}

// message writes the email.
func (e *EmailSender) message(m Message) (*gomail.Msg, error) {
	if err := checkMailbox(m.To); err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	text, err := e.texts.Render(m)
	if err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	msg := gomail.NewMsg()
	msg.FromMailAddress(e.from)
	if err := msg.EnvelopeFrom(e.back); err != nil {
		return nil, fmt.Errorf("email: bounces: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	msg.Subject(strings.Join(strings.Fields(text.Title), " "))
	msg.SetMessageIDWithValue(m.Delivery + "@" + e.domain)
	if m.Event != Test {
		// All messages of an incident answer one that was never sent: mail programs
		// show them together, whichever of them came.
		root := sha256.Sum256([]byte(m.Incident.DedupKey))
		thread := "<incident-" + hex.EncodeToString(root[:12]) + "@" + e.domain + ">"
		msg.SetGenHeader(gomail.HeaderReferences, thread)
		msg.SetGenHeader(gomail.HeaderInReplyTo, thread)
	}
	// Nobody's holiday answers, and nobody's filters must guess (RFC 3834, RFC 2919).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader(gomail.HeaderXAutoResponseSuppress, "All")
	msg.SetGenHeader("List-Id", "Holdfast alerts <alerts."+cmp.Or(m.Incident.Region, "region")+".holdfast."+e.domain+">")
	if m.Incident.URL != "" {
		msg.SetGenHeader("List-Archive", "<"+m.Incident.URL+">")
	}
	if m.Event == Trigger && m.Incident.Severity == "critical" {
		msg.SetImportance(gomail.ImportanceHigh)
	}
	msg.SetBodyString(gomail.TypeTextPlain, text.Body)
	if text.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, text.HTML)
	}
	return msg, nil
}
