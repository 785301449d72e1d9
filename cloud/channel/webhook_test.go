package channel_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/webhook"
)

const webhookSecret = "hfwh_0123456789abcdefghijklmnopqrstuv"

type receiver struct {
	*webhook.Peer
	url    string
	secret string
	sender *channel.WebhookSender
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{secret: webhookSecret}
	r.Peer = webhook.New(r.secret)
	r.url = serve(t, func(string) http.Handler { return r.Peer }) + "/in?key=verysecretkey"
	var err error
	if r.sender, err = channel.NewWebhook(channel.WebhookConfig{PrivateNetworks: []string{"127.0.0.0/8"}}, texts(t)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *receiver) message(e channel.Event) channel.Message {
	m := message(channel.Webhook, e, r.url)
	m.Settings = map[string]string{"secret": r.secret}
	return m
}

func TestAWebhookIsSignedAndComplete(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	for _, e := range []channel.Event{channel.Trigger, channel.Update, channel.Resolve, channel.Test} {
		m := r.message(e)
		m.Delivery = "00000000-0000-4000-8000-00000000000" + string(e)[:1]
		mustSend(t, r.sender, m, channel.Delivered)
	}
	if bad := r.Refused(); len(bad) != 0 {
		t.Fatalf("refused: %v", bad)
	}
	want := map[string]string{"trigger": "open", "update": "acknowledged", "resolve": "resolved", "test": "test"}
	for _, got := range r.Received() {
		var d channel.Document
		if err := json.Unmarshal(got.Body, &d); err != nil {
			t.Fatal(err)
		}
		if d.Schema != 1 || d.Delivery != got.Delivery || string(d.Event) != got.Event || d.Incident.State != want[got.Event] || d.Title == "" || d.Text == "" {
			t.Errorf("%s: %s", got.Event, got.Body)
		}
		if got.Event == "trigger" && d.Incident.AckURL == "" {
			t.Error("there is no link that acknowledges")
		}
	}
}

func TestAWebhookThatIsRepeatedHasTheSameKey(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.Next(faults.HTTP{Cut: true, Took: true})
	_, err := r.sender.Send(soon(t), r.message(channel.Trigger))
	wantError(t, err, temporary, r.url, "verysecretkey")
	m := r.message(channel.Trigger)
	m.Repeat = true
	mustSend(t, r.sender, m, channel.Delivered)
	if got := r.Received(); len(got) != 1 || got[0].Times != 2 {
		t.Errorf("%+v", got)
	}
}

func TestWebhookErrorsAreClassified(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	for _, tc := range []struct {
		fault faults.HTTP
		want  outcome
	}{
		{faults.HTTP{Status: 500, Body: "we failed with " + r.secret + " at " + r.url}, temporary},
		{faults.HTTP{Status: 429, RetryAfter: 5 * time.Second}, later},
		{faults.HTTP{Status: 408}, temporary},
		{faults.HTTP{Status: 404, Body: "no such key=verysecretkey"}, permanent},
		{faults.HTTP{Status: 410}, permanent},
		{faults.HTTP{Cut: true}, temporary},
	} {
		r.Next(tc.fault)
		_, err := r.sender.Send(soon(t), r.message(channel.Trigger))
		wantError(t, err, tc.want, r.url, r.secret, "verysecretkey")
	}
	r.Next(faults.HTTP{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.sender.Send(ctx, r.message(channel.Trigger))
	wantError(t, err, temporary, r.url, "verysecretkey")
}

func TestAWebhookFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	away := httptest.NewServer(http.RedirectHandler(r.url, http.StatusTemporaryRedirect))
	defer away.Close()
	m := r.message(channel.Trigger)
	m.To = away.URL
	_, err := r.sender.Send(soon(t), m)
	wantError(t, err, permanent, "verysecretkey")
	if len(r.Received()) != 0 {
		t.Error("it was followed")
	}
}

func TestAWebhookReachesNoPrivateNetwork(t *testing.T) {
	t.Parallel()
	s, err := channel.NewWebhook(channel.WebhookConfig{}, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer inside.Close()
	settings := map[string]string{"secret": webhookSecret}
	port := inside.URL[strings.LastIndex(inside.URL, ":"):]
	for _, to := range []string{
		inside.URL, "http://localhost" + port, "https://127.0.0.1" + port, "https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/",
		"https://169.254.169.254/latest/meta-data/", "https://100.64.0.1/", "https://[::1]" + port, "https://[fd00::1]/", "https://[fe80::1]/",
		"https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://0.0.0.0" + port, "https://[2002:a00:1::1]/",
	} {
		m := message(channel.Webhook, channel.Trigger, to)
		m.Settings = settings
		_, err := s.Send(soon(t), m)
		wantError(t, err, permanent)
		if err != nil && !strings.Contains(err.Error(), "private network") {
			t.Errorf("%s: %v", to, err)
		}
		wantError(t, s.Check(soon(t), to, settings), permanent)
	}
}

func TestAWebhookAddressIsCheckedWithoutARequest(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	good := map[string]string{"secret": r.secret}
	if err := r.sender.Check(soon(t), r.url, good); err != nil {
		t.Error(err)
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	if err := r.sender.Check(soon(t), closed.URL, good); err == nil {
		t.Error("nobody is there, and that was not found")
	}
	for _, bad := range []string{"", "example", "http://example.com/in", "https://u:p@example.com/", "file:///etc/passwd", "https:opaque"} {
		wantError(t, r.sender.Check(soon(t), bad, good), permanent)
	}
	for _, settings := range []map[string]string{nil, {"secret": "short"}} {
		wantError(t, r.sender.Check(soon(t), r.url, settings), permanent)
		m := r.message(channel.Trigger)
		m.Settings = settings
		_, err := r.sender.Send(soon(t), m)
		wantError(t, err, permanent)
	}
	if len(r.Received())+len(r.Refused()) != 0 {
		t.Error("the check made a request")
	}
}

func TestTheRegionsSecretSignsWhatHasNone(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s, err := channel.NewWebhook(channel.WebhookConfig{Secret: secretFile(t, r.secret), PrivateNetworks: []string{"127.0.0.0/8"}}, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, message(channel.Webhook, channel.Trigger, r.url), channel.Delivered)
}

func TestAWebhooksDocumentFitsHoweverMuchThereIsToSay(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	m := r.message(channel.Trigger)
	for range 3000 {
		m.Incident.Evidence = append(m.Incident.Evidence, strings.Repeat("evidence ", 100))
		m.Incident.Affected = append(m.Incident.Affected, strings.Repeat("f", 60))
	}
	before := m.Incident.Evidence[0]
	mustSend(t, r.sender, m, channel.Delivered)
	if n := len(r.Received()[0].Body); n > 64<<10 {
		t.Errorf("%d bytes", n)
	}
	if m.Incident.Evidence[0] != before {
		t.Error("the message itself was shortened")
	}
}
