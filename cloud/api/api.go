// Package api serves /api/v1: everything that holdfastctl and other programs
// may ask of a region. Whoever changes something is written to the audit log
// in the same transaction as the change, where the change is the database's.
//
// In:  cloud/cmd/holdfastctl and other programs, over HTTP.
// Out: cloud/provision, cloud/ingest, cloud/fleet, cloud/conflicts, cloud/alert, cloud/oncall; the region's PostgreSQL.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/web"
)

// bodyMaxBytes bounds a request's body; the largest real one is below 4 KiB.
const bodyMaxBytes = 64 << 10

// Handler serves everything under /api/. Mount it there.
type Handler struct {
	Deps
	store     store
	conflicts *conflicts.Desk
	api       huma.API
	http      http.Handler
}

// New builds the API. All of d but Log is required.
func New(d Deps) *Handler {
	useProblems()
	if d.Log == nil {
		d.Log = slog.Default()
	}
	mux := http.NewServeMux()
	h := &Handler{Deps: d, store: store{d.DB}, conflicts: conflicts.New(d.DB)}
	h.api = humago.New(mux, config(d))
	h.api.UseMiddleware(h.authenticate)

	h.registerRegion()
	h.registerFacilities()
	h.registerFleet()
	h.registerSync()
	h.registerVerify()
	h.registerResync()
	h.registerLimits()
	h.registerParked()
	h.registerTables()
	h.registerConflicts()
	h.registerContacts()
	h.registerSchedules()
	h.registerPolicies()
	h.registerOnCall()
	h.registerIncidents()
	h.registerAccounts()
	h.registerTokens()
	h.registerAudit()

	mux.HandleFunc("GET /api/openapi.json", h.openAPI)
	mux.HandleFunc("/", h.nothingHere)
	// A browser's cookie must not let another site's page change things.
	h.http = http.NewCrossOriginProtection().Handler(mux)
	return h
}

// ServeHTTP answers one request. The answers are for the caller only, and a
// handler that panics is our fault, not the connection's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer func() {
		p := recover()
		if p == nil || r.Context().Err() != nil { // the caller has gone: nobody to answer
			return
		}
		h.Log.Error("request panicked", "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		writeProblem(w, problem(http.StatusInternalServerError, v1.ProblemInternal, "the region could not do it", remedyOf(http.StatusInternalServerError)))
	}()
	h.http.ServeHTTP(w, r)
}

func config(d Deps) huma.Config {
	c := huma.DefaultConfig("Holdfast region", d.Version)
	c.Info.Description = "The control plane of one region. Every call needs a session cookie or an API token (Authorization: Bearer …); make one with holdfastctl login. Errors are RFC 9457 problems with a remedy."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "An API token"},
		"session": {Type: "apiKey", In: "cookie", Name: d.Auth.CookieName(), Description: "The dashboard's sign-in"},
	}
	return c
}

const roleKey = "holdfast-role"

// register adds one operation. Nobody without role gets to handle; NoRole is for
// the one operation that is itself the sign-in.
func register[I, O any](h *Handler, role web.Role, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Metadata = map[string]any{roleKey: role}
	op.MaxBodyBytes = bodyMaxBytes
	op.Errors = []int{http.StatusUnprocessableEntity, http.StatusInternalServerError}
	if role != web.NoRole {
		op.Description += "\n\nNeeds role " + role.String() + "."
		op.Security = []map[string][]string{{"token": {}}, {"session": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, present(h.Log, op.OperationID, err)
		}
		return out, nil
	})
}

// openAPI serves the description of the API to those who may use it.
func (h *Handler) openAPI(w http.ResponseWriter, r *http.Request) {
	if _, p := h.admit(r, web.Viewer); p != nil {
		writeProblem(w, p)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json")
	if err := json.NewEncoder(w).Encode(h.api.OpenAPI()); err != nil {
		h.Log.Debug("write the API description", "err", err)
	}
}

// nothingHere answers paths that are not there, after asking who asks.
func (h *Handler) nothingHere(w http.ResponseWriter, r *http.Request) {
	if _, p := h.admit(r, web.Viewer); p != nil {
		writeProblem(w, p)
		return
	}
	writeProblem(w, problem(http.StatusNotFound, v1.ProblemNotFound,
		"there is no "+r.Method+" "+r.URL.Path, "See /api/openapi.json for what there is."))
}

func writeProblem(w http.ResponseWriter, p *v1.Problem) {
	w.Header().Set("Content-Type", p.ContentType("application/json"))
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	w.WriteHeader(p.Status)
	// The caller may have gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(p)
}
