package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

var errNoIncident = hint.Wrap(errors.New("there is no such incident in this region"), "Look for it in the list of incidents.")

// incidentView is one incident's page.
type incidentView struct {
	incidentLine
	Timeline   []eventLine
	Deliveries []deliveryLine
	Parts      []incidentLine
	Actions    []string
	Next       []nextStep
	Held       []heldBy
	Zone       *time.Location // of the facility
	Wrong      *wrong
	Note       string // what was typed
	// Problem is set when the database did not answer; what is shown is then as
	// it was read last.
	Problem string
}

// eventLine is one line of the timeline.
type eventLine struct{ v1.IncidentEvent }

// Shown is the event as people see it.
func (e eventLine) Shown() web.State {
	switch e.What {
	case "opened":
		return web.State{Kind: "bad", Word: "Opened"}
	case "escalated":
		return web.State{Kind: "warn", Word: "Next step"}
	case "told":
		return web.State{Kind: "sent", Word: "Told"}
	case "receipt":
		return web.State{Kind: "sent", Word: "Receipt"}
	case "acknowledged":
		return web.State{Kind: "busy", Word: "Acknowledged"}
	case "reminded":
		return web.State{Kind: "warn", Word: "Reminded"}
	case "resolved":
		return web.State{Kind: "ok", Word: "Resolved"}
	case "held":
		return web.State{Kind: "waiting", Word: "Held"}
	case "noted":
		return web.State{Kind: "idle", Word: "Note"}
	}
	return web.State{Kind: "idle", Word: e.What}
}

// CostText is what its SMS and calls cost, as far as the provider has said it; ""
// when there were none.
func (v incidentView) CostText() string {
	known, more := costText(v.Cost, v.CostUnit), "one"
	if v.Unpriced > 1 {
		more = web.Count(v.Unpriced)
	}
	switch {
	case v.Unpriced == 0:
		return known
	case known == "":
		return "not known (yet)"
	}
	return known + "; the price of " + more + " more is not known (yet)"
}

// There is a time by the facility's clock, "" where that is the site's.
func (v incidentView) There(t time.Time) string {
	if v.Zone == nil {
		return ""
	}
	return t.In(v.Zone).Format("Mon 2 Jan 15:04:05 MST")
}

// incidentView reads one incident.
func (u *UI) incidentView(ctx context.Context, id int64, work bool) (incidentView, error) {
	d, err := u.d.Alerts.Detail(ctx, id)
	if err != nil {
		return incidentView{}, err
	}
	v := incidentView{incidentLine: incidentLine{Incident: d.Incident, CanWork: work}}
	if zone, err := time.LoadLocation(d.TimeZone); err == nil && d.Facility != "" && zone.String() != u.site.Zone().String() {
		v.Zone = zone
	}
	for _, e := range d.Timeline {
		v.Timeline = append(v.Timeline, eventLine{e})
	}
	for _, one := range d.Deliveries {
		line := deliveryLine{Delivery: one, Zone: u.site.Zone()}
		switch {
		case one.State != "cancelled":
		case d.AckedAt != nil && (d.ResolvedAt == nil || d.AckedAt.Before(*d.ResolvedAt)):
			line.Why = "somebody has answered"
		case d.ResolvedAt != nil:
			line.Why = "it was over"
		}
		v.Deliveries = append(v.Deliveries, line)
	}
	for _, p := range d.Parts {
		v.Parts = append(v.Parts, incidentLine{Incident: p})
	}
	if v.Open() {
		v.Actions = channel.Actions(detect.Kind(d.Kind), d.Facility, u.d.Support)
		if v.Next, v.Held, err = u.nextSteps(ctx, d.Incident); err != nil {
			return incidentView{}, err
		}
	}
	return v, nil
}

func (u *UI) incidentPage(w http.ResponseWriter, r *http.Request) {
	u.showIncident(w, r, http.StatusOK, nil)
}

func (u *UI) showIncident(w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	v, err := u.incidentView(ctx, pathID(r, "id"), canWork(r))
	if notFound(err) {
		u.site.Error(w, r, http.StatusNotFound, errNoIncident)
		return
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	if v.Wrong = what; what != nil {
		v.Note = note(r)
	}
	u.pages.Render(w, r, status, "incident", web.Page{
		Title: v.Title() + ": " + v.What(), Active: "/incidents", Live: fmt.Sprintf("/live/incidents/%d", v.ID), Data: v,
	})
}

// acknowledge takes an incident on.
func (u *UI) acknowledge(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	id := pathID(r, "id")
	_, err := u.d.Alerts.AcknowledgeBy(r.Context(), id, whoIs(r), "dashboard", note(r))
	u.open.forget()
	if taken, ok := errors.AsType[*alert.TakenError](err); ok && taken.By == whoIs(r) {
		err = nil // sent twice
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showIncident(w, r, status, what) })
		return
	}
	http.Redirect(w, r, "/incidents/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
}

var errBadForm = hint.Wrap(errors.New("the form could not be read"), "Go back and send it again.")

// incidentFeed is the live connection of one incident's page.
func (u *UI) incidentFeed(r *http.Request) (web.Feed, error) {
	id, work := pathID(r, "id"), canWork(r)
	var last incidentView
	return web.Feed{
		Every: incidentsEvery,
		Frame: func(ctx context.Context) (web.Frame, error) {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			v, err := u.incidentView(ctx, id, work)
			switch {
			case err == nil:
				last = v
			case last.ID == 0 || notFound(err):
				return web.Frame{}, err
			default:
				v = last
				v.Problem = "The region's database did not answer. What is below is as it was read last."
			}
			f := web.Frame{Parts: u.badgeParts(ctx)}
			for _, name := range []string{"incident-head", "incident-take", "incident-facts", "incident-next", "incident-parts", "incident-deliveries", "incident-timeline"} {
				html, err := u.pages.Fragment(name, v)
				if err != nil {
					return web.Frame{}, err
				}
				f.Parts = append(f.Parts, web.Part{ID: name, HTML: html})
			}
			return f, nil
		},
	}, nil
}
