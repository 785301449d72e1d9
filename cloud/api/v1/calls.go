package v1

import (
	"context"
	"net/http"
	"net/url"
)

const root = "/api/v1"

func facilityPath(id, rest string) string {
	return root + "/facilities/" + url.PathEscape(id) + rest
}

// Version asks what the region runs.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return get[Version](ctx, c, root+"/version")
}

// Me asks who the token belongs to.
func (c *Client) Me(ctx context.Context) (Me, error) { return get[Me](ctx, c, root+"/me") }

// Login exchanges a password for an API token.
func (c *Client) Login(ctx context.Context, in Login) (APIToken, error) {
	return send[APIToken](ctx, c, http.MethodPost, root+"/login", in)
}

// Fleet returns every facility as it is now.
func (c *Client) Fleet(ctx context.Context) (Fleet, error) { return get[Fleet](ctx, c, root+"/fleet") }

// Facilities returns all facilities that were not removed.
func (c *Client) Facilities(ctx context.Context) ([]Facility, error) {
	return all[Facility](ctx, c, root+"/facilities")
}

// Facility returns one facility, also a removed one.
func (c *Client) Facility(ctx context.Context, id string) (Facility, error) {
	return get[Facility](ctx, c, facilityPath(id, ""))
}

// FacilityStatus returns one facility as it is now.
func (c *Client) FacilityStatus(ctx context.Context, id string) (FacilityStatus, error) {
	return get[FacilityStatus](ctx, c, facilityPath(id, "/status"))
}

// AddFacility makes a facility and the token for its first box.
func (c *Client) AddFacility(ctx context.Context, in FacilityAdd) (FacilityAdded, error) {
	return send[FacilityAdded](ctx, c, http.MethodPost, root+"/facilities", in)
}

// NewToken makes a new enrolment token; earlier unused ones end.
func (c *Client) NewToken(ctx context.Context, facility string, in TokenRequest) (EnrolSecret, error) {
	return send[EnrolSecret](ctx, c, http.MethodPost, facilityPath(facility, "/token"), in)
}

// RevokeDevice throws the facility's box out until it is enrolled again.
func (c *Client) RevokeDevice(ctx context.Context, facility string) error {
	return c.do(ctx, http.MethodPost, facilityPath(facility, "/revoke"), Confirm{Confirm: facility}, nil)
}

// RemoveFacility ends a facility. What it sent stays in the region.
func (c *Client) RemoveFacility(ctx context.Context, facility string) error {
	return c.do(ctx, http.MethodDelete, facilityPath(facility, "?confirm="+url.QueryEscape(facility)), nil, nil)
}

// SyncStatus returns how far a facility's stream has come.
func (c *Client) SyncStatus(ctx context.Context, facility string) (SyncStatus, error) {
	return get[SyncStatus](ctx, c, facilityPath(facility, "/sync"))
}

// Events returns a page of a facility's stream events, newest first.
func (c *Client) Events(ctx context.Context, facility string, limit int, cursor string) (Page[Event], error) {
	return get[Page[Event]](ctx, c, facilityPath(facility, "/events"+pageQuery(limit, cursor)))
}

// Tables returns the tables that are synced, with their state at each
// facility, or at the named one.
func (c *Client) Tables(ctx context.Context, facility string) ([]Table, error) {
	return c.tables(ctx, facility, false)
}

// AllTables is Tables with Holdfast's own.
func (c *Client) AllTables(ctx context.Context, facility string) ([]Table, error) {
	return c.tables(ctx, facility, true)
}

func (c *Client) tables(ctx context.Context, facility string, system bool) ([]Table, error) {
	q := url.Values{}
	if facility != "" {
		q.Set("facility", facility)
	}
	if system {
		q.Set("system", "true")
	}
	page, err := get[Page[Table]](ctx, c, root+"/tables?"+q.Encode())
	return page.Items, err
}

// StartVerify begins to compare a facility's rows with the region's.
func (c *Client) StartVerify(ctx context.Context, facility string, in VerifyRequest) (VerifyRun, error) {
	return send[VerifyRun](ctx, c, http.MethodPost, facilityPath(facility, "/verify"), in)
}

// VerifyStatus returns the newest comparison that somebody asked for.
func (c *Client) VerifyStatus(ctx context.Context, facility string) (VerifyRun, error) {
	return get[VerifyRun](ctx, c, facilityPath(facility, "/verify"))
}

// AddTable registers a table, or with DryRun only checks it.
func (c *Client) AddTable(ctx context.Context, in TableAdd) (TableAdded, error) {
	return send[TableAdded](ctx, c, http.MethodPost, root+"/tables", in)
}

// RemoveTable stops syncing a table. Its rows stay where they are.
func (c *Client) RemoveTable(ctx context.Context, schema, table string) error {
	return c.do(ctx, http.MethodDelete, root+"/tables/"+url.PathEscape(schema)+"/"+url.PathEscape(table), nil, nil)
}

// Accounts returns who may sign in.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	return all[Account](ctx, c, root+"/accounts")
}

// AddAccount makes an account.
func (c *Client) AddAccount(ctx context.Context, in AccountAdd) (Account, error) {
	return send[Account](ctx, c, http.MethodPost, root+"/accounts", in)
}

// ChangeAccount sets a password or a role. It ends the account's sessions and
// the tokens that it got by Login.
func (c *Client) ChangeAccount(ctx context.Context, name string, in AccountChange) (Account, error) {
	return send[Account](ctx, c, http.MethodPatch, root+"/accounts/"+url.PathEscape(name), in)
}

// RemoveAccount ends an account with its sessions and tokens.
func (c *Client) RemoveAccount(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, root+"/accounts/"+url.PathEscape(name), nil, nil)
}

// APITokens returns the API tokens, without their secrets.
func (c *Client) APITokens(ctx context.Context) ([]APIToken, error) {
	return all[APIToken](ctx, c, root+"/tokens")
}

// AddAPIToken makes an API token.
func (c *Client) AddAPIToken(ctx context.Context, in APITokenAdd) (APIToken, error) {
	return send[APIToken](ctx, c, http.MethodPost, root+"/tokens", in)
}

// RemoveAPIToken ends an API token.
func (c *Client) RemoveAPIToken(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, root+"/tokens/"+url.PathEscape(name), nil, nil)
}

// Audit returns a page of who changed what, newest first.
func (c *Client) Audit(ctx context.Context, limit int, cursor string) (Page[AuditEntry], error) {
	return get[Page[AuditEntry]](ctx, c, root+"/audit"+pageQuery(limit, cursor))
}
