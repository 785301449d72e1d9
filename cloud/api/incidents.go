package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

type incidentsInput struct {
	PageQuery
	State    string `query:"state" enum:"open,waiting,acked,resolved,all" default:"open" doc:"open: not over; waiting: not over, and nobody has it; acked: not over, and somebody has it"`
	Facility string `query:"facility" maxLength:"63" doc:"Of this facility only"`
	Tenant   string `query:"tenant" maxLength:"63" doc:"Of this tenant's facilities only"`
	Kind     string `query:"kind" maxLength:"40" doc:"Of this kind only" example:"offline"`
}

type deliveryInput struct {
	ID string `path:"id" maxLength:"36" format:"uuid"`
}

type toldInput struct {
	Days int `query:"days" minimum:"1" maximum:"366" default:"30" doc:"Of incidents that were opened in the last days"`
}

func (h *Handler) registerIncidents() {
	tags := []string{"incidents"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-incidents", Method: http.MethodGet, Path: "/api/v1/incidents",
		Summary: "What is wrong, or was, newest first", Tags: tags,
	}, h.listIncidents)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-incident", Method: http.MethodGet, Path: "/api/v1/incidents/{id}",
		Summary: "One incident, with all that happened and every message", Tags: tags,
	}, h.showIncident)
	register(h, web.Operator, huma.Operation{
		OperationID: "acknowledge-incident", Method: http.MethodPost, Path: "/api/v1/incidents/{id}/acknowledge",
		Summary: "Take an incident on", Tags: tags,
		Description: "Nobody else is told from then on. If it is not over after two hours, it is told again.",
	}, h.acknowledgeIncident)
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-channels", Method: http.MethodGet, Path: "/api/v1/channels",
		Summary: "How each of the region's channels fares", Tags: tags,
	}, h.listChannels)
	register(h, web.Operator, huma.Operation{
		OperationID: "test-method", Method: http.MethodPost, Path: "/api/v1/methods/{id}/test",
		Summary: "Send a test to a contact's method", Tags: tags, DefaultStatus: http.StatusAccepted,
		Description: "It goes the way of every message; what became of it is at /api/v1/deliveries/{id}.",
	}, h.testMethod)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-delivery", Method: http.MethodGet, Path: "/api/v1/deliveries/{id}",
		Summary: "One message, and what its provider said of it", Tags: tags,
	}, h.showDelivery)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-figures", Method: http.MethodGet, Path: "/api/v1/figures/told",
		Summary: "How fast outages were known, and told", Tags: tags,
	}, h.showTold)
}

func (h *Handler) listIncidents(ctx context.Context, in *incidentsInput) (*body[v1.Page[v1.Incident]], error) {
	before, err := afterID(in.Cursor)
	if err != nil {
		return nil, err
	}
	if in.Facility != "" {
		if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
			return nil, err
		}
	}
	f := alert.Filter{State: in.State, Facility: in.Facility, Tenant: in.Tenant, Kind: in.Kind, Before: before, Limit: min(in.Limit+1, 500)}
	if f.State == "all" {
		f.State = ""
	}
	list, err := h.Alerts.List(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(list, min(in.Limit, 499), func(i v1.Incident) string { return number(i.ID) }), nil
}

func (h *Handler) showIncident(ctx context.Context, in *NumberPath) (*body[v1.IncidentDetail], error) {
	d, err := h.Alerts.Detail(ctx, in.ID)
	if err != nil {
		return nil, incidentProblem(in.ID, err)
	}
	return &body[v1.IncidentDetail]{d}, nil
}

func (h *Handler) acknowledgeIncident(ctx context.Context, in *numbered[v1.IncidentAck]) (*body[v1.Incident], error) {
	how := "dashboard"
	if id, _ := web.From(ctx); id.Token {
		how = "cli"
	}
	i, err := h.Alerts.AcknowledgeBy(ctx, in.ID, who(ctx), how, in.Body.Note)
	if err != nil {
		return nil, incidentProblem(in.ID, err)
	}
	return &body[v1.Incident]{i}, nil
}

func (h *Handler) listChannels(ctx context.Context, _ *struct{}) (*body[v1.Page[v1.ChannelState]], error) {
	list, err := h.Alerts.ChannelStates(ctx)
	if err != nil {
		return nil, err
	}
	return &body[v1.Page[v1.ChannelState]]{v1.Page[v1.ChannelState]{Items: list}}, nil
}

func (h *Handler) testMethod(ctx context.Context, in *NumberPath) (*body[v1.Delivery], error) {
	d, err := h.Alerts.Test(ctx, in.ID, who(ctx))
	if errors.Is(err, alert.ErrNotFound) {
		return nil, notFound("method", number(in.ID), remedyFor("method"))
	}
	if err != nil {
		return nil, err
	}
	return &body[v1.Delivery]{d}, nil
}

func (h *Handler) showDelivery(ctx context.Context, in *deliveryInput) (*body[v1.Delivery], error) {
	d, err := h.Alerts.Delivery(ctx, in.ID)
	if errors.Is(err, alert.ErrNotFound) {
		return nil, notFound("message", in.ID, "holdfastctl incidents show lists an incident's messages.")
	}
	if err != nil {
		return nil, err
	}
	return &body[v1.Delivery]{d}, nil
}

func (h *Handler) showTold(ctx context.Context, in *toldInput) (*body[v1.Told], error) {
	t, err := h.Alerts.Told(ctx, in.Days)
	if err != nil {
		return nil, err
	}
	return &body[v1.Told]{t}, nil
}

func incidentProblem(id int64, err error) error {
	if taken, ok := errors.AsType[*alert.TakenError](err); ok {
		return conflict("incident "+number(id)+": "+taken.Error(), "Nothing has to be done; holdfastctl incidents show "+number(id)+" says what happened since.")
	}
	switch {
	case errors.Is(err, alert.ErrNotFound):
		return notFound("incident", number(id), "holdfastctl incidents --all shows the incidents with their numbers.")
	case errors.Is(err, alert.ErrOver):
		return conflict("incident "+number(id)+" is over", "Nothing has to be done; holdfastctl incidents show "+number(id)+" says when it ended.")
	}
	return err
}
