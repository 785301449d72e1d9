package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

type parkedInput struct {
	PageQuery
	Facility  string `query:"facility" maxLength:"63" doc:"Of this facility only"`
	Table     string `query:"table" maxLength:"127" doc:"Of this table only: schema.table as PostgreSQL stores it" example:"public.orders"`
	Reason    string `query:"reason" maxLength:"20" enum:"unique,check,not_null,exclusion,type,missing_table,missing_column,privilege,foreign,behind,parent,unread,other" doc:"With this reason only"`
	State     string `query:"state" enum:"waiting,applied,discarded,replaced,all" default:"waiting"`
	Direction string `query:"direction" enum:"up,down" doc:"up: refused in the region; down: refused at a facility; default both"`
}

// ParkedPath names a parked change.
type ParkedPath struct {
	ID int64 `path:"id" minimum:"1"`
}

type parkedEditInput struct {
	ParkedPath
	Body v1.ParkedEdit
}

type parkedDiscardInput struct {
	ParkedPath
	Body v1.ParkedDiscard
}

type parkedRetryInput struct {
	Facility string `query:"facility" maxLength:"63" doc:"Of this facility only"`
}

func (h *Handler) registerParked() {
	tags := []string{"sync"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-parked", Method: http.MethodGet, Path: "/api/v1/parked",
		Summary: "Changes that the region's database refused, or a facility's, newest first", Tags: tags,
		Description: "They are tried again by themselves. What comes later of the same row, and what refers to it, waits too; everything else flows.",
	}, h.listParked)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-parked", Method: http.MethodGet, Path: "/api/v1/parked/{id}",
		Summary: "One parked change, beside the row that is in its way", Tags: tags,
	}, h.showParked)
	register(h, web.Operator, huma.Operation{
		OperationID: "edit-parked", Method: http.MethodPatch, Path: "/api/v1/parked/{id}",
		Summary: "Correct a parked change and try it at once", Tags: tags,
		Description: "The row becomes what the change says, in the region and then at the facility, as a change by whoever corrects it; the facility's version is kept among the conflicts. A change that was edited does not wait for a row that it refers to.",
	}, h.editParked)
	register(h, web.Operator, huma.Operation{
		OperationID: "discard-parked", Method: http.MethodPost, Path: "/api/v1/parked/{id}/discard",
		Summary: "Discard a parked change for good", Tags: tags,
		Description: "The region goes without it. What waits behind it is tried next. The audit log keeps it.",
	}, h.discardParked)
	register(h, web.Operator, huma.Operation{
		OperationID: "retry-parked", Method: http.MethodPost, Path: "/api/v1/parked/{id}/retry",
		Summary: "Try a parked change now", Tags: tags,
	}, h.retryParked)
	register(h, web.Operator, huma.Operation{
		OperationID: "retry-all-parked", Method: http.MethodPost, Path: "/api/v1/parked/retry",
		Summary: "Try all that is parked now", Tags: tags,
	}, h.retryAllParked)
}

func (h *Handler) listParked(ctx context.Context, in *parkedInput) (*body[v1.Page[v1.Parked]], error) {
	f := parked.Filter{Facility: in.Facility, Reason: in.Reason, State: in.State, Direction: in.Direction, Limit: in.Limit + 1}
	if f.State == "all" {
		f.State = ""
	}
	if in.Facility != "" {
		if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
			return nil, err
		}
	}
	if in.Table != "" {
		var ok bool
		if f.Schema, f.Table, ok = strings.Cut(in.Table, "."); !ok {
			f.Schema, f.Table = "public", in.Table
		}
	}
	before, err := beforeID(in.Cursor)
	if err != nil {
		return nil, err
	}
	f.Before = before
	items, err := h.Parked.List(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(items, in.Limit, func(p v1.Parked) string { return strconv.FormatInt(p.ID, 10) }), nil
}

func (h *Handler) showParked(ctx context.Context, in *ParkedPath) (*body[v1.ParkedRow], error) {
	p, err := h.Parked.Show(ctx, in.ID)
	if err != nil {
		return nil, parkedProblem(in.ID, err)
	}
	return &body[v1.ParkedRow]{p}, nil
}

func (h *Handler) editParked(ctx context.Context, in *parkedEditInput) (*body[v1.ParkedRow], error) {
	p, err := h.Parked.Edit(ctx, in.ID, in.Body.Set, who(ctx))
	if err != nil {
		return nil, parkedProblem(in.ID, err)
	}
	return &body[v1.ParkedRow]{p}, nil
}

func (h *Handler) discardParked(ctx context.Context, in *parkedDiscardInput) (*body[v1.ParkedDiscarded], error) {
	p, err := h.Parked.Show(ctx, in.ID)
	if err == nil && p.State != "waiting" {
		err = parked.ErrEnded
	}
	if err == nil && !in.Body.DryRun {
		err = h.Parked.Discard(ctx, in.ID, who(ctx))
	}
	if err != nil {
		return nil, parkedProblem(in.ID, err)
	}
	return &body[v1.ParkedDiscarded]{v1.ParkedDiscarded{Row: p, DryRun: in.Body.DryRun}}, nil
}

func (h *Handler) retryParked(ctx context.Context, in *ParkedPath) (*body[v1.ParkedRow], error) {
	p, err := h.Parked.Retry(ctx, in.ID, who(ctx))
	if err != nil {
		return nil, parkedProblem(in.ID, err)
	}
	return &body[v1.ParkedRow]{p}, nil
}

func (h *Handler) retryAllParked(ctx context.Context, in *parkedRetryInput) (*body[v1.ParkedRetried], error) {
	if in.Facility != "" {
		if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
			return nil, err
		}
	}
	n, err := h.Parked.RetryAll(ctx, in.Facility, who(ctx))
	if err != nil {
		return nil, parkedProblem(0, err)
	}
	return &body[v1.ParkedRetried]{v1.ParkedRetried{Rows: n}}, nil
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*parked.RefusedError](err)
	return ok
}

func parkedProblem(id int64, err error) error {
	if bad, ok := errors.AsType[*parked.InvalidError](err); ok {
		return invalid("body.set."+bad.Column, bad.Text, bad.Remedy)
	}
	switch {
	case errors.Is(err, parked.ErrNotFound):
		return notFound("parked change", strconv.FormatInt(id, 10), "holdfastctl parked list shows what waits.")
	case errors.Is(err, parked.ErrEnded):
		return conflict("parked change "+strconv.FormatInt(id, 10)+" does not wait any more", "holdfastctl parked show says what became of it.")
	case isRefused(err):
		return conflict(err.Error(), hint.Of(err))
	case errors.Is(err, parked.ErrBusy):
		return conflict(err.Error(), "Try again when it is done.")
	}
	return err
}
