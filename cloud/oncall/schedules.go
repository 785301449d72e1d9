package oncall

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/week"
)

const (
	rotationsMax = 20
	turnsMax     = 50 // contacts of one rotation
	// overrideMax is how long somebody can stand in: longer is a rotation.
	overrideMax = 92 * 24 * time.Hour
)

// ListSchedules lists up to limit schedules behind the one with the id after, with
// the overrides that have not ended; tenant "" is all.
func (r *Room) ListSchedules(ctx context.Context, tenant string, after int64, limit int, now time.Time) ([]v1.Schedule, error) {
	return schedules(ctx, r.db, tenant, nil, after, limit, now)
}

// Schedule returns one schedule.
func (r *Room) Schedule(ctx context.Context, id int64, now time.Time) (v1.Schedule, error) {
	return schedule(ctx, r.db, id, now)
}

// AddSchedule makes a schedule.
func (r *Room) AddSchedule(ctx context.Context, in v1.Schedule, by string, now time.Time) (v1.Schedule, error) {
	var id int64
	err := r.change(ctx, by, "schedule.add", func(tx pgx.Tx) (map[string]any, error) {
		if err := checkTenant(ctx, tx, in.Tenant); err != nil {
			return nil, err
		}
		if err := checkSchedule(ctx, tx, 0, &in); err != nil {
			return nil, err
		}
		var err error
		id, err = insertSchedule(ctx, tx, in)
		return map[string]any{"schedule": id, "name": in.Name, "tenant": in.Tenant, "rotations": in.Rotations}, err
	})
	if err != nil {
		return v1.Schedule{}, err
	}
	return r.Schedule(ctx, id, now)
}

// SetSchedule gives a schedule another name, time zone and other rotations. Its
// overrides stay.
func (r *Room) SetSchedule(ctx context.Context, id int64, in v1.Schedule, by string, now time.Time) (v1.Schedule, error) {
	err := r.change(ctx, by, "schedule.change", func(tx pgx.Tx) (map[string]any, error) {
		was, err := schedule(ctx, tx, id, now)
		if err != nil {
			return nil, err
		}
		if in.Tenant != was.Tenant {
			return nil, wrong("tenant", fmt.Sprintf("%s cannot go over to another tenant", was.Name), "Add a schedule there, and remove this one.")
		}
		saw := in.Version
		in.ID, in.Edition, in.Overrides = was.ID, was.Edition, was.Overrides
		if err := checkSchedule(ctx, tx, id, &in); err != nil {
			return nil, err
		}
		if err := unseen("schedule", was.Name, saw, was.Edition, in, was); err != nil {
			return nil, err
		}
		return map[string]any{"schedule": id, "name": in.Name, "rotations": in.Rotations}, updateSchedule(ctx, tx, id, in, by)
	})
	if err != nil {
		return v1.Schedule{}, err
	}
	return r.Schedule(ctx, id, now)
}

// RemoveSchedule ends a schedule that no policy needs.
func (r *Room) RemoveSchedule(ctx context.Context, id int64, by string, now time.Time) error {
	return r.change(ctx, by, "schedule.remove", func(tx pgx.Tx) (map[string]any, error) {
		s, err := schedule(ctx, tx, id, now)
		if err != nil {
			return nil, err
		}
		users, err := policiesWithSchedule(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			return nil, refused(fmt.Sprintf("schedule %s is needed by %s", s.Name, strings.Join(users, ", ")), "Take it out there first; then remove it.")
		}
		return map[string]any{"schedule": id, "name": s.Name}, removeSchedule(ctx, tx, id, now)
	})
}

