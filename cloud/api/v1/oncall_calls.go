package v1

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

func numberPath(list string, id int64, rest string) string {
	return root + "/" + list + "/" + strconv.FormatInt(id, 10) + rest
}

// Contacts returns all contacts, or those of one tenant, with how they are reached.
func (c *Client) Contacts(ctx context.Context, tenant string) ([]Contact, error) {
	return allOf[Contact](ctx, c, root+"/contacts", tenant)
}

// Contact returns one contact.
func (c *Client) Contact(ctx context.Context, id int64) (Contact, error) {
	return get[Contact](ctx, c, numberPath("contacts", id, ""))
}

// AddContact adds somebody who can be told; AddMethod says how.
func (c *Client) AddContact(ctx context.Context, in Contact) (Contact, error) {
	return send[Contact](ctx, c, http.MethodPost, root+"/contacts", in)
}

// ChangeContact sets a contact's name and time zone.
func (c *Client) ChangeContact(ctx context.Context, in Contact) (Contact, error) {
	return send[Contact](ctx, c, http.MethodPut, numberPath("contacts", in.ID, ""), in)
}

// RemoveContact ends a contact that nothing needs.
func (c *Client) RemoveContact(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodDelete, numberPath("contacts", id, ""), nil, nil)
}

// AddMethod adds a way to reach a contact.
func (c *Client) AddMethod(ctx context.Context, contact int64, in MethodAdd) (Method, error) {
	return send[Method](ctx, c, http.MethodPost, numberPath("contacts", contact, "/methods"), in)
}

// CheckMethod has the channel look at a method's address again.
func (c *Client) CheckMethod(ctx context.Context, id int64) (Method, error) {
	return send[Method](ctx, c, http.MethodPost, numberPath("methods", id, "/check"), nil)
}

// RemoveMethod ends a way to reach a contact.
func (c *Client) RemoveMethod(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodDelete, numberPath("methods", id, ""), nil, nil)
}

// Schedules returns all schedules, or those of one tenant.
func (c *Client) Schedules(ctx context.Context, tenant string) ([]Schedule, error) {
	return allOf[Schedule](ctx, c, root+"/schedules", tenant)
}

// Schedule returns one schedule.
func (c *Client) Schedule(ctx context.Context, id int64) (Schedule, error) {
	return get[Schedule](ctx, c, numberPath("schedules", id, ""))
}

// AddSchedule makes a schedule.
func (c *Client) AddSchedule(ctx context.Context, in Schedule) (Schedule, error) {
	return send[Schedule](ctx, c, http.MethodPost, root+"/schedules", in)
}

// SetSchedule replaces a schedule's name, time zone and rotations.
func (c *Client) SetSchedule(ctx context.Context, in Schedule) (Schedule, error) {
	id := in.ID
	in.Overrides = nil // they stay
	return send[Schedule](ctx, c, http.MethodPut, numberPath("schedules", id, ""), in)
}

// RemoveSchedule ends a schedule that nothing needs.
func (c *Client) RemoveSchedule(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodDelete, numberPath("schedules", id, ""), nil, nil)
}

// AddOverride has somebody stand in.
func (c *Client) AddOverride(ctx context.Context, schedule int64, in Override) (Schedule, error) {
	return send[Schedule](ctx, c, http.MethodPost, numberPath("schedules", schedule, "/overrides"), in)
}

// RemoveOverride takes a stand-in back.
func (c *Client) RemoveOverride(ctx context.Context, schedule, id int64) (Schedule, error) {
	return send[Schedule](ctx, c, http.MethodDelete, numberPath("schedules", schedule, "/overrides/"+strconv.FormatInt(id, 10)), nil)
}

// OnCall returns who is on call of each schedule now.
func (c *Client) OnCall(ctx context.Context) ([]OnCall, error) {
	page, err := get[Page[OnCall]](ctx, c, root+"/oncall")
	return page.Items, err
}

// Coverage returns who is told when a facility goes offline, for all of them.
func (c *Client) Coverage(ctx context.Context) ([]Coverage, error) {
	return all[Coverage](ctx, c, root+"/coverage")
}

// Policies returns all policies, or those of one tenant.
func (c *Client) Policies(ctx context.Context, tenant string) ([]Policy, error) {
	return allOf[Policy](ctx, c, root+"/policies", tenant)
}

