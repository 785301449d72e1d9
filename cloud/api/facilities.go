package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// FacilityPath names a facility.
type FacilityPath struct {
	Facility string `path:"facility" maxLength:"63" doc:"The facility's id" example:"la"`
}

type facilitiesInput struct {
	PageQuery
	Removed bool `query:"removed" doc:"Also show facilities that were removed"`
}

type facilityTokenInput struct {
	FacilityPath
	Body v1.TokenRequest
}

type revokeInput struct {
	FacilityPath
	Body v1.Confirm
}

type removeFacilityInput struct {
	FacilityPath
	Confirm string `query:"confirm" maxLength:"63" doc:"The facility's id, again"`
}

func (h *Handler) registerFacilities() {
	tags := []string{"facilities"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-facilities", Method: http.MethodGet, Path: "/api/v1/facilities",
		Summary: "Facilities", Tags: tags,
	}, h.listFacilities)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-facility", Method: http.MethodPost, Path: "/api/v1/facilities",
		Summary: "Add a facility and make the token for its first box", Tags: tags, DefaultStatus: http.StatusCreated,
	}, h.addFacility)
	register(h, web.Viewer, huma.Operation{
		OperationID: "show-facility", Method: http.MethodGet, Path: "/api/v1/facilities/{facility}",
		Summary: "One facility", Tags: tags,
	}, h.showFacility)
	register(h, web.Operator, huma.Operation{
		OperationID: "new-enrolment-token", Method: http.MethodPost, Path: "/api/v1/facilities/{facility}/token",
		Summary: "Make a new one-time enrolment token", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "Earlier unused tokens of the facility end. The box that uses it replaces the one before.",
	}, h.newToken)
	register(h, web.Operator, huma.Operation{
		OperationID: "revoke-device", Method: http.MethodPost, Path: "/api/v1/facilities/{facility}/revoke",
		Summary: "Throw the facility's box out", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "The box goes on working for its people, but nothing of it reaches the region until it is enrolled again.",
	}, h.revokeDevice)
	register(h, web.Admin, huma.Operation{
		OperationID: "remove-facility", Method: http.MethodDelete, Path: "/api/v1/facilities/{facility}",
		Summary: "Remove a facility", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Its box is revoked and its tokens end. Its rows stay in the region, and its id stays taken.",
	}, h.removeFacility)
}

func (h *Handler) listFacilities(ctx context.Context, in *facilitiesInput) (*body[v1.Page[v1.Facility]], error) {
	rows, err := h.store.facilities(ctx, in.Cursor, in.Removed, in.Limit+1)
	if err != nil {
		return nil, err
	}
	items := make([]v1.Facility, 0, len(rows))
	for _, r := range rows {
		items = append(items, h.facility(r))
	}
	return pageOf(items, in.Limit, func(f v1.Facility) string { return f.ID }), nil
}

func (h *Handler) showFacility(ctx context.Context, in *FacilityPath) (*body[v1.Facility], error) {
	f, err := h.findFacility(ctx, in.Facility, true)
	if err != nil {
		return nil, err
	}
	return &body[v1.Facility]{h.facility(f)}, nil
}

// findFacility answers with a problem when there is none, or when it was
// removed and removed is false.
func (h *Handler) findFacility(ctx context.Context, id string, removed bool) (facilityRow, error) {
	f, err := h.store.facility(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, noFacility(id)
	}
	if err != nil {
		return f, err
	}
	if f.RemovedAt != nil && !removed {
		return f, conflict(fmt.Sprintf("facility %q was removed on %s", id, f.RemovedAt.UTC().Format(time.RFC3339)),
			"Add a facility with another id; ids are not used twice, so that old rows keep their meaning.")
	}
	return f, nil
}

func noFacility(id string) error {
	return notFound("facility", id, "holdfastctl facility list shows the facilities.")
}

