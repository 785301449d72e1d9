package dashboard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// nextStep is who is told next of an incident, and when.
type nextStep struct {
	Policy string
	No     int // from 1, as people count
	At     time.Time
	Early  time.Time // it is taken then already, unless somebody was reached; zero: it waits
	Who    []nextWho
	Offer  bool   // of cloud fallback
	Tenant string // whose facilities it is about, of a region's incident
}

// heldBy is somebody who has a region's incident as far as it is his tenant's.
type heldBy struct {
	Tenant, By string
	At         time.Time
}

// nextWho is one person with the ways by which they are told.
type nextWho struct {
	Name string
	By   []string
}

// nextSteps are the steps that come if nobody answers. Who it will be is asked
// for the moment of the step: shifts may change until then.
func (u *UI) nextSteps(ctx context.Context, i v1.Incident) (out []nextStep, held []heldBy, err error) {
	if u.d.Roster == nil {
		return nil, nil, nil
	}
	err = pgx.BeginTxFunc(ctx, u.d.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		due, err := dueSteps(ctx, tx, i.ID)
		if err != nil {
			return err
		}
		for _, d := range due {
			if d.AckedAt != nil {
				if !slices.ContainsFunc(held, func(h heldBy) bool { return h.Tenant == d.Tenant }) {
					held = append(held, heldBy{d.Tenant, d.AckedBy, *d.AckedAt})
				}
				continue
			}
			s, ok, err := u.d.Roster.Step(ctx, tx, d.Policy, d.Step, alert.Subject{
				Incident: i.ID, Kind: detect.Kind(i.Kind), Severity: detect.Severity(i.Severity), Tenant: i.Tenant, Facility: i.Facility, OpenedAt: i.OpenedAt,
			}, *d.At)
			if err != nil {
				return fmt.Errorf("find who is told next: %w", err)
			}
			if !ok {
				continue
			}
			n := nextStep{Policy: d.Name, No: d.Step + 1, At: *d.At, Tenant: d.Tenant, Offer: s.Offer != ""}
			if d.Early != nil && d.Early.Before(*d.At) {
				n.Early = *d.Early
			}
			for _, t := range s.Targets {
				n.Who = addWho(n.Who, t.Name, wordOf(channelWords, string(t.Channel)))
			}
			out = append(out, n)
		}
		return nil
	})
	return out, held, err
}

// addWho puts a way to a person, who may be there already.
func addWho(list []nextWho, name, by string) []nextWho {
	for i := range list {
		if list[i].Name == name {
			if !slices.Contains(list[i].By, by) {
				list[i].By = append(list[i].By, by)
			}
			return list
		}
	}
	return append(list, nextWho{name, []string{by}})
}
