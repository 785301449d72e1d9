package alert

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// Audience is whose people a policy tells.
type Audience string

// The audiences.
const (
	Customer   Audience = "customer"   // the facility's own people
	Operations Audience = "operations" // the region's
)

// Subject is what a policy is chosen by.
type Subject struct {
	Incident int64
	Kind     detect.Kind
	Severity detect.Severity
	Tenant   string // whose people are asked for; "" for the region itself
	Facility string // "" for the region itself
	OpenedAt time.Time
}

// Step is one step of a policy, with who it is at that moment.
type Step struct {
	Policy   int64
	No       int           // 0 is the first
	After    time.Duration // after the incident was opened
	Audience Audience
	Targets  []Target
	Covered  bool   // there are no targets because another policy tells all of them at the same moment
	Offer    string // "fallback", or ""
}

// Target is one way to tell one person.
type Target struct {
	Contact, Method int64
	Name            string // the contact's
	Channel         channel.Kind
	Address         string
	Settings        map[string]string
}

// Roster knows who is told of what (cloud/oncall). It reads within the
// transaction that it is given, so that what is decided and what is stored agree.
type Roster interface {
	// Policies lists the policies that an incident runs through.
	Policies(ctx context.Context, tx pgx.Tx, s Subject) ([]int64, error)
	// Step returns a policy's step and who it is at a moment; ok is false behind
	// the last one.
	Step(ctx context.Context, tx pgx.Tx, policy int64, no int, s Subject, at time.Time) (step Step, ok bool, err error)
	// Maintenance returns until when a facility is under announced work; ok is
	// false when it is not.
	Maintenance(ctx context.Context, tx pgx.Tx, facility string, at time.Time) (until time.Time, ok bool, err error)
}
