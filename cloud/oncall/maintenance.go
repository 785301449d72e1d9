package oncall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// MaintenanceMax is how long announced work may last: whoever needs longer says
// so again, so that nobody forgets a facility that is not watched.
const MaintenanceMax = 8 * time.Hour

const (
	maintenanceAhead     = 90 * 24 * time.Hour
	reasonMaxBytes       = 500
	maintenanceMinLength = time.Minute
)

// ListMaintenance lists announced work that has not ended, soonest first, and with
// all also what has, newest first behind it; facility "" is all.
func (r *Room) ListMaintenance(ctx context.Context, facility string, all bool, limit int, now time.Time) ([]v1.Maintenance, error) {
	return maintenances(ctx, r.db, facility, all, limit, now)
}

// AddMaintenance announces work at a facility. Announced again, it is renewed:
// what overlaps counts as one.
func (r *Room) AddMaintenance(ctx context.Context, in v1.MaintenanceAdd, by string, now time.Time) (v1.Maintenance, error) {
	length := time.Duration(in.For) * time.Second
	m := v1.Maintenance{
		Facility: in.Facility, StartsAt: now.Add(time.Duration(in.StartsIn) * time.Second), Reason: strings.TrimSpace(in.Reason), CreatedBy: by,
	}
	m.EndsAt = m.StartsAt.Add(length)
	switch {
	case length < maintenanceMinLength || length > MaintenanceMax:
		return m, wrong("for_s", fmt.Sprintf("work cannot be announced for %s", length), "Give a minute to 8 hours; announce it again when it takes longer.")
	case in.StartsIn < 0 || m.StartsAt.Sub(now) > maintenanceAhead:
		return m, wrong("starts_in_s", "it begins too far from now", "Announce work at most 90 days ahead.")
	case m.Reason == "" || len(m.Reason) > reasonMaxBytes:
		return m, wrong("reason", "there is no reason, or a very long one", "Say in a line what is done, such as: new switch in the server room.")
	}
	err := r.change(ctx, by, "maintenance.add", func(tx pgx.Tx) (map[string]any, error) {
		owner, err := tenantsOf(ctx, tx, []string{in.Facility})
		if err != nil {
			return nil, err
		}
		if _, ok := owner[in.Facility]; !ok {
			return nil, hint.Wrap(&NotFoundError{What: "facility", ID: in.Facility}, "holdfastctl facility list shows them.")
		}
		m.ID, err = insertMaintenance(ctx, tx, m, now)
		return map[string]any{"maintenance": m.ID, "facility": m.Facility, "from": m.StartsAt, "to": m.EndsAt, "reason": m.Reason}, err
	})
	return m, err
}

// EndMaintenance ends announced work early, or calls it off.
func (r *Room) EndMaintenance(ctx context.Context, id int64, by string, now time.Time) (v1.Maintenance, error) {
	var m v1.Maintenance
	err := r.change(ctx, by, "maintenance.end", func(tx pgx.Tx) (map[string]any, error) {
		var err error
		m, err = maintenance(ctx, tx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, missing("announced work", id)
		}
		if err != nil {
			return nil, err
		}
		if m.EndedAt != nil || !m.EndsAt.After(now) {
			return nil, refused(fmt.Sprintf("the work %d at %s has ended already", id, m.Facility), "holdfastctl maintenance list shows what is announced.")
		}
		m.EndedAt, m.EndedBy = &now, by
		return map[string]any{"maintenance": id, "facility": m.Facility}, endMaintenance(ctx, tx, id, by, now)
	})
	return m, err
}
