package web

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Account is a person who may sign in.
type Account struct {
	Name         string
	PasswordHash string
	Role         Role
}

// Session is one browser's sign-in.
type Session struct {
	Account   Account // without its PasswordHash
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Token is a program's key.
type Token struct {
	Name string
	Role Role
}

// Store keeps accounts, sessions and tokens. Secrets reach it as SHA-256 sums
// only. Look-ups that find nothing, or only what has expired at now, return
// ErrUnknown; any other error means that the store could not tell.
type Store interface {
	Account(ctx context.Context, name string) (Account, error)
	CreateSession(ctx context.Context, sum [32]byte, account string, now, expires time.Time) error
	Session(ctx context.Context, sum [32]byte, now time.Time) (Session, error)
	ExtendSession(ctx context.Context, sum [32]byte, expires time.Time) error
	DeleteSession(ctx context.Context, sum [32]byte) error
	Token(ctx context.Context, sum [32]byte, now time.Time) (Token, error)
}

// PGStore is the Store in PostgreSQL: tables account, session and api_token of
// schema holdfast, which the region's and the edge's migrations both make.
type PGStore struct{ Pool *pgxpool.Pool }

// Account implements Store.
func (s PGStore) Account(ctx context.Context, name string) (Account, error) {
	var a Account
	var role string
	err := s.Pool.QueryRow(ctx, `SELECT name, password_hash, role FROM holdfast.account WHERE name = $1`, name).
		Scan(&a.Name, &a.PasswordHash, &role)
	if err != nil {
		return Account{}, unknown(err, "read account")
	}
	a.Role, err = ParseRole(role)
	return a, err
}

// Empty reports whether there is no account yet.
func (s PGStore) Empty(ctx context.Context) (bool, error) {
	var none bool
	if err := s.Pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM holdfast.account)`).Scan(&none); err != nil {
		return false, fmt.Errorf("count accounts: %w", err)
	}
	return none, nil
}

// PutAccount adds an account, or changes its password and role and ends its
// sessions. The password is hashed here.
func (s PGStore) PutAccount(ctx context.Context, name, password string, role Role) error {
	hash, err := HashPassword(password)
	if err != nil {
		return err
	}
	_, err = s.Pool.Exec(ctx, `
		WITH ended AS (DELETE FROM holdfast.session WHERE account = $1)
		INSERT INTO holdfast.account (name, password_hash, role) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, role = excluded.role`,
		name, hash, role.String())
	if err != nil {
		return fmt.Errorf("write account %s: %w", name, err)
	}
	return nil
}

// PutToken adds an API token by its sum, or replaces the one of that name. A
// zero expires means never.
func (s PGStore) PutToken(ctx context.Context, name string, sum [32]byte, role Role, expires time.Time) error {
	var until *time.Time
	if !expires.IsZero() {
		until = &expires
	}
	_, err := s.Pool.Exec(ctx, `
		INSERT INTO holdfast.api_token (token_sha256, name, role, expires_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET token_sha256 = excluded.token_sha256, role = excluded.role,
			expires_at = excluded.expires_at, created_at = now()`,
		sum[:], name, role.String(), until)
	if err != nil {
		return fmt.Errorf("write token %s: %w", name, err)
	}
	return nil
}

// TokenEntry is what is known of a token, without its secret.
type TokenEntry struct {
	Name      string
	Role      string
	CreatedAt time.Time
	ExpiresAt *time.Time // nil: never
}

// Tokens lists the API tokens by their names.
func (s PGStore) Tokens(ctx context.Context) ([]TokenEntry, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name, role, created_at, expires_at FROM holdfast.api_token ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TokenEntry])
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list, nil
}

// RemoveToken ends the API token of that name; ErrUnknown: there is none.
func (s PGStore) RemoveToken(ctx context.Context, name string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM holdfast.api_token WHERE name = $1`, name)
	if err != nil {
		return fmt.Errorf("remove token %s: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return ErrUnknown
	}
	return nil
}

// CreateSession implements Store. It also sweeps out sessions that ended.
func (s PGStore) CreateSession(ctx context.Context, sum [32]byte, account string, now, expires time.Time) error {
	_, err := s.Pool.Exec(ctx, `
		WITH old AS (DELETE FROM holdfast.session WHERE expires_at < $3)
		INSERT INTO holdfast.session (token_sha256, account, created_at, expires_at) VALUES ($1, $2, $3, $4)`,
		sum[:], account, now, expires)
	if err != nil {
		return fmt.Errorf("write session: %w", err)
	}
	return nil
}

// Session implements Store.
func (s PGStore) Session(ctx context.Context, sum [32]byte, now time.Time) (Session, error) {
	var out Session
	var role string
	err := s.Pool.QueryRow(ctx, `
		SELECT a.name, a.role, s.created_at, s.expires_at
		FROM holdfast.session s JOIN holdfast.account a ON a.name = s.account
		WHERE s.token_sha256 = $1 AND s.expires_at > $2`, sum[:], now).
		Scan(&out.Account.Name, &role, &out.CreatedAt, &out.ExpiresAt)
	if err != nil {
		return Session{}, unknown(err, "read session")
	}
	out.Account.Role, err = ParseRole(role)
	return out, err
}

// ExtendSession implements Store.
func (s PGStore) ExtendSession(ctx context.Context, sum [32]byte, expires time.Time) error {
	if _, err := s.Pool.Exec(ctx, `UPDATE holdfast.session SET expires_at = $2 WHERE token_sha256 = $1`, sum[:], expires); err != nil {
		return fmt.Errorf("extend session: %w", err)
	}
	return nil
}

// DeleteSession implements Store.
func (s PGStore) DeleteSession(ctx context.Context, sum [32]byte) error {
	if _, err := s.Pool.Exec(ctx, `DELETE FROM holdfast.session WHERE token_sha256 = $1`, sum[:]); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// Token implements Store.
func (s PGStore) Token(ctx context.Context, sum [32]byte, now time.Time) (Token, error) {
	var t Token
	var role string
	err := s.Pool.QueryRow(ctx, `
		SELECT name, role FROM holdfast.api_token
		WHERE token_sha256 = $1 AND (expires_at IS NULL OR expires_at > $2)`, sum[:], now).Scan(&t.Name, &role)
	if err != nil {
		return Token{}, unknown(err, "read token")
	}
	t.Role, err = ParseRole(role)
	return t, err
}

func unknown(err error, doing string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrUnknown
	}
	return fmt.Errorf("%s: %w", doing, err)
}
