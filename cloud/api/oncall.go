package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// NumberPath names a thing by its number.
type NumberPath struct {
	ID int64 `path:"id" minimum:"1"`
}

type tenantInput struct {
	PageQuery
	Tenant string `query:"tenant" maxLength:"63" doc:"Of this tenant only; default all, and the region's own"`
}

type numbered[T any] struct {
	NumberPath
	Body T
}

type coverageInput struct {
	PageQuery
	Facility string `query:"facility" maxLength:"63" doc:"This facility only"`
}

type maintenanceInput struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"How many at most"`
	Facility string `query:"facility" maxLength:"63" doc:"At this facility only"`
	All      bool   `query:"all" doc:"Also what has ended"`
}

func (h *Handler) registerOnCall() {
	tags := []string{"on call"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "on-call", Method: http.MethodGet, Path: "/api/v1/oncall",
		Summary: "Who is on call now, and until when", Tags: tags,
	}, h.onCall)
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-coverage", Method: http.MethodGet, Path: "/api/v1/coverage",
		Summary: "Who is told when a facility goes offline, and plainly where nobody is", Tags: tags,
	}, h.listCoverage)
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-maintenance", Method: http.MethodGet, Path: "/api/v1/maintenance",
		Summary: "Announced work", Tags: tags,
	}, h.listMaintenance)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-maintenance", Method: http.MethodPost, Path: "/api/v1/maintenance",
		Summary: "Announce work at a facility", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "What is wrong there is seen meanwhile, and nobody is paged. It ends by itself, after 8 hours at the latest; announced again, it is renewed.",
	}, h.addMaintenance)
	register(h, web.Operator, huma.Operation{
		OperationID: "end-maintenance", Method: http.MethodPost, Path: "/api/v1/maintenance/{id}/end",
		Summary: "End announced work early, or call it off", Tags: tags,
	}, h.endMaintenance)
}

func (h *Handler) onCall(ctx context.Context, _ *struct{}) (*body[v1.Page[v1.OnCall]], error) {
	list, err := h.OnCall.OnCall(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	return &body[v1.Page[v1.OnCall]]{v1.Page[v1.OnCall]{Items: list}}, nil
}

func (h *Handler) listCoverage(ctx context.Context, in *coverageInput) (*body[v1.Page[v1.Coverage]], error) {
	if in.Facility != "" {
		if _, err := h.findFacility(ctx, in.Facility, false); err != nil {
			return nil, err
		}
	}
	list, err := h.OnCall.Coverage(ctx, in.Facility, in.Cursor, in.Limit+1, time.Now())
	if err != nil {
		return nil, err
	}
	return pageOf(list, in.Limit, func(c v1.Coverage) string { return c.Facility }), nil
}

func (h *Handler) listMaintenance(ctx context.Context, in *maintenanceInput) (*body[v1.Page[v1.Maintenance]], error) {
	list, err := h.OnCall.ListMaintenance(ctx, in.Facility, in.All, in.Limit, time.Now())
	if err != nil {
		return nil, err
	}
	return &body[v1.Page[v1.Maintenance]]{v1.Page[v1.Maintenance]{Items: list}}, nil
}

func (h *Handler) addMaintenance(ctx context.Context, in *body[v1.MaintenanceAdd]) (*body[v1.Maintenance], error) {
	return answer(h.OnCall.AddMaintenance(ctx, in.Body, who(ctx), time.Now()))
}

func (h *Handler) endMaintenance(ctx context.Context, in *NumberPath) (*body[v1.Maintenance], error) {
	return answer(h.OnCall.EndMaintenance(ctx, in.ID, who(ctx), time.Now()))
}

// answer is what cloud/oncall returned, or its error as a problem.
func answer[T any](out T, err error) (*body[T], error) {
	if err != nil {
		return nil, oncallProblem(err)
	}
	return &body[T]{out}, nil
}

func oncallProblem(err error) error {
	if e, ok := errors.AsType[*oncall.InvalidError](err); ok {
		return invalid("body."+e.Field, e.Text, hint.Of(err))
	}
	if e, ok := errors.AsType[*oncall.RefusedError](err); ok {
		return conflict(e.Text, hint.Of(err))
	}
	if e, ok := errors.AsType[*oncall.StaleError](err); ok {
		return conflict(e.Error(), hint.Of(err))
	}
	if e, ok := errors.AsType[*oncall.NotFoundError](err); ok {
		return notFound(e.What, e.ID, remedyFor(e.What))
	}
	return err
}

// remedyFor says where to look for what is not there.
func remedyFor(what string) string {
	switch what {
	case "contact", "method":
		return "holdfastctl contacts list shows the contacts with their numbers and those of their methods."
	case "schedule", "override":
		return "holdfastctl schedules list shows the schedules with their numbers, schedules show the overrides."
	case "policy":
		return "holdfastctl policies list shows the policies with their numbers."
	case "facility":
		return "holdfastctl facility list shows the facilities."
	}
	return "holdfastctl maintenance list shows announced work with its numbers."
}

// afterID reads the cursor of a list with numbers; 0 is its beginning.
func afterID(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	return beforeID(cursor)
}

func number(id int64) string { return strconv.FormatInt(id, 10) }
