// Package smtp is a real mail server for tests and the demo: STARTTLS, AUTH,
// and mailboxes in memory.
//
// In:  cloud/channel, over SMTP.
// Out: the demo's page and tests, which read the mailboxes.
package smtp

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/panel"
)

const (
	mailMaxBytes = 1 << 20
	keepMails    = 200
)

// Step is where in a talk something goes wrong.
type Step string

// The steps.
const (
	Connect   Step = "connect" // the answer to EHLO
	Auth      Step = "auth"
	From      Step = "from"
	To        Step = "to"
	Data      Step = "data"       // before the message is taken
	AfterData Step = "after data" // it is taken, and the sender does not hear of it
)

// Fault is one talk that goes wrong.
type Fault struct {
	At   Step
	Code int  // the reply; 0 with Cut, Hang or Slow
	Cut  bool // the connection breaks
	Hang bool // there is no reply until the sender gives up
	// Slow: nothing is refused, but from here on the server takes so long for each
	// byte that it sends.
	Slow time.Duration
}

// Options are what the server is like.
type Options struct {
	Addr           string // default 127.0.0.1:0
	User, Password string // "" takes mail from everybody
	NoTLS          bool   // offers no STARTTLS
	Implicit       bool   // TLS from the first byte
	WrongName      bool   // its certificate is another server's
	// Greylist refuses the first attempt of each sender at each mailbox.
	Greylist bool
	// Unknown are mailboxes that are not there.
	Unknown []string
	// Bounces are mailboxes of which it is found out too late that they are not
	// there: mail for them is taken, and sent back.
	Bounces []string
}

// Mail is one in a mailbox.
type Mail struct {
	At        time.Time
	To        string
	MessageID string
	Times     int // how often it came
	TLS       bool
	User      string // who was signed in
	Header    mail.Header
	Plain     string
	HTML      string
	Raw       []byte
}

// Server is the server. Its methods may be called from several goroutines.
type Server struct {
	opts    Options
	srv     *smtp.Server
	ln      net.Listener
	ca      []byte
	done    chan struct{} // closed by Close: who hangs goes on
	serving errgroup.Group

	mu     sync.Mutex
	mails  []*Mail // oldest first
	faults []Fault
	met    map[string]bool // sender and mailbox, for greylisting
	shut   *smtp.Conn      // was refused when it connected
	secret bool            // a password came without TLS
}

// Start starts the server.
func Start(o Options) (*Server, error) {
	name := "127.0.0.1"
	if o.WrongName {
		name = "203.0.113.9"
	}
	cert, ca, err := certificate(name)
	if err != nil {
		return nil, fmt.Errorf("make the mail server's certificate: %w", err)
	}
	ln, err := net.Listen("tcp", cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("start the mail server: %w", err)
	}
	s := &Server{opts: o, ca: ca, done: make(chan struct{}), met: map[string]bool{}}
	s.ln = &listener{Listener: ln, done: s.done}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if o.Implicit {
		s.ln = tls.NewListener(s.ln, conf)
	}
	s.srv = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if err := s.fault(Connect, c); err != nil {
			return nil, err
		}
		return &session{s: s, c: c}, nil
	}))
	s.srv.Domain = "mail.example.com"
	s.srv.MaxMessageBytes = mailMaxBytes
	s.srv.ReadTimeout, s.srv.WriteTimeout = time.Minute, time.Minute
	s.srv.AllowInsecureAuth = true // to see whether somebody does
	s.srv.ErrorLog = quiet{}
	if !o.NoTLS && !o.Implicit {
		s.srv.TLSConfig = conf
	}
	s.serving.Go(func() error { return s.srv.Serve(s.ln) })
	return s, nil
}

// quiet is a log that nobody reads: broken connections are what tests are for.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Close stops the server and waits for it.
func (s *Server) Close() error {
	close(s.done)
	err := s.srv.Close()
	return errors.Join(err, s.serving.Wait())
}

// Port is where it listens, on 127.0.0.1.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// CA is the authority that its certificate is of, as PEM.
func (s *Server) CA() []byte { return s.ca }

// Next adds faults, one for each of the talks to come.
func (s *Server) Next(f ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f...)
}

// Left is how many of the faults have not come to pass.
func (s *Server) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults)
}

// Mails are those of all mailboxes, oldest first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Mail, len(s.mails))
	for i, m := range s.mails {
		out[i] = *m
	}
	return out
}

// Leaked reports whether somebody sent a password without TLS.
func (s *Server) Leaked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}

// fault does what is to go wrong at a step.
func (s *Server) fault(at Step, c *smtp.Conn) error {
	s.mu.Lock()
	if at == Connect && s.shut == c { // it says HELO after EHLO was refused
		s.mu.Unlock()
		return reply(421)
	}
	if len(s.faults) == 0 || s.faults[0].At != at {
		s.mu.Unlock()
		return nil
	}
	f := s.faults[0]
	s.faults = s.faults[1:]
	if at == Connect && f.Slow == 0 {
		s.shut = c
	}
	s.mu.Unlock()
	switch {
	case f.Slow > 0:
		under(c.Conn()).slow.Store(int64(f.Slow))
		return nil
	case f.Hang:
		<-s.done
		return errors.New("closed")
	case f.Cut:
		_ = c.Conn().Close()
		return errors.New("cut")
	}
	return reply(f.Code)
}

