package localui

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/internal/web"
)

// catchUpAfter is how old the oldest waiting change must be before the pages
// speak of catching up; younger ones are simply on their way.
const catchUpAfter = 15 * time.Second

// queueNearlyFull is the share of its limit from which the queue is a worry.
const queueNearlyFull = 0.8

// Report is all that the status page and the banner show.
type Report struct {
	Link     Link
	Queue    Queue
	Database Database
	Box      Box
	Stalls   []Stall
	Region   string
	// Kind, Icon, Title and Text are the one thing to say first.
	Kind, Icon, Title, Text string
	// Well is true when there is nothing to say on the pages of work.
	Well bool
}

func (u *UI) report() Report {
	r := Report{Link: u.d.Link(), Queue: u.d.Queue(), Database: u.d.Database(), Box: u.d.Box(), Region: u.d.Region}
	if u.d.Stalls != nil {
		r.Stalls = u.d.Stalls()
	}
	r.judge(time.Now())
	return r
}

// fullSoon is when the room for unsent changes is a worry by its forecast.
const fullSoon = 6 * time.Hour

// judge finds the words. The worst comes first.
func (r *Report) judge(now time.Time) {
	say := func(kind, icon, title, text string) { r.Kind, r.Icon, r.Title, r.Text = kind, icon, title, text }
	full := r.Queue.MaxBytes > 0 && float64(r.Queue.Bytes) > queueNearlyFull*float64(r.Queue.MaxBytes) || r.Queue.FullIn > 0 && r.Queue.FullIn < fullSoon
	switch {
	case !r.Database.Up:
		say("bad", "database-off", "This box's database is not running.",
			"Nothing can be saved right now. It is started again by itself; what was saved is safe. If this stays for five minutes, call support.")
	case r.Queue.Problem != "":
		say("bad", "filled-alert-triangle", "The queue of unsent changes has a problem.",
			"Keep working: everything is saved in this box's database. Support needs to look at the box: "+r.Queue.Problem)
	case !r.Link.Enrolled:
		say("info", "plug-connected-x", "This box is not connected to a region yet.",
			"You can work: everything is saved here. It is sent once the box has been introduced.")
	case r.Link.Replaced:
		say("bad", "plug-connected-x", "Another box has taken this one's place.",
			"What is saved here is not sent any more. It is kept on this box for review. Work on the other box, and call support.")
	case r.Link.Refused && full:
		say("bad", "filled-alert-triangle", "The region cannot take the changes, and the room for unsent changes is nearly full.",
			"Keep working: everything is saved here. Please call support soon.")
	case r.Link.Refused:
		say("warn", "filled-alert-triangle", "The region cannot take the changes now.",
			"Keep working: everything is saved here and will be sent by itself. Support needs to look at the region: the status page says why.")
	case len(r.Stalls) > 0 && r.Link.Up:
		say("warn", "filled-alert-triangle", "Something on this box stands still.",
			"Keep working: everything is saved here. Support needs to look at the box: "+r.Stalls[0].Text+".")
	case !r.Link.Up && full:
		say("bad", "cloud-off", "Internet is down, and the room for unsent changes is nearly full.",
			"Keep working: everything is saved here and will be sent by itself. Please get the internet repaired soon.")
	case !r.Link.Up:
		say("warn", "cloud-off", "Internet is down.",
			"Keep working: everything is saved here and will be sent by itself.")
	case r.Link.Stuck != "":
		say("warn", "filled-alert-triangle", "A change from the region cannot be taken in here.",
			"Keep working: what you save is sent as always. Support needs to look: the status page says why.")
	case r.Link.Parked > 0:
		say("warn", "filled-alert-triangle", r.Link.ParkedText()+".",
			"Keep working: everything else comes and goes as always. Support needs to look: the status page says why.")
	case len(r.Queue.LeftOut) > 0:
		say("warn", "filled-alert-triangle", "Something that was saved here cannot be sent.",
			"Keep working: it is safe on this box, and everything else comes and goes as always. Support needs to look: the status page says why.")
	case !r.Queue.Oldest.IsZero() && now.Sub(r.Queue.Oldest) > catchUpAfter:
		say("info", "cloud-up", "Back online. Sending what was saved.",
			"Keep working as usual. The region is catching up.")
	default:
		r.Well = true
		say("ok", "filled-circle-check", "Everything is working.",
			"What you save is stored on this box and sent to the region at once.")
	}
}

