package channel_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

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
