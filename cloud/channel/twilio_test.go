package channel_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

const (
	account = "AC00000000000000000000000000000001"
	token   = "0123456789abcdef0123456789abcdef"
	ana     = "+12135550101"
	// public is how the region is reached from outside: through a proxy that speaks
	// TLS, so that what Twilio signs is not what the region sees.
	public = "https://alerts.example.com"
)

// line is a region's end, Twilio's and a phone's.
type line struct {
	peer    *twilio.Twilio
	inbox   *inbox
	twilio  *channel.Twilio
	senders map[channel.Kind]channel.Sender
	links   *channel.Links
	handler http.Handler
}

// throughProxy carries what is sent to the public address to the region.
type throughProxy struct{ to string }

func (p throughProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host != public {
		return nil, fmt.Errorf("%s is not the region", r.URL.Host)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "http", p.to, "10.0.0.5:8080"
	return http.DefaultTransport.RoundTrip(r)
}

func newLine(t *testing.T, change ...func(*twilio.Options)) *line {
	t.Helper()
	return newLineAs(t, account, token, change...)
}

func newLineAs(t *testing.T, sid, secret string, change ...func(*twilio.Options)) *line {
	t.Helper()
	dir := t.TempDir()
	l := &line{inbox: newInbox()}
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.handler.ServeHTTP(w, r) }))
	t.Cleanup(region.Close)
	o := twilio.Options{
		AccountSID: account, AuthToken: token, Inbound: public + "/hooks/twilio/sms", SegmentsPerSecond: 1000, CallsPerSecond: 1000,
		Transport: throughProxy{region.Listener.Addr().String()},
	}
	for _, c := range change {
		c(&o)
	}
	l.peer = twilio.New(o)
	t.Cleanup(l.peer.Close)
	api := httptest.NewServer(http.StripPrefix("/twilio", l.peer.Handler()))
	t.Cleanup(api.Close)

	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := channel.NewTexts("")
	if err != nil {
		t.Fatal(err)
	}
	if l.links, err = channel.NewLinks(public, filepath.Join(dir, "links.key")); err != nil {
		t.Fatal(err)
	}
	tw, err := channel.NewTwilio(channel.TwilioConfig{
		AccountSID: sid, AuthToken: file, FromSMS: "+12135550000", FromVoice: "+12135550000", BaseURL: api.URL + "/twilio",
	}, public, texts)
	if err != nil {
		t.Fatal(err)
	}
	l.twilio, l.senders = tw, tw.Senders()
	l.handler = channel.Handler(channel.HandlerConfig{Inbox: l.inbox, Links: l.links, Twilio: tw, Support: "Foo's IT, +1 213 555 0100", Log: slog.New(slog.DiscardHandler)})
	return l
}

// message is about an incident, to Ana.
func (l *line) message(kind channel.Kind, event channel.Event) channel.Message {
	m := channel.Example(kind, event)
	m.Delivery, m.To = uuid(), ana
	l.inbox.tell(m)
	return m
}

func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (l *line) send(t *testing.T, m channel.Message) channel.Result {
	t.Helper()
	r, err := l.senders[m.Kind].Send(t.Context(), m)
	if err != nil {
		t.Fatalf("%v (%s)", err, hint.Of(err))
	}
	if r.Provider != "twilio" || r.ProviderID == "" || r.State != channel.Accepted {
		t.Fatalf("%+v", r)
	}
	return r
}

