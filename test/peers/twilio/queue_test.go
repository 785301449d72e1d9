package twilio_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/test/peers/twilio"
)

// region takes callbacks.
type region func(form url.Values)

func (f region) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	f(r.PostForm)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

func TestAMessageThatWaitsLongerThanItMayIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string // guarded by mu
		p := twilio.New(twilio.Options{
			AccountSID: "AC1", AuthToken: "secret", SegmentsPerSecond: 0.01, // the second one waits 100 seconds
			Transport: region(func(f url.Values) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Get("To"), f.Get("MessageStatus"), f.Get("ErrorCode"))))
			}),
		})
		defer p.Close()
		send := func(to, validity string) int {
			form := url.Values{"To": {to}, "From": {"+12135550000"}, "Body": {"hello"}, "ValidityPeriod": {validity}, "StatusCallback": {"http://region.invalid/"}}
			r := httptest.NewRequest(http.MethodPost, "/2010-04-01/Accounts/AC1/Messages.json", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth("AC1", "secret")
			w := httptest.NewRecorder()
			p.Handler().ServeHTTP(w, r)
			synctest.Wait()
			return w.Code
		}
		for _, wrong := range []string{"0", "36001", "soon"} {
			if got := send("+12135550101", wrong); got != http.StatusBadRequest {
				t.Errorf("a validity of %q is answered %d", wrong, got)
			}
		}
		send("+12135550101", "60")
		send("+12135550102", "60")
		send("+12135550103", "200")
		after := func(d time.Duration, want ...string) {
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("%s later %q, want %q", d, told, want)
			}
			told = nil
		}
		after(59*time.Second, "+12135550101 sent", "+12135550101 delivered")
		after(2*time.Minute, "+12135550102 undelivered 30036", "+12135550103 sent", "+12135550103 delivered")
	})
}