// AddOverride has somebody stand in.
func (r *Room) AddOverride(ctx context.Context, id int64, in v1.Override, by string, now time.Time) (v1.Schedule, error) {
	err := r.change(ctx, by, "override.add", func(tx pgx.Tx) (map[string]any, error) {
		s, err := schedule(ctx, tx, id, now)
		if err != nil {
			return nil, err
		}
		switch {
		case !in.EndsAt.After(in.StartsAt):
			return nil, wrong("ends_at", "it ends before it starts", "Give an end after the start.")
		case !in.EndsAt.After(now):
			return nil, wrong("ends_at", "it is over already", "Give an end that is still to come.")
		case in.EndsAt.Sub(in.StartsAt) > overrideMax:
			return nil, wrong("ends_at", "nobody stands in for so long", "Give at most 92 days, or change the rotations.")
		}
		if err := checkPeople(ctx, tx, "contact", s.Tenant, []int64{in.Contact}); err != nil {
			return nil, err
		}
		in.ID, err = insertOverride(ctx, tx, id, in, by)
		return map[string]any{"schedule": id, "name": s.Name, "override": in.ID, "contact": in.Contact, "from": in.StartsAt, "to": in.EndsAt}, err
	})
	if err != nil {
		return v1.Schedule{}, err
	}
	return r.Schedule(ctx, id, now)
}

// RemoveOverride takes a stand-in back.
func (r *Room) RemoveOverride(ctx context.Context, id, override int64, by string, now time.Time) (v1.Schedule, error) {
	err := r.change(ctx, by, "override.remove", func(tx pgx.Tx) (map[string]any, error) {
		s, err := schedule(ctx, tx, id, now)
		if err != nil {
			return nil, err
		}
		gone, err := removeOverride(ctx, tx, id, override)
		if err == nil && !gone {
			err = missing("override", override)
		}
		return map[string]any{"schedule": id, "name": s.Name, "override": override}, err
	})
	if err != nil {
		return v1.Schedule{}, err
	}
	return r.Schedule(ctx, id, now)
}

// OnCall says of every schedule who is on call at a moment, and until when.
func (r *Room) OnCall(ctx context.Context, at time.Time) ([]v1.OnCall, error) {
	list, err := schedules(ctx, r.db, "", nil, 0, everything, at)
	if err != nil {
		return nil, err
	}
	names, err := contactNames(ctx, r.db)
	if err != nil {
		return nil, err
	}
	out := make([]v1.OnCall, 0, len(list))
	for _, doc := range list {
		s, err := parseSchedule(doc)
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", doc.Name, err)
		}
		turn := s.At(at)
		o := v1.OnCall{Schedule: doc.ID, Name: doc.Name, Tenant: doc.Tenant, Override: turn.Override}
		if turn.Contact != 0 {
			o.Contact, o.Who = &turn.Contact, names[turn.Contact]
		}
		if !turn.Until.IsZero() {
			o.Until = &turn.Until
		}
		out = append(out, o)
	}
	return out, nil
}

// checkSchedule also brings what it was given into form. id is its own.
func checkSchedule(ctx context.Context, tx pgx.Tx, id int64, in *v1.Schedule) error {
	var err error
	if in.Name, err = name(in.Name); err != nil {
		return err
	}
	if in.TimeZone == "" {
		in.TimeZone = "UTC"
	}
	if len(in.Rotations) > rotationsMax {
		return wrong("rotations", fmt.Sprintf("%d rotations are too many", len(in.Rotations)), "Give at most %d.", rotationsMax)
	}
	s, err := parseSchedule(*in)
	if err != nil {
		return err
	}
	for i, r := range s.Rotations {
		doc := &in.Rotations[i]
		doc.FirstDay, doc.Handover = time.Time(r.First).Format(time.DateOnly), week.MinuteText(r.Handover)
		if doc.From != "" || doc.To != "" {
			doc.From, doc.To = week.MinuteText(r.From), week.MinuteText(r.To)
		}
		if err := checkPeople(ctx, tx, fmt.Sprintf("rotations[%d].contacts", i), in.Tenant, doc.Contacts); err != nil {
			return err
		}
	}
	other, err := scheduleNamed(ctx, tx, in.Tenant, in.Name)
	if err != nil {
		return err
	}
	if other != 0 && other != id {
		return refused(fmt.Sprintf("there is a schedule %q already", in.Name), "Choose another name, or change that one (number %d).", other)
	}
	return nil
}

