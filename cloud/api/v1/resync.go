package v1

import (
	"context"
	"net/http"
	"time"
)

// TableName names a table exactly as PostgreSQL stores it.
type TableName struct {
	Schema string `json:"schema" minLength:"1" maxLength:"63"`
	Table  string `json:"table" minLength:"1" maxLength:"63"`
}

// Directions of a ResyncRequest; empty sends each table from the side that owns
// its rows.
const (
	ResyncUp   = "up"
	ResyncDown = "down"
)

// ResyncRequest asks for tables to be sent again.
type ResyncRequest struct {
	Tables    []TableName `json:"tables,omitempty" maxItems:"1000" doc:"Default all synced tables"`
	Direction string      `json:"direction,omitempty" enum:"up,down" doc:"Only what goes that way. down sends fact rows from the region too. Default: each table from the side that owns its rows"`
	DryRun    bool        `json:"dry_run,omitempty" doc:"Say what would be sent"`
}

// Resync says what is sent again.
type Resync struct {
	Facility string      `json:"facility"`
	Up       []TableName `json:"up" doc:"Sent by the facility to the region"`
	Down     []TableName `json:"down" doc:"Sent by the region to the facility"`
	DryRun   bool        `json:"dry_run"`
}

// DownStatus is how far the region's changes have come at a facility.
type DownStatus struct {
	Epoch uint64    `json:"epoch"`
	Seq   uint64    `json:"seq" doc:"Last of the region's transactions that is on the facility's disk; numbered for all facilities together"`
	At    time.Time `json:"at" doc:"When that was last heard"`
	Loads []Load    `json:"loads" doc:"Tables that are, or were, sent by key ranges; those that are not done come first"`
}

// Load is a table that is sent to a facility by key ranges.
type Load struct {
	Schema  string     `json:"schema"`
	Table   string     `json:"table"`
	Reason  string     `json:"reason"`
	Rows    int64      `json:"rows" doc:"Sent so far"`
	AskedAt time.Time  `json:"asked_at"`
	DoneAt  *time.Time `json:"done_at,omitempty"`
}

// Resync has tables sent again.
func (c *Client) Resync(ctx context.Context, facility string, in ResyncRequest) (Resync, error) {
	return send[Resync](ctx, c, http.MethodPost, facilityPath(facility, "/resync"), in)
}
