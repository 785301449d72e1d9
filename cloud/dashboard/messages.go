package dashboard

import (
	"cmp"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/web"
)

// messagesView shows what one channel says of one event.
type messagesView struct {
	Sections       []section
	Channel, Event string
	Channels       []struct{ Code, Word string }
	Events         []struct{ Code, Word string }
	Example        channel.Message
	Parts          []PreviewPart
	Problem        string // why it could not be drawn
}

// ChannelWord is what people call the channel.
func (v messagesView) ChannelWord() string { return wordOf(channelWords, v.Channel) }

// EventWord is what happened.
func (v messagesView) EventWord() string { return wordOf(deliveryEvents, v.Event) }

func (u *UI) messagesPage(w http.ResponseWriter, r *http.Request) {
	v := messagesView{
		Sections: u.sections("/oncall/messages"), Channel: r.URL.Query().Get("channel"), Event: r.URL.Query().Get("event"),
		Channels: channelWords, Events: deliveryEvents,
	}
	if wordOf(channelWords, v.Channel) == v.Channel {
		v.Channel = string(channel.SMS)
	}
	if wordOf(deliveryEvents, v.Event) == v.Event {
		v.Event = string(channel.Trigger)
	}
	v.Example = u.example(channel.Kind(v.Channel), channel.Event(v.Event))
	parts, err := u.d.Preview(v.Example)
	if err != nil {
		u.d.Log.Error("message not drawn", "channel", v.Channel, "err", err)
		v.Problem = "The message could not be drawn: " + err.Error()
	}
	v.Parts = parts
	u.pages.Render(w, r, http.StatusOK, "messages", web.Page{Title: "Messages", Active: "/oncall", Live: "/live/oncall", Data: v})
}

// example is a made-up message about a facility that fell silent, the region's
// first facility if there is one.
func (u *UI) example(to channel.Kind, event channel.Event) channel.Message {
	since := time.Now().Add(-3 * time.Minute).Truncate(time.Second)
	i := channel.Incident{
		ID: 4711, DedupKey: "holdfast-example", Kind: "offline", Severity: "critical",
		Tenant: "example", Facility: "example", Name: "Example plant", Region: u.d.Region, TimeZone: "UTC",
		Summary:  "The facility is silent: neither heartbeats nor the tunnel work.",
		Since:    since,
		Evidence: []string{"Last heartbeat 3 min ago.", "The tunnel does not answer.", "Nothing was received from it since."},
		Actions:  []string{"Check the internet at the facility.", "Check that the box has power.", "Check the tunnel on the facility's page.", "Call the facility."},
		URL:      "https://region.example/incidents/4711", AckURL: "https://region.example/ack/…",
	}
	if all := u.d.Fleet.Snapshot(); len(all) > 0 {
		i.Tenant, i.Facility, i.Name, i.TimeZone = all[0].Tenant, all[0].ID, cmp.Or(all[0].Name, all[0].ID), cmp.Or(all[0].TimeZone, "UTC")
	}
	switch event {
	case channel.Update:
		i.AckedBy = "Maria Lopez"
	case channel.Resolve:
		i.Resolved = since.Add(2 * time.Minute)
	}
	return channel.Message{Delivery: "0d4b6f5e-0000-4000-8000-000000000000", Event: event, Kind: to, Contact: "Maria Lopez", Incident: i}
}
