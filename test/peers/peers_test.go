package peers_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

func TestThePageAndTheStandInsAreServedTogether(t *testing.T) {
	t.Parallel()
	const account, token, ana = "AC00000000000000000000000000000001", "0123456789abcdef", "+12135550101"
	phones := twilio.New(twilio.Options{AccountSID: account, AuthToken: token, SegmentsPerSecond: 1000})
	t.Cleanup(phones.Close)
	page, err := peers.Page("Phones", phones.Peer())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string, header ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, "http://127.0.0.1:8090"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if strings.Contains(path, "/2010-04-01/") {
			r.SetBasicAuth(account, token)
		}
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		return w
	}
	got := ask(http.MethodGet, "/", "")
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "/twilio/panel/panel.js") || !strings.Contains(got.Header().Get("Content-Security-Policy"), "script-src 'self'") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	for path, kind := range map[string]string{"/page.css": "text/css", "/twilio/panel/panel.js": "text/javascript", "/twilio/panel/panel.css": "text/css", "/twilio/panel/state": "application/json"} {
		if got := ask(http.MethodGet, path, ""); got.Code != http.StatusOK || !strings.HasPrefix(got.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d, %s", path, got.Code, got.Header().Get("Content-Type"))
		}
	}
	sms := url.Values{"To": {ana}, "From": {"+12135550000"}, "Body": {"hello"}}
	if got := ask(http.MethodPost, "/twilio/2010-04-01/Accounts/"+account+"/Messages.json", sms.Encode()); got.Code != http.StatusCreated {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	phones.Phone(ana).ExpectSMS(t, "hello")
	if got := ask(http.MethodGet, "/twilio/panel/state", ""); !strings.Contains(got.Body.String(), `"body":"hello"`) {
		t.Error(got.Body)
	}
	reply := url.Values{"number": {ana}, "body": {"A17"}}.Encode()
	if got := ask(http.MethodPost, "/twilio/panel/reply", reply); got.Code != http.StatusNoContent {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := ask(http.MethodPost, "/twilio/panel/reply", reply, "Sec-Fetch-Site", "cross-site"); got.Code != http.StatusForbidden {
		t.Errorf("another site writes on the phone: %d", got.Code)
	}
	for path, body := range map[string]string{"/twilio/panel/reply": "number=%2B1999&body=x", "/twilio/panel/calls/CA1/key": "key=4", "/elsewhere": ""} {
		if got := ask(http.MethodPost, path, body); got.Code != http.StatusBadRequest && got.Code != http.StatusNotFound && got.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
}