func TestAnSMSArrivesAndItsReplyAcknowledges(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	phone := l.peer.Phone(ana)
	m := l.message(channel.SMS, channel.Trigger)
	l.send(t, m)
	got := phone.ExpectSMS(t, "CRITICAL: Los Angeles is offline", "1 Check the internet", "Reply A17 to acknowledge")
	if got.Segments > 2 || got.Segments != channel.Segments(got.Body) {
		t.Errorf("%d segments, and we count %d", got.Segments, channel.Segments(got.Body))
	}
	l.inbox.reaches(t, m.Delivery, channel.Sent)
	l.inbox.reaches(t, m.Delivery, channel.Delivered)
	for _, reply := range []string{"A17", "ack 17", " a 17. ", "Acknowledge #17"} {
		said, err := phone.Reply(reply)
		if err != nil || said != "Thank you, Ana. Incident 17 is yours." {
			t.Errorf("%q: %q, %v", reply, said, err)
		}
		phone.ExpectSMS(t, "Incident 17 is yours")
	}
	acks := l.inbox.acked()
	if len(acks) != 4 || acks[0] != (channel.Ack{Incident: 17, From: ana, How: "sms"}) {
		t.Errorf("%+v", acks)
	}
	l.send(t, l.message(channel.SMS, channel.Resolve))
	phone.ExpectSMS(t, "RESOLVED", "4 minutes 12 seconds")
}

func TestRepliesThatMeanNothingGetHelpAndThenSilence(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	phone := l.peer.Phone(ana)
	for i := range 6 {
		said, err := phone.Reply("who is this?")
		if err != nil {
			t.Fatal(err)
		}
		if want := i < 3; strings.Contains(said, "such as A17") != want {
			t.Errorf("reply %d is answered %q", i, said)
		}
	}
	if said, err := phone.Reply("A17"); err != nil || !strings.Contains(said, "yours") {
		t.Errorf("after silence an acknowledgement is answered %q, %v", said, err)
	}
	if said, err := phone.Reply("and now?"); err != nil || !strings.Contains(said, "such as A17") {
		t.Errorf("somebody who is there is answered %q, %v", said, err)
	}
	for _, word := range []string{"STOP", "stop.", "Unsubscribe", "HELP", "START"} {
		if said, err := l.peer.Phone("+12135550102").Reply(word); err != nil || said != "" {
			t.Errorf("%s, which the carrier answers, is answered %q, %v", word, said, err)
		}
	}
	if n := len(l.inbox.acked()); n != 1 {
		t.Errorf("%d acknowledgements", n)
	}
}

func TestAReplyThatCannotBeStoredIsAskedForAgain(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.inbox.fail(true)
	if said, err := l.peer.Phone(ana).Reply("A17"); err != nil || !strings.Contains(said, "reply again") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestACallSaysItTwiceAndTheKeyAcknowledges(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "an alert for Ana Lima", "Los Angeles", "9:31 AM, Los Angeles time", "No heartbeat", "1. Check the internet", "4. Call Foo's IT", "Press 4 to acknowledge",
		"I repeat", "Los Angeles", "Press 4 to acknowledge")
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "Thank you, Ana. Incident 17 is yours.", "Goodbye")
	call.ExpectEnd(t, "completed")
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	acks := l.inbox.acked()
	if len(acks) != 1 || acks[0] != (channel.Ack{Delivery: m.Delivery, By: "Ana Lima", How: "voice"}) {
		t.Errorf("%+v", acks)
	}
	l.peer.Close() // all callbacks are out
	if l.inbox.has(m.Delivery, channel.Failed) {
		t.Error("a call that was acknowledged counts as failed")
	}
}

func TestStarRepeatsAndAWrongKeyIsExplained(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "I repeat", "Press 4")
	press := func(key string) {
		t.Helper()
		if err := call.Press(key); err != nil {
			t.Fatal(err)
		}
	}
	press("*")
	call.Expect(t, "an alert for Ana Lima", "I repeat", "Press 4")
	if n := len(l.inbox.acked()); n != 0 {
		t.Fatal("star acknowledged")
	}
	l.inbox.reaches(t, m.Delivery, channel.Reached) // a person is there
	press("7")
	call.Expect(t, "That key means nothing here", "an alert for Ana Lima", "I repeat", "Press 4")
	press("4")
	call.Expect(t, "Incident 17 is yours")
	call.ExpectEnd(t, "completed")
}

