package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	facilityEvery = time.Second     // a live facility page looks this often
	recordEvery   = 2 * time.Second // and asks the database this often
	readTimeout   = 5 * time.Second
	sampleSeconds = 5 // between two points of the fleet's history
)

// facilityView is one facility's page.
type facilityView struct {
	fleet.Detail
	record
	Shown             web.State
	Heartbeat, Tunnel string // lamps
	Stream            string
	HeardAt, TunnelAt time.Time
	Zone              *time.Location // of the facility
	Now               time.Time
	// Problem is set when the region's database did not answer; what it holds
	// is then as it was read last.
	Problem string
	Alerts  alertsBanner
}

// Title is the facility's name for people.
func (v facilityView) Title() string { return cmp.Or(v.Name, v.ID) }

// LagText says the lag, or that it is not known.
func (v facilityView) LagText() string { return lagText(v.FacilityStatus) }

// Old reports that the figures are from before the facility fell silent.
func (v facilityView) Old() bool { return silent(v.State) }

// StreamEvents are the newest events of the stream.
func (v facilityView) StreamEvents() []streamEvent { return v.record.Events }

// Stuck is what the stream waits for: the newest refusal, as long as nothing
// was applied since. Nil if it does not wait.
func (v facilityView) Stuck() *streamEvent {
	for i, e := range v.record.Events {
		if e.Kind != "stuck" {
			continue
		}
		if v.Position != nil && v.Position.AppliedAt.After(e.At) {
			return nil
		}
		return &v.record.Events[i]
	}
	return nil
}

// TempText is the box's temperature, "" if it does not tell.
func (v facilityView) TempText() string {
	if v.Temperature == nil {
		return ""
	}
	return fmt.Sprintf("%.0f °C", *v.Temperature)
}

// FullText says when the facility's queue will be full; "" when that is not to
// be expected.
func (v facilityView) FullText() string {
	at := v.Queue.FullAt
	if at == nil {
		return ""
	}
	if left := at.Sub(v.Now); left > 0 {
		return "full in about " + web.Span(left) + " at this rate"
	}
	return "full about now"
}

// LocalTime is the time of day at the facility.
func (v facilityView) LocalTime() string { return v.Now.In(v.Zone).Format("Mon 15:04 MST") }

// Incarnation is the upper half of an epoch: which box it was.
func (p position) Incarnation() int64 { return p.Epoch >> 32 }

// Counter is the lower half of an epoch: how often that box began anew.
func (p position) Counter() int64 { return p.Epoch & 0xffffffff }

// Shown is a table's state as people see it.
func (t tableAt) Shown() web.State {
	switch t.State {
	case "streaming":
		return web.State{Kind: "ok", Word: "Streaming"}
	case "loading":
		return web.State{Kind: "busy", Word: "Loading"}
	case "left_out":
		return web.State{Kind: "bad", Word: "Left out"}
	case "row_missing":
		return web.State{Kind: "warn", Word: "Rows not found"}
	case "refused":
		return web.State{Kind: "bad", Word: "Refused"}
	}
	return web.State{Kind: "waiting", Word: "Waiting"}
}

// TableState is a table's state; one that streams does so only while there is a stream.
func (v facilityView) TableState(t tableAt) web.State {
	if t.State == "streaming" && (v.Old() || !v.FacilityStatus.Stream) {
		return web.State{Kind: "waiting", Word: "Waits for the stream"}
	}
	return t.Shown()
}

// Shown is a stream event's kind as people see it.
func (e streamEvent) Shown() web.State {
	switch e.Kind {
	case "epoch":
		return web.State{Kind: "idle", Word: "New epoch"}
	case "gap":
		return web.State{Kind: "warn", Word: "Gap"}
	case "region_restored":
		return web.State{Kind: "warn", Word: "Region restored"}
	case "box_restored":
		return web.State{Kind: "warn", Word: "Box restored"}
	case "heal":
		return web.State{Kind: "ok", Word: "Healed"}
	case "difference":
		return web.State{Kind: "bad", Word: "Differs"}
	case "repaired":
		return web.State{Kind: "ok", Word: "Repaired"}
	case "stuck":
		return web.State{Kind: "bad", Word: "Stuck"}
	case "parked":
		return web.State{Kind: "warn", Word: "Parked"}
	case "load_waits":
		return web.State{Kind: "warn", Word: "Load waits"}
	case "passed_over":
		return web.State{Kind: "bad", Word: "Passed over"}
	case "refused":
		return web.State{Kind: "bad", Word: "Refused"}
	}
	return web.State{Kind: "idle", Word: e.Kind}
}

// readRecord takes what the database knows of a facility.
func (u *UI) readRecord(ctx context.Context, id string) (record, error) {
	rec, err := u.readTables(ctx, id)
	if err != nil {
		return rec, err
	}
	n, many, err := u.desk.Open(ctx, id)
	if err != nil {
		return rec, err
	}
	switch {
	case many:
		rec.Conflicts = web.Count(n) + "+"
	case n > 0:
		rec.Conflicts = web.Count(n)
	}
	return rec, nil
}

