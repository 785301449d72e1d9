package web

import (
	"context"
	"errors"
	"fmt"
)

// Role is what someone may do. Each includes the ones before it.
type Role int

// The roles, as the account and api_token tables name them.
const (
	NoRole   Role = iota
	Viewer        // may look
	Operator      // may work: orders, stock, tables, facilities
	Admin         // may also manage accounts and tokens
)

var roleWords = []string{"none", "viewer", "operator", "admin"}

func (r Role) String() string {
	if r < 0 || int(r) >= len(roleWords) {
		return "none"
	}
	return roleWords[r]
}

// ParseRole reads viewer, operator or admin.
func ParseRole(s string) (Role, error) {
	for i, w := range roleWords[1:] {
		if s == w {
			return Role(i + 1), nil
		}
	}
	return NoRole, fmt.Errorf("role %q is not viewer, operator or admin", s)
}

// Identity is who is asking.
type Identity struct {
	Name string
	Role Role
	// Token is true for a program with an API token, false for a person with a
	// session.
	Token bool
}

// Can reports whether the identity may do what needs the role.
func (i Identity) Can(r Role) bool { return i.Role >= r }

type identityKey struct{}

// From returns who is asking, as Auth.Require or Auth.Identify found out.
func From(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(identityKey{}).(Identity)
	return i, ok
}

// WithIdentity returns a context that carries the identity, for handlers that
// authenticate in another way.
func WithIdentity(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// Sentinels of authentication.
var (
	// ErrUnknown: the store holds no such account, session or token (any more).
	ErrUnknown = errors.New("not known here")
	// ErrCredentials: the name or the password is wrong; which one is not said.
	ErrCredentials = errors.New("name or password is wrong")
	// ErrTooMany: too many attempts; wait.
	ErrTooMany = errors.New("too many attempts to sign in")
)
