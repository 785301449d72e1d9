package dashboard

import (
	"net/http"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/web"
)

// Texts say what messages say. *channel.Texts is one.
type Texts interface {
	// Preview is what a channel says of an event of a made-up incident.
	Preview(kind channel.Kind, event channel.Event) (channel.Text, error)
}

// messagesView shows what one channel says of one event.
type messagesView struct {
	Sections       []section
	Channel, Event string
	Channels       []struct{ Code, Word string }
	Events         []struct{ Code, Word string }
	Text           channel.Text
	Problem        string // why it could not be drawn
}

// ChannelWord is what people call the channel.
func (v messagesView) ChannelWord() string { return wordOf(channelWords, v.Channel) }

// EventWord is what happened.
func (v messagesView) EventWord() string { return wordOf(deliveryEvents, v.Event) }

// Spoken reports that it is said, not written.
func (v messagesView) Spoken() bool { return v.Channel == string(channel.Voice) }

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
	var err error
	if v.Text, err = u.d.Texts.Preview(channel.Kind(v.Channel), channel.Event(v.Event)); err != nil {
		u.d.Log.Error("message not drawn", "channel", v.Channel, "err", err)
		v.Problem = "The message could not be drawn: " + err.Error()
	}
	u.pages.Render(w, r, http.StatusOK, "messages", web.Page{Title: "Messages", Active: "/oncall", Live: "/live/oncall", Data: v})
}
