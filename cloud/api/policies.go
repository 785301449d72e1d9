package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/web"
)

func (h *Handler) registerPolicies() {
	tags := []string{"policies"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-policies", Method: http.MethodGet, Path: "/api/v1/policies",
		Summary: "Who is told of an incident, and who next", Tags: tags,
		Description: "An incident runs through all policies that concern it: its tenant's, and the region's own.",
	}, h.listPolicies)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-policy", Method: http.MethodPost, Path: "/api/v1/policies",
		Summary: "Add a policy", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "It counts for incidents that open from now on.",
	}, h.addPolicy)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-standard-policy", Method: http.MethodPost, Path: "/api/v1/policies/standard",
		Summary: "Add the policy that most tenants want", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "Everybody at once by all channels; after 2 minutes they are called again; after 10 minutes the next people; after an hour customer success, with the offer that the cloud takes over.",
	}, h.addStandardPolicy)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-policy", Method: http.MethodGet, Path: "/api/v1/policies/{id}",
		Summary: "One policy", Tags: tags,
	}, h.showPolicy)
	register(h, web.Operator, huma.Operation{
		OperationID: "set-policy", Method: http.MethodPut, Path: "/api/v1/policies/{id}",
		Summary: "Replace a policy", Tags: tags,
		Description: "Incidents that run through it go on with the new steps. Sent with the version that was read, it is refused with 409 when somebody has changed it since.",
	}, h.setPolicy)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-policy", Method: http.MethodDelete, Path: "/api/v1/policies/{id}",
		Summary: "Remove a policy", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Incidents that run through it go on to its end.",
	}, h.removePolicy)
}

func (h *Handler) listPolicies(ctx context.Context, in *tenantInput) (*body[v1.Page[v1.Policy]], error) {
	after, err := afterID(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := h.OnCall.ListPolicies(ctx, in.Tenant, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(list, in.Limit, func(p v1.Policy) string { return number(p.ID) }), nil
}

func (h *Handler) addPolicy(ctx context.Context, in *body[v1.Policy]) (*body[v1.Policy], error) {
	return answer(h.OnCall.AddPolicy(ctx, in.Body, who(ctx)))
}

func (h *Handler) addStandardPolicy(ctx context.Context, in *body[v1.StandardPolicy]) (*body[v1.Policy], error) {
	return answer(h.OnCall.AddPolicy(ctx, oncall.Standard(in.Body), who(ctx)))
}

func (h *Handler) showPolicy(ctx context.Context, in *NumberPath) (*body[v1.Policy], error) {
	return answer(h.OnCall.Policy(ctx, in.ID))
}

func (h *Handler) setPolicy(ctx context.Context, in *numbered[v1.Policy]) (*body[v1.Policy], error) {
	return answer(h.OnCall.SetPolicy(ctx, in.ID, in.Body, who(ctx)))
}

func (h *Handler) removePolicy(ctx context.Context, in *NumberPath) (*struct{}, error) {
	return nil, oncallProblem(h.OnCall.RemovePolicy(ctx, in.ID, who(ctx), time.Now()))
}
