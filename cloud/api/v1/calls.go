package v1

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
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

// SetLimit sets how fast a facility's changes may travel; the zero Limit lifts it.
func (c *Client) SetLimit(ctx context.Context, facility string, in Limit) (Facility, error) {
	return send[Facility](ctx, c, http.MethodPut, facilityPath(facility, "/limit"), in)
}

// SyncStatus returns how far a facility's stream has come.
func (c *Client) SyncStatus(ctx context.Context, facility string) (SyncStatus, error) {
	return get[SyncStatus](ctx, c, facilityPath(facility, "/sync"))
}

// Events returns a page of a facility's stream events, newest first.
func (c *Client) Events(ctx context.Context, facility string, limit int, cursor string) (Page[Event], error) {
	return get[Page[Event]](ctx, c, facilityPath(facility, "/events"+pageQuery(limit, cursor)))
}

// ParkedFilter selects parked changes; empty fields select all. State is
// waiting by default.
type ParkedFilter struct{ Facility, Table, Reason, State string }

// Parked returns a page of changes that the region refused, newest first.
func (c *Client) Parked(ctx context.Context, f ParkedFilter, limit int, cursor string) (Page[Parked], error) {
	q := url.Values{}
	for k, v := range map[string]string{"facility": f.Facility, "table": f.Table, "reason": f.Reason, "state": f.State, "cursor": cursor} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[Page[Parked]](ctx, c, root+"/parked?"+q.Encode())
}

func parkedPath(id int64, rest string) string {
	return root + "/parked/" + strconv.FormatInt(id, 10) + rest
}

// ParkedRow returns one parked change beside the row that is in its way.
func (c *Client) ParkedRow(ctx context.Context, id int64) (ParkedRow, error) {
	return get[ParkedRow](ctx, c, parkedPath(id, ""))
}

// EditParked corrects a parked change; it is tried at once.
func (c *Client) EditParked(ctx context.Context, id int64, in ParkedEdit) (ParkedRow, error) {
	return send[ParkedRow](ctx, c, http.MethodPatch, parkedPath(id, ""), in)
}

// DiscardParked ends a parked change, or with DryRun only says what would happen.
func (c *Client) DiscardParked(ctx context.Context, id int64, in ParkedDiscard) (ParkedDiscarded, error) {
	return send[ParkedDiscarded](ctx, c, http.MethodPost, parkedPath(id, "/discard"), in)
}

// RetryParked has a parked change tried now.
func (c *Client) RetryParked(ctx context.Context, id int64) (ParkedRow, error) {
	return send[ParkedRow](ctx, c, http.MethodPost, parkedPath(id, "/retry"), nil)
}

// RetryAllParked has all that is parked tried now, or what is of one facility.
func (c *Client) RetryAllParked(ctx context.Context, facility string) (ParkedRetried, error) {
	return send[ParkedRetried](ctx, c, http.MethodPost, root+"/parked/retry?facility="+url.QueryEscape(facility), nil)
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

func conflictPath(id, rest string) string { return root + "/conflicts/" + url.PathEscape(id) + rest }

// query writes the filter as a list's parameters.
func (f ConflictFilter) query() url.Values {
	q := url.Values{}
	set := func(k, v string) {
		if v != "" {
			q.Set(k, v)
		}
	}
	set("facility", f.Facility)
	set("table", f.Table)
	set("kind", f.Kind)
	set("decision", f.Decision)
	set("state", f.State)
	set("text", f.Text)
	if !f.From.IsZero() {
		q.Set("from", f.From.UTC().Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		q.Set("to", f.To.UTC().Format(time.RFC3339Nano))
	}
	return q
}

// Conflicts returns a page of conflicts, newest first; without a state in the
// filter, the open ones.
func (c *Client) Conflicts(ctx context.Context, f ConflictFilter, limit int, cursor string) (Page[Conflict], error) {
	q := f.query()
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return get[Page[Conflict]](ctx, c, root+"/conflicts?"+q.Encode())
}

// CountConflicts returns how many conflicts match, by state.
func (c *Client) CountConflicts(ctx context.Context, f ConflictFilter) (ConflictCount, error) {
	f.State = ""
	return get[ConflictCount](ctx, c, root+"/conflicts/count?"+f.query().Encode())
}

// Conflict returns one conflict with both versions and the row as it is now.
func (c *Client) Conflict(ctx context.Context, id string) (ConflictDetail, error) {
	return get[ConflictDetail](ctx, c, conflictPath(id, ""))
}

// AcknowledgeConflict leaves a conflict as it was decided.
func (c *Client) AcknowledgeConflict(ctx context.Context, id string, in ConflictAcknowledge) (Conflict, error) {
	return send[Conflict](ctx, c, http.MethodPost, conflictPath(id, "/acknowledge"), in)
}

// ReopenConflict takes an acknowledgement back.
func (c *Client) ReopenConflict(ctx context.Context, id string) (Conflict, error) {
	return send[Conflict](ctx, c, http.MethodPost, conflictPath(id, "/reopen"), nil)
}

// AcknowledgeConflicts leaves all open conflicts that match as they were
// decided, if there are exactly in.Count of them.
func (c *Client) AcknowledgeConflicts(ctx context.Context, in ConflictAcknowledgeMany) (ConflictsAcknowledged, error) {
	return send[ConflictsAcknowledged](ctx, c, http.MethodPost, root+"/conflicts/acknowledge", in)
}

// RestoreConflict writes the version that did not stand, or says what it would
// write.
func (c *Client) RestoreConflict(ctx context.Context, id string, in ConflictRestore) (ConflictRestoration, error) {
	return send[ConflictRestoration](ctx, c, http.MethodPost, conflictPath(id, "/restore"), in)
}
