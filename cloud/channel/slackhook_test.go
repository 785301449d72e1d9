package channel

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func pressOf(payload string) []byte { return []byte(url.Values{"payload": {payload}}.Encode()) }

func TestAPressSaysWhoAndWhich(t *testing.T) {
	t.Parallel()
	p, err := decodePress(pressOf(`{"type":"block_actions","response_url":"https://hooks.slack.com/actions/T/1/x","user":{"id":"U1","name":"olga"},` +
		`"actions":[{"action_id":"holdfast_acknowledge","value":"d-1"}]}`))
	if err != nil || p != (press{"d-1", "olga", "https://hooks.slack.com/actions/T/1/x"}) {
		t.Errorf("%+v, %v", p, err)
	}
	for name, body := range map[string][]byte{
		"no form":        []byte("%zz"),
		"no payload":     []byte("x=1"),
		"not JSON":       pressOf("{"),
		"nobody":         pressOf(`{"type":"block_actions","actions":[{"action_id":"holdfast_acknowledge","value":"d-1"}]}`),
		"no delivery":    pressOf(`{"type":"block_actions","user":{"id":"U1"},"actions":[{"action_id":"holdfast_acknowledge","value":"` + strings.Repeat("x", 65) + `"}]}`),
		"another's type": pressOf(`{"type":1}`),
	} {
		if p, err := decodePress(body); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, other := range []string{`{"type":"view_submission"}`, `{"type":"block_actions","user":{"id":"U1"},"actions":[{"action_id":"holdfast_open"}]}`} {
		if p, err := decodePress(pressOf(other)); err != nil || p.delivery != "" {
			t.Errorf("%s: %+v, %v", other, p, err)
		}
	}
}

func TestNothingIsPostedElsewhereThanToSlack(t *testing.T) {
	t.Parallel()
	s, err := NewSlack(SlackConfig{}, texts(t))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer elsewhere.Close()
	for _, to := range []string{elsewhere.URL, "", "https://hooks.slack.com.example.com/actions/x"} {
		if err := s.update(t.Context(), nil, press{respond: to}, "said"); err == nil {
			t.Errorf("posted to %q", to)
		}
	}
}

func FuzzPress(f *testing.F) {
	f.Add([]byte("payload=%7B%7D"))
	f.Add(pressOf(`{"type":"block_actions","response_url":"https://hooks.slack.com/actions/T/1/x","user":{"id":"U1","name":"olga"},` +
		`"actions":[{"action_id":"holdfast_acknowledge","value":"d-1"}]}`))
	f.Add(pressOf(`{"type":"block_actions","actions":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePress(body)
		if err != nil {
			if p != (press{}) {
				t.Errorf("an error and %+v", p)
			}
			return
		}
		if p.delivery != "" && p.who == "" || len(p.delivery) > deliveryMaxBytes || utf8.RuneCountInString(p.who) > personMaxRunes {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "30", "-1", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(v, exampleNow); d < 0 || d > retryAfterMax {
			t.Errorf("%q: %s", v, d)
		}
	})
}

var exampleNow = Example(Slack, Trigger).Incident.Since

func TestALongTextIsDividedAtItsLines(t *testing.T) {
	t.Parallel()
	got := parts(strings.Repeat("twelve runes\n", 10), 30, 3)
	if len(got) != 3 || got[0] != "twelve runes\ntwelve runes" || got[2] != "…" {
		t.Errorf("%q", got)
	}
	if got := parts("", 30, 3); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
