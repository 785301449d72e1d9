package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	openEvery   = time.Second // how old the open incidents may be that all viewers share
	openTimeout = 2 * time.Second
	openPage    = 500
	openMax     = 2000 // what the pages look at; beyond it they say "more"
	// bannerNames is how many incidents a banner names.
	bannerNames = 3
)

// openIncidents are the incidents that are not over, as all viewers see them:
// they are read once for all who look.
type openIncidents struct {
	read func(ctx context.Context, f alert.Filter) ([]v1.Incident, error)

	mu   sync.Mutex
	at   time.Time
	list []incidentLine // guarded by mu; never changed, only replaced
	err  error          // guarded by mu; of the last reading
}

// now returns them, the most urgent first.
func (o *openIncidents) now(ctx context.Context) ([]incidentLine, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.at) < openEvery*4/5 {
		return o.list, o.err
	}
	// Whoever asked may leave; the others wait for the same answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTimeout)
	defer cancel()
	list, err := o.all(ctx)
	o.at, o.err = time.Now(), err
	if err == nil {
		o.list = make([]incidentLine, len(list))
		for i, one := range list {
			o.list[i] = incidentLine{Incident: one}
		}
		slices.SortFunc(o.list, byUrgency)
	}
	return o.list, o.err
}

// all reads them, a page at a time.
func (o *openIncidents) all(ctx context.Context) ([]v1.Incident, error) {
	var all []v1.Incident
	f := alert.Filter{State: alert.Open, Limit: openPage}
	for len(all) < openMax {
		list, err := o.read(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) < openPage {
			break
		}
		f.Before = list[len(list)-1].ID
	}
	return all, nil
}

// forget has the next who asks read anew: somebody has just changed one.
func (o *openIncidents) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at = time.Time{}
}

// incidentBadge is the number of open incidents beside the navigation's entry,
// a regional one and its parts counted once. That nobody knows is not "none".
func (u *UI) incidentBadge(r *http.Request) (number, of string) {
	return u.incidentBadgeOf(r.Context())
}

func (u *UI) incidentBadgeOf(ctx context.Context) (number, of string) {
	list, err := u.open.now(ctx)
	n := 0
	for _, i := range list {
		if i.Parent == nil && !i.Drill() {
			n++
		}
	}
	switch {
	case err != nil:
		return "?", "open: not known"
	case n == 0:
		return "", ""
	case len(list) >= openMax:
		return web.Count(n) + "+", "open"
	}
	return web.Count(n), "open"
}

// badgeParts keep the navigation's badges true on every live page.
func (u *UI) badgeParts(ctx context.Context) []web.Part {
	parts := []web.Part{u.badgePart(ctx)}
	if u.open != nil {
		number, of := u.incidentBadgeOf(ctx)
		parts = append(parts, web.Part{ID: incidentsBadge, HTML: web.BadgeHTML(incidentsBadge, number, of)})
	}
	if u.d.Parked != nil {
		number, of := u.parkedBadgeOf(ctx)
		parts = append(parts, web.Part{ID: parkedBadgeID, HTML: web.BadgeHTML(parkedBadgeID, number, of)})
	}
	return parts
}

// alertsBanner is what a page of the fleet or of a facility says above all
// else: that the region cannot judge, and which incidents are open.
type alertsBanner struct {
	Facility string
	Open     []incidentLine
	Waiting  int // of them, for somebody to take them on
	Blind    bool
	Since    time.Time // zero: not known
	Why      string
	Problem  bool // the incidents could not be read
	// Work is announced work at the facility that goes on now; nil for none.
	Work *v1.Maintenance
}

// Kind is how bad it is.
func (b alertsBanner) Kind() string {
	for _, i := range b.Open {
		if i.Waits() && !i.Quiet && i.Severity == "critical" {
			return "bad"
		}
	}
	if b.Waiting > 0 {
		return "warn"
	}
	return "info"
}

// Said is for those who listen: without the times, which change all the while.
func (b alertsBanner) Said() string {
	var s []string
	if b.Blind {
		s = append(s, "It cannot be judged now how things are.")
	}
	if n := len(b.Open); n > 0 {
		s = append(s, fmt.Sprintf("Open incidents: %d. Not taken on by anybody: %d.", n, b.Waiting))
	}
	return strings.Join(s, " ")
}

// Named are the incidents that are named.
func (b alertsBanner) Named() []incidentLine { return b.Open[:min(len(b.Open), bannerNames)] }

// More is how many are not.
func (b alertsBanner) More() int { return max(0, len(b.Open)-bannerNames) }

// alertsBanner looks for one facility, or, with "", for the whole fleet.
func (u *UI) alertsBanner(ctx context.Context, facility string) alertsBanner {
	b := alertsBanner{Facility: facility}
	if u.d.Word != nil {
		w := u.d.Word()
		b.Blind, b.Why = w.Held || facility != "" && w.HeldOf[facility], w.Why
		for _, f := range w.Findings {
			if f.Kind == detect.Blind {
				b.Since = f.Since
			}
		}
	}
	if u.open == nil {
		return b
	}
	list, err := u.open.now(ctx)
	b.Problem = err != nil
	if facility != "" {
		now := time.Now()
		work, err := u.d.OnCall.ListMaintenance(ctx, facility, false, 1, now) // the soonest
		b.Problem = b.Problem || err != nil
		if len(work) > 0 && !work[0].StartsAt.After(now) {
			b.Work = &work[0]
		}
	}
	for _, i := range list {
		if facility != "" && i.Facility != facility || facility == "" && (i.Parent != nil || i.Drill()) {
			continue
		}
		b.Open = append(b.Open, i)
		if i.Waits() {
			b.Waiting++
		}
	}
	return b
}
