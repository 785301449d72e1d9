package oncall

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// drillName is the contact of a new region whom the daily drill goes to, by every
// channel that he has.
const drillName = "Drill"

// Seed makes a new region's own policies, once: whoever removes one has it
// removed. Nobody can be reached by them until addresses are added to their contact
// or people to their schedule. Tenants get nothing: their people are not known.
// It returns the contact of the daily drill, 0 when it was removed.
func Seed(ctx context.Context, db *pgxpool.Pool) (drill int64, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		seeded, err := idNamed(ctx, tx, "policies", `SELECT id FROM holdfast.escalation_policy WHERE tenant = '' LIMIT 1`)
		if err != nil {
			return err
		}
		if seeded == 0 {
			if err := seed(ctx, tx); err != nil {
				return err
			}
		}
		drill, err = contactNamed(ctx, tx, "", drillName)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("make the region's first policies: %w", err)
	}
	return drill, nil
}

func seed(ctx context.Context, tx pgx.Tx) error {
	const by = "holdfast"
	team, err := insertContact(ctx, tx, v1.Contact{Name: "Operations", TimeZone: "UTC"}, by)
	if err != nil {
		return err
	}
	if _, err := insertContact(ctx, tx, v1.Contact{Name: drillName, TimeZone: "UTC"}, by); err != nil {
		return err
	}
	turns, err := insertSchedule(ctx, tx, v1.Schedule{Name: "operations", TimeZone: "UTC"})
	if err != nil {
		return err
	}
	everybody := func(after int, channels ...string) v1.PolicyStep {
		return v1.PolicyStep{After: after, Contacts: []int64{team}, Schedules: []int64{turns}, Channels: channels}
	}
	for _, p := range []v1.Policy{
		{
			Name: "operations", Severity: string(detect.Critical),
			Steps: []v1.PolicyStep{everybody(0), everybody(2 * 60), everybody(10 * 60), everybody(60 * 60)},
		},
		{
			// Nobody is woken by a ticket.
			Name: "tickets", Severity: string(detect.Info),
			Steps: []v1.PolicyStep{everybody(0, "email", "slack", "teams", "mqtt")},
		},
	} {
		if _, err := insertPolicy(ctx, tx, p); err != nil {
			return err
		}
	}
	return nil
}
