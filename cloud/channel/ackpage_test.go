package channel_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// open asks for what is behind a link, as a browser does.
func (l *line) open(t *testing.T, method, address string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, strings.TrimPrefix(address, public), nil)
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestALinkShowsAndOnlyItsButtonAcknowledges(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Email, channel.Trigger)
	link := l.links.Ack(m.Delivery)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} { // as scanners of mail do
		resp, body := l.open(t, method, link)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", method, resp.StatusCode)
		}
		if method == http.MethodGet {
			for _, want := range []string{"Los Angeles (la)", "America/Los_Angeles", "No heartbeat for 12 seconds", "Check the internet", `<form method="post"><button>I take care of it</button></form>`} {
				if !strings.Contains(body, want) {
					t.Errorf("the page does not say %q:\n%s", want, body)
				}
			}
			if strings.Contains(body, "<script") {
				t.Error("the page needs a script")
			}
		}
		for header, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "X-Robots-Tag": "noindex"} {
			if !strings.Contains(resp.Header.Get(header), want) {
				t.Errorf("%s is %q", header, resp.Header.Get(header))
			}
		}
	}
	if n := len(l.inbox.acked()); n != 0 || l.inbox.has(m.Delivery, channel.Reached) {
		t.Fatal("looking at a link acknowledged")
	}
	resp, body := l.open(t, http.MethodPost, link)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "Incident 17 is yours") || strings.Contains(body, "<button>") {
		t.Errorf("%d:\n%s", resp.StatusCode, body)
	}
	acks := l.inbox.acked()
	if len(acks) != 1 || acks[0] != (channel.Ack{Delivery: m.Delivery, By: "Ana Lima", How: "link"}) {
		t.Errorf("%+v", acks)
	}
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	if _, body := l.open(t, http.MethodGet, link); !strings.Contains(body, "Ana Lima takes care of it") || strings.Contains(body, "<button>") {
		t.Errorf("later the page says:\n%s", body)
	}
	if resp, body := l.open(t, http.MethodGet, "/ack/page.css"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/css") || body == "" {
		t.Errorf("the style is answered %d", resp.StatusCode)
	}
}

func TestALinkThatIsNotOursOrTooOldDoesNothing(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Email, channel.Trigger)
	old, err := l.links.URL(channel.ToAcknowledge, m.Delivery, time.Now().Add(-2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	odd, err := l.links.URL(channel.Purpose(9), m.Delivery, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	link := l.links.Ack(m.Delivery)
	for address, want := range map[string]int{
		old: http.StatusGone, odd: http.StatusNotFound, link + "A": http.StatusNotFound, link[:len(link)-1]: http.StatusNotFound,
		"/ack/x": http.StatusNotFound, "/ack/": http.StatusNotFound, link + "/more": http.StatusNotFound,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			resp, body := l.open(t, method, address)
			if resp.StatusCode != want && resp.StatusCode != http.StatusMethodNotAllowed || strings.Contains(body, "Los Angeles") {
				t.Errorf("%s %s: %d, want %d", method, address, resp.StatusCode, want)
			}
		}
	}
	l.inbox.fail(true)
	if resp, body := l.open(t, http.MethodPost, link); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "Nothing was changed") {
		t.Errorf("%d:\n%s", resp.StatusCode, body)
	}
	if n := len(l.inbox.acked()); n != 0 {
		t.Errorf("%d acknowledgements", n)
	}
}

func TestTheOfferOfFallbackSaysThatItIsNotThereYet(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Email, channel.Trigger)
	words, link := l.links.Offer(m.Delivery, "fallback")
	if words == "" || link == "" {
		t.Fatalf("%q %q", words, link)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp, body := l.open(t, method, link)
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "not available yet") || !strings.Contains(body, "Foo&#39;s IT, &#43;1 213 555 0100") || strings.Contains(body, "<button>") {
			t.Errorf("%s: %d:\n%s", method, resp.StatusCode, body)
		}
	}
	if n := len(l.inbox.acked()); n != 0 {
		t.Error("the offer's link acknowledged")
	}
	if words, link := l.links.Offer(m.Delivery, "something"); words != "" || link != "" {
		t.Errorf("%q %q is offered", words, link)
	}
}

func TestATestMessagesLinkProvesThatItCame(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Email, channel.Test)
	link := l.links.Ack(m.Delivery)
	if _, body := l.open(t, http.MethodGet, link); !strings.Contains(body, "It came") {
		t.Error(body)
	}
	if _, body := l.open(t, http.MethodPost, link); !strings.Contains(body, "It is noted") || strings.Contains(body, "<button>") {
		t.Error(body)
	}
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	if n := len(l.inbox.acked()); n != 0 {
		t.Error("a test is nothing to acknowledge")
	}
}

func TestWhatIsOverHasNoButton(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Email, channel.Trigger)
	m.Incident.Resolved = m.Incident.Since.Add(4*time.Minute + 12*time.Second)
	l.inbox.tell(m)
	if _, body := l.open(t, http.MethodGet, l.links.Ack(m.Delivery)); !strings.Contains(body, "It is over") || !strings.Contains(body, "4 minutes 12 seconds") || strings.Contains(body, "<button>") {
		t.Error(body)
	}
}
