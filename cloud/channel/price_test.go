package channel_test

import (
	"testing"

	"github.com/agogsaas/holdfast/cloud/channel"
)

func TestWhatAMessageCostIsKnownOnceTwilioSaysIt(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	sms, call := l.message(channel.SMS, channel.Trigger), l.message(channel.Voice, channel.Trigger)
	ids := map[channel.Kind]string{channel.SMS: l.send(t, sms).ProviderID, channel.Voice: l.send(t, call).ProviderID}
	got := l.peer.Phone(ana).ExpectSMS(t, "Los Angeles")
	l.peer.Phone(ana).ExpectCall(t).HangUp()
	l.inbox.reaches(t, sms.Delivery, channel.Delivered)
	l.inbox.reaches(t, call.Delivery, channel.Failed) // it was answered, and no key was pressed

	want := map[channel.Kind]int64{channel.SMS: 7500 * int64(got.Segments), channel.Voice: 14000}
	for kind := range want {
		pricer, ok := l.senders[kind].(channel.Pricer)
		if !ok {
			t.Fatalf("%s has no price", kind)
		}
		if p, ok, err := pricer.Price(t.Context(), ids[kind]); ok || err != nil || p != (channel.Price{}) {
			t.Errorf("%s: Twilio does not know it yet, and it is %+v, %v, %v", kind, p, ok, err)
		}
	}
	l.peer.Bill()
	for kind, want := range want {
		pricer := l.senders[kind].(channel.Pricer)
		if p, ok, err := pricer.Price(t.Context(), ids[kind]); !ok || err != nil || p != (channel.Price{Micros: want, Unit: "USD"}) {
			t.Errorf("%s: %+v, %v, %v; want %d", kind, p, ok, err, want)
		}
		if _, ok, err := pricer.Price(t.Context(), "SM00000000000000000000000000000000"); ok || !channel.IsPermanent(err) {
			t.Errorf("%s: what Twilio does not have costs %v, %v", kind, ok, err)
		}
	}
}
