package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

func (h *Handler) registerRegion() {
	tags := []string{"region"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "version", Method: http.MethodGet, Path: "/api/v1/version",
		Summary: "What the region runs", Tags: tags,
	}, func(context.Context, *struct{}) (*body[v1.Version], error) {
		return &body[v1.Version]{v1.Version{Version: h.Version, Region: h.Region, API: "v1"}}, nil
	})
	register(h, web.Viewer, huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: "/api/v1/me",
		Summary: "Who the caller is to the region", Tags: tags,
	}, func(ctx context.Context, _ *struct{}) (*body[v1.Me], error) {
		id, _ := web.From(ctx)
		return &body[v1.Me]{v1.Me{Name: who(ctx), Role: id.Role.String()}}, nil
	})
}

func (h *Handler) registerFleet() {
	tags := []string{"fleet"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "fleet", Method: http.MethodGet, Path: "/api/v1/fleet",
		Summary: "Every facility as it is now", Tags: tags,
	}, func(context.Context, *struct{}) (*body[v1.Fleet], error) {
		list := h.Fleet.Snapshot()
		if list == nil {
			list = []v1.FacilityStatus{}
		}
		return &body[v1.Fleet]{v1.Fleet{At: time.Now(), Region: h.Region, Facilities: list}}, nil
	})
	register(h, web.Viewer, huma.Operation{
		OperationID: "facility-status", Method: http.MethodGet, Path: "/api/v1/facilities/{facility}/status",
		Summary: "One facility as it is now", Tags: tags,
	}, func(ctx context.Context, in *FacilityPath) (*body[v1.FacilityStatus], error) {
		f, err := h.findFacility(ctx, in.Facility, true)
		if err != nil {
			return nil, err
		}
		return &body[v1.FacilityStatus]{h.status(f)}, nil
	})
}

// status is the fleet's word on a facility; one that the fleet does not know
// yet has never been heard of.
func (h *Handler) status(f facilityRow) v1.FacilityStatus {
	if now, ok := h.Fleet.Summary(f.ID); ok {
		return now
	}
	s := v1.FacilityStatus{ID: f.ID, Tenant: f.Tenant, Name: f.Name, TimeZone: f.TimeZone, State: v1.StateNew}
	if f.RemovedAt != nil {
		s.State, s.Reason = v1.StateOffline, "It was removed."
	}
	return s
}