func reply(code int) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "as a test wanted it"}
}

// session is one talk.
type session struct {
	s        *Server
	c        *smtp.Conn
	user     string
	from, to string
}

func (t *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (t *session) Auth(string) (sasl.Server, error) {
	if _, encrypted := t.c.TLSConnectionState(); !encrypted {
		t.s.mu.Lock()
		t.s.secret = true
		t.s.mu.Unlock()
	}
	return sasl.NewPlainServer(func(_, user, password string) error {
		if err := t.s.fault(Auth, t.c); err != nil {
			return err
		}
		if user != t.s.opts.User || password != t.s.opts.Password {
			return smtp.ErrAuthFailed
		}
		t.user = user
		return nil
	}), nil
}

func (t *session) Mail(from string, _ *smtp.MailOptions) error {
	if err := t.s.fault(From, t.c); err != nil {
		return err
	}
	if t.s.opts.User != "" && t.user == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	t.from = from
	return nil
}

func (t *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := t.s.fault(To, t.c); err != nil {
		return err
	}
	if slices.Contains(t.s.opts.Unknown, to) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox"}
	}
	if t.s.opts.Greylist {
		t.s.mu.Lock()
		known := t.s.met[t.from+" "+to]
		t.s.met[t.from+" "+to] = true
		t.s.mu.Unlock()
		if !known {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "Greylisted, come again"}
		}
	}
	t.to = to
	return nil
}

func (t *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := t.s.fault(Data, t.c); err != nil {
		return err
	}
	m, err := read(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: err.Error()}
	}
	if slices.Contains(t.s.opts.Bounces, t.to) {
		if m, err = bounce(t.from, t.to, raw); err != nil {
			return err
		}
		t.to = t.from
	}
	_, m.TLS = t.c.TLSConnectionState()
	m.To, m.User = t.to, t.user
	t.s.deliver(m)
	return t.s.fault(AfterData, t.c)
}

func (t *session) Reset()        { t.from, t.to = "", "" }
func (t *session) Logout() error { return nil }

// deliver keeps one of each Message-ID in a mailbox, as mailboxes do.
func (s *Server) deliver(m *Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.mails {
		if other.To == m.To && other.MessageID == m.MessageID {
			other.Times++
			return
		}
	}
	m.At, m.Times = time.Now(), 1
	s.mails = append(s.mails, m)
	if len(s.mails) > keepMails {
		s.mails = s.mails[1:]
	}
}

// bounce is what comes back of a message: a delivery status notification (RFC
// 3464) with the message's header.
func bounce(from, to string, raw []byte) (*Mail, error) {
	header, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	var b bytes.Buffer
	parts := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "From: Mail Delivery System <MAILER-DAEMON@mail.example.com>\r\nTo: <%s>\r\nSubject: Undelivered Mail Returned to Sender\r\n"+
		"Message-ID: <%s@mail.example.com>\r\nDate: %s\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/report; report-type=delivery-status; boundary=%s\r\n\r\n", from, rand.Text(), time.Now().Format(time.RFC1123Z), parts.Boundary())
	for _, p := range [][2]string{
		{"text/plain; charset=us-ascii", "This is the mail system at host mail.example.com.\r\n\r\n<" + to + ">: host mx.example.net said: 550 5.1.1 No such mailbox\r\n"},
		{"message/delivery-status", "Reporting-MTA: dns; mail.example.com\r\n\r\nFinal-Recipient: rfc822; " + to + "\r\nAction: failed\r\nStatus: 5.1.1\r\n" +
			"Remote-MTA: dns; mx.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1 No such mailbox\r\n"},
		{"text/rfc822-headers", string(header) + "\r\n"},
	} {
		w, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {p[0]}})
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, p[1]); err != nil {
			return nil, err
		}
	}
	if err := parts.Close(); err != nil {
		return nil, err
	}
	return read(b.Bytes())
}

// read takes a message apart.
func read(raw []byte) (*Mail, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m := &Mail{Header: msg.Header, MessageID: msg.Header.Get("Message-ID"), Raw: raw}
	if m.MessageID == "" {
		return nil, errors.New("it has no Message-ID")
	}
	return m, m.part(msg.Header.Get("Content-Type"), msg.Header.Get("Content-Transfer-Encoding"), msg.Body)
}

func (m *Mail) part(contentType, encoding string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := m.part(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p); err != nil {
				return err
			}
		}
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	switch kind {
	case "text/plain":
		m.Plain = string(text)
	case "text/html":
		m.HTML = string(text)
	}
	return nil
}

// Peer is its part of the page of the peers.
func (s *Server) Peer() peers.Peer { return panel.Peer("mail", "Email", http.NotFoundHandler(), s) }

// Entries are what the page shows.
func (s *Server) Entries() (out []panel.Entry) {
	words := new(mime.WordDecoder)
	for _, m := range slices.Backward(s.Mails()) {
		subject, err := words.DecodeHeader(m.Header.Get("Subject"))
		if err != nil {
			subject = m.Header.Get("Subject")
		}
		out = append(out, panel.Entry{At: m.At, Title: subject, Lines: append([]string{"To " + m.To, ""}, strings.Split(strings.TrimSpace(m.Plain), "\n")...)})
	}
	return out
}

// certificate makes an authority and a certificate of it for an address.
func certificate(ip string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail server for tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(ip)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