func TestAMailboxIsNotReached(t *testing.T) {
	t.Parallel()
	for _, b := range []twilio.Behaviour{twilio.Mailbox, twilio.PicksUp} { // who picks up presses nothing either
		l := newLine(t, func(o *twilio.Options) { o.KeyWait = 10 * time.Millisecond })
		phone := l.peer.Phone(ana)
		phone.Behave(b)
		m := l.message(channel.Voice, channel.Trigger)
		l.send(t, m)
		call := phone.ExpectCall(t, "Los Angeles", "No key was pressed")
		call.ExpectEnd(t, "completed")
		if r := l.inbox.reaches(t, m.Delivery, channel.Failed); !strings.Contains(r.Detail, "nobody pressed a key") {
			t.Errorf("%+v", r)
		}
		if b == twilio.Mailbox {
			l.inbox.wait(t, "the mailbox is not told of", func() bool {
				for _, r := range l.inbox.receipts {
					if strings.Contains(r.Detail, "mailbox seems to have answered") {
						return true
					}
				}
				return false
			})
		}
		if l.inbox.has(m.Delivery, channel.Reached) || l.inbox.has(m.Delivery, channel.Delivered) || len(l.inbox.acked()) != 0 {
			t.Error("nobody was reached")
		}
	}
}

func TestWhatBecomesOfMessagesAndCallsIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind channel.Kind
		does twilio.Behaviour
		want string
	}{
		{channel.SMS, twilio.Silent, "switched off or out of reach (Twilio 30003)"},
		{channel.SMS, twilio.Unknown, "the number is unknown (Twilio 30005)"},
		{channel.SMS, twilio.Filtered, "took it for spam (Twilio 30007)"},
		{channel.Voice, twilio.Busy, "the line was busy"},
		{channel.Voice, twilio.Silent, "nobody answered"},
		{channel.Voice, twilio.Unknown, "could not be made"},
	} {
		l := newLine(t)
		l.peer.Phone(ana).Behave(c.does)
		m := l.message(c.kind, channel.Trigger)
		l.send(t, m)
		if r := l.inbox.reaches(t, m.Delivery, channel.Failed); !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s: %q, want %q", c.kind, r.Detail, c.want)
		}
	}
}

