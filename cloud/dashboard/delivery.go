package dashboard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// channelWords in the order of lists, and what people call them.
var channelWords = []struct{ Code, Word string }{
	{"sms", "SMS"},
	{"voice", "Phone call"},
	{"email", "Email"},
	{"teams", "Teams"},
	{"slack", "Slack"},
	{"pagerduty", "PagerDuty"},
	{"webhook", "Webhook"},
	{"mqtt", "MQTT"},
}

var deliveryEvents = []struct{ Code, Word string }{
	{"trigger", "It is wrong"}, {"update", "News of it"}, {"resolve", "It is over"}, {"test", "Test"},
}

// far says, for each channel, who took a message when its provider did, and
// where it is when it arrived.
var far = map[string]struct{ taken, arrived string }{
	"sms":       {"taken by the provider, not yet at the phone", "at the phone; nobody has answered yet"},
	"voice":     {"taken by the provider, the phone does not ring yet", ""}, // a call that ends without a key has failed
	"email":     {"taken by the mail server; whether it is in the mailbox is not known", "in the mailbox; nobody has answered yet"},
	"teams":     {"taken by Teams; whether it shows there is not known", "shown in Teams; nobody has answered yet"},
	"slack":     {"taken by Slack, not seen by anybody as far as is known", "shown in Slack; nobody has answered yet"},
	"pagerduty": {"taken by PagerDuty, which tells its own people", "an alert in PagerDuty"},
	"webhook":   {"taken by the receiver", "the receiver has said that it has it"},
	"mqtt":      {"taken by the broker", "at the subscriber"},
}

// deliveryLine is a delivery in words.
type deliveryLine struct {
	v1.Delivery
	Zone *time.Location
	// Why it was cancelled, if it was.
	Why string
}

// ChannelWord is what people call the channel.
func (d deliveryLine) ChannelWord() string { return wordOf(channelWords, d.Channel) }

// EventWord is why the message is sent.
func (d deliveryLine) EventWord() string { return wordOf(deliveryEvents, d.Event) }

// StepNo is the policy's step, as people count.
func (d deliveryLine) StepNo() int { return d.Step + 1 }

// Who is who is told.
func (d deliveryLine) Who() string { return cmp.Or(d.Name, "a contact that was removed") }

// AudienceWord is whose people they are.
func (d deliveryLine) AudienceWord() string {
	if d.Audience == "operations" {
		return "the region's people"
	}
	return "the facility's people"
}

// Shown is the delivery's state as people see it.
func (d deliveryLine) Shown() web.State {
	switch d.State {
	case "pending":
		return web.State{Kind: "waiting", Word: "Waiting"}
	case "held":
		return web.State{Kind: "waiting", Word: "Held"}
	case "leased":
		return web.State{Kind: "busy", Word: "Sending"}
	case "accepted":
		return web.State{Kind: "sent", Word: "Taken"}
	case "sent":
		return web.State{Kind: "sent", Word: "On its way"}
	case "delivered":
		return web.State{Kind: "ok", Word: "Arrived"}
	case "reached":
		return web.State{Kind: "ok", Word: "Answered"}
	case "failed":
		return web.State{Kind: "bad", Word: "Failed"}
	case "cancelled":
		return web.State{Kind: "gone", Word: "Not sent"}
	case "capped":
		return web.State{Kind: "warn", Word: "Held back"}
	case "expired":
		return web.State{Kind: "warn", Word: "Too late"}
	}
	return web.State{Kind: "unknown", Word: d.State}
}

// Plain says the same in a sentence.
func (d deliveryLine) Plain() string {
	until := d.NotBefore.In(d.Zone).Format("15:04:05 MST")
	because := func(s string) string {
		why := cmp.Or(d.HeldReason, d.Error, d.Why)
		if _, reason, ok := strings.Cut(why, ", because "); ok {
			why = reason // which says until when it is held as well, by another clock
		}
		if why == "" {
			return s
		}
		return s + ", because " + lower(strings.TrimSuffix(why, "."))
	}
	switch d.State {
	case "pending":
		if d.NotBefore.After(d.CreatedAt) {
			if d.Error != "" && d.HeldReason == "" {
				return fmt.Sprintf("tried again at %s, because the last try failed: %s", until, d.Error)
			}
			return because("held until " + until)
		}
		return "waits for its turn to be sent"
	case "held":
		return because("held until " + until)
	case "leased":
		return "is being handed to the provider"
	case "accepted":
		return cmp.Or(far[d.Channel].taken, "taken by the provider")
	case "sent":
		if d.Channel == "voice" {
			return cmp.Or(d.heard(), "the phone rings")
		}
		return "on its way; it has not arrived yet"
	case "delivered":
		return cmp.Or(far[d.Channel].arrived, "it has arrived")
	case "reached":
		return "a person has answered"
	case "failed":
		return cmp.Or(d.Error, "will not arrive")
	case "cancelled":
		return because("not sent any more")
	case "capped":
		return because("held back for good")
	case "expired":
		return because("it was not sent in time and would only confuse now")
	}
	return ""
}

// heard is the last that the provider said in words of a message on its way.
func (d deliveryLine) heard() string {
	for _, r := range slices.Backward(d.Receipts) {
		if r.State == "sent" && r.Detail != "" {
			return r.Detail
		}
	}
	return ""
}

// Moved is when it last moved.
func (d deliveryLine) Moved() time.Time {
	at := d.CreatedAt
	for _, t := range []*time.Time{d.AcceptedAt, d.DoneAt} {
		if t != nil && t.After(at) {
			at = *t
		}
	}
	for _, r := range d.Receipts {
		if r.At.After(at) {
			at = r.At
		}
	}
	return at
}

// Running reports that it may still go further.
func (d deliveryLine) Running() bool {
	switch d.State {
	case "pending", "held", "leased", "accepted", "sent":
		return true
	}
	return false
}

// CostText is what it cost, "" when that is not known.
func (d deliveryLine) CostText() string { return costText(d.Cost, d.CostUnit) }

// costText writes millionths of a currency; "" when there is none.
func costText(micros int64, unit string) string {
	if unit == "" {
		return ""
	}
	return fmt.Sprintf("%.4f %s", float64(micros)/1e6, unit)
}

// receiptWord is what a provider's word means to people.
func receiptWord(r v1.Receipt) web.State {
	return deliveryLine{Delivery: v1.Delivery{State: r.State}}.Shown()
}

// receiptLine is what a provider said later.
type receiptLine struct {
	v1.Receipt
	Shown web.State
}

// Words are the receipts, oldest first.
func (d deliveryLine) Words() []receiptLine {
	out := make([]receiptLine, len(d.Receipts))
	for i, r := range d.Receipts {
		out[i] = receiptLine{r, receiptWord(r)}
	}
	return out
}

// lower makes a sentence fit behind a comma; what begins with a name or an
// abbreviation stays.
func lower(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'a' && s[1] <= 'z' {
		first, _, _ := strings.Cut(s, " ")
		switch strings.ToLower(first) {
		case "the", "a", "an", "there", "it", "its", "this", "too", "more", "only", "after", "somebody", "nobody", "another", "at", "no":
			return strings.ToLower(s[:1]) + s[1:]
		}
	}
	return s
}

// upper begins a sentence.
func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
