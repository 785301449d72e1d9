package slack_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	api "github.com/slack-go/slack"

	"github.com/agogsaas/holdfast/test/peers/panel"
	"github.com/agogsaas/holdfast/test/peers/slack"
)

// A stand-in that is laxer than Slack would prove nothing.
func TestSlacksLimitsAreKept(t *testing.T) {
	t.Parallel()
	p := slack.New(slack.Options{PerSecond: -1})
	hook := p.AddWebhook("C1")
	text := func(n int) *api.TextBlockObject {
		return api.NewTextBlockObject(api.PlainTextType, strings.Repeat("x", n), false, false)
	}
	button := func(id string) api.BlockElement { return api.NewButtonBlockElement(id, "v", text(3)) }
	many := make([]api.Block, 51)
	for i := range many {
		many[i] = api.NewDividerBlock()
	}
	for name, tc := range map[string]struct {
		blocks []api.Block
		ok     bool
	}{
		"right":           {[]api.Block{api.NewHeaderBlock(text(150)), api.NewSectionBlock(text(3000), nil, nil), api.NewActionBlock("", button("a"), button("b"))}, true},
		"long header":     {[]api.Block{api.NewHeaderBlock(text(151))}, false},
		"empty header":    {[]api.Block{api.NewHeaderBlock(text(0))}, false},
		"long section":    {[]api.Block{api.NewSectionBlock(text(3001), nil, nil)}, false},
		"long label":      {[]api.Block{api.NewActionBlock("", api.NewButtonBlockElement("a", "v", text(76)))}, false},
		"the same button": {[]api.Block{api.NewActionBlock("", button("a"), button("a"))}, false},
		"many blocks":     {many, false},
		"empty context":   {[]api.Block{api.NewContextBlock("")}, false},
	} {
		raw, err := json.Marshal(api.WebhookMessage{Text: "t", Blocks: &api.Blocks{BlockSet: tc.blocks}})
		if err != nil {
			t.Fatal(err)
		}
		code, said := post(p, hook, string(raw))
		if (code == http.StatusOK) != tc.ok {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
	for body, want := range map[string]string{"{}": "no_text", "{": "invalid_payload"} {
		if code, said := post(p, hook, body); code != http.StatusBadRequest || said != want {
			t.Errorf("%s: %d %s", body, code, said)
		}
	}
	if code, said := post(p, "/services/T/B/none", `{"text":"t"}`); code != http.StatusNotFound || said != "no_service" {
		t.Errorf("unknown webhook: %d %s", code, said)
	}
}

func post(h http.Handler, path, body string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAVisitorPressesTheButtonOnThePage(t *testing.T) {
	t.Parallel()
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	pressed := make(chan string, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		v, verr := api.NewSecretsVerifier(r.Header, secret)
		if err != nil || verr != nil {
			t.Error(err, verr)
			return
		}
		_, _ = v.Write(body) // it is a hash
		if err := v.Ensure(); err != nil {
			t.Error(err)
		}
		form, err := url.ParseQuery(string(body))
		var in api.InteractionCallback
		if err == nil {
			err = json.Unmarshal([]byte(form.Get("payload")), &in)
		}
		if err != nil || len(in.ActionCallback.BlockActions) != 1 {
			t.Errorf("%v: %s", err, body)
			return
		}
		pressed <- in.ActionCallback.BlockActions[0].Value
	}))
	defer app.Close()
	p := slack.New(slack.Options{BaseURL: "http://slack.invalid", Interactions: app.URL, SigningSecret: secret})
	button := api.NewButtonBlockElement("ack", "d-17", api.NewTextBlockObject(api.PlainTextType, "Acknowledge", false, false))
	raw, err := json.Marshal(api.WebhookMessage{Text: "la <is> away", Blocks: &api.Blocks{BlockSet: []api.Block{
		api.NewHeaderBlock(api.NewTextBlockObject(api.PlainTextType, "la <is> away", false, false)), api.NewActionBlock("", button),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if code, said := post(p, strings.TrimPrefix(p.AddWebhook("C1"), "http://slack.invalid"), string(raw)); code != http.StatusOK {
		t.Fatal(code, said)
	}
	live := p.Peer().Live
	get := func(path string) string {
		w := httptest.NewRecorder()
		live.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.String()
	}
	if html := get("/messages"); !strings.Contains(html, "la &lt;is&gt; away") || !strings.Contains(html, ">Acknowledge</button>") {
		t.Errorf("the page shows %s", html)
	}
	var list []panel.Entry
	if err := json.Unmarshal([]byte(get("/messages.json")), &list); err != nil || len(list) != 1 || len(list[0].Buttons) != 1 {
		t.Fatalf("%v: %+v", err, list)
	}
	r := httptest.NewRequest(http.MethodPost, "/press", strings.NewReader(url.Values{"button": {list[0].Buttons[0].Press}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	live.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got := <-pressed; got != "d-17" {
		t.Errorf("pressed %q", got)
	}
}
