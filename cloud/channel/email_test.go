package channel_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/smtp"
)

const (
	mailTo       = "ana@plant.example.com"
	mailPassword = "correct-horse-battery"
)

func newMail(t *testing.T, o smtp.Options, change ...func(*channel.EmailConfig)) (*smtp.Server, *channel.EmailSender) {
	t.Helper()
	o.User, o.Password = "alerts", mailPassword
	p, err := smtp.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, p.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := channel.EmailConfig{
		Host: "127.0.0.1", Port: p.Port(), User: "alerts", Password: secretFile(t, mailPassword),
		From: "Holdfast <alerts@holdfast.example.com>", CA: ca,
	}
	for _, f := range change {
		f(&c)
	}
	s, err := channel.NewEmail(c, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	return p, s
}

func TestAnEmailIsEncryptedAndHasBothParts(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	mustSend(t, s, message(channel.Email, channel.Trigger, mailTo), channel.Accepted)
	m := p.Mails()[0]
	if !m.TLS || m.User != "alerts" || m.To != mailTo {
		t.Errorf("TLS %t, user %q, to %q", m.TLS, m.User, m.To)
	}
	ack := channel.Example(channel.Email, channel.Trigger).Incident.AckURL
	for _, part := range []string{m.Plain, m.HTML} {
		for _, want := range []string{"Los Angeles", "Check the internet", ack} {
			if !strings.Contains(part, want) {
				t.Errorf("a part does not say %q:\n%s", want, part)
			}
		}
	}
	for header, want := range map[string]string{
		"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All", "List-Id": "Holdfast alerts <alerts.us-east.holdfast.holdfast.example.com>",
		"From": `"Holdfast" <alerts@holdfast.example.com>`, "Importance": "high",
	} {
		if got := m.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

func TestAllMailsOfAnIncidentAreOneThread(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	for i, e := range []channel.Event{channel.Trigger, channel.Update, channel.Resolve} {
		m := message(channel.Email, e, mailTo)
		m.Delivery = strings.Replace(m.Delivery, "8000", "800"+string(rune('1'+i)), 1)
		mustSend(t, s, m, channel.Accepted)
	}
	mails := p.Mails()
	if len(mails) != 3 {
		t.Fatalf("%d mails", len(mails))
	}
	thread := mails[0].Header.Get("References")
	for _, m := range mails {
		if thread == "" || m.Header.Get("References") != thread || m.Header.Get("In-Reply-To") != thread {
			t.Errorf("references %q, in reply to %q", m.Header.Get("References"), m.Header.Get("In-Reply-To"))
		}
	}
}

func TestAMailThatIsRepeatedArrivesOnce(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	p.Next(smtp.Fault{At: smtp.AfterData, Cut: true})
	_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, mailTo))
	wantError(t, err, temporary, mailPassword)
	mustSend(t, s, message(channel.Email, channel.Trigger, mailTo), channel.Accepted)
	if m := p.Mails(); len(m) != 1 || m[0].Times != 2 {
		t.Errorf("%d mails, the first came %d times", len(m), m[0].Times)
	}
}

func TestASlowMailServerHoldsUpNobodyElseAndLosesNothing(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	p.Next(smtp.Fault{At: smtp.AfterData, Slow: 50 * time.Millisecond})
	slow := make(chan error, 1)
	go func() {
		_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, mailTo))
		slow <- err
	}()
	eventually(t, "the server is not slow", func() bool { return p.Left() == 0 })
	mustSend(t, s, message(channel.Email, channel.Trigger, "bo@plant.example.com"), channel.Accepted)
	select {
	case err := <-slow:
		t.Errorf("the slow talk ended before another that began later: %v", err)
	default:
		if err := <-slow; err != nil {
			t.Error(err)
		}
	}
	// So slow that the sender gives up: he comes again, and it arrives once.
	m := message(channel.Email, channel.Trigger, "cy@plant.example.com")
	p.Next(smtp.Fault{At: smtp.From, Slow: time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.Send(ctx, m)
	wantError(t, err, temporary, mailPassword)
	mustSend(t, s, m, channel.Accepted)
	times := map[string]int{}
	for _, m := range p.Mails() {
		times[m.To] += m.Times
	}
	if len(times) != 3 || times[mailTo] != 1 || times["bo@plant.example.com"] != 1 || times["cy@plant.example.com"] != 1 {
		t.Errorf("how often mail came: %v", times)
	}
}

func TestAMailServersRepliesAreClassified(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	for _, tc := range []struct {
		fault smtp.Fault
		want  outcome
	}{
		{smtp.Fault{At: smtp.Connect, Code: 421}, temporary},
		{smtp.Fault{At: smtp.From, Code: 451}, later},
		{smtp.Fault{At: smtp.From, Code: 553}, permanent},
		{smtp.Fault{At: smtp.To, Code: 450}, later},
		{smtp.Fault{At: smtp.To, Code: 550}, permanent},
		{smtp.Fault{At: smtp.Data, Code: 452}, later},
		{smtp.Fault{At: smtp.Data, Code: 554}, permanent},
		{smtp.Fault{At: smtp.Auth, Code: 454}, later},
		{smtp.Fault{At: smtp.Auth, Code: 535}, permanent},
		{smtp.Fault{At: smtp.Connect, Cut: true}, temporary},
		{smtp.Fault{At: smtp.To, Cut: true}, temporary},
	} {
		p.Next(tc.fault)
		_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, mailTo))
		t.Logf("%+v: %v", tc.fault, err)
		wantError(t, err, tc.want, mailPassword)
	}
	if n := len(p.Mails()); n != 0 {
		t.Errorf("%d mails arrived", n)
	}
}