func (h *Handler) addFacility(ctx context.Context, in *body[v1.FacilityAdd]) (*body[v1.FacilityAdded], error) {
	f := in.Body
	if f.Tenant == "" {
		f.Tenant = h.Tenant
	}
	if f.TimeZone == "" {
		f.TimeZone = "UTC"
	}
	if _, err := time.LoadLocation(f.TimeZone); err != nil || f.TimeZone == "Local" {
		return nil, invalid("body.time_zone", fmt.Sprintf("there is no time zone %q", f.TimeZone), "Use an IANA name such as America/Los_Angeles or Europe/Berlin.")
	}
	detail := map[string]any{"facility": f.ID, "tenant": f.Tenant, "name": f.Name, "time_zone": f.TimeZone}
	err := h.store.audited(ctx, "facility.add", detail, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO holdfast.facility (id, tenant, name, time_zone) VALUES ($1, $2, $3, $4)`,
			f.ID, f.Tenant, f.Name, f.TimeZone)
		return err
	})
	if isUnique(err) {
		return nil, conflict(fmt.Sprintf("there is, or was, a facility %q already", f.ID),
			"Choose another id; for a new box at the same facility make a token with holdfastctl facility token "+f.ID+".")
	}
	if err != nil {
		return nil, fmt.Errorf("add facility: %w", err)
	}
	h.fleetChanged(ctx)
	token, err := h.makeEnrolToken(ctx, f.ID, f.TokenTTL)
	if err != nil {
		return nil, hint.Wrap(err, "The facility was added; make its token with holdfastctl facility token %s.", f.ID)
	}
	row, err := h.store.facility(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	return &body[v1.FacilityAdded]{v1.FacilityAdded{Facility: h.facility(row), Token: token}}, nil
}

// fleetChanged shows the change at once. The fleet would notice it by itself
// a little later, so a failure does not matter.
func (h *Handler) fleetChanged(ctx context.Context) {
	if err := h.Fleet.Reload(ctx); err != nil {
		h.Log.Debug("the fleet was not reloaded", "err", err)
	}
}

func (h *Handler) newToken(ctx context.Context, in *facilityTokenInput) (*body[v1.EnrolSecret], error) {
	if _, err := h.findFacility(ctx, in.Facility, false); err != nil {
		return nil, err
	}
	t, err := h.makeEnrolToken(ctx, in.Facility, in.Body.TTL)
	if err != nil {
		return nil, err
	}
	return &body[v1.EnrolSecret]{t}, nil
}

func (h *Handler) makeEnrolToken(ctx context.Context, facility string, ttlSeconds int) (v1.EnrolSecret, error) {
	ttl := time.Duration(ttlSeconds) * time.Second
	secret, expires, err := h.Boxes.NewToken(ctx, facility, who(ctx), ttl)
	if errors.Is(err, provision.ErrNotFound) {
		return v1.EnrolSecret{}, noFacility(facility)
	}
	if err != nil {
		return v1.EnrolSecret{}, fmt.Errorf("make enrolment token: %w", err)
	}
	if err := audit(ctx, h.DB, who(ctx), "facility.token", map[string]any{"facility": facility, "expires_at": expires}); err != nil {
		return v1.EnrolSecret{}, err
	}
	return v1.EnrolSecret{Facility: facility, Secret: secret, ExpiresAt: expires}, nil
}

func confirmed(facility, given string) error {
	if given == facility {
		return nil
	}
	return problem(http.StatusPreconditionRequired, v1.ProblemUnconfirmed,
		"this throws out the box of facility "+facility+", and the request does not confirm it", "Repeat the facility's id as confirm.")
}

func (h *Handler) revokeDevice(ctx context.Context, in *revokeInput) (*struct{}, error) {
	if err := confirmed(in.Facility, in.Body.Confirm); err != nil {
		return nil, err
	}
	if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
		return nil, err
	}
	// The intent is logged first: a revocation that fails half way must not
	// go unseen, and is safe to repeat.
	if err := audit(ctx, h.DB, who(ctx), "facility.revoke", map[string]any{"facility": in.Facility}); err != nil {
		return nil, err
	}
	err := h.Boxes.Revoke(ctx, in.Facility)
	if errors.Is(err, provision.ErrNotFound) {
		return nil, conflict(fmt.Sprintf("facility %q has no box that could be revoked", in.Facility),
			"holdfastctl facility show "+in.Facility+" shows its box.")
	}
	if err != nil {
		return nil, fmt.Errorf("revoke the box: %w", err)
	}
	return nil, nil
}

// removeFacility marks it removed and ends its tokens at once; then its box is
// revoked. Repeating it after a failure between the two finishes the job.
func (h *Handler) removeFacility(ctx context.Context, in *removeFacilityInput) (*struct{}, error) {
	if err := confirmed(in.Facility, in.Confirm); err != nil {
		return nil, err
	}
	if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
		return nil, err
	}
	err := h.store.audited(ctx, "facility.remove", map[string]any{"facility": in.Facility}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE holdfast.facility SET removed_at = coalesce(removed_at, now()) WHERE id = $1`, in.Facility); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM holdfast.enrol_token WHERE facility = $1 AND used_at IS NULL`, in.Facility)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("remove facility: %w", err)
	}
	h.fleetChanged(ctx)
	if err := h.Boxes.Revoke(ctx, in.Facility); err != nil && !errors.Is(err, provision.ErrNotFound) {
		return nil, fmt.Errorf("revoke the box: %w", err)
	}
	return nil, nil
}

func (h *Handler) facility(r facilityRow) v1.Facility {
	f := v1.Facility{
		Limit: h.limit(r.ID),
		ID:    r.ID, Tenant: r.Tenant, Name: r.Name, TimeZone: r.TimeZone, Number: r.Number,
		Enrolments: r.Enrolments, CreatedAt: r.CreatedAt, RemovedAt: r.RemovedAt, TokenExpiresAt: r.TokenExpiresAt,
	}
	if r.DeviceID != nil {
		f.Device = &v1.Device{
			ID: *r.DeviceID, Enrolment: *r.DeviceEnrolment, State: "active", EnrolledAt: *r.EnrolledAt,
			AgentVersion: *r.AgentVersion, CertificateNotAfter: *r.CertificateNotAfter,
		}
	}
	return f
}
