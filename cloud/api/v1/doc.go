// Package v1 holds the documents of the region's HTTP API, /api/v1, and a
// small client for it. It knows nothing of how they are served.
//
// In:  cloud/cmd/holdfastctl, test/demo, any Go program that talks to a region.
// Out: cloud/api, over HTTP.
package v1

import "time"

// Roles, each of which may do what those before it may.
const (
	RoleViewer   = "viewer"   // may look
	RoleOperator = "operator" // may also add facilities and tables
	RoleAdmin    = "admin"    // may also remove things and let people in
)

// Version says what a region runs.
type Version struct {
	Version string `json:"version" doc:"Version of the region's software"`
	Region  string `json:"region" doc:"Name of the region"`
	API     string `json:"api" doc:"Newest version of this API" example:"v1"`
}

// Me is who the caller is to the region.
type Me struct {
	Name string `json:"name"`
	Role string `json:"role" enum:"viewer,operator,admin"`
}

// Login asks for an API token in exchange for a password.
type Login struct {
	Name      string `json:"name" doc:"Account name" minLength:"1" maxLength:"63"`
	Password  string `json:"password" minLength:"1" maxLength:"1024"`
	TokenName string `json:"token_name,omitempty" doc:"What to call the token in lists; default is the account and the time" maxLength:"100"`
	TTL       int    `json:"ttl_s,omitempty" doc:"Seconds until the token expires; default 90 days" minimum:"60" maximum:"31536000"`
}

// Account is a person who may sign in.
type Account struct {
	Name      string    `json:"name"`
	Role      string    `json:"role" enum:"viewer,operator,admin"`
	CreatedAt time.Time `json:"created_at"`
}

// AccountAdd makes an account.
type AccountAdd struct {
	Name     string `json:"name" pattern:"^[a-z0-9][a-z0-9._@-]{0,62}$" patternDescription:"lower-case letters, digits and . _ @ -"`
	Password string `json:"password" minLength:"10" maxLength:"72" doc:"10 to 72 characters"`
	Role     string `json:"role" enum:"viewer,operator,admin"`
}

// AccountChange sets what is given and leaves the rest.
type AccountChange struct {
	Password string `json:"password,omitempty" minLength:"10" maxLength:"72"`
	Role     string `json:"role,omitempty" enum:"viewer,operator,admin"`
}

// APIToken lets a program in. The secret is shown once, when it is made.
type APIToken struct {
	Name      string     `json:"name"`
	Role      string     `json:"role" enum:"viewer,operator,admin"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Secret    string     `json:"secret,omitempty" doc:"Shown once, when the token is made"`
}

// APITokenAdd makes an API token.
type APITokenAdd struct {
	Name string `json:"name" pattern:"^[A-Za-z0-9][A-Za-z0-9._@ -]{0,99}$" patternDescription:"letters, digits, spaces and . _ @ -"`
	Role string `json:"role" enum:"viewer,operator,admin"`
	TTL  int    `json:"ttl_s,omitempty" doc:"Seconds until it expires; 0 means never" minimum:"0" maximum:"315360000"`
}

// AuditEntry is one thing that somebody changed.
type AuditEntry struct {
	ID     int64          `json:"id"`
	At     time.Time      `json:"at"`
	Who    string         `json:"who"`
	What   string         `json:"what" example:"facility.add"`
	Detail map[string]any `json:"detail"`
}

// Page is one page of a list. Next is the value for the same request's cursor
// parameter that continues it, and empty at the end.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Pass as the cursor to get the next page; absent on the last"`
}