// look puts a facility's view together. rec is the last record that was read.
func (u *UI) look(id string, rec record) (facilityView, bool) {
	d, ok := u.d.Fleet.Facility(id)
	if !ok {
		return facilityView{}, false
	}
	v := facilityView{Detail: d, record: rec, Now: time.Now(), Zone: time.UTC}
	v.Shown, _ = stateOf(d.State)
	v.Heartbeat, v.Tunnel = lampOf(d.State, d.FacilityStatus.Heartbeat), lampOf(d.State, d.FacilityStatus.Tunnel)
	v.Stream = lampOf(d.State, d.FacilityStatus.Stream)
	if t := d.LastHeardAt; t != nil {
		v.HeardAt = *t
	}
	if t := d.FacilityStatus.TunnelAt; t != nil {
		v.TunnelAt = *t
	}
	if zone, err := time.LoadLocation(d.TimeZone); err == nil {
		v.Zone = zone
	}
	return v, true
}

func (u *UI) facilityPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	rec, err := u.readRecord(ctx, id)
	v, ok := u.look(id, rec)
	if !ok {
		u.site.Error(w, r, http.StatusNotFound, errNoFacility)
		return
	}
	if err != nil {
		u.d.Log.Error("facility not read", "facility", id, "err", err)
		v.Problem = recordProblem
	}
	v.Alerts = u.alertsBanner(ctx, id)
	u.pages.Render(w, r, http.StatusOK, "facility", web.Page{
		Title: v.Title(), Active: "/", Live: "/live/facility/" + id, Charts: true, Data: v,
	})
}

const recordProblem = "The region's database did not answer. Positions, tables and events below are as they were read last."

// facilityFeed is the live connection of one facility page.
func (u *UI) facilityFeed(r *http.Request) (web.Feed, error) {
	id := r.PathValue("id")
	if _, ok := u.d.Fleet.Facility(id); !ok {
		return web.Feed{}, errNoFacility
	}
	l := &facilityLive{u: u, id: id}
	return web.Feed{Every: facilityEvery, Frame: l.frame}, nil
}

// facilityLive is one connection's state.
type facilityLive struct {
	u       *UI
	id      string
	rec     record
	readAt  time.Time
	problem string
	drawnTo int64 // second of the last point that was sent
}

func (l *facilityLive) frame(ctx context.Context) (web.Frame, error) {
	if time.Since(l.readAt) >= recordEvery {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		rec, err := l.u.readRecord(ctx, l.id)
		cancel()
		l.readAt = time.Now()
		if err == nil {
			l.rec, l.problem = rec, ""
		} else {
			l.problem = recordProblem
		}
	}
	v, ok := l.u.look(l.id, l.rec)
	if !ok {
		return web.Frame{}, errNoFacility
	}
	v.Problem = l.problem
	v.Alerts = l.u.alertsBanner(ctx, l.id)
	f := web.Frame{Parts: l.u.badgeParts(ctx)}
	banner, err := l.u.pages.Fragment("alerts-banner", v.Alerts)
	if err != nil {
		return web.Frame{}, err
	}
	f.Parts = append(f.Parts, web.Part{ID: "alerts-banner", HTML: banner})
	for _, name := range []string{"facility-head", "facility-cards", "facility-tables", "facility-events", "facility-facts"} {
		html, err := l.u.pages.Fragment(name, v)
		if err != nil {
			return web.Frame{}, err
		}
		f.Parts = append(f.Parts, web.Part{ID: name, HTML: html})
	}
	f.Series = l.points(v)
	return f, nil
}

// points are the charts' news: the history at first, then one point a second.
// While a facility is silent nobody knows its queue and lag: that is a gap.
func (l *facilityLive) points(v facilityView) map[string]web.Series {
	reset := l.drawnTo == 0
	empty := func() web.Series { return web.Series{Reset: reset, T: []float64{}, V: []*float64{}} } // [] in JSON, not null
	lag, queue, rate := empty(), empty(), empty()
	add := func(s *web.Series, at int64, known bool, value float64) {
		s.T = append(s.T, float64(at))
		if known {
			s.V = append(s.V, &value)
		} else {
			s.V = append(s.V, nil)
		}
	}
	now := v.Now.Unix()
	if reset {
		for _, p := range v.History {
			if p.At >= now {
				continue
			}
			heard := !silent(string(p.State))
			add(&lag, p.At, heard, float64(p.LagMs))
			add(&queue, p.At, heard, float64(p.QueueTransactions))
			add(&rate, p.At, true, float64(p.Changes)/sampleSeconds)
			l.drawnTo = p.At
		}
	}
	if now > l.drawnTo {
		l.drawnTo = now
		heard := !v.Old()
		ms := int64(0)
		if v.Lag != nil {
			ms = *v.Lag
		}
		add(&lag, now, heard && v.Lag != nil, float64(ms))
		add(&queue, now, heard && v.ReportedAt != nil, float64(v.Queue.Transactions))
		add(&rate, now, true, v.Throughput.ChangeRate)
	}
	if len(queue.T) == 0 {
		return nil
	}
	return map[string]web.Series{"lag": lag, "queue": queue, "rate": rate}
}
