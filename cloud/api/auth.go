package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// who is the caller's name, which authenticate put into the context. A token
// that a person got by signing in stands for that person.
func who(ctx context.Context) string {
	id, _ := web.From(ctx)
	if !id.Token {
		return id.Name
	}
	return accountOf(id.Name)
}

// accountOf is the account behind a login token's name, or the name itself.
func accountOf(token string) string {
	rest, ok := strings.CutPrefix(token, "login:")
	if account, _, found := strings.Cut(rest, ":"); ok && found {
		return account
	}
	return token
}

// admit finds out who asks and whether they may.
func (h *Handler) admit(r *http.Request, role web.Role) (web.Identity, *v1.Problem) {
	id, err := h.Auth.Authenticate(r)
	switch {
	case errors.Is(err, web.ErrUnknown):
		return id, problem(http.StatusUnauthorized, v1.ProblemSignIn, "the request carries no valid sign-in",
			"Sign in with holdfastctl login, or send an API token as Authorization: Bearer …")
	case err != nil:
		h.Log.Error("identity not checked", "err", err)
		return id, problem(http.StatusServiceUnavailable, v1.ProblemInternal, "who you are could not be checked",
			"The region's database is not answering. Try again in a moment.")
	case !id.Can(role):
		return id, problem(http.StatusForbidden, v1.ProblemForbidden,
			id.Name+" has role "+id.Role.String()+", and this needs role "+role.String(), "Ask an admin to do it, or for role "+role.String()+".")
	}
	return id, nil
}

type addressKey struct{}

// addressOf is where a request came from, without the port.
func addressOf(ctx context.Context) string {
	s, _ := ctx.Value(addressKey{}).(string)
	return s
}

// authenticate stands before every operation. One without a role in its
// metadata cannot be called at all.
func (h *Handler) authenticate(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	role, known := ctx.Operation().Metadata[roleKey].(web.Role)
	if known && role == web.NoRole {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		next(huma.WithValue(ctx, addressKey{}, host))
		return
	}
	if !known {
		role = web.Admin + 1 // which nobody has
	}
	id, refused := h.admit(r, role)
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	next(huma.WithContext(ctx, web.WithIdentity(ctx.Context(), id)))
}
