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

const defaultLoginTTL = 90 * 24 * time.Hour

type body[T any] struct{ Body T }

// PageQuery is what lists that grow take. It is exported, as are the other
// parts of inputs, because the API library sees only exported embedded structs.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"The next value of the page before"`
}

// pageOf cuts items, of which one more than the limit was read, to a page.
func pageOf[T any](items []T, limit int, cursor func(T) string) *body[v1.Page[T]] {
	p := v1.Page[T]{Items: items}
	if p.Items == nil {
		p.Items = []T{}
	}
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = cursor(items[limit-1])
	}
	return &body[v1.Page[T]]{p}
}

// AccountPath names an account.
type AccountPath struct {
	Name string `path:"name" maxLength:"63"`
}

type accountChangeInput struct {
	AccountPath
	Body v1.AccountChange
}

func (h *Handler) registerAccounts() {
	register(h, web.Admin, huma.Operation{
		OperationID: "list-accounts", Method: http.MethodGet, Path: "/api/v1/accounts",
		Summary: "Who may sign in", Tags: []string{"access"},
	}, h.listAccounts)
	register(h, web.Admin, huma.Operation{
		OperationID: "add-account", Method: http.MethodPost, Path: "/api/v1/accounts",
		Summary: "Let a person sign in", Tags: []string{"access"}, DefaultStatus: http.StatusCreated,
	}, h.addAccount)
	register(h, web.Admin, huma.Operation{
		OperationID: "change-account", Method: http.MethodPatch, Path: "/api/v1/accounts/{name}",
		Summary: "Set a password or a role", Tags: []string{"access"},
		Description: "Ends the account's sessions and the tokens that it got by signing in.",
	}, h.changeAccount)
	register(h, web.Admin, huma.Operation{
		OperationID: "remove-account", Method: http.MethodDelete, Path: "/api/v1/accounts/{name}",
		Summary: "End an account with its sessions and tokens", Tags: []string{"access"}, DefaultStatus: http.StatusNoContent,
	}, h.removeAccount)
}

func (h *Handler) listAccounts(ctx context.Context, in *PageQuery) (*body[v1.Page[v1.Account]], error) {
	rows, err := h.DB.Query(ctx, `
		SELECT name, role, created_at FROM holdfast.account
		 WHERE name > $1 ORDER BY name LIMIT $2`, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[v1.Account])
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return pageOf(items, in.Limit, func(a v1.Account) string { return a.Name }), nil
}

func (h *Handler) addAccount(ctx context.Context, in *body[v1.AccountAdd]) (*body[v1.Account], error) {
	hash, err := web.HashPassword(in.Body.Password)
	if err != nil {
		return nil, fmt.Errorf("hash the password: %w", err)
	}
	out := v1.Account{Name: in.Body.Name, Role: in.Body.Role}
	err = h.store.audited(ctx, "account.add", map[string]any{"account": out.Name, "role": out.Role}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			INSERT INTO holdfast.account (name, password_hash, role) VALUES ($1, $2, $3)
			RETURNING created_at`, out.Name, hash, out.Role).Scan(&out.CreatedAt)
	})
	if isUnique(err) {
		return nil, conflict(fmt.Sprintf("there is an account %q already", out.Name),
			"Choose another name, or set its password with holdfastctl account passwd "+out.Name+".")
	}
	if err != nil {
		return nil, fmt.Errorf("add account: %w", err)
	}
	return &body[v1.Account]{out}, nil
}

func (h *Handler) changeAccount(ctx context.Context, in *accountChangeInput) (*body[v1.Account], error) {
	if in.Body.Password == "" && in.Body.Role == "" {
		return nil, invalid("body", "neither password nor role is given", "Give at least one of them.")
	}
	hash := ""
	if in.Body.Password != "" {
		var err error
		if hash, err = web.HashPassword(in.Body.Password); err != nil {
			return nil, fmt.Errorf("hash the password: %w", err)
		}
	}
	var out v1.Account
	detail := map[string]any{"account": in.Name, "password": hash != ""}
	if in.Body.Role != "" {
		detail["role"] = in.Body.Role
	}
	err := h.store.audited(ctx, "account.change", detail, func(tx pgx.Tx) error {
		if err := keepAnAdmin(ctx, tx, in.Name, in.Body.Role == "" || in.Body.Role == v1.RoleAdmin); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `
			UPDATE holdfast.account
			   SET password_hash = coalesce(nullif($2, ''), password_hash), role = coalesce(nullif($3, ''), role)
			 WHERE name = $1 RETURNING name, role, created_at`, in.Name, hash, in.Body.Role).
			Scan(&out.Name, &out.Role, &out.CreatedAt)
		if err != nil {
			return err
		}
		return signOut(ctx, tx, in.Name)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noAccount(in.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("change account: %w", err)
	}
	return &body[v1.Account]{out}, nil
}

func (h *Handler) removeAccount(ctx context.Context, in *AccountPath) (*struct{}, error) {
	err := h.store.audited(ctx, "account.remove", map[string]any{"account": in.Name}, func(tx pgx.Tx) error {
		if err := keepAnAdmin(ctx, tx, in.Name, false); err != nil {
			return err
		}
		if err := signOut(ctx, tx, in.Name); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM holdfast.account WHERE name = $1`, in.Name)
		if err == nil && tag.RowsAffected() == 0 {
			return pgx.ErrNoRows
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noAccount(in.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("remove account: %w", err)
	}
	return nil, nil
}

func noAccount(name string) error {
	return notFound("account", name, "holdfastctl account list shows the accounts.")
}

// keepAnAdmin refuses to let the last admin go, which would lock everybody
// out. It locks the admins, so that two of them cannot remove each other.
func keepAnAdmin(ctx context.Context, tx pgx.Tx, name string, staysAdmin bool) error {
	if staysAdmin {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT name FROM holdfast.account WHERE role = 'admin' ORDER BY name FOR UPDATE`)
	if err != nil {
		return fmt.Errorf("read admins: %w", err)
	}
	admins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read admins: %w", err)
	}
	if len(admins) == 1 && admins[0] == name {
		return conflict(fmt.Sprintf("%q is the only admin", name), "Make another account admin first.")
	}
	return nil
}

// loginTokenPrefix starts the names of tokens that an account got by signing
// in. Account names have no colon, so no other account's tokens match.
func loginTokenPrefix(account string) string { return "login:" + account + ":" }

// signOut ends the sessions of an account and the tokens it got by signing in.
func signOut(ctx context.Context, tx pgx.Tx, account string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM holdfast.session WHERE account = $1`, account); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	_, err := tx.Exec(ctx, `DELETE FROM holdfast.api_token WHERE starts_with(name, $1)`, loginTokenPrefix(account))
	if err != nil {
		return fmt.Errorf("end tokens: %w", err)
	}
	return nil
}
