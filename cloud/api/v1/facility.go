package v1

import "time"

// Facility is one site of a customer.
type Facility struct {
	ID         string     `json:"id" example:"la"`
	Tenant     string     `json:"tenant" example:"foo"`
	Name       string     `json:"name" example:"Los Angeles"`
	TimeZone   string     `json:"time_zone" example:"America/Los_Angeles"`
	Number     int        `json:"number" doc:"Number in the region; the last part of the tunnel address"`
	Enrolments int        `json:"enrolments" doc:"How many boxes it has had"`
	CreatedAt  time.Time  `json:"created_at"`
	RemovedAt  *time.Time `json:"removed_at,omitempty"`
	Device     *Device    `json:"device,omitempty" doc:"The box that may connect; absent before enrolment and after revocation"`
	// TokenExpiresAt is set while an unused enrolment token is waiting.
	TokenExpiresAt *time.Time `json:"token_expires_at,omitempty" doc:"Set while an enrolment token is waiting to be used"`
	Limit          *Limit     `json:"limit,omitempty" doc:"How fast its changes may travel; absent when there is no limit"`
}

// Limit is how fast a facility's changes may travel, in either direction.
type Limit struct {
	KBps    int      `json:"kbps,omitempty" minimum:"0" maximum:"1250000" doc:"Kilobytes (1000 bytes) per second outside of the windows; 0 or absent: no limit"`
	Windows []string `json:"windows,omitempty" maxItems:"20" doc:"Times of the week with a limit of their own, by the facility's time zone; the first that fits holds" example:"[\"Mon-Fri 06:00-22:00=100\"]"`
	// Now is the answer's only.
	Now int `json:"now_kbps,omitempty" readOnly:"true" doc:"What holds at this moment; absent: no limit"`
}

// Device is the box that stands at a facility.
type Device struct {
	ID                  int64     `json:"id"`
	Enrolment           int       `json:"enrolment"`
	State               string    `json:"state" enum:"active,replaced,revoked"`
	EnrolledAt          time.Time `json:"enrolled_at"`
	AgentVersion        string    `json:"agent_version"`
	CertificateNotAfter time.Time `json:"certificate_not_after"`
}

// FacilityAdd makes a facility.
type FacilityAdd struct {
	ID       string `json:"id" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" patternDescription:"lower-case letters, digits, _ and -, starting with a letter or digit"`
	Tenant   string `json:"tenant,omitempty" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" patternDescription:"lower-case letters, digits, _ and -" doc:"Customer; default is the region's default tenant"`
	Name     string `json:"name,omitempty" maxLength:"200"`
	TimeZone string `json:"time_zone,omitempty" maxLength:"64" doc:"IANA name; default UTC" example:"Europe/Berlin"`
	TokenTTL int    `json:"token_ttl_s,omitempty" doc:"Seconds in which the enrolment token must be used; default 72 hours" minimum:"60" maximum:"7776000"`
}

// FacilityAdded is a new facility with the token for its first box.
type FacilityAdded struct {
	Facility Facility    `json:"facility"`
	Token    EnrolSecret `json:"token"`
}

// EnrolSecret is a one-time enrolment token. It is shown once; the region
// keeps only its hash.
type EnrolSecret struct {
	Facility  string    `json:"facility"`
	Secret    string    `json:"secret" doc:"Shown once"`
	ExpiresAt time.Time `json:"expires_at"`
}

// TokenRequest asks for a new enrolment token; earlier unused ones end.
type TokenRequest struct {
	TTL int `json:"ttl_s,omitempty" doc:"Seconds in which it must be used; default 72 hours" minimum:"60" maximum:"7776000"`
}

// Confirm repeats the facility's id, so that a slip does not throw one out.
type Confirm struct {
	Confirm string `json:"confirm" doc:"The facility's id, again"`
}

// Fleet is every facility as the region sees it now.
type Fleet struct {
	At         time.Time        `json:"at" doc:"When the snapshot was taken, by the region's clock"`
	Region     string           `json:"region"`
	Facilities []FacilityStatus `json:"facilities"`
}

