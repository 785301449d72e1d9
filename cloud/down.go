package cloud

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/cloud/stream"
	"github.com/agogsaas/holdfast/internal/change"
)

// attachTimeout is how long a box waits for a way down that is not open yet.
// It is then served without, and comes again.
const attachTimeout = 2 * time.Second

// downs opens the way down of each facility.
type downs struct {
	router *router.Router
	boxes  *provision.Provision

	mu      sync.Mutex
	tenants map[string]string // by facility
}

// facilities are those that have a box.
func (d *downs) facilities(ctx context.Context) ([]router.Facility, error) {
	active, err := d.boxes.Active(ctx)
	if err != nil {
		return nil, err
	}
	list, tenants := make([]router.Facility, len(active)), make(map[string]string, len(active))
	for i, b := range active {
		list[i] = router.Facility{ID: b.Facility, Tenant: b.Tenant, Enrolments: int(b.Enrolment)}
		tenants[b.Facility] = b.Tenant
	}
	d.mu.Lock()
	d.tenants = tenants
	d.mu.Unlock()
	return list, nil
}

func (d *downs) tenant(ctx context.Context, facility string) (string, error) {
	for range 2 { // the second time with what was just read
		d.mu.Lock()
		tenant, ok := d.tenants[facility]
		d.mu.Unlock()
		if ok {
			return tenant, nil
		}
		if _, err := d.facilities(ctx); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("facility %s has no box", facility)
}

// route is the fleet's Route.
func (d *downs) route() fleet.Route {
	s := d.router.Stats()
	return fleet.Route{Slot: s.Slot, LSN: s.LSN, Tail: s.Tail, Frames: s.Opened, Err: s.CaptureErr}
}

// open is the stream's Down.
func (d *downs) open(ctx context.Context, facility string, enrolment uint32, from change.Position, behind bool) (stream.Down, error) {
	tenant, err := d.tenant(ctx, facility)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	d.router.Behind(facility, behind)
	r, err := d.router.Attach(ctx, router.Facility{ID: facility, Tenant: tenant, Enrolments: int(enrolment)}, from)
	if err != nil {
		return nil, fmt.Errorf("open the way down: %w", err)
	}
	return &down{Reader: r, downs: d, facility: facility}, nil
}

// wentBack is the stream's WentBack.
func (d *downs) wentBack(ctx context.Context, facility string, from change.Position) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	return d.router.WentBack(ctx, facility, from)
}

// restore is the stream's Restore.
func (d *downs) restore(ctx context.Context, facility string, epoch uint64, from change.Position) (lacking bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	return d.router.Restore(ctx, facility, epoch, from)
}

// down is one facility's, while its box is connected.
type down struct {
	*router.Reader
	downs    *downs
	facility string
}

// Epoch implements stream.Down.
func (d *down) Epoch() uint64 { return d.Position().Epoch }

// Next implements stream.Down.
func (d *down) Next(ctx context.Context) (stream.DownFrame, error) {
	p, err := d.Reader.Next(ctx)
	return stream.DownFrame{Prev: p.Prev, Frame: p.Frame, More: p.More}, err
}

// Acked implements stream.Down.
func (d *down) Acked(p change.Position) { d.downs.router.Acked(d.facility, p) }

// resync is the API's way to have tables sent again.
type resync struct {
	streams *stream.Server
	router  *router.Router
}

// Up implements api.Resync.
func (r resync) Up(facility, reason string, tables ...string) (bool, error) {
	return r.streams.Heal(facility, reason, tables...)
}

// Down implements api.Resync.
func (r resync) Down(ctx context.Context, facility string, tables ...string) error {
	return r.router.Resync(ctx, facility, tables...)
}
