package dashboard

import (
	"context"
	"net/http"
	"slices"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// channelLine is one of the region's channels in words.
type channelLine struct{ v1.ChannelState }

// Name is what people call it.
func (c channelLine) Name() string { return wordOf(channelWords, c.Channel) }

// Shown is how the channel fares, as people see it.
func (c channelLine) Shown() web.State {
	switch {
	case !c.Ready && c.Waiting > 0:
		return web.State{Kind: "bad", Word: "Not set up, and needed"}
	case !c.Ready:
		return web.State{Kind: "idle", Word: "Not set up"}
	case c.Broken:
		return web.State{Kind: "bad", Word: "Provider fails"}
	case c.Problem != "":
		return web.State{Kind: "warn", Word: "Ready, with a problem"}
	case takenOnly(c.Channel, c.ProvedAt, c.TakenAt):
		return web.State{Kind: "sent", Word: "Ready, not answered"}
	case c.ProvedAt == nil:
		return web.State{Kind: "warn", Word: "Never proved"}
	case time.Since(*c.ProvedAt) > proofOld:
		return web.State{Kind: "warn", Word: "Not proved for a week"}
	}
	return web.State{Kind: "ok", Word: "Ready"}
}

type channelsView struct {
	Sections []section
	Channels []channelLine
}

// channelLines are all channels, in the order of channelWords.
func (u *UI) channelLines(ctx context.Context) ([]channelLine, error) {
	list, err := u.d.Alerts.ChannelStates(ctx)
	if err != nil {
		return nil, err
	}
	var out []channelLine
	for _, k := range channelWords {
		i := slices.IndexFunc(list, func(c v1.ChannelState) bool { return c.Channel == k.Code })
		if i < 0 {
			out = append(out, channelLine{v1.ChannelState{Channel: k.Code}})
			continue
		}
		out = append(out, channelLine{list[i]})
	}
	return out, nil
}

func (u *UI) channelsPage(w http.ResponseWriter, r *http.Request) {
	list, err := u.channelLines(r.Context())
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	u.pages.Render(w, r, http.StatusOK, "channels", web.Page{
		Title: "Channels", Active: "/oncall", Live: "/live/oncall/channels", Data: channelsView{u.sections("/oncall/channels"), list},
	})
}

// channelsFeed is the live connection of the channels' page.
func (u *UI) channelsFeed(*http.Request) (web.Feed, error) {
	return web.Feed{
		Every: 2 * time.Second,
		Frame: func(ctx context.Context) (web.Frame, error) {
			list, err := u.channelLines(ctx)
			if err != nil {
				return web.Frame{}, err
			}
			html, err := u.pages.Fragment("channels-table", channelsView{Channels: list})
			if err != nil {
				return web.Frame{}, err
			}
			return web.Frame{Parts: append(u.badgeParts(ctx), web.Part{ID: "channels-table", HTML: html})}, nil
		},
	}, nil
}
