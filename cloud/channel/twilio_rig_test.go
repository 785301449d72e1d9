package channel_test

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

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
