package channel

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	twilio "github.com/twilio/twilio-go/rest/api/v2010"
)

// smsValidSeconds is how long an SMS may wait at Twilio: an alert that comes
// hours late misleads. Without it that is ten hours.
const smsValidSeconds = 3600

// sms is the channel SMS.
type sms struct{ t *Twilio }

func (s sms) Send(ctx context.Context, m Message) (Result, error) {
	if err := checkNumber(m.To); err != nil {
		return Result{}, err
	}
	said, err := s.t.texts.Render(m)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("write the SMS: %w", err))
	}
	p := (&twilio.CreateMessageParams{}).SetTo(m.To).SetBody(said.Body).SetValidityPeriod(smsValidSeconds).
		SetStatusCallback(s.t.public + hooksTwilio + "sms/" + m.Delivery)
	if strings.HasPrefix(s.t.conf.FromSMS, "MG") {
		p.SetMessagingServiceSid(s.t.conf.FromSMS)
	} else {
		p.SetFrom(s.t.conf.FromSMS)
	}
	x, h := s.t.exchange(ctx)
	sent, err := twilio.NewApiService(h).CreateMessage(p)
	if err != nil {
		return Result{}, x.wrong("send the SMS", err)
	}
	return s.result(sent, m.Delivery)
}

func (s sms) result(sent *twilio.ApiV2010Message, delivery string) (Result, error) {
	state, _ := smsState(text(sent.Status))
	if text(sent.Sid) == "" {
		return Result{}, fmt.Errorf("send the SMS: twilio's answer has no SID")
	}
	if state == Failed {
		return Result{}, Permanent(fmt.Errorf("send the SMS: twilio says %s", text(sent.ErrorMessage)))
	}
	s.t.seen.put(*sent.Sid, delivery)
	return Result{Provider: twilioName, ProviderID: *sent.Sid, State: state, Price: price(sent.Price, sent.PriceUnit)}, nil
}

func (s sms) Check(ctx context.Context, to string, _ map[string]string) error {
	return s.t.check(ctx, to)
}

// Price asks for what an SMS cost, all of its segments together.
func (s sms) Price(ctx context.Context, sid string) (Price, bool, error) {
	x, h := s.t.exchange(ctx)
	sent, err := twilio.NewApiService(h).FetchMessage(sid, nil)
	if err != nil {
		return Price{}, false, x.wrong("ask for the price of the SMS", err)
	}
	p := price(sent.Price, sent.PriceUnit)
	return p, p.Unit != "", nil
}

// Find looks for a message of the same words to the same number: Twilio keeps
// no key of ours. Two deliveries of the same words to one person may be taken for
// one, and then he has read it.
func (s sms) Find(ctx context.Context, m Message, since time.Time) (Result, bool, error) {
	var bodies []string
	for _, m.Repeat = range []bool{false, true} {
		said, err := s.t.texts.Render(m)
		if err != nil {
			return Result{}, false, Permanent(fmt.Errorf("write the SMS: %w", err))
		}
		bodies = append(bodies, unlinked(said.Body))
	}
	x, h := s.t.exchange(ctx)
	// Not by the time it was sent: what waits at Twilio has none yet.
	page, err := twilio.NewApiService(h).PageMessage((&twilio.ListMessageParams{}).SetTo(m.To).SetPageSize(findMax), "", "")
	if err != nil {
		return Result{}, false, x.wrong("look for the SMS", err)
	}
	for i := range page.Messages {
		sent := &page.Messages[i]
		if created(sent.DateCreated).Before(since.Add(-findSlack)) || !slices.Contains(bodies, unlinked(text(sent.Body))) ||
			strings.HasPrefix(text(sent.Direction), "inbound") || !s.t.seen.may(text(sent.Sid), m.Delivery) {
			continue
		}
		if r, err := s.result(sent, m.Delivery); err == nil {
			return r, true, nil
		}
	}
	return Result{}, false, nil
}

var linkInText = regexp.MustCompile(`https?://\S+`)

// unlinked is a text without its links: what is signed anew looks different.
func unlinked(s string) string { return linkInText.ReplaceAllString(s, "") }

// smsState is what Twilio's word for a message's state means, and says.
func smsState(status string) (State, string) {
	switch status {
	case "sending", "sent":
		return Sent, ""
	case "delivered", "read":
		return Delivered, ""
	case "undelivered":
		return Failed, "it did not arrive"
	case "failed", "canceled":
		return Failed, "it was not sent"
	}
	return Accepted, "" // accepted, scheduled, queued, and what may be added
}

// smsErrors says what Twilio's codes for a message that did not arrive mean.
var smsErrors = map[string]string{
	"30001": "Twilio's queue was full, or it had waited too long there",
	"30002": "the account is suspended",
	"30003": "the phone is switched off or out of reach",
	"30004": "the number is blocked, or its owner replied STOP",
	"30005": "the number is unknown",
	"30006": "the number cannot receive SMS",
	"30007": "the carrier took it for spam",
	"30008": "the carrier gives no reason",
	"30034": "the sender is not registered for messages to the USA (A10DLC)",
	"30036": "it waited longer than allowed",
}