// parseSchedule reads a document, as people wrote it or as it was kept.
func parseSchedule(doc v1.Schedule) (Schedule, error) {
	var s Schedule
	var err error
	if s.Zone, err = loadZone(doc.TimeZone); err != nil {
		return s, invalid("time_zone", err)
	}
	for i, d := range doc.Rotations {
		r, field, err := parseRotation(d)
		if err != nil {
			return s, invalid(fmt.Sprintf("rotations[%d].%s", i, field), err)
		}
		s.Rotations = append(s.Rotations, r)
	}
	for _, o := range doc.Overrides {
		s.Overrides = append(s.Overrides, Override{ID: o.ID, Contact: o.Contact, Starts: o.StartsAt, Ends: o.EndsAt})
	}
	return s, nil
}

func parseRotation(d v1.Rotation) (r Rotation, field string, err error) {
	r = Rotation{Contacts: d.Contacts, TurnDays: d.TurnDays, To: week.Minutes}
	if len(d.Contacts) == 0 || len(d.Contacts) > turnsMax {
		return r, "contacts", wrong("", fmt.Sprintf("%d contacts cannot take turns", len(d.Contacts)), "Name 1 to %d of them.", turnsMax)
	}
	if d.TurnDays < 1 || d.TurnDays > 366 {
		return r, "turn_days", wrong("", fmt.Sprintf("a turn cannot have %d days", d.TurnDays), "Give 1 to 366 days; 7 is a week.")
	}
	first, err := time.Parse(time.DateOnly, d.FirstDay)
	if err != nil || first.Year() < 1970 || first.Year() > 9999 {
		return r, "first_day", wrong("", fmt.Sprintf("%.40q is no day", d.FirstDay), "Write it as 2026-11-30.")
	}
	r.First = dayOf(first)
	r.Handover = 9 * 60
	if d.Handover != "" {
		if r.Handover, err = week.ParseMinute(d.Handover); err != nil {
			return r, "handover", err
		}
	}
	if r.Days, err = parseDays(d.Days); err != nil {
		return r, "days", err
	}
	if (d.From == "") != (d.To == "") {
		return r, "to", wrong("", "only one of from and to is given", "Give both, such as 22:00 and 06:00, or none for the whole day.")
	}
	if d.From == "" {
		return r, "", nil
	}
	if r.From, err = week.ParseMinute(d.From); err != nil || r.From == week.Minutes {
		return r, "from", wrong("", fmt.Sprintf("%.40q is no time of day to begin at", d.From), "Write it as 22:00.")
	}
	if r.To, err = week.ParseMinute(d.To); err != nil {
		return r, "to", err
	}
	return r, "", nil
}

// checkPeople says whether contacts exist and may be told of a tenant's
// facilities: they are the tenant's own, or the region's.
func checkPeople(ctx context.Context, tx pgx.Tx, field, tenant string, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	list, err := contacts(ctx, tx, "", ids, 0, everything)
	if err != nil {
		return err
	}
	for _, id := range ids {
		i := slices.IndexFunc(list, func(c v1.Contact) bool { return c.ID == id })
		switch {
		case i < 0:
			return wrong(field, fmt.Sprintf("there is no contact %d", id), "holdfastctl contacts list shows them; contacts add makes one.")
		case list[i].Tenant != "" && tenant == "":
			return wrong(field, fmt.Sprintf("%s belongs to tenant %s, and this is the region's own", list[i].Name, list[i].Tenant),
				"It would be told of other tenants' facilities. Name contacts of the region, or do it for tenant %s.", list[i].Tenant)
		case list[i].Tenant != "" && list[i].Tenant != tenant:
			return wrong(field, fmt.Sprintf("%s belongs to tenant %s, not %s", list[i].Name, list[i].Tenant, tenant),
				"Name contacts of tenant %s, or of the region.", tenant)
		}
	}
	return nil
}
