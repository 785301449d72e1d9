package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// Principal is who makes a request.
type Principal struct {
	Name string // account, or name of the API token
	Role string // viewer, operator or admin
}

type principalKey struct{}

// who is the caller, which authenticate put into the context.
func who(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

var roleOrder = []string{v1.RoleViewer, v1.RoleOperator, v1.RoleAdmin}

// may says whether a role includes another. An unknown role may nothing.
func may(role, needed string) bool {
	have, need := slices.Index(roleOrder, role), slices.Index(roleOrder, needed)
	return need >= 0 && have >= need
}

// admit finds out who asks and whether they may.
func (h *Handler) admit(r *http.Request, role string) (Principal, *v1.Problem) {
	p, ok := h.Who(r)
	if !ok {
		return Principal{}, problem(http.StatusUnauthorized, v1.ProblemSignIn,
			"the request carries no valid sign-in", "Sign in with holdfastctl login, or send an API token as Authorization: Bearer …")
	}
	if !may(p.Role, role) {
		return Principal{}, problem(http.StatusForbidden, v1.ProblemForbidden,
			p.Name+" has role "+p.Role+", and this needs role "+role, "Ask an admin to do it, or for role "+role+".")
	}
	return p, nil
}

// authenticate stands before every operation. One without a role in its
// metadata cannot be called at all.
func (h *Handler) authenticate(ctx huma.Context, next func(huma.Context)) {
	role, known := ctx.Operation().Metadata[roleKey].(string)
	if known && role == "" {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	p, refused := h.admit(r, role)
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	next(huma.WithValue(ctx, principalKey{}, p))
}