// ParkedText says what waits, as a sentence without its end.
func (l Link) ParkedText() string {
	if l.Parked == 1 {
		return "1 change from the region waits"
	}
	return fmt.Sprintf("%d changes from the region wait", l.Parked)
}

// LinkWord says the link's state in a word.
func (r Report) LinkWord() web.State {
	switch {
	case !r.Link.Enrolled:
		return web.State{Kind: "idle", Word: "Not connected yet"}
	case r.Link.Replaced:
		return web.State{Kind: "bad", Word: "Replaced"}
	case r.Link.Refused:
		return web.State{Kind: "warn", Word: "Refused"}
	case r.Link.Up:
		return web.State{Kind: "ok", Word: "Up"}
	}
	return web.State{Kind: "warn", Word: "Down"}
}

// DatabaseWord says the database's state in a word.
func (r Report) DatabaseWord() web.State {
	if r.Database.Up {
		return web.State{Kind: "ok", Word: "Working"}
	}
	return web.State{Kind: "bad", Word: "Not running"}
}

// QueueWord says the queue's state in a word.
func (r Report) QueueWord() web.State {
	switch {
	case r.Queue.Problem != "":
		return web.State{Kind: "bad", Word: "Problem"}
	case r.Queue.Changes == 0:
		return web.State{Kind: "ok", Word: "All sent"}
	case r.Link.Up && !r.Link.Refused:
		return web.State{Kind: "ok", Word: "Sending"}
	}
	return web.State{Kind: "waiting", Word: "Safely waiting"}
}

// FullText says when the queue will be full, in words; "" when that is not to
// be expected.
func (q Queue) FullText() string {
	if q.FullIn <= 0 {
		return ""
	}
	return "about " + web.Span(q.FullIn) + " at this rate"
}

// DiskShare is how much of the data disk is used, in percent; -1 if unknown.
func (r Report) DiskShare() int {
	if r.Box.DiskTotal <= 0 {
		return -1
	}
	return int(100 * (r.Box.DiskTotal - r.Box.DiskFree) / r.Box.DiskTotal)
}

func (u *UI) statusPage(w http.ResponseWriter, r *http.Request) {
	u.pages.Render(w, r, http.StatusOK, "status", web.Page{
		Title: "Status", Active: "/", Live: "/live?page=status", Data: u.report(),
	})
}

// banner is on every page; it says nothing while all is well, except on the
// status page, where that is the news.
func (u *UI) banner(r *http.Request) template.HTML {
	return u.draw("link-banner", u.report(), r.URL.Path == "/")
}

func (u *UI) draw(name string, rep Report, always bool) template.HTML {
	html, err := u.pages.Fragment(name, struct {
		Report
		Always bool
	}{rep, always})
	if err != nil {
		u.d.Log.Error("part not drawn", "part", name, "err", err)
	}
	return html
}

// feed is one page's live connection. Sources are looked at every second.
func (u *UI) feed(r *http.Request) (web.Feed, error) {
	status := r.URL.Query().Get("page") == "status"
	return web.Feed{
		Every: time.Second,
		Frame: func(context.Context) (web.Frame, error) {
			rep := u.report()
			f := web.Frame{Parts: []web.Part{{ID: "link-banner", HTML: u.draw("link-banner", rep, status)}}}
			if status {
				f.Parts = append(f.Parts, web.Part{ID: "status-cards", HTML: u.draw("status-cards", rep, true)})
			}
			return f, nil
		},
	}, nil
}