func TestAGreylistedMailArrivesTheSecondTime(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{Greylist: true})
	_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, mailTo))
	wantError(t, err, later)
	mustSend(t, s, message(channel.Email, channel.Trigger, mailTo), channel.Accepted)
	if len(p.Mails()) != 1 {
		t.Error("it did not arrive")
	}
}

func TestAMailServerThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	for _, at := range []smtp.Step{smtp.Connect, smtp.To, smtp.AfterData} {
		p.Next(smtp.Fault{At: at, Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		_, err := s.Send(ctx, message(channel.Email, channel.Trigger, mailTo))
		cancel()
		wantError(t, err, temporary)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("at %s it took %s", at, took)
		}
	}
}

func TestNoPasswordLeavesWithoutEncryption(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]smtp.Options{"no STARTTLS": {NoTLS: true}, "another's certificate": {WrongName: true}} {
		p, s := newMail(t, o)
		_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, mailTo))
		t.Logf("%s: %v", name, err)
		wantError(t, err, temporary, mailPassword)
		if err := s.Check(soon(t), mailTo, nil); err == nil {
			t.Errorf("%s: the check found nothing", name)
		}
		if p.Leaked() || len(p.Mails()) != 0 {
			t.Errorf("%s: leaked %t, %d mails", name, p.Leaked(), len(p.Mails()))
		}
	}
}

func TestMailGoesByTLSFromTheFirstByteToo(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{Implicit: true}, func(c *channel.EmailConfig) { c.TLS = "implicit" })
	mustSend(t, s, message(channel.Email, channel.Trigger, mailTo), channel.Accepted)
	if m := p.Mails()[0]; !m.TLS || m.User != "alerts" {
		t.Errorf("TLS %t, user %q", m.TLS, m.User)
	}
}

func TestMailWithoutTLSStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{NoTLS: true}, func(c *channel.EmailConfig) { c.TLS = "none" })
	mustSend(t, s, message(channel.Email, channel.Trigger, mailTo), channel.Accepted)
	if len(p.Mails()) != 1 {
		t.Error("it did not arrive")
	}
	away := channel.EmailConfig{Host: "mail.example.com", TLS: "none", From: "alerts@example.com"}
	if _, err := channel.NewEmail(away, texts(t)); err == nil {
		t.Error("it may leave")
	}
	if len(away.Validate()) == 0 {
		t.Error("the configuration is taken")
	}
}

func TestAMailboxIsCheckedWithoutAMail(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{Unknown: []string{"nobody@plant.example.com"}})
	if err := s.Check(soon(t), mailTo, nil); err != nil {
		t.Error(err)
	}
	wantError(t, s.Check(soon(t), "nobody@plant.example.com", nil), permanent)
	for _, bad := range []string{"", "ana", "Ana <ana@plant.example.com>", "ana@plant.example.com,bo@plant.example.com", "ana@plant.example.com\r\nBcc: all@example.com"} {
		wantError(t, s.Check(soon(t), bad, nil), permanent)
		_, err := s.Send(soon(t), message(channel.Email, channel.Trigger, bad))
		wantError(t, err, permanent)
	}
	if n := len(p.Mails()); n != 0 {
		t.Errorf("%d mails", n)
	}
	_, wrong := newMail(t, smtp.Options{}, func(c *channel.EmailConfig) { c.Password = secretFile(t, "wrong-password") })
	wantError(t, wrong.Check(soon(t), mailTo, nil), permanent, "wrong-password")
	_, grey := newMail(t, smtp.Options{Greylist: true})
	if err := grey.Check(soon(t), mailTo, nil); err != nil {
		t.Errorf("greylisted: %v", err)
	}
}

// A server that took a mail may not be rid of it: it comes back by mail.
func TestWhatBouncesGoesWhereSomebodyReads(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ bounces, want string }{
		{"", "alerts@holdfast.example.com"},
		{"postmaster@ops.example.com", "postmaster@ops.example.com"},
	} {
		p, s := newMail(t, smtp.Options{Bounces: []string{mailTo}}, func(c *channel.EmailConfig) { c.Bounces = tc.bounces })
		sent := message(channel.Email, channel.Trigger, mailTo)
		mustSend(t, s, sent, channel.Accepted) // and not: it will arrive
		if err := s.Check(soon(t), mailTo, nil); err != nil {
			t.Error(err)
		}
		mails := p.Mails()
		if len(mails) != 1 || mails[0].To != tc.want || !strings.HasPrefix(mails[0].Header.Get("Content-Type"), "multipart/report;") {
			t.Fatalf("%+v", mails)
		}
		// Who reads it finds whom it was for, and which message it was.
		for _, want := range []string{"Final-Recipient: rfc822; " + mailTo, "Message-ID: <" + sent.Delivery + "@holdfast.example.com>"} {
			if !strings.Contains(string(mails[0].Raw), want) {
				t.Errorf("%q is missing in\n%s", want, mails[0].Raw)
			}
		}
	}
	bad := channel.EmailConfig{Host: "mail.example.com", From: "alerts@example.com", Bounces: "Olga <olga@example.com>"}
	if p := bad.Validate(); len(p) != 1 || p[0].Path != "bounces" {
		t.Errorf("%+v", p)
	}
}

func TestAMailsSubjectIsOneLine(t *testing.T) {
	t.Parallel()
	p, s := newMail(t, smtp.Options{})
	m := message(channel.Email, channel.Trigger, mailTo)
	m.Incident.Name = "Köln\r\nBcc: all@example.com"
	m.Incident.Region = "us-east\r\nBcc: all@example.com"
	mustSend(t, s, m, channel.Accepted)
	if got := p.Mails()[0].Header.Get("Bcc"); got != "" {
		t.Errorf("a header came in: %q", got)
	}
}
