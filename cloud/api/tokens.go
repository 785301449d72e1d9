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
	"github.com/agogsaas/holdfast/internal/web"
)

type tokenInput struct {
	Name string `path:"name" maxLength:"200"`
}

func (h *Handler) registerTokens() {
	register(h, web.NoRole, huma.Operation{
		OperationID: "login", Method: http.MethodPost, Path: "/api/v1/login",
		Summary: "Exchange a password for an API token", Tags: []string{"access"}, DefaultStatus: http.StatusCreated,
		Description: "The token has the account's role, and ends when the account's password or role changes.",
	}, h.login)
	register(h, web.Admin, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/api/v1/tokens",
		Summary: "API tokens, without their secrets", Tags: []string{"access"},
	}, h.listTokens)
	register(h, web.Admin, huma.Operation{
		OperationID: "add-token", Method: http.MethodPost, Path: "/api/v1/tokens",
		Summary: "Let a program in", Tags: []string{"access"}, DefaultStatus: http.StatusCreated,
	}, h.addToken)
	register(h, web.Admin, huma.Operation{
		OperationID: "remove-token", Method: http.MethodDelete, Path: "/api/v1/tokens/{name}",
		Summary: "End an API token", Tags: []string{"access"}, DefaultStatus: http.StatusNoContent,
	}, h.removeToken)
}

// login asks whoever keeps the passwords, who also slows down guessing.
func (h *Handler) login(ctx context.Context, in *body[v1.Login]) (*body[v1.APIToken], error) {
	id, err := h.Auth.Check(ctx, addressOf(ctx), in.Body.Name, in.Body.Password)
	if errors.Is(err, web.ErrCredentials) {
		return nil, problem(http.StatusUnauthorized, v1.ProblemSignIn, "name or password is wrong",
			"Check both; an admin can set a new password with holdfastctl account passwd.")
	}
	if errors.Is(err, web.ErrTooMany) {
		return nil, problem(http.StatusTooManyRequests, v1.ProblemTooMany, "too many attempts to sign in", "Wait a minute and try again.")
	}
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	label := in.Body.TokenName
	if label == "" {
		label = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	}
	ttl := time.Duration(in.Body.TTL) * time.Second
	if ttl == 0 {
		ttl = defaultLoginTTL
	}
	t := v1.APIToken{Name: loginTokenPrefix(id.Name) + label, Role: id.Role.String()}
	ctx = web.WithIdentity(ctx, id)
	if err := h.makeToken(ctx, "login", &t, ttl); err != nil {
		return nil, err
	}
	return &body[v1.APIToken]{t}, nil
}

func (h *Handler) listTokens(ctx context.Context, in *PageQuery) (*body[v1.Page[v1.APIToken]], error) {
	rows, err := h.DB.Query(ctx, `
		SELECT name, role, created_at, expires_at FROM holdfast.api_token
		 WHERE name > $1 ORDER BY name LIMIT $2`, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v1.APIToken, error) {
		var t v1.APIToken
		err := row.Scan(&t.Name, &t.Role, &t.CreatedAt, &t.ExpiresAt)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return pageOf(items, in.Limit, func(t v1.APIToken) string { return t.Name }), nil
}

func (h *Handler) addToken(ctx context.Context, in *body[v1.APITokenAdd]) (*body[v1.APIToken], error) {
	t := v1.APIToken{Name: in.Body.Name, Role: in.Body.Role}
	if err := h.makeToken(ctx, "token.add", &t, time.Duration(in.Body.TTL)*time.Second); err != nil {
		return nil, err
	}
	return &body[v1.APIToken]{t}, nil
}

// makeToken fills in the rest of t. A ttl of 0 means that it never expires.
func (h *Handler) makeToken(ctx context.Context, what string, t *v1.APIToken, ttl time.Duration) error {
	secret, sum := web.NewToken()
	err := h.store.audited(ctx, what, map[string]any{"token": t.Name, "role": t.Role}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			INSERT INTO holdfast.api_token (token_sha256, name, role, expires_at)
			VALUES ($1, $2, $3, CASE WHEN $4::float8 > 0 THEN now() + make_interval(secs => $4::float8) END)
			RETURNING created_at, expires_at`,
			sum[:], t.Name, t.Role, ttl.Seconds()).Scan(&t.CreatedAt, &t.ExpiresAt)
	})
	t.Secret = secret
	if isUnique(err) {
		return conflict(fmt.Sprintf("there is a token %q already", t.Name), "Choose another name, or remove that one first.")
	}
	if err != nil {
		return fmt.Errorf("add token: %w", err)
	}
	return nil
}

func (h *Handler) removeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	err := h.store.audited(ctx, "token.remove", map[string]any{"token": in.Name}, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM holdfast.api_token WHERE name = $1`, in.Name)
		if err == nil && tag.RowsAffected() == 0 {
			return pgx.ErrNoRows
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound("token", in.Name, "holdfastctl token list shows the tokens.")
	}
	if err != nil {
		return nil, fmt.Errorf("remove token: %w", err)
	}
	return nil, nil
}
