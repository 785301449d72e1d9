package router

import (
	"context"
	"slices"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
)

// leftOutMax is how many rows that are left out wait to be written down.
const leftOutMax = 1000

// leftOut is an event of a facility.
type leftOut struct{ facility, detail string }

// leaveOut takes what capture left out; keepPositions writes it down for those
// who should have had it.
func (r *Router) leaveOut(l capture.LeftOut) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.LeftOut++
	w := r.routes.wayOf(l.Table)
	if w == nil || len(r.leftOut) >= leftOutMax {
		return
	}
	var to []string
	for f, tenant := range r.routes.tenants {
		if w.reaches(&l, f, tenant) {
			to = append(to, f)
		}
	}
	slices.Sort(to)
	id := w.table.ID()
	for _, f := range to {
		detail := "on the way down " + l.Reason.Text(id, 1, []string{l.KeyText()}) + ". " + l.Reason.Remedy(id, f) + " --down"
		r.leftOut = append(r.leftOut, leftOut{f, detail})
	}
}

// reaches reports whether what was left out was for the facility.
func (w *way) reaches(l *capture.LeftOut, facility, tenant string) bool {
	if l.To != "" {
		return l.To == facility
	}
	if l.Row == nil {
		return w.facility == "" || w.facility == facility
	}
	d, ok, _ := w.destinations(&change.Change{Op: change.Insert, Row: l.Row})
	switch {
	case !ok:
		return false
	case d.kind == forFacility:
		return d.id == facility
	case d.kind == forTenant:
		return d.id == tenant
	}
	return true
}

// writeLeftOut writes events for what was left out.
func (r *Router) writeLeftOut(ctx context.Context) error {
	for {
		r.mu.Lock()
		list := r.leftOut
		r.mu.Unlock()
		if len(list) == 0 {
			return nil
		}
		if err := r.store.eventOnce(ctx, list[0].facility, "left_out", list[0].detail); err != nil {
			return err
		}
		r.mu.Lock()
		r.leftOut = r.leftOut[1:]
		r.mu.Unlock()
	}
}
