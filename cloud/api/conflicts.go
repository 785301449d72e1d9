package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// ConflictPath names a conflict.
type ConflictPath struct {
	ID string `path:"id" format:"uuid" maxLength:"36" doc:"The conflict's id"`
}

// ConflictQuery is v1.ConflictFilter as a list takes it.
type ConflictQuery struct{ v1.ConflictFilter }

type conflictsInput struct {
	v1.ConflictFilter
	PageQuery
}

type acknowledgeInput struct {
	ConflictPath
	Body v1.ConflictAcknowledge
}

type restoreInput struct {
	ConflictPath
	Body v1.ConflictRestore
}

func (h *Handler) registerConflicts() {
	tags := []string{"conflicts"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-conflicts", Method: http.MethodGet, Path: "/api/v1/conflicts",
		Summary: "Rows that both sides changed without knowing of each other, newest first", Tags: tags,
	}, h.listConflicts)
	register(h, web.Viewer, huma.Operation{
		OperationID: "count-conflicts", Method: http.MethodGet, Path: "/api/v1/conflicts/count",
		Summary: "How many conflicts match, by state", Tags: tags,
		Description: "The state parameter does not matter here.",
	}, h.countConflicts)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-conflict", Method: http.MethodGet, Path: "/api/v1/conflicts/{id}",
		Summary: "One conflict: both versions and the row as it is now, side by side", Tags: tags,
	}, h.showConflict)
	register(h, web.Operator, huma.Operation{
		OperationID: "acknowledge-conflict", Method: http.MethodPost, Path: "/api/v1/conflicts/{id}/acknowledge",
		Summary: "Leave a conflict as it was decided", Tags: tags,
	}, h.acknowledgeConflict)
	register(h, web.Operator, huma.Operation{
		OperationID: "reopen-conflict", Method: http.MethodPost, Path: "/api/v1/conflicts/{id}/reopen",
		Summary: "Take an acknowledgement back", Tags: tags,
	}, h.reopenConflict)
	register(h, web.Operator, huma.Operation{
		OperationID: "acknowledge-conflicts", Method: http.MethodPost, Path: "/api/v1/conflicts/acknowledge",
		Summary: "Leave all open conflicts that match as they were decided", Tags: tags,
		Description: "All or nothing: refused when another number matches than count says.",
	}, h.acknowledgeConflicts)
	register(h, web.Operator, huma.Operation{
		OperationID: "restore-conflict", Method: http.MethodPost, Path: "/api/v1/conflicts/{id}/restore",
		Summary: "Write the version of a row that did not stand", Tags: tags,
		Description: "It is an ordinary change in the region, which flows down to the facility. Restoring a row that was deleted adds it; restoring a delete deletes it. Refused when the row has changed since the decision, unless force is set. With dry_run nothing is changed: the database is asked whether it would take it.",
	}, h.restoreConflict)
}

// conflictProblem turns the desk's refusals into problems.
func conflictProblem(err error) error {
	switch {
	case errors.Is(err, conflicts.ErrNotFound):
		return problem(http.StatusNotFound, v1.ProblemNotFound, err.Error(), hint.Of(err))
	case errors.Is(err, conflicts.ErrRefused):
		remedy := hint.Of(err)
		if remedy == "" {
			remedy = "Change the row by hand in the region."
		}
		return problem(http.StatusConflict, v1.ProblemConflict, err.Error(), remedy)
	case errors.Is(err, conflicts.ErrCursor):
		return invalid("query.cursor", conflicts.ErrCursor.Error(), "Pass the next value of the page before, or nothing.")
	}
	return err
}

func (h *Handler) listConflicts(ctx context.Context, in *conflictsInput) (*body[v1.Page[v1.Conflict]], error) {
	items, next, err := h.conflicts.List(ctx, in.ConflictFilter, in.Limit, in.Cursor)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.Page[v1.Conflict]]{v1.Page[v1.Conflict]{Items: items, Next: next}}, nil
}

func (h *Handler) countConflicts(ctx context.Context, in *ConflictQuery) (*body[v1.ConflictCount], error) {
	n, err := h.conflicts.Count(ctx, in.ConflictFilter)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.ConflictCount]{n}, nil
}

func (h *Handler) showConflict(ctx context.Context, in *ConflictPath) (*body[v1.ConflictDetail], error) {
	c, err := h.conflicts.Show(ctx, in.ID)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.ConflictDetail]{c}, nil
}

func (h *Handler) acknowledgeConflict(ctx context.Context, in *acknowledgeInput) (*body[v1.Conflict], error) {
	c, err := h.conflicts.Acknowledge(ctx, in.ID, who(ctx), in.Body.Note)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.Conflict]{c}, nil
}

func (h *Handler) reopenConflict(ctx context.Context, in *ConflictPath) (*body[v1.Conflict], error) {
	c, err := h.conflicts.Reopen(ctx, in.ID, who(ctx))
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.Conflict]{c}, nil
}

func (h *Handler) acknowledgeConflicts(ctx context.Context, in *body[v1.ConflictAcknowledgeMany]) (*body[v1.ConflictsAcknowledged], error) {
	if s := in.Body.Filter.State; s != "" && s != v1.ConflictOpen {
		return nil, invalid("body.filter.state", "only open conflicts can be acknowledged", "Leave it out.")
	}
	err := h.conflicts.AcknowledgeAll(ctx, in.Body.Filter, in.Body.Count, who(ctx), in.Body.Note)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.ConflictsAcknowledged]{v1.ConflictsAcknowledged{Acknowledged: in.Body.Count}}, nil
}

func (h *Handler) restoreConflict(ctx context.Context, in *restoreInput) (*body[v1.ConflictRestoration], error) {
	out, err := h.conflicts.Restore(ctx, in.ID, who(ctx), in.Body)
	if err != nil {
		return nil, conflictProblem(err)
	}
	return &body[v1.ConflictRestoration]{out}, nil
}
