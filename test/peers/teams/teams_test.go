package teams_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/test/peers/teams"
)

// A stand-in that shows what Teams does not would prove nothing.
func TestACardMustBeAsItsSchemaSays(t *testing.T) {
	t.Parallel()
	p, err := teams.New(teams.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for card, ok := range map[string]bool{
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock","text":"hello","wrap":true}]}`:            true,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.OpenUrl","title":"x","url":"https://x"}]}`: true,
		`{"type":"AdaptiveCard","body":[]}`:                                                                        false,
		`{"type":"MessageCard","version":"1.2"}`:                                                                   false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock"}]}`:                                    false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"Text","text":"hello"}]}`:                          false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock","text":"hello","color":"red"}]}`:       false,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.OpenUrl","title":"x"}]}`:                false,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.Http","title":"x","url":"https://x"}]}`: false,
		`{"type":"AdaptiveCard","version":"1.2","body":"hello"}`:                                                   false,
		`{`: false,
	} {
		if _, err := p.ReadCard([]byte(card)); (err == nil) != ok {
			t.Errorf("%s: %v", card, err)
		}
	}
}

func TestAnAddressTakesFourMessagesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := teams.New(teams.Options{Bare: true})
		if err != nil {
			t.Fatal(err)
		}
		post := func(want int) {
			t.Helper()
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(http.MethodPost, p.URL(), strings.NewReader(`{"type":"AdaptiveCard","version":"1.2"}`)))
			if w.Code != want || want == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "1" {
				t.Errorf("answered %d %v, want %d", w.Code, w.Header(), want)
			}
		}
		for range 4 {
			post(http.StatusAccepted)
		}
		post(http.StatusTooManyRequests)
		time.Sleep(time.Second)
		post(http.StatusAccepted)
		if n := len(p.Cards()); n != 5 {
			t.Errorf("%d cards are shown, want 5: %v", n, p.Failed())
		}
	})
}
