package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

type overrideInput struct {
	NumberPath
	Override int64 `path:"override" minimum:"1"`
}

func (h *Handler) registerSchedules() {
	tags := []string{"on call"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-schedules", Method: http.MethodGet, Path: "/api/v1/schedules",
		Summary: "Who takes turns, and who stands in", Tags: tags,
	}, h.listSchedules)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-schedule", Method: http.MethodPost, Path: "/api/v1/schedules",
		Summary: "Add a schedule", Tags: tags, DefaultStatus: http.StatusCreated,
	}, h.addSchedule)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-schedule", Method: http.MethodGet, Path: "/api/v1/schedules/{id}",
		Summary: "One schedule", Tags: tags,
	}, h.showSchedule)
	register(h, web.Operator, huma.Operation{
		OperationID: "set-schedule", Method: http.MethodPut, Path: "/api/v1/schedules/{id}",
		Summary: "Replace a schedule's name, time zone and rotations", Tags: tags,
		Description: "Who stands in stays. Sent with the version that was read, it is refused with 409 when somebody has changed it since.",
	}, h.setSchedule)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-schedule", Method: http.MethodDelete, Path: "/api/v1/schedules/{id}",
		Summary: "Remove a schedule", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Refused while a policy needs it.",
	}, h.removeSchedule)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-override", Method: http.MethodPost, Path: "/api/v1/schedules/{id}/overrides",
		Summary: "Have somebody stand in", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "Where several overlap the one that was made last holds.",
	}, h.addOverride)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-override", Method: http.MethodDelete, Path: "/api/v1/schedules/{id}/overrides/{override}",
		Summary: "Take a stand-in back", Tags: tags,
	}, h.removeOverride)
}

func (h *Handler) listSchedules(ctx context.Context, in *tenantInput) (*body[v1.Page[v1.Schedule]], error) {
	after, err := afterID(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := h.OnCall.ListSchedules(ctx, in.Tenant, after, in.Limit+1, time.Now())
	if err != nil {
		return nil, err
	}
	return pageOf(list, in.Limit, func(s v1.Schedule) string { return number(s.ID) }), nil
}

func (h *Handler) addSchedule(ctx context.Context, in *body[v1.Schedule]) (*body[v1.Schedule], error) {
	return answer(h.OnCall.AddSchedule(ctx, in.Body, who(ctx), time.Now()))
}

func (h *Handler) showSchedule(ctx context.Context, in *NumberPath) (*body[v1.Schedule], error) {
	return answer(h.OnCall.Schedule(ctx, in.ID, time.Now()))
}

func (h *Handler) setSchedule(ctx context.Context, in *numbered[v1.Schedule]) (*body[v1.Schedule], error) {
	return answer(h.OnCall.SetSchedule(ctx, in.ID, in.Body, who(ctx), time.Now()))
}

func (h *Handler) removeSchedule(ctx context.Context, in *NumberPath) (*struct{}, error) {
	return nil, oncallProblem(h.OnCall.RemoveSchedule(ctx, in.ID, who(ctx), time.Now()))
}

func (h *Handler) addOverride(ctx context.Context, in *numbered[v1.Override]) (*body[v1.Schedule], error) {
	return answer(h.OnCall.AddOverride(ctx, in.ID, in.Body, who(ctx), time.Now()))
}

func (h *Handler) removeOverride(ctx context.Context, in *overrideInput) (*body[v1.Schedule], error) {
	return answer(h.OnCall.RemoveOverride(ctx, in.ID, in.Override, who(ctx), time.Now()))
}
