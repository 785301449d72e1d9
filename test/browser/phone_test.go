package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

// desk is somebody at a region who waits for answers.
type desk struct {
	mu   sync.Mutex
	told map[string]channel.Message
	acks []channel.Ack
}

func (*desk) Receipt(context.Context, channel.Receipt) error { return nil }

func (d *desk) Acknowledge(_ context.Context, a channel.Ack) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acks = append(d.acks, a)
	return "Thank you. Incident 17 is yours.", nil
}

func (d *desk) Incident(_ context.Context, delivery string) (channel.Message, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.told[delivery]
	for _, a := range d.acks {
		if a.Delivery == delivery {
			m.Incident.AckedBy = "Ana Lima"
		}
	}
	return m, nil
}

func must0[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func TestAVisitorSeesTheSMSAnswersTheCallAndPressesTheKey(t *testing.T) {
	const account, token, ana = "AC00000000000000000000000000000001", "0123456789abcdef", "+12135550101"
	dir := t.TempDir()
	var handler http.Handler
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(region.Close)
	phones := twilio.New(twilio.Options{AccountSID: account, AuthToken: token, Inbound: region.URL + "/hooks/twilio/sms", SegmentsPerSecond: 1000, CallsPerSecond: 1000, Phones: twilio.Rings, Speak: 50 * time.Millisecond, Pause: time.Second})
	t.Cleanup(phones.Close)
	phones.Phone(ana).Name = "Ana Lima"
	page := httptest.NewServer(must0(peers.Page("Phones and chats", phones.Peer()))(t))
	t.Cleanup(page.Close)

	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
	texts := must0(channel.NewTexts(""))(t)
	tw := must0(channel.NewTwilio(channel.TwilioConfig{
		AccountSID: account, AuthToken: filepath.Join(dir, "token"), FromSMS: "+12135550000", FromVoice: "+12135550000", BaseURL: page.URL + "/twilio",
	}, region.URL, texts))(t)
	links := must0(channel.NewLinks(region.URL, filepath.Join(dir, "links.key")))(t)
	desk := &desk{told: map[string]channel.Message{}}
	handler = channel.Handler(channel.HandlerConfig{Inbox: desk, Links: links, Twilio: tw, Log: slog.New(slog.DiscardHandler)})
	tell := func(kind channel.Kind, delivery string) {
		t.Helper()
		m := channel.Example(kind, channel.Trigger)
		m.Delivery, m.To, m.Incident.AckURL = delivery, ana, links.Ack(delivery)
		desk.mu.Lock()
		desk.told[delivery] = m
		desk.mu.Unlock()
		must0(tw.Senders()[kind].Send(t.Context(), m))(t)
	}
	const one, two, three = "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d", "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e", "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4f"

	tb := newBrowser(t).open(t, page.URL)
	tb.size(1200, 900, false)
	tb.do(chromedp.Navigate(page.URL))
	tb.text("Nobody has been told of anything yet")
	tell(channel.SMS, one)
	tb.text("Reply A17 to acknowledge")
	tb.do(chromedp.SendKeys("form.reply input", "A17\r"))
	tb.text("Thank you. Incident 17 is yours.")

	tell(channel.Voice, two)
	tb.wait(`document.querySelector(".phone.rings .answer") !== null`)
	before := value(tb, chromedp.Evaluate[int](`document.querySelectorAll(".messages li").length`))
	tell(channel.SMS, three) // is shown although it rings
	tb.wait(fmt.Sprintf(`document.querySelectorAll(".messages li").length === %d`, before+1))
	tb.do(chromedp.Click(chromedp.CSS(".phone .answer")))
	tb.text("This is Holdfast, with an alert for Ana Lima.")
	tb.wait(`document.querySelector(".keypad").offsetParent !== null`)
	tb.looks("phone")
	tb.do(chromedp.Click(chromedp.CSS(`.keypad button[aria-label="4"]`)))
	tb.text("Goodbye.")
	tb.text("The call is over")
	desk.mu.Lock()
	acks := append([]channel.Ack(nil), desk.acks...)
	desk.mu.Unlock()
	if len(acks) != 2 || acks[0].From != ana || acks[0].Incident != 17 || acks[1].Delivery != two || acks[1].How != "voice" {
		t.Errorf("%+v", acks)
	}

	// The page behind the link, on a small screen and without a script.
	link := newBrowser(t).open(t, region.URL)
	link.size(390, 844, true)
	link.do(chromedp.Navigate(links.Ack(one)))
	link.text("Los Angeles (la)")
	link.wait(`document.documentElement.scrollWidth <= innerWidth && document.querySelector("button").offsetHeight >= 44`)
	link.looks("ack")
	link.do(chromedp.Click(chromedp.CSS("button")))
	link.text("Incident 17 is yours.")
}
