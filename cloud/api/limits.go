package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/limits"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

type limitInput struct {
	FacilityPath
	Body v1.Limit
}

func (h *Handler) registerLimits() {
	register(h, web.Operator, huma.Operation{
		OperationID: "set-limit", Method: http.MethodPut, Path: "/api/v1/facilities/{facility}/limit",
		Summary: "Set how fast a facility's changes may travel", Tags: []string{"facilities"},
		Description: "Holds for each direction by itself, from now on, without a new connection. What was committed waits in the queue for its turn; " +
			"acknowledgements, questions and heartbeats do not count and do not wait. An empty body lifts the limit. A box of the build before knows no limit for what it sends.",
	}, h.setLimit)
}

func (h *Handler) setLimit(ctx context.Context, in *limitInput) (*body[v1.Facility], error) {
	f, err := h.findFacility(ctx, in.Facility, false)
	if err != nil {
		return nil, err
	}
	l, err := limitFrom(in.Body)
	if err != nil {
		return nil, err
	}
	detail := map[string]any{"facility": f.ID, "kbps": in.Body.KBps, "windows": in.Body.Windows}
	if err := h.store.audited(ctx, "facility.limit", detail, func(tx pgx.Tx) error { return limits.Write(ctx, tx, f.ID, l, who(ctx)) }); err != nil {
		return nil, err
	}
	if err := h.Limits.Reload(ctx); err != nil {
		return nil, hint.Wrap(err, "The limit is stored and counts within a minute.")
	}
	return &body[v1.Facility]{h.facility(f)}, nil
}

func limitFrom(in v1.Limit) (limits.Limit, error) {
	l := limits.Limit{KBps: in.KBps}
	if err := limits.CheckKBps(in.KBps); err != nil {
		return l, invalid("body.kbps", err.Error(), fmt.Sprintf("Give at least %d KB/s, or none.", limits.MinKBps))
	}
	if len(in.Windows) > limits.MaxWindows {
		return l, invalid("body.windows", "are too many", fmt.Sprintf("Give at most %d.", limits.MaxWindows))
	}
	for i, text := range in.Windows {
		w, err := limits.ParseWindow(text)
		if err != nil {
			return l, invalid(fmt.Sprintf("body.windows[%d]", i), err.Error(), hint.Of(err))
		}
		l.Windows = append(l.Windows, w)
	}
	return l, nil
}

// limit is nil for a facility without one.
func (h *Handler) limit(facility string) *v1.Limit {
	l, ok := h.Limits.Of(facility)
	if !ok {
		return nil
	}
	now, _ := h.Limits.Now(facility)
	out := &v1.Limit{KBps: l.KBps, Now: int(now / 1000)}
	for _, w := range l.Windows {
		out.Windows = append(out.Windows, w.String())
	}
	return out
}
