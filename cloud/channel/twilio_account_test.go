package channel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

func TestARefusalIsPermanentUnlessItPasses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault     twilio.Fault
		permanent bool
		after     time.Duration
		advice    string
	}{
		"not a number":      {twilio.Fault{Status: 400, Code: 21211}, true, 0, "Correct the contact's number"},
		"STOP":              {twilio.Fault{Status: 400, Code: 21610}, true, 0, "replies START"},
		"credentials":       {twilio.Fault{Status: 401, Code: 20003}, true, 0, "auth_token_file"},
		"too many":          {twilio.Fault{Status: 429, Code: 20429, RetryAfter: "7"}, false, 7 * time.Second, ""},
		"too many, no time": {twilio.Fault{Status: 429, Code: 20429}, false, 0, ""},
		"queue full":        {twilio.Fault{Status: 400, Code: 21611}, false, 0, ""},
		"its own fault":     {twilio.Fault{Status: 500, Code: 20500}, false, 0, ""},
		"a proxy's page":    {twilio.Fault{Status: 502}, false, 0, ""},
		"away for a while":  {twilio.Fault{Status: 503, RetryAfter: "30"}, false, 30 * time.Second, ""},
		"for ever":          {twilio.Fault{Status: 503, RetryAfter: "99999999"}, false, 15 * time.Minute, ""},
		"what is new":       {twilio.Fault{Status: 400, Code: 29999}, true, 0, ""},
		"a page of 403":     {twilio.Fault{Status: 403}, true, 0, ""},
	} {
		for _, kind := range []channel.Kind{channel.SMS, channel.Voice} {
			l := newLine(t)
			l.peer.Fail(c.fault)
			m := l.message(kind, channel.Trigger)
			_, err := l.senders[kind].Send(t.Context(), m)
			if err == nil || channel.IsPermanent(err) != c.permanent {
				t.Errorf("%s, %s: permanent is %v, want %v: %v", name, kind, channel.IsPermanent(err), c.permanent, err)
				continue
			}
			after := time.Duration(0)
			if r, ok := errors.AsType[*channel.RetryError](err); ok {
				after = r.After
			}
			if after != c.after || !strings.Contains(hint.Of(err), c.advice) {
				t.Errorf("%s, %s: again in %s, want %s; advice %q", name, kind, after, c.after, hint.Of(err))
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("%s: the error has the token: %v", name, err)
			}
			l.send(t, m) // and then it works
		}
	}
}

func TestWrongCredentialsAndNumbersAreFoundWithoutTellingAnybody(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	for _, kind := range []channel.Kind{channel.SMS, channel.Voice} {
		if err := l.senders[kind].Check(t.Context(), ana, nil); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"", "2135550101", "+1 213 555 0101", "+0123456789", "+1234567", "ana@example.com", "+12135550101\n"} {
			if err := l.senders[kind].Check(t.Context(), bad, nil); err == nil || !channel.IsPermanent(err) || hint.Of(err) == "" {
				t.Errorf("%q: %v", bad, err)
			}
			if bad == "+1234567" { // only Twilio knows that it is too short
				continue
			}
			if _, err := l.senders[kind].Send(t.Context(), channel.Message{Kind: kind, Event: channel.Test, To: bad, Delivery: uuid()}); !channel.IsPermanent(err) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		l.peer.Fail(twilio.Fault{Status: 503})
		if err := l.senders[kind].Check(t.Context(), ana, nil); err == nil || channel.IsPermanent(err) {
			t.Errorf("that Twilio is away says nothing of the number: %v", err)
		}
	}
	wrong := newLineAs(t, account, "fedcba9876543210fedcba9876543210")
	if err := wrong.senders[channel.SMS].Check(t.Context(), ana, nil); !channel.IsPermanent(err) || !strings.Contains(hint.Of(err), "auth_token_file") {
		t.Errorf("%v (%s)", err, hint.Of(err))
	}
	if _, err := wrong.senders[channel.Voice].Send(t.Context(), wrong.message(channel.Voice, channel.Trigger)); !channel.IsPermanent(err) {
		t.Error(err)
	}
	l.peer.Close()
	if posted := l.peer.Posted(); len(posted) != 0 {
		t.Errorf("somebody was told: %v", posted)
	}
}

func TestWhatTheAccountIsNotSetUpForIsFoundAtStart(t *testing.T) {
	t.Parallel()
	verify := func(l *line) map[channel.Kind]error {
		t.Helper()
		wrong, err := l.twilio.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return wrong
	}
	if wrong := verify(newLine(t)); len(wrong) != 0 {
		t.Errorf("%v", wrong)
	}
	elsewhere := newLine(t, func(o *twilio.Options) { o.Inbound = "https://demo.twilio.com/welcome/sms/reply" })
	if wrong := verify(elsewhere); len(wrong) != 1 || !strings.Contains(hint.Of(wrong[channel.SMS]), public+"/hooks/twilio/sms") {
		t.Errorf("%v (%s)", wrong, hint.Of(wrong[channel.SMS]))
	}
	others := newLine(t, func(o *twilio.Options) { o.Numbers = []string{} })
	if wrong := verify(others); len(wrong) != 1 || !strings.Contains(fmt.Sprint(wrong[channel.SMS]), "not a number of the account") {
		t.Errorf("%v", wrong)
	}
	stranger := newLineAs(t, account, "fedcba9876543210fedcba9876543210")
	if wrong := verify(stranger); len(wrong) != 2 || !strings.Contains(hint.Of(wrong[channel.Voice]), "auth_token_file") {
		t.Errorf("%v", wrong)
	}
	away := newLine(t)
	away.peer.Fail(twilio.Fault{Status: 503})
	if _, err := away.twilio.Verify(t.Context()); err == nil {
		t.Error("that Twilio is away says nothing of the account")
	}
}