// Policy returns one policy.
func (c *Client) Policy(ctx context.Context, id int64) (Policy, error) {
	return get[Policy](ctx, c, numberPath("policies", id, ""))
}

// AddPolicy makes a policy.
func (c *Client) AddPolicy(ctx context.Context, in Policy) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPost, root+"/policies", in)
}

// AddStandardPolicy makes the policy that most tenants want.
func (c *Client) AddStandardPolicy(ctx context.Context, in StandardPolicy) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPost, root+"/policies/standard", in)
}

// SetPolicy replaces a policy.
func (c *Client) SetPolicy(ctx context.Context, in Policy) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPut, numberPath("policies", in.ID, ""), in)
}

// RemovePolicy ends a policy.
func (c *Client) RemovePolicy(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodDelete, numberPath("policies", id, ""), nil, nil)
}

// Maintenance returns announced work, at one facility or at all; with all set
// also what has ended.
func (c *Client) Maintenance(ctx context.Context, facility string, all bool) ([]Maintenance, error) {
	q := url.Values{"limit": {"500"}}
	if facility != "" {
		q.Set("facility", facility)
	}
	if all {
		q.Set("all", "true")
	}
	page, err := get[Page[Maintenance]](ctx, c, root+"/maintenance?"+q.Encode())
	return page.Items, err
}

// AddMaintenance announces work at a facility.
func (c *Client) AddMaintenance(ctx context.Context, in MaintenanceAdd) (Maintenance, error) {
	return send[Maintenance](ctx, c, http.MethodPost, root+"/maintenance", in)
}

// EndMaintenance ends announced work early, or calls it off.
func (c *Client) EndMaintenance(ctx context.Context, id int64) (Maintenance, error) {
	return send[Maintenance](ctx, c, http.MethodPost, numberPath("maintenance", id, "/end"), nil)
}

// IncidentFilter selects incidents; empty fields select all. State is open by
// default; waiting, acked, resolved and all are the others.
type IncidentFilter struct{ State, Facility, Tenant, Kind string }

// Incidents returns a page of incidents, newest first.
func (c *Client) Incidents(ctx context.Context, f IncidentFilter, limit int, cursor string) (Page[Incident], error) {
	q := url.Values{}
	for k, v := range map[string]string{"state": f.State, "facility": f.Facility, "tenant": f.Tenant, "kind": f.Kind, "cursor": cursor} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[Page[Incident]](ctx, c, root+"/incidents?"+q.Encode())
}

// Incident returns one incident with its timeline and its messages.
func (c *Client) Incident(ctx context.Context, id int64) (IncidentDetail, error) {
	return get[IncidentDetail](ctx, c, numberPath("incidents", id, ""))
}

// AcknowledgeIncident takes an incident on.
func (c *Client) AcknowledgeIncident(ctx context.Context, id int64, in IncidentAck) (Incident, error) {
	return send[Incident](ctx, c, http.MethodPost, numberPath("incidents", id, "/acknowledge"), in)
}

// Channels returns how each of the region's channels fares.
func (c *Client) Channels(ctx context.Context) ([]ChannelState, error) {
	page, err := get[Page[ChannelState]](ctx, c, root+"/channels")
	return page.Items, err
}

// TestMethod sends a test by a contact's method; Delivery says what became of it.
func (c *Client) TestMethod(ctx context.Context, id int64) (Delivery, error) {
	return send[Delivery](ctx, c, http.MethodPost, numberPath("methods", id, "/test"), nil)
}

// Delivery returns one message as it stands.
func (c *Client) Delivery(ctx context.Context, id string) (Delivery, error) {
	return get[Delivery](ctx, c, root+"/deliveries/"+url.PathEscape(id))
}

// Told returns how fast outages of the last days were known and told.
func (c *Client) Told(ctx context.Context, days int) (Told, error) {
	return get[Told](ctx, c, root+"/figures/told?days="+strconv.Itoa(days))
}

// allOf reads a list to its end, of one tenant if one is named.
func allOf[T any](ctx context.Context, c *Client, path, tenant string) ([]T, error) {
	var items []T
	q := url.Values{"limit": {"500"}}
	if tenant != "" {
		q.Set("tenant", tenant)
	}
	for {
		page, err := get[Page[T]](ctx, c, path+"?"+q.Encode())
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || page.Next == q.Get("cursor") {
			return items, nil
		}
		q.Set("cursor", page.Next)
	}
}
