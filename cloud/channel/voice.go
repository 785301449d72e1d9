package channel

import (
	"context"
	"fmt"
	"strings"
	"time"

	twilio "github.com/twilio/twilio-go/rest/api/v2010"
)

const (
	// ringSeconds is how long a phone rings: long enough to find it, and shorter
	// than it takes most mailboxes to answer twice.
	ringSeconds = 30
	// callMaxSeconds ends a call that nobody ends.
	callMaxSeconds = 300
)

// voice is the channel of calls. What a call says is fetched from us when it is
// answered (twilio_voice.go).
type voice struct{ t *Twilio }

func (v voice) Send(ctx context.Context, m Message) (Result, error) {
	if err := checkNumber(m.To); err != nil {
		return Result{}, err
	}
	if v.t.public == "" {
		return Result{}, Permanent(fmt.Errorf("call: alerts.public_url is not set, and Twilio fetches there what to say"))
	}
	at := v.t.public + hooksTwilio + "voice/" + m.Delivery
	p := (&twilio.CreateCallParams{}).SetTo(m.To).SetFrom(v.t.conf.FromVoice).SetUrl(at).SetMethod("POST").
		SetTimeout(ringSeconds).SetTimeLimit(callMaxSeconds).
		SetStatusCallback(at + "/status").SetStatusCallbackMethod("POST").SetStatusCallbackEvent([]string{"initiated", "ringing", "answered", "completed"}).
		// In the background: nobody listens to silence while Twilio makes up its mind.
		SetMachineDetection("Enable").SetAsyncAmd("true").SetAsyncAmdStatusCallback(at + "/machine").SetAsyncAmdStatusCallbackMethod("POST")
	x, h := v.t.exchange(ctx)
	call, err := twilio.NewApiService(h).CreateCall(p)
	if err != nil {
		return Result{}, x.wrong("call", err)
	}
	return v.result(call, m.Delivery)
}

func (v voice) result(call *twilio.ApiV2010Call, delivery string) (Result, error) {
	if text(call.Sid) == "" {
		return Result{}, fmt.Errorf("call: twilio's answer has no SID")
	}
	v.t.seen.put(*call.Sid, delivery)
	state, _ := callState(text(call.Status))
	if state == Failed {
		state = Accepted // it took place; its receipt says how it ended
	}
	return Result{Provider: twilioName, ProviderID: *call.Sid, State: state, Price: price(call.Price, call.PriceUnit)}, nil
}

func (v voice) Check(ctx context.Context, to string, _ map[string]string) error {
	return v.t.check(ctx, to)
}

// Price asks for what a call cost. What Twilio charges beside it, such as for
// telling a machine from a person, is not in it.
func (v voice) Price(ctx context.Context, sid string) (Price, bool, error) {
	x, h := v.t.exchange(ctx)
	call, err := twilio.NewApiService(h).FetchCall(sid, nil)
	if err != nil {
		return Price{}, false, x.wrong("ask for the price of the call", err)
	}
	p := price(call.Price, call.PriceUnit)
	return p, p.Unit != "", nil
}

// Find looks for a call to the same number. It cannot see what a call was about:
// one that is known to be another delivery's does not count, and of several that
// nobody knows none does, for a second call is better than none.
func (v voice) Find(ctx context.Context, m Message, since time.Time) (Result, bool, error) {
	x, h := v.t.exchange(ctx)
	page, err := twilio.NewApiService(h).PageCall((&twilio.ListCallParams{}).SetTo(m.To).SetPageSize(findMax), "", "")
	if err != nil {
		return Result{}, false, x.wrong("look for the call", err)
	}
	var found []*twilio.ApiV2010Call
	for i := range page.Calls {
		call := &page.Calls[i]
		if created(call.DateCreated).Before(since.Add(-findSlack)) || !strings.HasPrefix(text(call.Direction), "outbound") || !v.t.seen.may(text(call.Sid), m.Delivery) {
			continue
		}
		if v.t.seen.is(text(call.Sid), m.Delivery) {
			r, err := v.result(call, m.Delivery)
			return r, err == nil, err
		}
		found = append(found, call)
	}
	if len(found) != 1 {
		return Result{}, false, nil
	}
	r, err := v.result(found[0], m.Delivery)
	return r, err == nil, err
}

// callState is what Twilio's word for a call's state means, and says. That
// somebody, or something, picked up does not mean that a person was told.
func callState(status string) (State, string) {
	switch status {
	case "ringing":
		return Sent, "it rings"
	case "in-progress", "answered":
		return Sent, "it was answered, and no key was pressed yet"
	case "completed":
		return Failed, "it was answered and nobody pressed a key: perhaps a mailbox"
	case "busy":
		return Failed, "the line was busy"
	case "no-answer":
		return Failed, "nobody answered"
	case "canceled":
		return Failed, "the call was cancelled"
	case "failed":
		return Failed, "the call could not be made"
	}
	return Accepted, "" // queued, initiated, and what may be added
}
