package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

func (h *Handler) registerContacts() {
	tags := []string{"contacts"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-contacts", Method: http.MethodGet, Path: "/api/v1/contacts",
		Summary: "Who can be told, and how", Tags: tags,
		Description: "Addresses that let whoever knows them send are shown only in part.",
	}, h.listContacts)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-contact", Method: http.MethodPost, Path: "/api/v1/contacts",
		Summary: "Add somebody who can be told", Tags: tags, DefaultStatus: http.StatusCreated,
	}, h.addContact)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-contact", Method: http.MethodGet, Path: "/api/v1/contacts/{id}",
		Summary: "One contact", Tags: tags,
	}, h.showContact)
	register(h, web.Operator, huma.Operation{
		OperationID: "change-contact", Method: http.MethodPut, Path: "/api/v1/contacts/{id}",
		Summary: "Give a contact another name or time zone", Tags: tags,
		Description: "Sent with the version that was read, it is refused with 409 when somebody has changed it since.",
	}, h.changeContact)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-contact", Method: http.MethodDelete, Path: "/api/v1/contacts/{id}",
		Summary: "Remove a contact", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Refused while a policy or a schedule needs it.",
	}, h.removeContact)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-method", Method: http.MethodPost, Path: "/api/v1/contacts/{id}/methods",
		Summary: "Add a way to reach a contact", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "The channel looks at the address without telling anybody; what it finds wrong is the method's problem.",
	}, h.addMethod)
	register(h, web.Operator, huma.Operation{
		OperationID: "check-method", Method: http.MethodPost, Path: "/api/v1/methods/{id}/check",
		Summary: "Have the channel look at an address again", Tags: tags,
	}, h.checkMethod)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-method", Method: http.MethodDelete, Path: "/api/v1/methods/{id}",
		Summary: "Remove a way to reach a contact", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Refused for the last one of somebody whom a policy or a schedule needs.",
	}, h.removeMethod)
}

func (h *Handler) listContacts(ctx context.Context, in *tenantInput) (*body[v1.Page[v1.Contact]], error) {
	after, err := afterID(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := h.OnCall.ListContacts(ctx, in.Tenant, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(list, in.Limit, func(c v1.Contact) string { return number(c.ID) }), nil
}

func (h *Handler) addContact(ctx context.Context, in *body[v1.Contact]) (*body[v1.Contact], error) {
	return answer(h.OnCall.AddContact(ctx, in.Body, who(ctx)))
}

func (h *Handler) showContact(ctx context.Context, in *NumberPath) (*body[v1.Contact], error) {
	return answer(h.OnCall.Contact(ctx, in.ID))
}

func (h *Handler) changeContact(ctx context.Context, in *numbered[v1.Contact]) (*body[v1.Contact], error) {
	return answer(h.OnCall.ChangeContact(ctx, in.ID, in.Body, who(ctx)))
}

func (h *Handler) removeContact(ctx context.Context, in *NumberPath) (*struct{}, error) {
	return nil, oncallProblem(h.OnCall.RemoveContact(ctx, in.ID, who(ctx), time.Now()))
}

func (h *Handler) addMethod(ctx context.Context, in *numbered[v1.MethodAdd]) (*body[v1.Method], error) {
	return answer(h.OnCall.AddMethod(ctx, in.ID, in.Body, who(ctx), time.Now()))
}

func (h *Handler) checkMethod(ctx context.Context, in *NumberPath) (*body[v1.Method], error) {
	return answer(h.OnCall.CheckMethod(ctx, in.ID, time.Now()))
}

func (h *Handler) removeMethod(ctx context.Context, in *NumberPath) (*struct{}, error) {
	return nil, oncallProblem(h.OnCall.RemoveMethod(ctx, in.ID, who(ctx), time.Now()))
}
