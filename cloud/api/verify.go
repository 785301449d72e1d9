package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/verify"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// Verify compares a facility's rows with the region's (cloud/verify).
type Verify interface {
	// Start begins a pass over one table or all. verify.ErrNotConnected,
	// verify.ErrRunning and verify.ErrNoTable have begun nothing.
	Start(ctx context.Context, facility string, in v1.VerifyRequest, by string) (v1.VerifyRun, error)
	// Latest returns the newest pass that somebody asked for.
	Latest(facility string) (v1.VerifyRun, bool)
}

func (h *Handler) registerVerify() {
	tags := []string{"sync"}
	register(h, web.Operator, huma.Operation{
		OperationID: "start-verify", Method: http.MethodPost, Path: "/api/v1/facilities/{facility}/verify",
		Summary: "Compare a facility's rows with the region's now", Tags: tags, DefaultStatus: http.StatusAccepted,
		Description: "Every table is compared all the time; this begins a pass at once. Ask for its result until its state is done. With repair, rows that differ are sent again by the facility that owns them.",
	}, h.startVerify)
	register(h, web.Viewer, huma.Operation{
		OperationID: "verify-status", Method: http.MethodGet, Path: "/api/v1/facilities/{facility}/verify",
		Summary: "What the newest pass that was asked for has found", Tags: tags,
	}, h.verifyStatus)
}

type verifyInput struct {
	FacilityPath
	Body v1.VerifyRequest
}

func (h *Handler) startVerify(ctx context.Context, in *verifyInput) (*body[v1.VerifyRun], error) {
	f, err := h.findFacility(ctx, in.Facility, false)
	if err != nil {
		return nil, err
	}
	r, err := h.Verify.Start(ctx, f.ID, in.Body, who(ctx))
	switch {
	case errors.Is(err, verify.ErrNoTable):
		return nil, notFound("synced table", in.Body.Schema+"."+in.Body.Table, hint.Of(err))
	case errors.Is(err, verify.ErrNotConnected), errors.Is(err, verify.ErrRunning):
		return nil, conflict(err.Error(), hint.Of(err))
	case err != nil:
		return nil, err
	}
	err = audit(ctx, h.DB, who(ctx), "facility.verify", map[string]any{
		"facility": f.ID, "schema": in.Body.Schema, "table": in.Body.Table, "repair": in.Body.Repair, "dry_run": in.Body.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return &body[v1.VerifyRun]{r}, nil
}

func (h *Handler) verifyStatus(ctx context.Context, in *FacilityPath) (*body[v1.VerifyRun], error) {
	f, err := h.findFacility(ctx, in.Facility, true)
	if err != nil {
		return nil, err
	}
	r, ok := h.Verify.Latest(f.ID)
	if !ok {
		return nil, notFound("pass that was asked for at", f.ID, "holdfastctl verify "+f.ID+" begins one; holdfastctl sync status shows what the continuous comparison has found.")
	}
	return &body[v1.VerifyRun]{r}, nil
}

// addVerified adds to each table at a facility what its comparison came to.
func (s store) addVerified(ctx context.Context, facility string, list []v1.TableAt) error {
	type key struct{ facility, schema, table string }
	found := map[key]*v1.Verified{}
	rows, err := s.db.Query(ctx, `
		SELECT facility, schema_name, table_name, equal_at, equal_seq, equal_rows, differing, repaired, ended_at, began_at, rows_done,
		       problem, remedy, differences
		  FROM holdfast.verified WHERE $1 IN ('', facility)`, facility)
	if err != nil {
		return fmt.Errorf("read what was compared: %w", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var k key
		v := new(v1.Verified)
		err := row.Scan(&k.facility, &k.schema, &k.table, &v.EqualAt, &v.EqualSeq, &v.EqualRows, &v.Differing, &v.Repaired, &v.EndedAt, &v.BeganAt,
			&v.RowsDone, &v.Problem, &v.Remedy, &v.Rows)
		found[k] = v
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("read what was compared: %w", err)
	}
	for i := range list {
		list[i].Verified = found[key{list[i].Facility, list[i].Schema, list[i].Table}]
	}
	return nil
}