// States of a facility, from what was heard of it.
const (
	StateOnline   = "online"   // heartbeat and tunnel
	StateDegraded = "degraded" // one of the two
	StateOffline  = "offline"  // neither
	StateNew      = "new"      // never heard of yet
	StateUnknown  = "unknown"  // the region cannot tell: it is deaf itself
)

// FacilityStatus is one facility now: what was heard, and when. Figures that
// the facility reported are as old as ReportedAt.
type FacilityStatus struct {
	ID       string `json:"id"`
	Tenant   string `json:"tenant"`
	Name     string `json:"name"`
	TimeZone string `json:"time_zone"`
	State    string `json:"state" enum:"online,degraded,offline,new,unknown"`
	Reason   string `json:"reason,omitempty" doc:"Why it is not online, in words"`
	// Degraded, Since and Missing say more of the state.
	Degraded         string     `json:"degraded,omitempty" enum:"tunnel,telemetry" doc:"Which part does not work when it is degraded"`
	Since            *time.Time `json:"since,omitempty" doc:"When the state became what it is; offline is backdated to the last thing that was heard"`
	Missing          []string   `json:"missing,omitempty" doc:"What is not there of heartbeat, tunnel and stream"`
	MaintenanceUntil *time.Time `json:"maintenance_until,omitempty" doc:"It is under announced work until then: nobody is paged"`

	Heartbeat   bool       `json:"heartbeat" doc:"Heartbeats arrive"`
	Tunnel      bool       `json:"tunnel" doc:"The tunnel answers"`
	Stream      bool       `json:"stream" doc:"The sync stream is connected"`
	LastHeardAt *time.Time `json:"last_heard_at,omitempty"`
	TunnelAt    *time.Time `json:"tunnel_at,omitempty" doc:"Last packet through the tunnel"`
	ReportedAt  *time.Time `json:"reported_at,omitempty" doc:"When the figures below were reported"`

	Queue Queue  `json:"queue"`
	Lag   *int64 `json:"lag_ms,omitempty" doc:"Commit at the facility to visible in the region, milliseconds"`

	Stalled   []Stall `json:"stalled,omitempty" doc:"What has work and makes no progress"`
	Parked    int64   `json:"parked,omitempty" doc:"Changes that a database refused, in the region or at the facility, and what waits behind them; all else flows"`
	Differing int64   `json:"differing,omitempty" doc:"Rows that the last comparison of each table found to differ, and that were not mended since"`

	Database     string   `json:"database,omitempty" doc:"State of the facility's PostgreSQL"`
	DiskFree     *int64   `json:"disk_free_bytes,omitempty"`
	DiskTotal    *int64   `json:"disk_total_bytes,omitempty"`
	Temperature  *float64 `json:"temperature_c,omitempty" doc:"Degrees Celsius, where the machine has a sensor"`
	Watchdog     string   `json:"watchdog,omitempty" doc:"The machine's hardware watchdog: armed, unarmed or none; absent where the box cannot tell"`
	AgentVersion string   `json:"agent_version,omitempty"`
	BootID       string   `json:"boot_id,omitempty"`
}

// Queue is what waits at a facility to be sent.
type Queue struct {
	Transactions   int64      `json:"transactions"`
	Bytes          int64      `json:"bytes"`
	OldestUnsentAt *time.Time `json:"oldest_unsent_at,omitempty"`

	LimitBytes int64      `json:"limit_bytes,omitempty" doc:"How many bytes may wait"`
	FillRate   int64      `json:"fill_bytes_per_second,omitempty" doc:"Rate at which it fills, over the last hour or since it was last at its lowest"`
	FullAt     *time.Time `json:"full_at,omitempty" doc:"When it will be full at this rate; absent when that is not to be expected"`
}

// Stall is a stage on the way of a facility's rows that has work and makes no
// progress, as counters show it, whatever the stage says of itself.
type Stall struct {
	Side  string    `json:"side" enum:"facility,region" doc:"Who sees it"`
	Stage string    `json:"stage" doc:"capture, transfer, acknowledge, load at the facility; receive, apply, parked, load_down, deliver, and route_down for all facilities together, in the region"`
	Since time.Time `json:"since"`
	Work  int64     `json:"work" doc:"How much there is to do"`
	Text  string    `json:"text"`
}
