package channel

import (
	"bytes"
	"context"
	"encoding/xml"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twilio/twilio-go/client"
)

// nowhere keeps nothing.
type nowhere struct{}

func (nowhere) Receipt(_ context.Context, r Receipt) error {
	if len(r.EventID) > 200 || len(r.Detail) > 300 || len(r.ProviderID) > 200 {
		panic("more than the inbox takes")
	}
	return nil
}
func (nowhere) Acknowledge(context.Context, Ack) (string, error) { return "Thank you.", nil }
func (nowhere) Incident(context.Context, string) (Message, error) {
	return Example(Voice, Trigger), nil
}

// FuzzTwilioHooks hands the hooks what Twilio would have signed: whatever it is,
// the answer is TwiML, or none.
func FuzzTwilioHooks(f *testing.F) {
	texts, err := NewTexts("")
	if err != nil {
		f.Fatal(err)
	}
	t := &Twilio{conf: TwilioConfig{AccountSID: "AC1"}, token: "12345", public: "https://a.example", texts: texts}
	h := newTwilioHooks(t, nowhere{}, slog.New(slog.DiscardHandler))
	h.check = client.NewRequestValidator(t.token)
	hooks := []hook{h.reply, h.smsStatus, h.call, h.key, h.callStatus, h.machine}
	const isForm = "application/x-www-form-urlencoded"
	for i, body := range []string{
		"From=%2B12135550101&Body=A17", "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30003", "", "CallSid=CA1&Digits=4",
		"CallSid=CA1&CallStatus=completed", "CallSid=CA1&AnsweredBy=machine_start", "Body=%00%FF%C3%28&From=%2B12135550101",
	} {
		f.Add(uint8(i), isForm, []byte(body))
	}
	f.Add(uint8(1), "application/json", []byte(`{"MessageSid":"SM1","MessageStatus":{"a":1}}`))
	f.Add(uint8(1), "text/plain; charset", []byte("x"))
	f.Fuzz(func(t *testing.T, which uint8, kind string, body []byte) {
		if len(body) > hookMaxBytes {
			return
		}
		form, err := hookFields(kind, body)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.SetPathValue("delivery", someDelivery)
		answer, err := hooks[int(which)%len(hooks)](r, form)
		if err != nil {
			t.Fatal(err)
		}
		if answer != nil {
			d := xml.NewDecoder(bytes.NewReader(answer.bytes()))
			var doc struct {
				XMLName xml.Name `xml:"Response"`
			}
			if err := d.Decode(&doc); err != nil {
				t.Fatalf("%v: %s", err, answer.bytes())
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"A17", "ack 17", "a17.", "A0", "A99999999999999999999", "STOP", "17", "a", "Acknowledge: 3 ", "A17 and more", "A-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ack, n, ignore := parseReply(s)
		if n < 0 || ack && ignore || n > 0 && !ack {
			t.Errorf("%q: %v, %d, %v", s, ack, n, ignore)
		}
		if ack && !strings.ContainsAny(s, "aA") {
			t.Errorf("%q acknowledges %d", s, n)
		}
	})
}

func TestOnlyWhatNamesAnIncidentAcknowledges(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"A17": 17, "a17": 17, " ack  17 ": 17, "ACK#17!": 17, "acknowledge 17.": 17,
		"ack": 0, "Acknowledge!": 0, // the one that there is
		"17": -1, "A": -1, "A0": -1, "A17 A18": -1, "A 17 please": -1, "A99999999999999999999": -1, "4": -1, "": -1, "acks": -1,
	} {
		ack, got, ignore := parseReply(s)
		if ack != (want >= 0) || ack && got != want || ignore {
			t.Errorf("%q: %v, %d, want %d (ignored: %v)", s, ack, got, want, ignore)
		}
	}
}

func TestSilenceAfterSeveralRepliesEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c replies
		for i := range repliesMax + 2 {
			if n := c.count("+1", time.Now()); n != i+1 {
				t.Errorf("reply %d is counted as %d", i+1, n)
			}
		}
		if c.count("+2", time.Now()) != 1 {
			t.Error("another number is silenced too")
		}
		time.Sleep(repliesFor + time.Second)
		if c.count("+1", time.Now()) != 1 {
			t.Error("it is silenced for ever")
		}
		for i := range numbersMax + 10 {
			c.count("+3"+url.QueryEscape(string(rune(i))), time.Now())
		}
		if len(c.of) > numbersMax || len(c.order) > numbersMax {
			t.Errorf("%d numbers are kept", len(c.of))
		}
	})
}

func TestFieldsBeyondWhatTwilioSendsAreRefused(t *testing.T) {
	t.Parallel()
	const isForm = "application/x-www-form-urlencoded"
	for kind, body := range map[string]string{
		isForm:             strings.Repeat("a=1&", hookFieldsMax),
		isForm + "; x=1":   "a=%zz",
		"application/json": "[1]",
		"text/plain":       "a=1",
		"":                 "a=1",
	} {
		if _, err := hookFields(kind, []byte(body)); err == nil {
			t.Errorf("%s: %.20s is read", kind, body)
		}
	}
}
