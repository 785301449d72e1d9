package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/limits"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

// Deps is what the API stands on.
type Deps struct {
	Log     *slog.Logger
	DB      *pgxpool.Pool
	Region  string
	Version string
	// Tenant is the customer of a facility that is added without one.
	Tenant string

	// Auth tells who makes a request, from its session cookie or its API token.
	Auth *web.Auth

	Boxes  Boxes
	Tables Tables
	Fleet  Fleet
	Verify Verify
	Resync Resync
	Limits Limits
	// Waiting says why a facility's changes cannot be applied now, nil when
	// they can. May be nil.
	Waiting func(facility string) *proto.Problem
	// Parked is what people may do about changes that were refused.
	Parked *parked.Room
	// OnCall is who is told of what.
	OnCall *oncall.Room
	Alerts Alerts
}

// Boxes lets a facility's box in and throws it out (cloud/provision). What it
// answers provision.ErrNotFound for has changed nothing.
type Boxes interface {
	// NewToken makes a one-time enrolment token and ends the unused ones
	// before it. The secret is not kept. A ttl of 0 is its default, 72 hours.
	NewToken(ctx context.Context, facility, by string, ttl time.Duration) (secret string, expires time.Time, err error)
	// Revoke makes the facility's box unable to come back: its certificate is
	// refused, its connections are closed, its tunnel is removed.
	// provision.ErrNotFound: the facility has no active box.
	Revoke(ctx context.Context, facility string) error
}

// Tables is the list of synced tables (cloud/ingest).
type Tables interface {
	// Check says all that is wrong with syncing t, in the region and at every
	// connected facility. Warnings do not stand in the way, such as a
	// facility that could not be asked.
	Check(ctx context.Context, t proto.SyncedTable) (problems []proto.Problem, warnings []string, err error)
	// Add registers a table that was checked and tells the facilities.
	Add(ctx context.Context, t proto.SyncedTable, by string) error
	// Remove ends the syncing of a table. ingest.ErrNotFound: it was not synced.
	// ingest.ErrSystem: it is Holdfast's own.
	Remove(ctx context.Context, schema, name string) error
	// Shape is the region's own table; nil when there is none, or when each
	// facility has its own.
	Shape(ctx context.Context, facility string, t proto.SyncedTable) (*schema.Table, error)
	// Compare says how a facility's table differs from the region's.
	Compare(ctx context.Context, facility string, t proto.SyncedTable, fingerprint uint64, columns []proto.TableColumn) ([]schema.Difference, error)
}

// Limits knows how fast each facility's frames may travel (cloud/limits).
type Limits interface {
	// Reload makes count what was written.
	Reload(ctx context.Context) error
	// Of is what was set for a facility, false when nothing was.
	Of(facility string) (limits.Limit, bool)
	// Now is how many bytes per second may go now in either direction, 0 for no limit.
	Now(facility string) (bytesPerSecond uint64, changed <-chan struct{})
}

// Alerts is what is wrong, who was told, and who has it (cloud/alert). What is
// not there is answered with alert.ErrNotFound.
type Alerts interface {
	// List returns incidents, newest first.
	List(ctx context.Context, f alert.Filter) ([]v1.Incident, error)
	// Detail returns one incident with its timeline and its messages.
	Detail(ctx context.Context, id int64) (v1.IncidentDetail, error)
	// AcknowledgeBy takes an incident on for somebody; how is cli or dashboard.
	// alert.ErrOver and *alert.TakenError have changed nothing.
	AcknowledgeBy(ctx context.Context, id int64, by, how, note string) (v1.Incident, error)
	// Test has a test sent by a contact's method.
	Test(ctx context.Context, method int64, by string) (v1.Delivery, error)
	// Delivery returns one message as it stands.
	Delivery(ctx context.Context, id string) (v1.Delivery, error)
	// ChannelStates says how each channel fares.
	ChannelStates(ctx context.Context) ([]v1.ChannelState, error)
	// Told is how fast outages of the last days were known and told.
	Told(ctx context.Context, days int) (v1.Told, error)
}

// Fleet knows every facility's present state (cloud/fleet).
type Fleet interface {
	// Snapshot returns all facilities, ordered by id.
	Snapshot() []v1.FacilityStatus
	// Summary returns one of them.
	Summary(facility string) (v1.FacilityStatus, bool)
	// Reload takes notice of facilities that were just added or removed.
	Reload(ctx context.Context) error
	// Throughput is what has been applied of a facility's stream lately.
	Throughput(facility string) v1.Throughput
}
