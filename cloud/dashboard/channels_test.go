package dashboard

import (
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestAChannelIsReadyOnlyWhenItWasProvedWithinAWeek(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) *time.Time { at := time.Now().Add(-d); return &at }
	for _, c := range []struct {
		is   v1.ChannelState
		want string
	}{
		{v1.ChannelState{Problem: "no access"}, "Not set up"},
		{v1.ChannelState{Problem: "no access", Waiting: 2}, "Not set up, and needed"},
		{v1.ChannelState{Ready: true, Broken: true, Problem: "503", ProvedAt: ago(time.Minute)}, "Provider fails"},
		{v1.ChannelState{Ready: true}, "Never proved"},
		{v1.ChannelState{Ready: true, ProvedAt: ago(8 * 24 * time.Hour)}, "Not proved for a week"},
		{v1.ChannelState{Ready: true, ProvedAt: ago(time.Hour)}, "Ready"},
		{v1.ChannelState{Channel: "teams", Ready: true, TakenAt: ago(time.Hour)}, "Ready, not answered"},
		{v1.ChannelState{Channel: "email", Ready: true, ProvedAt: ago(8 * 24 * time.Hour), TakenAt: ago(8 * 24 * time.Hour)}, "Not proved for a week"},
		{v1.ChannelState{Channel: "email", Ready: true, ProvedAt: ago(time.Hour), TakenAt: ago(time.Hour)}, "Ready"},
		{v1.ChannelState{Channel: "sms", Ready: true, TakenAt: ago(time.Hour)}, "Never proved"}, // a receipt would have come
	} {
		if got := (channelLine{c.is}).Shown().Word; got != c.want {
			t.Errorf("%+v is %q, not %q", c.is, got, c.want)
		}
	}
}

func TestEachStateOfAMessageIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 3, 3, 5, 0, time.UTC)
	for _, c := range []struct {
		is   v1.Delivery
		want string
	}{
		{v1.Delivery{State: "pending"}, "waits for its turn to be sent"},
		{v1.Delivery{State: "pending", Error: "503 Service Unavailable", NotBefore: at.Add(9 * time.Minute)}, "tried again at 03:12:05 UTC, because the last try failed: 503 Service Unavailable"},
		{v1.Delivery{State: "held", HeldReason: "held until 04:12:05 CET, because this number has had 5 messages within 15 min", NotBefore: at.Add(9 * time.Minute)}, "held until 03:12:05 UTC, because this number has had 5 messages within 15 min"},
		{v1.Delivery{State: "held", HeldReason: "There is announced work.", NotBefore: at.Add(9 * time.Minute)}, "held until 03:12:05 UTC, because there is announced work"},
		{v1.Delivery{State: "leased"}, "is being handed to the provider"},
		{v1.Delivery{State: "accepted", Channel: "sms"}, "taken by the provider, not yet at the phone"},
		{v1.Delivery{State: "accepted", Channel: "teams"}, "taken by Teams; whether it shows there is not known"},
		{v1.Delivery{State: "sent", Channel: "voice"}, "the phone rings"},
		{v1.Delivery{State: "sent", Channel: "voice", Receipts: []v1.Receipt{{State: "accepted"}, {State: "sent", Detail: "it rings"}}}, "it rings"},
		{v1.Delivery{State: "sent", Channel: "voice", Receipts: []v1.Receipt{{State: "sent", Detail: "it rings"}, {State: "sent", Detail: "it was answered, and no key was pressed yet"}}}, "it was answered, and no key was pressed yet"},
		{v1.Delivery{State: "failed", Channel: "voice", Error: "it was answered and nobody pressed a key: perhaps a mailbox"}, "it was answered and nobody pressed a key: perhaps a mailbox"},
		{v1.Delivery{State: "reached", Channel: "voice"}, "a person has answered"},
		{v1.Delivery{State: "failed", Error: "21211: no such number"}, "21211: no such number"},
		{v1.Delivery{State: "capped", Error: "this number has had 20 messages of the incident"}, "held back for good, because this number has had 20 messages of the incident"},
		{v1.Delivery{State: "expired"}, "it was not sent in time and would only confuse now"},
	} {
		c.is.CreatedAt = at
		d := deliveryLine{Delivery: c.is, Zone: time.UTC}
		if got := d.Plain(); got != c.want {
			t.Errorf("%s: %q, not %q", c.is.State, got, c.want)
		}
		if d.Shown().Kind == "unknown" {
			t.Errorf("%s has no sign", c.is.State)
		}
	}
}

func TestWhatAnIncidentCostIsShownAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	for want, i := range map[string]v1.Incident{
		"":                {Told: 3}, // by email
		"not known (yet)": {Unpriced: 2},
		"0.0079 EUR; the price of 2 more is not known (yet)": {Cost: 7900, CostUnit: "EUR", Unpriced: 2},
		"0.0158 USD": {Cost: 15800, CostUnit: "USD"},
		"0.0079 EUR; the price of one more is not known (yet)": {Cost: 7900, CostUnit: "EUR", Unpriced: 1},
	} {
		if got := (incidentView{incidentLine: incidentLine{Incident: i}}).CostText(); got != want {
			t.Errorf("%+v: %q, want %q", i, got, want)
		}
	}
}