func TestReceiptsMayComeTwiceBackwardsOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, mode := range []twilio.Callbacks{twilio.Twice, twilio.Backwards, twilio.Never} {
		l := newLine(t)
		l.peer.Send(mode)
		m := l.message(channel.SMS, channel.Trigger)
		l.send(t, m)
		l.peer.Phone(ana).ExpectSMS(t, "Los Angeles")
		v := l.message(channel.Voice, channel.Trigger)
		l.send(t, v)
		call := l.peer.Phone(ana).ExpectCall(t, "I repeat")
		if err := call.Press("4"); err != nil {
			t.Fatal(err)
		}
		call.ExpectEnd(t, "completed")
		l.inbox.reaches(t, v.Delivery, channel.Reached)
		if mode != twilio.Never {
			l.inbox.reaches(t, m.Delivery, channel.Sent)
			l.inbox.reaches(t, m.Delivery, channel.Delivered)
		}
		for _, p := range l.peer.Posted() {
			if p.Status != http.StatusOK && p.Status != http.StatusNoContent {
				t.Errorf("%s is answered %d", p.URL, p.Status)
			}
		}
		seen := map[string]int{}
		l.inbox.mu.Lock()
		for _, r := range l.inbox.receipts {
			seen[r.EventID]++
		}
		l.inbox.mu.Unlock()
		for id, n := range seen {
			if n > 1 {
				t.Errorf("%s counts %d times", id, n)
			}
		}
	}
}

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
	go func() { ended <- l.twilio.Watch(ctx, slog.New(slog.NewTextHandler(log, nil))) }()
	select {
	case line := <-log:
		if !strings.Contains(line, "channel=sms") || !strings.Contains(line, public+"/hooks/twilio/sms") {
			t.Error(line)
		}
	case <-time.After(20 * time.Second):
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

func TestWhatTwilioDidNotSignIsRefused(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	d := l.message(channel.SMS, channel.Trigger).Delivery
	form := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}, "AccountSid": {account}}
	ask := func(path, signature, kind, body string) *http.Response {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		r.Header.Set("X-Twilio-Signature", signature)
		r.Host = "10.0.0.5:8080"
		w := httptest.NewRecorder()
		l.handler.ServeHTTP(w, r)
		return w.Result()
	}
	const isForm = "application/x-www-form-urlencoded"
	path := "/hooks/twilio/sms/" + d
	right := twilio.Sign(token, public+path, form)
	if got := ask(path, right, isForm, form.Encode()); got.StatusCode != http.StatusNoContent {
		t.Fatalf("what Twilio signed is answered %d", got.StatusCode)
	}
	withPort := twilio.Sign(token, "https://alerts.example.com:443"+path, form)
	if got := ask(path, withPort, isForm, form.Encode()); got.StatusCode != http.StatusNoContent {
		t.Errorf("signed with the port: %d", got.StatusCode)
	}
	query := path + "?a=%2F&b="
	if got := ask(query, twilio.Sign(token, public+query, form), isForm, form.Encode()); got.StatusCode != http.StatusNoContent {
		t.Errorf("signed with a query: %d", got.StatusCode)
	}
	body := `{"MessageSid":"SM2","MessageStatus":"delivered","Price":0.1}`
	signed, signature := twilio.SignBody(token, public+path, []byte(body))
	if got := ask(strings.TrimPrefix(signed, public), signature, "application/json", body); got.StatusCode != http.StatusNoContent {
		t.Errorf("signed by the body's digest: %d", got.StatusCode)
	}
	if n := len(l.inbox.receipts); n != 2 {
		t.Errorf("%d receipts", n)
	}
	more := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"failed"}, "AccountSid": {account}}
	other := url.Values{"MessageSid": {"SM3"}, "MessageStatus": {"sent"}, "AccountSid": {"AC00000000000000000000000000000002"}}
	for name, got := range map[string]*http.Response{
		"no signature":        ask(path, "", isForm, form.Encode()),
		"another token's":     ask(path, twilio.Sign("x"+token, public+path, form), isForm, form.Encode()),
		"other fields":        ask(path, right, isForm, more.Encode()),
		"another path":        ask("/hooks/twilio/sms/"+uuid(), right, isForm, form.Encode()),
		"the address inside":  ask(path, twilio.Sign(token, "http://10.0.0.5:8080"+path, form), isForm, form.Encode()),
		"another body":        ask(strings.TrimPrefix(signed, public), signature, "application/json", body+" "),
		"another account's":   ask(path, twilio.Sign(token, public+path, other), isForm, other.Encode()),
		"a call, unsigned":    ask("/hooks/twilio/voice/"+d, "", isForm, ""),
		"a reply, unsigned":   ask("/hooks/twilio/sms", "", isForm, "From=%2B12135550101&Body=A17"),
		"a key, unsigned":     ask("/hooks/twilio/voice/"+d+"/key", "", isForm, "Digits=4"),
		"a machine, unsigned": ask("/hooks/twilio/voice/"+d+"/machine", "", isForm, "AnsweredBy=human"),
	} {
		if got.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, got.StatusCode)
		}
	}
	if n := len(l.inbox.receipts); n != 2 || len(l.inbox.acked()) != 0 {
		t.Errorf("%d receipts, %v", n, l.inbox.acked())
	}
	if got := ask(path, right, isForm, strings.Repeat("a", 65<<10)); got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d", got.StatusCode)
	}
	r := httptest.NewRequest(http.MethodGet, "/hooks/twilio/sms?"+form.Encode(), nil)
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestACallStillSaysSomethingWhenTheRegionsDatabaseIsAway(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.inbox.fail(true)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "There is an alert")
	call.ExpectEnd(t, "completed")
	l.inbox.fail(false)
	l.send(t, m)
	call = l.peer.Phone(ana).ExpectCall(t, "I repeat", "Press 4")
	l.inbox.fail(true)
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "could not be stored", "There is an alert")
}

func TestNobodyIsAskedToAcknowledgeWhatIsOver(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Resolve)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "good news for Ana Lima", "4 minutes 12 seconds", "Press any key", "I repeat", "Press any key")
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "Thank you.")
	call.ExpectEnd(t, "completed")
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	if n := len(l.inbox.acked()); n != 0 {
		t.Errorf("%d acknowledgements", n)
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