// lines is a log that tells of what was written.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func TestTheRegionsLogSaysWhatTheAccountLacks(t *testing.T) {
	t.Parallel()
	l := newLine(t, func(o *twilio.Options) { o.Inbound = "https://demo.twilio.com/welcome/sms/reply" })
	ctx, stop := context.WithCancel(t.Context())
	log, ended := make(lines, 16), make(chan error, 1)
	known := &channel.Credentials{Chat: &channel.Chat{}, Twilio: l.twilio, Log: slog.New(slog.NewTextHandler(log, nil))}
	go func() { ended <- known.Watch(ctx) }()
	select {
	case line := <-log:
		if !strings.Contains(line, "channel=sms") || !strings.Contains(line, public+"/hooks/twilio/sms") {
			t.Error(line)
		}
		if known.Wrong(channel.SMS) == nil || known.Wrong(channel.Voice) != nil {
			t.Errorf("sms: %v, voice: %v", known.Wrong(channel.SMS), known.Wrong(channel.Voice))
		}
	case <-time.After(2 * time.Minute):
		t.Error("it says nothing")
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAnAnswerThatIsLostIsFoundAndNotSentAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range []channel.Kind{channel.SMS, channel.Voice} {
		l := newLine(t)
		find := l.senders[kind].(channel.Finder)
		since := time.Now()
		m := l.message(kind, channel.Trigger)
		if _, ok, err := find.Find(t.Context(), m, since); ok || err != nil {
			t.Fatalf("%s: found what was not sent: %v", kind, err)
		}
		l.peer.Fail(twilio.Fault{Drop: true})
		if _, err := l.senders[kind].Send(t.Context(), m); err == nil || channel.IsPermanent(err) {
			t.Fatalf("%s: %v", kind, err)
		}
		m.Incident.AckURL += "-signed-anew"
		m.Repeat = true
		r, ok, err := find.Find(t.Context(), m, since)
		if err != nil || !ok || r.ProviderID == "" || r.Provider != "twilio" {
			t.Fatalf("%s: %+v %v %v", kind, r, ok, err)
		}
		// It stays so when there is another message of which nobody knows.
		l.peer.Fail(twilio.Fault{Drop: true})
		_, _ = l.senders[kind].Send(t.Context(), l.message(kind, channel.Trigger))
		if again, ok, err := find.Find(t.Context(), m, since); err != nil || !ok || kind == channel.Voice && again.ProviderID != r.ProviderID {
			t.Errorf("%s: %+v %v %v", kind, again, ok, err)
		}
		// What is this delivery's is no other's.
		other := l.message(kind, channel.Trigger)
		if found, ok, err := find.Find(t.Context(), other, since); err != nil || ok && found.ProviderID == r.ProviderID {
			t.Errorf("%s: %+v is taken for another delivery, %v", kind, found, err)
		}
		if _, ok, err := find.Find(t.Context(), m, since.Add(time.Hour)); ok || err != nil {
			t.Errorf("%s: found what is older, %v", kind, err)
		}
		l.peer.Fail(twilio.Fault{Status: 503})
		if _, ok, err := find.Find(t.Context(), m, since); ok || err == nil {
			t.Errorf("%s: that Twilio is away does not mean that it has nothing", kind)
		}
	}
}

func TestAProviderThatHangsIsLeftInTime(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	for _, kind := range []channel.Kind{channel.SMS, channel.Voice} {
		l.peer.Fail(twilio.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := l.senders[kind].Send(ctx, l.message(kind, channel.Trigger))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || channel.IsPermanent(err) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestTheAccountsRateIsKept(t *testing.T) {
	t.Parallel()
	const perSecond = 20
	l := newLine(t, func(o *twilio.Options) { o.SegmentsPerSecond = perSecond })
	began, segments := time.Now(), 0
	for range 5 {
		l.send(t, l.message(channel.SMS, channel.Trigger))
	}
	for range 5 {
		segments += l.peer.Phone(ana).ExpectSMS(t, "Los Angeles").Segments
	}
	if took, least := time.Since(began), time.Duration(segments-1)*time.Second/perSecond; took < least {
		t.Errorf("%d segments took %s, which is faster than Twilio", segments, took)
	}
}

func TestARegionThatCannotReachTwilioTriesAgain(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := nobody.Addr().String()
	nobody.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := channel.NewTexts("")
	if err != nil {
		t.Fatal(err)
	}
	tw, err := channel.NewTwilio(channel.TwilioConfig{AccountSID: account, AuthToken: file, FromSMS: "12345", FromVoice: "+12135550000", BaseURL: "http://" + at}, public, texts)
	if err != nil {
		t.Fatal(err)
	}
	for kind, s := range tw.Senders() {
		m := channel.Example(kind, channel.Trigger)
		m.To = ana
		if _, err := s.Send(t.Context(), m); err == nil || channel.IsPermanent(err) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.NewTwilio(channel.TwilioConfig{AccountSID: account, AuthToken: file}, public, texts); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("%v", err)
	}
}
